//! What metrics say of the files that are read again when they change.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{IntGauge, IntGaugeVec};

use super::OwnMetrics;

/// What is read again when it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigFile {
    /// Of `--web.config.file`, with the files that it names.
    WebConfig,
    /// Of `--rsocket.auth.file`.
    Identities,
    /// Of `--rsocket.tls.*`.
    RSocketTls,
    /// Of `--cluster.tls.*`.
    ClusterTls,
}

impl ConfigFile {
    /// The label value.
    fn label(self) -> &'static str {
        match self {
            Self::WebConfig => "web_config",
            Self::Identities => "identities",
            Self::RSocketTls => "rsocket_tls",
            Self::ClusterTls => "cluster_tls",
        }
    }

    /// What a certificate of it is for.
    fn certifies(self) -> Option<&'static str> {
        match self {
            Self::WebConfig => Some("web"),
            Self::RSocketTls => Some("rsocket"),
            Self::ClusterTls => Some("cluster"),
            Self::Identities => None,
        }
    }
}

/// The metrics of all such files.
pub struct FileMetrics {
    /// Labels `file`.
    successful: IntGaugeVec,
    taken_at: IntGaugeVec,
    /// Labels `use`.
    certificate_ends: IntGaugeVec,
}

impl FileMetrics {
    /// Registers them.
    pub fn register(own: &OwnMetrics) -> prometheus::Result<Self> {
        Ok(Self {
            successful: own.gauges(
                "prometheus_proxy_config_last_reload_successful",
                "Whether the last reload of the file was successful.",
                "file",
            )?,
            taken_at: own.gauges(
                "prometheus_proxy_config_last_reload_success_timestamp_seconds",
                "Timestamp of the last successful reload of the file.",
                "file",
            )?,
            certificate_ends: own.gauges(
                "prometheus_proxy_certificate_expiry_timestamp_seconds",
                "Timestamp of the expiry of the certificate in use.",
                "use",
            )?,
        })
    }

    /// Those of a file that has just been read with success.
    pub fn reloads(&self, file: ConfigFile) -> Reloads {
        let labels = [file.label()];
        let reloads = Reloads {
            successful: self.successful.with_label_values(&labels),
            taken_at: self.taken_at.with_label_values(&labels),
            certificate_ends: self.certificate_ends.clone(),
            certifies: file.certifies(),
        };
        reloads.successful.set(1);
        reloads.taken();
        reloads
    }
}

/// The metrics of one file.
#[derive(Debug)]
pub struct Reloads {
    successful: IntGauge,
    taken_at: IntGauge,
    certificate_ends: IntGaugeVec,
    certifies: Option<&'static str>,
}

impl Reloads {
    /// The file was taken as it is now.
    pub(crate) fn taken(&self) {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = since_1970.unwrap_or_default().as_secs();
        self.taken_at
            .set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }

    /// Whether what the file holds is in force.
    pub(crate) fn is_in_force(&self, successful: bool) {
        self.successful.set(i64::from(successful));
    }

    /// When the certificate ends that is shown, in seconds since 1970; `None`: none is.
    pub(crate) fn certificate_ends(&self, at: Option<i64>) {
        if let Some((certifies, at)) = self.certifies.zip(at) {
            self.certificate_ends
                .with_label_values(&[certifies])
                .set(at);
        }
    }
}
