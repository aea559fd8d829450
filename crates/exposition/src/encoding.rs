//! What a merged exposition is written in: chosen here, and nowhere else.

use crate::class::{is_classic, is_classic_label};
use crate::format::Format;
use crate::metadata::SUFFIXES;
use crate::needs::Needs;
use crate::unescaped::unescaped;

/// What a merged exposition is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Encoding {
    /// The format of its lines.
    pub format: Format,
    /// What becomes of names that are not of ASCII letters, digits, `_` and `:`.
    pub escaping: Escaping,
}

impl Encoding {
    /// Text format 0.0.4, as every Prometheus reads it.
    pub const TEXT: Self = Self {
        format: Format::Text,
        escaping: Escaping::Underscores,
    };

    /// Every name as it came.
    #[must_use]
    pub fn unescaped(format: Format) -> Self {
        Self {
            format,
            escaping: Escaping::AllowUtf8,
        }
    }

    /// What becomes of the lines of a family that need this, in a text of format `from`.
    pub(crate) fn conversion(self, from: Format, needs: Needs) -> Conversion {
        if self.converts(needs) {
            return Conversion::Lines;
        }
        match (
            self.is_for_prometheus_2() && needs.has(Needs::NOT_PROMETHEUS_2),
            from,
        ) {
            (false, _) => Conversion::None,
            (true, Format::Text) => Conversion::LastComma,
            (true, Format::OpenMetrics) => Conversion::Lines,
        }
    }

    /// Whether it may be Prometheus 2 that reads OpenMetrics: who takes names in quotes is Prometheus 3 or later.
    pub(crate) fn is_for_prometheus_2(self) -> bool {
        self.format == Format::OpenMetrics && self.escaping != Escaping::AllowUtf8
    }

    /// Whether some lines that need this are written anew.
    fn converts(self, needs: Needs) -> bool {
        let format = match self.format {
            Format::Text => Needs::NOT_TEXT,
            Format::OpenMetrics => Needs::NOT_OPENMETRICS,
        };
        match self.escaping {
            Escaping::AllowUtf8 => needs.has(format),
            Escaping::Underscores | Escaping::Values => needs.has(format | Needs::QUOTED),
            Escaping::Dots => true,
        }
    }
}

/// What becomes of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conversion {
    /// They stay as they are.
    None,
    /// Those of a text of format 0.0.4 lose the comma behind their last label, and stay as they are otherwise.
    LastComma,
    /// Some are written in another form.
    Lines,
}

/// What becomes of names that are not of ASCII letters, digits, `_` and `:`, as Prometheus' clients have it
/// (`EscapeName` in `model/metric.go` of `prometheus/common`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Escaping {
    /// They stay, in quotes.
    AllowUtf8,
    /// Each other character becomes `_`.
    Underscores,
    /// `.` becomes `_dot_`, `_` becomes `__`, and each other character `__`.
    Dots,
    /// After `U__`, `_` becomes `__`, and each other character its number, as in `_2e_`.
    Values,
}

impl Escaping {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Underscores, Self::AllowUtf8, Self::Dots, Self::Values];

    /// The word for it in `Accept` and `Content-Type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }

    /// Whether it writes a metric name in another form.
    pub(crate) fn changes(self, name: &[u8]) -> bool {
        match self {
            Self::AllowUtf8 => false,
            Self::Underscores | Self::Values => !is_classic(name),
            Self::Dots => !is_classic(name) || name.contains(&b'_'),
        }
    }

    /// A metric name as it is written. Suffixes stay, so that a histogram's samples have the name of their family:
    /// clients escape the name of a family, and what they add stays as it is.
    pub(crate) fn metric(self, name: &[u8]) -> Vec<u8> {
        let added = [&SUFFIXES[..], &OPENMETRICS_SUFFIXES[..]];
        let suffixes = added.into_iter().flatten();
        let stem = suffixes
            .filter_map(|suffix| name.strip_suffix(*suffix))
            .find(|stem| !stem.is_empty());
        let Some(stem) = stem.filter(|_| self != Self::AllowUtf8) else {
            return self.escaped(name, is_classic(name), ":");
        };
        let mut escaped = self.metric(stem);
        escaped.extend_from_slice(name.get(stem.len()..).unwrap_or_default());
        escaped
    }

    /// The name of a label as it is written.
    pub(crate) fn label(self, name: &[u8]) -> Vec<u8> {
        self.escaped(name, is_classic_label(name), "")
    }

    /// `colon`: a character that may stay as well.
    fn escaped(self, raw: &[u8], is_classic: bool, colon: &str) -> Vec<u8> {
        if self == Self::AllowUtf8 || is_classic && self != Self::Dots {
            return raw.to_vec();
        }
        let mut escaped = String::with_capacity(raw.len() + 8);
        if self == Self::Values {
            escaped.push_str("U__");
        }
        for (at, letter) in unescaped(raw).chars().enumerate() {
            let stays = letter.is_ascii_alphabetic()
                || letter == '_'
                || colon.contains(letter)
                || (letter.is_ascii_digit() && at > 0);
            match self {
                Self::Dots if letter == '.' => escaped.push_str("_dot_"),
                Self::Dots | Self::Values if letter == '_' => escaped.push_str("__"),
                _ if stays => escaped.push(letter),
                Self::Values => escaped.push_str(&format!("_{:x}_", u32::from(letter))),
                Self::Dots => escaped.push_str("__"),
                Self::Underscores | Self::AllowUtf8 => escaped.push('_'),
            }
        }
        escaped.into_bytes()
    }
}

/// What OpenMetrics has after the names of families, beside [`SUFFIXES`].
const OPENMETRICS_SUFFIXES: [&[u8]; 5] = [b"_total", b"_created", b"_info", b"_gcount", b"_gsum"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_prometheus_clients_do() {
        // From `TestEscapeName` of `prometheus/common`.
        for (name, underscores, dots, values) in [
            (
                "no:escaping_required",
                "no:escaping_required",
                "no:escaping__required",
                "no:escaping_required",
            ),
            (
                "mysystem.prod.west.cpu.load",
                "mysystem_prod_west_cpu_load",
                "mysystem_dot_prod_dot_west_dot_cpu_dot_load",
                "U__mysystem_2e_prod_2e_west_2e_cpu_2e_load",
            ),
            (
                "http.status:sum",
                "http_status:sum",
                "http_dot_status:sum",
                "U__http_2e_status:sum",
            ),
            (
                "label with 😱",
                "label_with__",
                "label__with____",
                "U__label_20_with_20__1f631_",
            ),
            ("花火", "__", "____", "U___82b1__706b_"),
            ("1a.b", "_a_b", "__a_dot_b", "U___31_a_2e_b"),
        ] {
            for (escaping, expected) in [
                (Escaping::Underscores, underscores),
                (Escaping::Dots, dots),
                (Escaping::Values, values),
                (Escaping::AllowUtf8, name),
            ] {
                let escaped = String::from_utf8(escaping.metric(name.as_bytes())).unwrap();
                assert_eq!(escaped, expected, "{escaping:?}");
            }
        }
    }

    #[test]
    fn a_suffix_stays_as_it_is() {
        assert_eq!(Escaping::Dots.metric(b"a_b_bucket"), b"a__b_bucket");
        assert_eq!(Escaping::Values.metric(b"a.b_sum"), b"U__a_2e_b_sum");
    }
}
