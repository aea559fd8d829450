//! The file, in the format of exporter-toolkit's web configuration: YAML in, rules and TLS out.
//!
//! A setting that is not supported is an error that says what is, so that no file promises more than is done.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::num::ParseIntError;
use std::path::Path;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use prometheus_rsocket_config::yaml::{self, FileError, or_default};
use serde::{Deserialize, Deserializer};

use super::tls::TlsServer;
use crate::limits::rate::Rate;
use crate::tls::Tls;

/// What a file says.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) tls: Option<Tls>,
    pub(super) headers: HeaderMap,
    /// Names and bcrypt hashes, not looked at.
    pub(super) users: BTreeMap<String, String>,
    pub(super) rate: Option<Rate>,
}

/// Reads `text`, and the files that it names, which are in `directory` unless they say otherwise.
pub(super) fn parse(text: &str, directory: &Path) -> Result<Parsed, FileError> {
    let file: Option<WebConfigFile> = yaml::read(text)?;
    let file = file.unwrap_or_default();
    let http = file.http_server_config.unwrap_or_default();
    let tls = file.tls_server_config.unwrap_or_default();
    Ok(Parsed {
        tls: tls.tls(directory)?,
        headers: http.headers.unwrap_or_default().headers()?,
        users: file.basic_auth_users.unwrap_or_default(),
        rate: file.rate_limit.unwrap_or_default().rate()?,
    })
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WebConfigFile {
    tls_server_config: Option<TlsServer>,
    http_server_config: Option<HttpServer>,
    basic_auth_users: Option<BTreeMap<String, String>>,
    rate_limit: Option<RateLimit>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HttpServer {
    /// Taken, and of no effect: HTTP/1.1 is all that is spoken, and no client insists on more.
    http2: Option<bool>,
    headers: Option<Headers>,
}

/// The headers that responses may be given; exporter-toolkit has no others on purpose.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Headers {
    #[serde(rename = "Content-Security-Policy", deserialize_with = "said")]
    content_security_policy: Option<String>,
    #[serde(rename = "X-Frame-Options", deserialize_with = "said")]
    x_frame_options: Option<String>,
    #[serde(rename = "X-Content-Type-Options", deserialize_with = "said")]
    x_content_type_options: Option<String>,
    #[serde(rename = "X-XSS-Protection", deserialize_with = "said")]
    x_xss_protection: Option<String>,
    #[serde(rename = "Strict-Transport-Security", deserialize_with = "said")]
    strict_transport_security: Option<String>,
}

/// A key without a value is an empty text.
fn said<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    or_default(value).map(Some)
}

