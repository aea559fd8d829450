//! Which format an exposition is answered in, by the request's `Accept`: RFC 9110, section 12.5.1.
//!
//! Of what can be written, that is chosen which the most specific media range that it fits gives the highest quality; of
//! several, that which a more specific one names, then the first of [`Protocol::ALL`] and [`Escaping::ALL`].

use axum::extract::FromRequestParts;
use axum::http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, VARY};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponseParts, Response, ResponseParts};
use prometheus_rsocket_exposition::{Encoding, Escaping, Format};

use super::refusal::refusal;

/// A format with its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Text004,
    Text100,
    OpenMetrics001,
    OpenMetrics100,
}

impl Protocol {
    /// Those that are preferred first.
    const ALL: [Self; 4] = [
        Self::Text004,
        Self::OpenMetrics100,
        Self::Text100,
        Self::OpenMetrics001,
    ];

    fn format(self) -> Format {
        match self {
            Self::Text004 | Self::Text100 => Format::Text,
            Self::OpenMetrics001 | Self::OpenMetrics100 => Format::OpenMetrics,
        }
    }

    fn media_type(self) -> (&'static str, &'static str) {
        match self.format() {
            Format::Text => ("text", "plain"),
            Format::OpenMetrics => ("application", "openmetrics-text"),
        }
    }

    fn version(self) -> &'static str {
        match self {
            Self::Text004 => "0.0.4",
            Self::OpenMetrics001 => "0.0.1",
            Self::Text100 | Self::OpenMetrics100 => "1.0.0",
        }
    }
}

/// What a response is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Negotiated {
    protocol: Protocol,
    escaping: Escaping,
}

impl Negotiated {
    /// What the exposition is to be written in.
    pub(super) fn encoding(self) -> Encoding {
        Encoding {
            format: self.protocol.format(),
            escaping: self.escaping,
        }
    }

    fn content_type(self) -> String {
        let (kind, subtype) = self.protocol.media_type();
        format!(
            "{kind}/{subtype}; version={}; charset=utf-8; escaping={}",
            self.protocol.version(),
            self.escaping.name()
        )
    }

    fn all() -> impl Iterator<Item = Self> {
        let escaped = |protocol| {
            Escaping::ALL
                .into_iter()
                .map(move |escaping| Self { protocol, escaping })
        };
        Protocol::ALL.into_iter().flat_map(escaped)
    }
}

/// Chooses by the values of all `Accept` headers; `None`: nothing that can be written is acceptable.
fn negotiate<'h>(accept: impl IntoIterator<Item = &'h str>) -> Option<Negotiated> {
    let ranges: Vec<Range<'_>> = accept
        .into_iter()
        .flat_map(|value| Split(value, ','))
        .filter_map(Range::read)
        .collect();
    if ranges.is_empty() {
        return Negotiated::all().next();
    }
    let mut best: Option<((u16, Specificity), Negotiated)> = None;
    for candidate in Negotiated::all() {
        let fitting = ranges
            .iter()
            .filter_map(|range| Some((range.specificity(candidate)?, range.quality)));
        let Some((specificity, quality)) = fitting.max() else {
            continue;
        };
        let rank = (quality, specificity);
        if quality > 0 && best.as_ref().is_none_or(|(before, _)| rank > *before) {
            best = Some((rank, candidate));
        }
    }
    best.map(|(_, negotiated)| negotiated)
}

/// How closely a media range describes what fits it: type and subtype that are named, then parameters.
type Specificity = (u8, usize);

/// A media range of `Accept`.
struct Range<'h> {
    kind: &'h str,
    subtype: &'h str,
    parameters: Vec<(&'h str, &'h str)>,
    /// In thousandths.
    quality: u16,
}

