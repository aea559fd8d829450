//! What a target's text is, by its Content-Type, as Prometheus 3 has it (`model/textparse/interface.go`).

use prometheus_rsocket_exposition::Format;

/// Characters of a Content-Type that are repeated in a reason.
const MAX_SHOWN: usize = 100;

/// The format that Prometheus' `fallback_scrape_protocol` means by this name.
pub fn protocol(name: &str) -> Result<Format, String> {
    match name {
        "PrometheusText0.0.4" | "PrometheusText1.0.0" => Ok(Format::Text),
        "OpenMetricsText0.0.1" | "OpenMetricsText1.0.0" => Ok(Format::OpenMetrics),
        _ => Err("must be PrometheusText0.0.4, PrometheusText1.0.0, OpenMetricsText0.0.1 or OpenMetricsText1.0.0".into()),
    }
}

/// A target does not say what its text is, and neither does a setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unknown {
    #[error("no Content-Type, and no fallback_scrape_protocol is set")]
    Missing,
    #[error("unsupported Content-Type {0:?}, and no fallback_scrape_protocol is set")]
    Unsupported(String),
}

/// What a text with this Content-Type is; `fallback` where that does not say.
pub(super) fn format(
    content_type: Option<&[u8]>,
    fallback: Option<Format>,
) -> Result<Format, Unknown> {
    let content_type = content_type
        .map(String::from_utf8_lossy)
        .unwrap_or_default();
    read(&content_type).or(fallback).ok_or_else(|| {
        if content_type.is_empty() {
            Unknown::Missing
        } else {
            Unknown::Unsupported(content_type.chars().take(MAX_SHOWN).collect())
        }
    })
}

fn read(content_type: &str) -> Option<Format> {
    let (media_type, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    let mut version = "";
    for (name, value) in Parameters(parameters) {
        if name.eq_ignore_ascii_case("version") {
            version = value?;
        }
        // As Go has it: of a header with a damaged parameter nothing is believed.
        value?;
    }
    match media_type.trim().to_ascii_lowercase().as_str() {
        "text/plain" => Some(Format::Text),
        "application/openmetrics-text" if version != "2.0.0" => Some(Format::OpenMetrics),
        _ => None,
    }
}

/// Names and values; no value: damaged, and the last.
struct Parameters<'a>(&'a str);

impl<'a> Iterator for Parameters<'a> {
    type Item = (&'a str, Option<&'a str>);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0.trim_start();
        if rest.is_empty() {
            return None;
        }
        let parameter = parameter(rest);
        self.0 = parameter.map_or("", |(_, _, rest)| rest);
        Some(parameter.map_or(("", None), |(name, value, _)| (name, Some(value))))
    }
}

/// The first parameter's name and value, and what follows its semicolon.
fn parameter(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.split_once('=')?;
    let name = name.trim();
    let (value, rest) = match rest.trim_start().strip_prefix('"') {
        // What is looked for has no escapes: a value that has some is none of it.
        Some(quoted) => quoted.split_once('"')?,
        None => rest.split_at(rest.find(';').unwrap_or(rest.len())),
    };
    let rest = rest.trim_start();
    let rest = match rest.strip_prefix(';') {
        None if rest.is_empty() => rest,
        rest => rest?,
    };
    let is_token = !name.is_empty() && !name.contains([' ', ';', '"', ',']);
    is_token.then_some((name, value.trim(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(content_type: &str) -> Option<Format> {
        format(Some(content_type.as_bytes()), None).ok()
    }

    #[test]
    fn the_content_type_decides_as_in_prometheus() {
        for (content_type, expected) in [
            ("text/plain", Some(Format::Text)),
            ("text/plain; version=0.0.4", Some(Format::Text)),
            (
                "text/plain; charset=utf-8; version=0.0.4",
                Some(Format::Text),
            ),
            (
                "Text/Plain;version=1.0.0;escaping=underscores;",
                Some(Format::Text),
            ),
            (
                "text/plain; charset=\"utf-8\"; version=0.0.4",
                Some(Format::Text),
            ),
            ("application/openmetrics-text", Some(Format::OpenMetrics)),
            (
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                Some(Format::OpenMetrics),
            ),
            (
                "application/openmetrics-text;version=0.0.1",
                Some(Format::OpenMetrics),
            ),
            ("application/openmetrics-text; version=2.0.0", None),
            ("application/vnd.google.protobuf", None),
            ("application/json", None),
            ("text/html; charset=utf-8", None),
            ("text", None),
            ("text/plain; charset", None),
            ("text/plain; =a", None),
            ("text/plain; charset=\"utf-8", None),
            ("text/plain; charset=\"utf-8\" version=0.0.4", None),
        ] {
            assert_eq!(of(content_type), expected, "{content_type}");
        }
    }

    #[test]
    fn without_one_that_says_it_a_setting_decides_or_the_target_is_down() {
        let fallback = protocol("OpenMetricsText1.0.0").ok();
        assert_eq!(fallback, Some(Format::OpenMetrics));
        for content_type in [None, Some(&b""[..]), Some(b"application/json")] {
            assert_eq!(format(content_type, fallback), Ok(Format::OpenMetrics));
        }
        assert_eq!(format(None, None), Err(Unknown::Missing));
        assert_eq!(format(Some(b"text/plain"), fallback), Ok(Format::Text));
        assert!(protocol("PrometheusProto").is_err());
        let long = format(Some(&[b'"'; 1000]), None).unwrap_err().to_string();
        assert!(long.len() < 300, "{long}");
    }
}
