//! The file that says whom to ask, and how: the part of Prometheus' own configuration that says that.
//!
//! ```yaml
//! scrape_configs:
//!   - job_name: node
//!     scheme: https
//!     tls_config: {ca_file: ca.pem}
//!     basic_auth: {username: agent, password_file: password}
//!     static_configs:
//!       - targets: ["localhost:9100"]
//!     file_sd_configs:
//!       - files: ["targets/*.yml"]
//! ```
//!
//! What else Prometheus' configuration has is an error, so that no file promises more than is done.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prometheus_rsocket_config::values;
use prometheus_rsocket_config::yaml::{self, Error, or_default};
use prometheus_rsocket_exposition::Format;
use rustls::pki_types::ServerName;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, Spanned};
use zeroize::Zeroizing;

use super::content_type::protocol;
use super::credentials::{CredentialSource, Credentials};
use super::file_sd::Group;
use super::job::JobSettings;
use super::tls::Tls;

/// One `scrape_config`.
pub(super) struct Parsed {
    pub(super) settings: JobSettings,
    pub(super) groups: Vec<Group>,
    /// Files that list more, perhaps with a `*` in the last part.
    pub(super) files: Vec<PathBuf>,
}

/// What `text` says. Files are in `directory` unless it says otherwise; what it does not say is as in `defaults`.
pub(super) fn parse(
    text: &str,
    directory: &Path,
    defaults: &JobSettings,
) -> Result<Vec<Parsed>, Error> {
    let file: Option<ScrapeConfigFile> = yaml::read(text)?;
    // Rather an accident than that nobody is to be asked.
    let empty = || {
        Error::at(
            Location::UNKNOWN,
            &"is empty; without targets write `scrape_configs: []`",
        )
    };
    let mut names = HashSet::new();
    let mut parsed = Vec::new();
    for Spanned {
        value, referenced, ..
    } in file.ok_or_else(empty)?.scrape_configs
    {
        let name = value.job_name.clone();
        let made = if name.is_empty() {
            Err("job_name is empty".into())
        } else if names.insert(name.clone()) {
            value.parsed(directory, defaults)
        } else {
            Err("another scrape_config has this job_name".to_owned())
        };
        let made = made.map_err(|reason| Error::at(referenced, &format!("job {name:?}: {reason}")));
        parsed.push(made?);
    }
    Ok(parsed)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScrapeConfigFile {
    #[serde(default, deserialize_with = "or_default")]
    scrape_configs: Vec<Spanned<ScrapeConfig>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScrapeConfig {
    job_name: String,
    #[serde(default)]
    honor_labels: Option<bool>,
    #[serde(default, deserialize_with = "duration")]
    scrape_timeout: Option<Duration>,
    #[serde(default)]
    scheme: Option<Scheme>,
    #[serde(default)]
    metrics_path: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    params: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    follow_redirects: Option<bool>,
    #[serde(default, deserialize_with = "fallback")]
    fallback_scrape_protocol: Option<Format>,
    #[serde(default, deserialize_with = "size")]
    body_size_limit: Option<usize>,
    #[serde(default)]
    sample_limit: Option<usize>,
    #[serde(default)]
    label_limit: Option<usize>,
    #[serde(default)]
    label_name_length_limit: Option<usize>,
    #[serde(default)]
    label_value_length_limit: Option<usize>,
    #[serde(default)]
    basic_auth: Option<BasicAuth>,
    #[serde(default)]
    authorization: Option<Authorization>,
    #[serde(default, deserialize_with = "or_default")]
    tls_config: TlsConfig,
    #[serde(default, deserialize_with = "or_default")]
    static_configs: Vec<Group>,
    #[serde(default, deserialize_with = "or_default")]
    file_sd_configs: Vec<FileSd>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scheme {
    Http,
    Https,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BasicAuth {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: Option<Hidden>,
    #[serde(default)]
    password_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Authorization {
    #[serde(default, rename = "type")]
    scheme: Option<String>,
    #[serde(default)]
    credentials: Option<Hidden>,
    #[serde(default)]
    credentials_file: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TlsConfig {
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    server_name: Option<String>,
    insecure_skip_verify: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSd {
    files: Vec<PathBuf>,
}

/// A secret of the file itself.
struct Hidden(Zeroizing<String>);

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        Ok(Self(String::deserialize(value)?.into()))
    }
}

impl ScrapeConfig {
    fn parsed(self, directory: &Path, defaults: &JobSettings) -> Result<Parsed, String> {
        let mut settings = JobSettings {
            name: Some(self.job_name),
            honor_labels: self.honor_labels.unwrap_or(defaults.honor_labels),
            timeout: self.scrape_timeout,
            fallback: self.fallback_scrape_protocol.or(defaults.fallback),
            follow_redirects: self.follow_redirects.unwrap_or(defaults.follow_redirects),
            credentials: credentials(self.basic_auth, self.authorization, directory)?,
            tls: self.tls_config.tls(directory)?,
            ..defaults.clone()
        };
        if let Some(scheme) = self.scheme {
            settings.scheme = match scheme {
                Scheme::Http => "http".into(),
                Scheme::Https => "https".into(),
            };
        }
        if let Some(path) = self.metrics_path {
            settings.metrics_path = path;
        }
        let params = self.params.into_iter();
        settings.params = params
            .flat_map(|(name, values)| values.into_iter().map(move |value| (name.clone(), value)))
            .collect();
        // As in Prometheus, zero is no limit: the one that holds for everybody does.
        let limit = |limit: Option<usize>| limit.filter(|limit| *limit > 0);
        if let Some(bytes) = limit(self.body_size_limit) {
            settings.max_payload = bytes;
        }
        let limits = &mut settings.limits;
        if let Some(samples) = limit(self.sample_limit) {
            limits.max_samples = samples;
        }
        if let Some(labels) = limit(self.label_limit) {
            // Prometheus counts the metric's name as one.
            limits.max_labels = labels - 1;
        }
        if let Some(length) = limit(self.label_name_length_limit) {
            limits.max_name_len = length;
        }
        if let Some(length) = limit(self.label_value_length_limit) {
            limits.max_label_value_len = length;
        }
        let files = self.file_sd_configs.into_iter().flat_map(|list| list.files);
        Ok(Parsed {
            settings,
            groups: self.static_configs,
            files: files.map(|file| directory.join(file)).collect(),
        })
    }
}

fn credentials(
    basic: Option<BasicAuth>,
    other: Option<Authorization>,
    directory: &Path,
) -> Result<Option<Credentials>, String> {
    match (basic, other) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err("basic_auth and authorization exclude each other".into()),
        (Some(basic), None) => {
            let key = "basic_auth: password";
            let password = secret(key, basic.password, basic.password_file, directory)?;
            Ok(Some(Credentials::Basic {
                username: basic.username,
                // As in Prometheus, nothing said is an empty one.
                password: password.unwrap_or(CredentialSource::Text(Zeroizing::default())),
            }))
        }
        (None, Some(other)) => {
            let scheme = other.scheme.as_deref().map_or("", str::trim);
            if scheme.eq_ignore_ascii_case("basic") {
                return Err("authorization: use basic_auth for the type basic".into());
            }
            let key = "authorization: credentials";
            let credentials = secret(key, other.credentials, other.credentials_file, directory)?;
            let scheme = if scheme.is_empty() { "Bearer" } else { scheme };
            Ok(Some(Credentials::Other {
                scheme: scheme.to_owned(),
                credentials: credentials
                    .ok_or_else(|| format!("{key} or credentials_file is missing"))?,
            }))
        }
    }
}

fn secret(
    key: &str,
    text: Option<Hidden>,
    file: Option<PathBuf>,
    directory: &Path,
) -> Result<Option<CredentialSource>, String> {
    match (text, file) {
        (None, None) => Ok(None),
        (Some(Hidden(text)), None) => Ok(Some(CredentialSource::Text(text))),
        (None, Some(file)) => Ok(Some(CredentialSource::File(directory.join(file)))),
        (Some(_), Some(_)) => Err(format!("{key} and the same with _file exclude each other")),
    }
}

impl TlsConfig {
    fn tls(self, directory: &Path) -> Result<Tls, String> {
        let name = |name: String| {
            ServerName::try_from(name).map_err(|error| format!("tls_config: server_name: {error}"))
        };
        let own = match (self.cert_file, self.key_file) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                Some((directory.join(certificate), directory.join(key)))
            }
            _ => return Err("tls_config: cert_file and key_file go together".into()),
        };
        Ok(Tls {
            ca: self.ca_file.map(|file| directory.join(file)),
            own,
            server_name: self
                .server_name
                .filter(|name| !name.is_empty())
                .map(name)
                .transpose()?,
            insecure_skip_verify: self.insecure_skip_verify,
        })
    }
}

/// A value that `read` makes of its text, unless there is none.
fn said<'de, D: Deserializer<'de>, T, E: Display>(
    value: D,
    read: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, D::Error> {
    let text: Option<String> = Option::deserialize(value)?;
    let text = text.filter(|text| !text.is_empty());
    text.map(|text| read(&text).map_err(D::Error::custom))
        .transpose()
}

fn fallback<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Format>, D::Error> {
    said(value, protocol)
}

fn duration<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Duration>, D::Error> {
    match said(value, humantime::parse_duration)? {
        Some(Duration::ZERO) => Err(D::Error::custom("must be more than zero")),
        duration => Ok(duration),
    }
}

/// As Prometheus reads a size: kB, MB and GB are powers of 1,024.
fn size<'de, D: Deserializer<'de>>(value: D) -> Result<Option<usize>, D::Error> {
    let read = |text: &str| {
        if matches!(text, "0" | "0B") {
            return Ok(None);
        }
        let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let unit = text.get(number.len()..).unwrap_or_default();
        match unit {
            "KB" | "kB" | "MB" | "GB" | "TB" => {
                let prefix = unit.get(..1).unwrap_or_default();
                values::bytes(&format!("{number}{prefix}iB")).map(Some)
            }
            _ => values::bytes(text).map(Some),
        }
    };
    Ok(said(value, read)?.flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<Parsed> {
        parse(text, Path::new("/etc/agent"), &JobSettings::new(1 << 20)).unwrap()
    }

    fn refused(text: &str) -> String {
        let parsed = parse(text, Path::new("/etc/agent"), &JobSettings::new(1 << 20));
        let error = parsed.map(|_| ()).unwrap_err().to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    }

    #[test]
    fn what_a_job_does_not_say_is_as_prometheus_has_it() {
        let jobs = parsed(
            "scrape_configs:\n- job_name: node\n  tls_config:\n  params:\n  static_configs:\n",
        );
        let expected = JobSettings {
            name: Some("node".into()),
            ..JobSettings::new(1 << 20)
        };
        assert_eq!(jobs[0].settings, expected);
        assert!(jobs[0].groups.is_empty() && jobs[0].files.is_empty());
    }

    #[test]
    fn every_key_reaches_its_setting() {
        let text = "
scrape_configs:
- job_name: all
  honor_labels: true
  scrape_timeout: 1m30s
  scheme: https
  metrics_path: /probe
  params: {module: [http], 'match[]': [a, b]}
  follow_redirects: false
  fallback_scrape_protocol: OpenMetricsText0.0.1
  body_size_limit: 10MB
  sample_limit: 5
  label_limit: 8
  label_name_length_limit: 6
  label_value_length_limit: 0
  authorization: {credentials_file: token}
  tls_config:
    ca_file: ca.pem
    cert_file: /abs/cert.pem
    key_file: key.pem
    server_name: other
    insecure_skip_verify: true
  static_configs:
  - targets: ['a:1']
    labels: {x: y}
  file_sd_configs:
  - files: [a/*.yml, /b.json]
";
        let mut jobs = parsed(text);
        let Parsed {
            settings,
            groups,
            files,
        } = jobs.remove(0);
        let mut expected = JobSettings {
            name: Some("all".into()),
            scheme: "https".into(),
            metrics_path: "/probe".into(),
            params: [("match[]", "a"), ("match[]", "b"), ("module", "http")]
                .map(|(name, value)| (name.into(), value.into()))
                .to_vec(),
            honor_labels: true,
            timeout: Some(Duration::from_secs(90)),
            fallback: Some(Format::OpenMetrics),
            follow_redirects: false,
            credentials: Some(Credentials::Other {
                scheme: "Bearer".into(),
                credentials: CredentialSource::File("/etc/agent/token".into()),
            }),
            tls: Tls {
                ca: Some("/etc/agent/ca.pem".into()),
                own: Some(("/abs/cert.pem".into(), "/etc/agent/key.pem".into())),
                server_name: Some("other".try_into().unwrap()),
                insecure_skip_verify: true,
            },
            ..JobSettings::new(10 << 20)
        };
        expected.limits.max_samples = 5;
        expected.limits.max_labels = 7;
        expected.limits.max_name_len = 6;
        assert_eq!(settings, expected);
        assert_eq!(groups.len(), 1);
        assert_eq!(
            files,
            [PathBuf::from("/etc/agent/a/*.yml"), "/b.json".into()]
        );
    }

    #[test]
    fn the_manuals_example_can_be_used() {
        let manual = include_str!("../../../docs/agent.md");
        let example = manual.split("```yaml\n").nth(1).unwrap();
        let jobs = parsed(example.split("```").next().unwrap());
        assert_eq!(jobs.len(), 2);
        assert_eq!(jobs[1].files, [PathBuf::from("/etc/agent/targets/*.yml")]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place_and_without_secrets() {
        for (job, part) in [
            ("job_name: a\n  relabel_configs: []", "line 3, column 3"),
            ("job_name: a\n  scrape_interval: 5s", "scrape_interval"),
            ("job_name: ''", "job_name is empty"),
            ("scheme: http", "job_name"),
            ("job_name: a\n  scheme: ftp", "line 3, column 11"),
            ("job_name: a\n  scrape_timeout: 0s", "line 3"),
            ("job_name: a\n  body_size_limit: much", "line 3"),
            (
                "job_name: a\n  fallback_scrape_protocol: PrometheusProto",
                "OpenMetricsText1.0.0",
            ),
            (
                "job_name: a\n  basic_auth: {password: hunter2, password_file: b}",
                "exclude",
            ),
            ("job_name: a\n  basic_auth: {passwort: hunter2}", "passwort"),
            (
                "job_name: a\n  authorization: {credentials: [hunter2]}",
                "line 3",
            ),
            (
                "job_name: a\n  authorization: {type: basic, credentials: hunter2}",
                "basic_auth",
            ),
            ("job_name: a\n  authorization: {type: Bearer}", "missing"),
            (
                "job_name: a\n  basic_auth: {username: b}\n  authorization: {credentials: hunter2}",
                "exclude",
            ),
            ("job_name: a\n  tls_config: {cert_file: a}", "go together"),
            (
                "job_name: a\n- job_name: a",
                "line 3, column 3: job \"a\": another",
            ),
        ] {
            let refused = refused(&format!("scrape_configs:\n- {job}\n"));
            assert!(refused.contains(part), "{job}: {refused}");
            assert!(!refused.contains("hunter2"), "{refused}");
        }
        assert!(refused("# nothing\n").contains("is empty"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = "scrape_configs:\n- {job_name: a, basic_auth: {username: b, password: hunter2}}\n\
                    - {job_name: c, authorization: {credentials: hunter2}}\n";
        let settings: Vec<_> = parsed(text).into_iter().map(|job| job.settings).collect();
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