impl<'h> Range<'h> {
    /// `None`: it cannot be read, and is passed over.
    fn read(range: &'h str) -> Option<Self> {
        let mut pieces = Split(range, ';');
        let (kind, subtype) = pieces.next()?.split_once('/')?;
        let mut read = Self {
            kind: kind.trim(),
            subtype: subtype.trim(),
            parameters: Vec::new(),
            quality: 1000,
        };
        for piece in pieces.filter(|piece| !piece.trim().is_empty()) {
            let (name, value) = piece.split_once('=')?;
            let (name, value) = (name.trim(), unquoted(value.trim()));
            if name.eq_ignore_ascii_case("q") {
                read.quality = quality(value)?;
                // What follows is no parameter of the media type.
                break;
            }
            read.parameters.push((name, value));
        }
        Some(read)
    }

    /// `None`: it does not fit.
    fn specificity(&self, candidate: Negotiated) -> Option<Specificity> {
        let (kind, subtype) = candidate.protocol.media_type();
        let level = match (self.kind, self.subtype) {
            ("*", "*") => 0,
            (one, "*") if one.eq_ignore_ascii_case(kind) => 1,
            (one, other)
                if one.eq_ignore_ascii_case(kind) && other.eq_ignore_ascii_case(subtype) =>
            {
                2
            }
            _ => return None,
        };
        let fits = |&(name, value): &(&str, &str)| {
            let own = match name {
                _ if name.eq_ignore_ascii_case("version") => candidate.protocol.version(),
                _ if name.eq_ignore_ascii_case("escaping") => candidate.escaping.name(),
                _ if name.eq_ignore_ascii_case("charset") => "utf-8",
                _ => return false,
            };
            own.eq_ignore_ascii_case(value)
        };
        let fit = self.parameters.iter().all(fits);
        fit.then_some((level, self.parameters.len()))
    }
}

fn unquoted(value: &str) -> &str {
    let inside = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    inside.unwrap_or(value)
}

/// A quality in thousandths: up to three decimals, from 0 to 1.
fn quality(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_quality = matches!(whole, "0" | "1")
        && decimals.len() <= 3
        && decimals.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths: u16 = format!("{decimals:0<3}").parse().ok()?;
    let quality = if whole == "1" { 1000 } else { 0 } + thousandths;
    (is_quality && quality <= 1000).then_some(quality)
}

/// The pieces of a value between separators that are not in quotes.
struct Split<'h>(&'h str, char);

impl<'h> Iterator for Split<'h> {
    type Item = &'h str;

    fn next(&mut self) -> Option<&'h str> {
        if self.0.is_empty() {
            return None;
        }
        let mut quoted = false;
        let mut escaped = false;
        let end = self.0.find(|letter| {
            let ends = letter == self.1 && !quoted;
            quoted ^= letter == '"' && !escaped;
            escaped = letter == '\\' && quoted && !escaped;
            ends
        });
        let (piece, rest) = match end {
            Some(end) => (self.0.get(..end)?, self.0.get(end + 1..)?),
            None => (self.0, ""),
        };
        self.0 = rest;
        Some(piece)
    }
}

fn accepted(headers: &HeaderMap) -> Option<Negotiated> {
    let values = headers.get_all(ACCEPT).iter();
    negotiate(values.filter_map(|value| value.to_str().ok()))
}

impl<S: Sync> FromRequestParts<S> for Negotiated {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        accepted(&parts.headers).ok_or_else(|| {
            refusal(
                StatusCode::NOT_ACCEPTABLE,
                "Accept must allow text/plain or application/openmetrics-text",
            )
        })
    }
}

/// The headers of the response.
impl IntoResponseParts for Negotiated {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Self::Error> {
        let headers = parts.headers_mut();
        if let Ok(content_type) = HeaderValue::from_str(&self.content_type()) {
            headers.insert(CONTENT_TYPE, content_type);
        }
        headers.append(VARY, HeaderValue::from_static("accept"));
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn content_type(accept: &str) -> Option<String> {
        negotiate([accept]).map(Negotiated::content_type)
    }

    #[track_caller]
    fn check(accept: &str, expected: &str) {
        assert_eq!(content_type(accept).as_deref(), Some(expected), "{accept}");
    }

    const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
    const OPENMETRICS: &str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores";
    const OPENMETRICS_UTF8: &str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8";

