//! The node's own metrics: each part registers its own here, once, and keeps them as fields.
//!
//! Names that the Java proxy's dashboards use stay; the others follow Prometheus' naming rules under
//! `prometheus_proxy_`. They stand in full, so that a search for one finds it. Label values come from closed sets.

mod distribution;
mod files;
mod labels;

pub use distribution::Distribution;
pub use files::{ConfigFile, FileMetrics, Reloads};
pub(crate) use labels::labels;
use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

/// A registry of its own for each node, so that several fit into one process.
#[derive(Clone)]
pub struct OwnMetrics(Registry);

impl OwnMetrics {
    /// With what the process and the build say.
    pub fn new() -> prometheus::Result<Self> {
        let own = Self(Registry::new());
        let info = own.gauges(
            "prometheus_proxy_build_info",
            "A metric with a constant '1' value labeled by version.",
            "version",
        )?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        #[cfg(target_os = "linux")]
        own.0.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;
        Ok(own)
    }

    /// Text format 0.0.4.
    pub fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.0.gather())
    }

    pub(crate) fn add<C: Collector + Clone + 'static>(
        &self,
        collector: C,
    ) -> prometheus::Result<C> {
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    pub(crate) fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.add(IntGauge::new(name, help)?)
    }

    pub(crate) fn gauges(
        &self,
        name: &str,
        help: &str,
        label: &str,
    ) -> prometheus::Result<IntGaugeVec> {
        self.add(IntGaugeVec::new(Opts::new(name, help), &[label])?)
    }

    pub(crate) fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.add(IntCounter::new(name, help)?)
    }

    /// Where something is counted only now and then: a series appears with its first event.
    pub(crate) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    /// Series that are there at zero from the beginning, so that `increase()` sees the first event.
    pub(crate) fn counters_of(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = &'static str>,
    ) -> prometheus::Result<IntCounterVec> {
        let counters = self.counters(name, help, &[label])?;
        for value in values {
            counters.with_label_values(&[value]);
        }
        Ok(counters)
    }

    /// With the series of these label values at zero from the beginning.
    pub(crate) fn distribution<const LABELS: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&'static str; LABELS],
        values: &[[&'static str; LABELS]],
    ) -> prometheus::Result<Distribution<LABELS>> {
        self.add(Distribution::new(name, help, labels, values)?)
    }
}
