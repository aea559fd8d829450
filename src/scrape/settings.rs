//! How pulling is set.

use std::time::Duration;

use clap::Parser;
use prometheus_rsocket_config::values::{any_duration, bytes, duration, positive};
use prometheus_rsocket_exposition::Limits;

use crate::identity::Terms;

/// Pulling.
#[derive(Debug, Clone, Parser)]
#[group(skip)]
pub struct Settings {
    /// Timeout for a scrape without the X-Prometheus-Scrape-Timeout-Seconds header
    #[arg(id = "scrape.timeout", long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub timeout: Duration,
    /// Minimum to subtract from Prometheus' scrape timeout, so that the response arrives in time; where responses take
    /// longer, 1.5 times as long as they take
    #[arg(id = "scrape.timeout-offset", long, value_name = "DURATION", default_value = "500ms", value_parser = any_duration)]
    pub timeout_offset: Duration,
    /// Maximum size of one application's text, decompressed
    #[arg(id = "scrape.max-payload", long, value_name = "BYTES", default_value = "64MiB", value_parser = bytes)]
    pub max_payload: usize,
    /// Maximum number of samples of one application. Its text may have 1000 metric families more, and 8 times as many
    /// lines as those. A text above a limit is rejected
    #[arg(id = "scrape.max-series", long, value_name = "N", default_value = "1000000", value_parser = positive)]
    pub max_series: usize,
    /// Maximum length of metric names and label names
    #[arg(id = "scrape.max-name-length", long, value_name = "BYTES", default_value = "1KiB", value_parser = bytes)]
    pub max_name_length: usize,
    /// Maximum length of label values
    #[arg(id = "scrape.max-label-value-length", long, value_name = "BYTES", default_value = "64KiB", value_parser = bytes)]
    pub max_label_value_length: usize,
    /// Maximum number of labels of a sample, with those that its identity adds
    #[arg(id = "scrape.max-labels", long, value_name = "N", default_value = "100", value_parser = positive)]
    pub max_labels: usize,
    /// Maximum memory for the decompressed texts of all scrapes in progress, and for merging them; applications that do
    /// not fit are missing from the scrape
    #[arg(id = "scrape.max-memory", long, value_name = "BYTES", default_value = "2GiB", value_parser = bytes)]
    pub max_memory: usize,
    /// Maximum number of scrapes in progress; more are answered with 503
    #[arg(id = "scrape.max-concurrent", long, value_name = "N", default_value = "16", value_parser = positive)]
    pub max_concurrent: usize,
}

impl Settings {
    /// What holds for the texts of applications of which nothing else is said.
    pub fn terms(&self) -> Terms {
        Terms {
            max_text: self.max_payload,
            limits: Limits {
                max_samples: self.max_series,
                max_name_len: self.max_name_length,
                max_label_value_len: self.max_label_value_length,
                max_labels: self.max_labels,
            },
            ..Terms::default()
        }
    }
}