impl Headers {
    fn headers(&self) -> Result<HeaderMap, FileError> {
        const ANY: &[&str] = &[];
        let all = [
            (
                "Content-Security-Policy",
                &self.content_security_policy,
                ANY,
            ),
            (
                "X-Frame-Options",
                &self.x_frame_options,
                &["deny", "sameorigin"],
            ),
            (
                "X-Content-Type-Options",
                &self.x_content_type_options,
                &["nosniff"],
            ),
            ("X-XSS-Protection", &self.x_xss_protection, ANY),
            (
                "Strict-Transport-Security",
                &self.strict_transport_security,
                ANY,
            ),
        ];
        let said = all.into_iter().filter_map(|(name, value, possible)| {
            let value = value.as_deref()?;
            // Where there is a list, nothing is none of it.
            (!value.is_empty() || !possible.is_empty()).then_some((name, value, possible))
        });
        said.map(|(name, value, possible)| {
            let key = format!("http_server_config.headers.{name}");
            if !possible.is_empty() && !possible.contains(&value) {
                return Err(FileError::not_one_of(key, value, possible));
            }
            let value = value.parse::<HeaderValue>();
            let name = name.parse::<HeaderName>();
            let pair = name.ok().zip(value.ok());
            pair.ok_or_else(|| FileError::value(key, "no HTTP header can have this value"))
        })
        .collect()
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RateLimit {
    #[serde(deserialize_with = "or_default")]
    interval: String,
    #[serde(deserialize_with = "or_default")]
    burst: u32,
}

impl RateLimit {
    /// `None` where the interval is zero or not said.
    fn rate(&self) -> Result<Option<Rate>, FileError> {
        let interval = match self.interval.as_str() {
            "" => Duration::ZERO,
            // As Go reads a duration without a unit.
            nanoseconds if nanoseconds.bytes().all(|byte| byte.is_ascii_digit()) => {
                let nanoseconds = nanoseconds.parse();
                Duration::from_nanos(
                    nanoseconds.map_err(|error: ParseIntError| Self::no_interval(&error))?,
                )
            }
            text => humantime::parse_duration(text).map_err(|error| Self::no_interval(&error))?,
        };
        Ok((!interval.is_zero()).then_some(Rate {
            interval,
            burst: self.burst,
        }))
    }

    fn no_interval(error: &dyn Display) -> FileError {
        FileError::value(
            "rate_limit.interval",
            format!("{error}; a duration is written as 500ms, 10s or 1h30m"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Parsed {
        parse(text, Path::new("/nowhere")).unwrap()
    }

    fn refused(text: &str) -> String {
        let refused = parse(text, Path::new("/nowhere")).unwrap_err().to_string();
        assert_eq!(refused.lines().count(), 1, "{refused}");
        refused
    }

    #[test]
    fn a_file_that_says_nothing_asks_for_nothing() {
        for text in [
            "",
            "\n",
            "# nothing yet\n",
            "{}",
            "tls_server_config:\nhttp_server_config:\nbasic_auth_users:\nrate_limit:\n",
            "tls_server_config: {min_version: TLS13}\nrate_limit: {interval: 0, burst: 5}\n",
            "http_server_config:\n  http2:\n  headers:\n    Content-Security-Policy:\n    X-XSS-Protection: ''\n",
            "tls_server_config:\n  cert_file:\n  cert:\n  client_auth_type:\nrate_limit:\n  interval:\n  burst:\n",
        ] {
            let parsed = parsed(text);
            assert!(parsed.tls.is_none() && parsed.rate.is_none(), "{text}");
            assert!(
                parsed.users.is_empty() && parsed.headers.is_empty(),
                "{text}"
            );
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place() {
        for (text, key) in [
            ("tls_config: {}\n", "tls_config"),
            ("tls_server_config: {cert_path: a}\n", "cert_path"),
            ("http_server_config: {http3: true}\n", "http3"),
            ("http_server_config: {headers: {X-Custom: a}}\n", "X-Custom"),
            ("rate_limit: {interval: 1s, bursts: 2}\n", "bursts"),
        ] {
            let refused = refused(text);
            assert!(refused.starts_with("line 1, column "), "{refused}");
            assert!(refused.contains(key), "{refused}");
            assert_eq!(refused.matches("column").count(), 1, "{refused}");
        }
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        for text in [
            "hanging: [",
            "- a\n",
            "word",
            "basic_auth_users: [ann]\n",
            "http_server_config: {http2: perhaps}\n",
            "rate_limit: {interval: 1s, burst: -1}\n",
            "basic_auth_users: {ann: a, ann: b}\n",
        ] {
            assert!(refused(text).starts_with("line "), "{text}");
        }
    }

    #[test]
    fn headers_are_those_of_the_list_with_values_that_mean_something() {
        let text = "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    X-XSS-Protection: 1\n    \
                    Strict-Transport-Security: max-age=31536000; includeSubDomains\n";
        let headers = parsed(text).headers;
        assert_eq!(headers.len(), 3);
        assert_eq!(headers["x-frame-options"], "deny");
        assert_eq!(headers["x-xss-protection"], "1");
        for (text, words) in [
            ("X-Frame-Options: never", "supported: deny, sameorigin"),
            ("X-Content-Type-Options: sniff", "supported: nosniff"),
            ("X-Content-Type-Options: ", "supported: nosniff"),
            ("X-Frame-Options: ''", "supported: deny, sameorigin"),
            (
                "Content-Security-Policy: \"a\\nb\"",
                "headers.Content-Security-Policy",
            ),
        ] {
            let refused = refused(&format!("http_server_config: {{headers: {{{text}}}}}\n"));
            assert!(refused.contains(words), "{refused}");
        }
    }

    #[test]
    fn a_rate_is_an_interval_and_a_burst() {
        for (interval, expected) in [
            ("1s", Duration::from_secs(1)),
            ("1m30s", Duration::from_secs(90)),
            ("'250ms'", Duration::from_millis(250)),
            ("5000000", Duration::from_millis(5)),
        ] {
            let text = format!("rate_limit: {{interval: {interval}, burst: 2}}\n");
            let rate = Rate {
                interval: expected,
                burst: 2,
            };
            assert_eq!(parsed(&text).rate, Some(rate));
        }
        assert!(
            refused("rate_limit: {interval: soon, burst: 1}\n")
                .starts_with("rate_limit.interval: ")
        );
    }
}