    #[test]
    fn every_prometheus_gets_what_it_asks_for_first() {
        // 3.15 and 3.16
        check(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7,\
             application/openmetrics-text;version=0.0.1;q=0.6,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,\
             text/plain;version=0.0.4;q=0.4,*/*;q=0.3",
            OPENMETRICS_UTF8,
        );
        // The versions before these
        check(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            OPENMETRICS_UTF8,
        );
        // 3.0 and 3.1
        check(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
             application/openmetrics-text;version=0.0.1;escaping=allow-utf-8;q=0.4,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
             text/plain;version=0.0.4;escaping=allow-utf-8;q=0.2,*/*;q=0.1",
            OPENMETRICS_UTF8,
        );
        // 3 with names of letters, digits and underscores only
        check(
            "application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.7,\
             application/openmetrics-text;version=0.0.1;q=0.6,\
             text/plain;version=1.0.0;escaping=underscores;q=0.5,\
             text/plain;version=0.0.4;q=0.4,*/*;q=0.3",
            OPENMETRICS,
        );
        // With native histograms, which nobody has
        check(
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
             encoding=delimited;q=0.7,\
             application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            OPENMETRICS_UTF8,
        );
        // 2.42
        check(
            "application/openmetrics-text;version=1.0.0,\
             application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            OPENMETRICS,
        );
    }

    #[test]
    fn each_of_scrape_protocols_alone_is_served() {
        for (accept, expected) in [
            (
                "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,*/*;q=0.3",
                "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
            ),
            ("text/plain;version=0.0.4;q=0.4,*/*;q=0.3", TEXT),
            (
                "application/openmetrics-text;version=0.0.1;q=0.4,*/*;q=0.3",
                "application/openmetrics-text; version=0.0.1; charset=utf-8; escaping=underscores",
            ),
            (
                "text/plain;version=0.0.4;escaping=values",
                "text/plain; version=0.0.4; charset=utf-8; escaping=values",
            ),
            (
                "text/plain;version=0.0.4;escaping=dots",
                "text/plain; version=0.0.4; charset=utf-8; escaping=dots",
            ),
        ] {
            check(accept, expected);
        }
    }

    #[test]
    fn who_names_no_version_gets_text_where_that_will_do() {
        for accept in [
            "*/*",
            "text/*",
            "text/plain",
            "TEXT/PLAIN; Charset=\"UTF-8\"",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "",
            "nonsense",
            "text/plain;q=2",
        ] {
            check(accept, TEXT);
        }
        assert_eq!(
            negotiate([]).map(Negotiated::content_type).as_deref(),
            Some(TEXT)
        );
        check("application/openmetrics-text", OPENMETRICS);
        check("application/*, text/*;q=0.9", OPENMETRICS);
    }

    #[test]
    fn the_most_specific_range_counts() {
        check("*/*, text/plain;version=0.0.4;q=0", OPENMETRICS);
        check(
            "text/*;q=0.9, application/*;q=0.5, text/plain;q=0.1",
            OPENMETRICS,
        );
        check("*/*;q=0.5, application/openmetrics-text;q=0.4", TEXT);
        check("text/plain;a=\"x,y\";q=1, */*;q=0.1", TEXT);
        check(
            "*/*, application/openmetrics-text;version=1.0.0",
            OPENMETRICS,
        );
    }

    #[test]
    fn several_headers_are_one_list() {
        let negotiated = negotiate(["text/plain;q=0.5", "application/openmetrics-text"]);
        assert_eq!(
            negotiated.map(Negotiated::content_type).as_deref(),
            Some(OPENMETRICS)
        );
    }

    #[test]
    fn nothing_is_chosen_where_nothing_fits() {
        for accept in [
            "application/vnd.google.protobuf",
            "text/html",
            "text/plain;version=2.0.0",
            "text/plain;escaping=hex",
            "text/plain;charset=latin1",
            "*/*;q=0",
            "image/*, text/plain;q=0.000",
        ] {
            assert_eq!(content_type(accept), None, "{accept}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_read(accept in "[a-z*/;=,q0-9.\" \\\\]{0,60}") {
            let _ = negotiate([accept.as_str()]);
        }
    }
}
