//! A summary without quantiles beside a gauge of the recent maximum: what Micrometer's timers export as
//! `_count`, `_sum` and `_max`, and what dashboards made for the Java proxy ask for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType, Summary};

/// The maximum is that of the current window and the one before, so that a peak shows for one to two of them.
const WINDOW: Duration = Duration::from_secs(60);

/// Counts, sums and keeps the recent maximum of values, for each combination of label values seen.
///
/// Label values are `&'static str`: they come from closed sets in the code, never from a message.
#[derive(Clone)]
pub struct Distribution<const LABELS: usize> {
    summary: Desc,
    maximum: Desc,
    labels: [&'static str; LABELS],
    cells: Arc<Mutex<BTreeMap<[&'static str; LABELS], Cell>>>,
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    count: u64,
    sum: f64,
    window: Instant,
    current: f64,
    previous: f64,
}

impl Cell {
    fn new(now: Instant) -> Self {
        Self {
            count: 0,
            sum: 0.0,
            window: now,
            current: 0.0,
            previous: 0.0,
        }
    }

    fn observe(&mut self, value: f64, now: Instant) {
        self.turn(now);
        self.count += 1;
        self.sum += value;
        self.current = self.current.max(value);
    }

    fn maximum(&mut self, now: Instant) -> f64 {
        self.turn(now);
        self.current.max(self.previous)
    }

    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.window);
        if age < WINDOW {
            return;
        }
        self.previous = if age < 2 * WINDOW { self.current } else { 0.0 };
        self.current = 0.0;
        self.window = now;
    }
}

impl<const LABELS: usize> Distribution<LABELS> {
    /// `name` without `_count`, `_sum` or `_max`. The series with the `expected` labels are there, at zero, before anything
    /// happened.
    pub(super) fn new(
        name: &str,
        help: &str,
        labels: [&'static str; LABELS],
        expected: &[[&'static str; LABELS]],
    ) -> prometheus::Result<Self> {
        let now = Instant::now();
        let cells = expected.iter().map(|labels| (*labels, Cell::new(now)));
        let describe = |name: String, help: String| {
            let labels = labels.iter().map(ToString::to_string).collect();
            Desc::new(name, help, labels, std::collections::HashMap::new())
        };
        Ok(Self {
            summary: describe(name.to_owned(), help.to_owned())?,
            maximum: describe(
                format!("{name}_max"),
                format!("{help} Maximum of the last one to two minutes."),
            )?,
            labels,
            cells: Arc::new(Mutex::new(cells.collect())),
        })
    }

    /// Counts one value, in the base unit that the metric's name says.
    pub fn observe(&self, labels: [&'static str; LABELS], value: f64) {
        let now = Instant::now();
        let mut cells = self.cells.lock();
        cells
            .entry(labels)
            .or_insert_with(|| Cell::new(now))
            .observe(value, now);
    }

    fn pairs(&self, values: [&'static str; LABELS]) -> Vec<LabelPair> {
        let pair = |(name, value): (&&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value.to_owned());
            pair
        };
        self.labels.iter().zip(values).map(pair).collect()
    }
}

impl<const LABELS: usize> Collector for Distribution<LABELS> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.summary, &self.maximum]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = Instant::now();
        let mut summaries = Vec::new();
        let mut maxima = Vec::new();
        let mut cells = self.cells.lock();
        for (values, cell) in cells.iter_mut() {
            let mut summary = Summary::default();
            summary.set_sample_count(cell.count);
            summary.set_sample_sum(cell.sum);
            let mut metric = Metric::from_label(self.pairs(*values));
            metric.set_summary(summary);
            summaries.push(metric);
            let mut gauge = Gauge::default();
            gauge.set_value(cell.maximum(now));
            let mut metric = Metric::from_label(self.pairs(*values));
            metric.set_gauge(gauge);
            maxima.push(metric);
        }
        vec![
            family(&self.summary, MetricType::SUMMARY, summaries),
            family(&self.maximum, MetricType::GAUGE, maxima),
        ]
    }
}

fn family(desc: &Desc, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(desc.fq_name.clone());
    family.set_help(desc.help.clone());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_shows_for_one_to_two_windows() {
        let start = Instant::now();
        let mut cell = Cell::new(start);
        cell.observe(5.0, start);
        cell.observe(1.0, start + WINDOW);
        assert!((cell.maximum(start + WINDOW) - 5.0).abs() < f64::EPSILON);
        assert!((cell.maximum(start + 2 * WINDOW) - 1.0).abs() < f64::EPSILON);
        assert!(cell.maximum(start + 9 * WINDOW).abs() < f64::EPSILON);
        assert_eq!(cell.count, 2);
    }
}
