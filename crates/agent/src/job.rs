//! How targets are asked, and what holds for their texts: one job for those of the command line, one for each
//! `scrape_config`.

use std::time::Duration;

use hyper::Uri;
use prometheus_rsocket_exposition::{Format, Limits};

use super::credentials::Credentials;
use super::fetch::Fetcher;
use super::resolver::Resolver;
use super::tls::{Contents, Tls};

/// Where metrics are if an address does not say.
pub(super) const METRICS_PATH: &str = "/metrics";

/// What an application's text may hold where nothing else is said: the defaults of a node, which would refuse more.
pub(super) const LIMITS: Limits = Limits {
    max_samples: 1_000_000,
    max_name_len: 1 << 10,
    max_label_value_len: 64 << 10,
    max_labels: 100,
};

/// What is said of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobSettings {
    /// The `job` label of its targets, which then have an `instance` label too. `None`: samples get no label that a
    /// target does not name.
    pub(super) name: Option<String>,
    pub(super) scheme: String,
    pub(super) metrics_path: String,
    /// What each URL asks for, names and values.
    pub(super) params: Vec<(String, String)>,
    /// The label with a target's address that its samples are given, if any.
    pub(super) address_label: Option<String>,
    /// Whether a sample's own label stays where its target has one of the same name.
    pub(super) honor_labels: bool,
    /// How long one target may take; `None`: as long as the pull.
    pub(super) timeout: Option<Duration>,
    /// Bytes of one text.
    pub(super) max_payload: usize,
    /// What one text may hold.
    pub(super) limits: Limits,
    /// What a text is where its Content-Type does not say.
    pub(super) fallback: Option<Format>,
    pub(super) follow_redirects: bool,
    pub(super) credentials: Option<Credentials>,
    pub(super) tls: Tls,
}

impl JobSettings {
    /// Of a job of which nothing is said.
    pub(super) fn new(max_payload: usize) -> Self {
        Self {
            name: None,
            scheme: "http".into(),
            metrics_path: METRICS_PATH.into(),
            params: Vec::new(),
            address_label: None,
            honor_labels: false,
            timeout: None,
            max_payload,
            limits: LIMITS,
            fallback: None,
            follow_redirects: true,
            credentials: None,
            tls: Tls::default(),
        }
    }
}

/// A job with the connections to its targets.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) settings: JobSettings,
    contents: Contents,
    fetcher: Fetcher,
}

impl Job {
    /// Reads the files of TLS. The error names the one that is wrong.
    pub(super) fn new(settings: JobSettings, resolver: &Resolver) -> Result<Self, String> {
        let contents = settings.tls.read()?;
        let fetcher = Fetcher::new(
            settings.tls.config(&contents)?,
            settings.tls.server_name.clone(),
            resolver.clone(),
            settings.credentials.clone(),
            settings.follow_redirects,
            settings.max_payload,
        );
        Ok(Self {
            settings,
            contents,
            fetcher,
        })
    }

    pub(super) fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    /// Whether a job with these settings would be the same: the files say what they said.
    pub(super) fn is_same(&self, settings: &JobSettings) -> bool {
        self.settings == *settings
            && settings
                .tls
                .read()
                .is_ok_and(|contents| contents == self.contents)
    }

    /// What is asked for, as the rest of a URL that ends with `path`.
    pub(super) fn query(&self, path: &str, labels: &[(&str, &str)]) -> String {
        let asked = labels
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix("__param_")?, *value)));
        let mut asked: Vec<(&str, &str)> = asked.collect();
        let mut params: Vec<(&str, &str)> = Vec::new();
        for (name, value) in &self.settings.params {
            // A label takes the place of the first value, as in Prometheus.
            let label = asked.iter().position(|(label, _)| label == name);
            params.push(label.map_or((name, value), |place| asked.remove(place)));
        }
        params.append(&mut asked);
        let mut separator = if path.contains('?') { '&' } else { '?' };
        let mut query = String::new();
        for (name, value) in params {
            query.push_str(&format!("{separator}{}={}", encoded(name), encoded(value)));
            separator = '&';
        }
        query
    }

    /// The `instance` of a target that names none.
    pub(super) fn instance(&self, uri: &Uri) -> String {
        let host = uri.host().unwrap_or_default();
        match (uri.port_u16(), &self.settings.name, uri.scheme_str()) {
            (Some(port), ..) => format!("{host}:{port}"),
            // As Prometheus has it.
            (None, Some(_), _) => host.to_owned(),
            (None, None, Some("https")) => format!("{host}:443"),
            (None, None, _) => format!("{host}:80"),
        }
    }
}

fn encoded(text: &str) -> impl std::fmt::Display {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;

    /// A job of which this is said.
    pub(in super::super) fn job(say: impl FnOnce(&mut JobSettings)) -> Arc<Job> {
        let mut settings = JobSettings::new(1 << 20);
        say(&mut settings);
        Arc::new(Job::new(settings, &Resolver::new()).unwrap())
    }
}
