//! The load's expositions: what a service with a metrics library exposes, the same for the same seed.
//!
//! A text has counters, gauges, histograms and summaries in turn, each with HELP and TYPE. Values differ from source to
//! source and change from round to round as such values do: counters grow, gauges wander.

use std::fmt::Write as _;

/// Upper bounds of a histogram's buckets, in seconds: what Prometheus' libraries have if not told otherwise.
const BUCKETS: [&str; 12] = [
    "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "+Inf",
];
/// A summary's quantiles.
const QUANTILES: [&str; 4] = ["0.5", "0.9", "0.95", "0.99"];
/// Bytes of a line, about: so that a text is allocated once.
const LINE_BYTES: usize = 160;

/// Who exposes a text. Both number from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An application that stays.
    Application(usize),
    /// A job that pushes as it ends.
    Job(usize),
}

impl Source {
    /// The family that every text of this kind has one sample of.
    fn marker(self) -> &'static str {
        match self {
            Self::Application(_) => "bench_application_info",
            Self::Job(_) => "bench_job_info",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Application(_) => "application",
            Self::Job(_) => "job",
        }
    }

    fn number(self) -> usize {
        match self {
            Self::Application(number) | Self::Job(number) => number,
        }
    }
}

/// All texts of one run.
#[derive(Debug, Clone, Copy)]
pub struct Texts {
    /// Two runs with different seeds have no series in common.
    pub seed: u64,
    /// Samples of an application's text, at least one.
    pub application_series: usize,
    /// Samples of a job's text, at least one.
    pub job_series: usize,
}

impl Texts {
    /// What every line with this source's marker begins with, in this run and no other.
    pub fn marker(&self, source: Source) -> String {
        format!("{}{{run=\"{}\",", source.marker(), self.seed)
    }

    /// What the applications of this run have in common as targets.
    pub fn job(&self) -> String {
        format!("bench-{}", self.seed)
    }

    /// The text of one source for the pull with this number, or for a push.
    pub fn render(&self, source: Source, round: u64) -> String {
        let series = match source {
            Source::Application(_) => self.application_series,
            Source::Job(_) => self.job_series,
        };
        let (name, number) = (source.name(), source.number());
        let mut page = Page {
            text: String::with_capacity((series + 4) * LINE_BYTES),
            labels: format!(
                "application=\"checkout\",instance=\"{name}-{}-{number}\"",
                self.seed
            ),
            state: mix(self.seed ^ mix(number as u64)),
            round,
        };
        page.family(source.marker(), "gauge", "Who this is, for counting.");
        let _ = writeln!(page.text, "{}{}}} 1", self.marker(source), page.labels);
        let mut left = series.saturating_sub(1);
        for family in 0_u64.. {
            if left == 0 {
                break;
            }
            left -= page.block(family, left);
        }
        page.text
    }
}

/// A text under way. Writing to a string does not fail.
struct Page {
    text: String,
    labels: String,
    state: u64,
    round: u64,
}

impl Page {
    /// Writes the next family, of `left` samples at most, and gives how many it has.
    fn block(&mut self, family: u64, left: usize) -> usize {
        const HISTOGRAM: usize = BUCKETS.len() + 2;
        const SUMMARY: usize = QUANTILES.len() + 2;
        match family % 4 {
            0 if left >= HISTOGRAM => {
                let rows = (left / HISTOGRAM).min(3);
                self.histogram(family, rows);
                rows * HISTOGRAM
            }
            1 => {
                let rows = left.min(20);
                self.counter(family, rows);
                rows
            }
            2 if left >= SUMMARY => {
                let rows = (left / SUMMARY).min(4);
                self.summary(family, rows);
                rows * SUMMARY
            }
            _ => {
                let rows = left.min(20);
                self.gauge(family, rows);
                rows
            }
        }
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn counter(&mut self, family: u64, rows: usize) {
        let name = format!("queue_{family:03}_messages_total");
        self.family(&name, "counter", "Messages taken from the queue.");
        for row in 0..rows {
            let (labels, value) = (&self.labels, self.counted(family, row));
            let _ = writeln!(
                self.text,
                "{name}{{{labels},queue=\"orders-{row}\",result=\"success\"}} {value}"
            );
        }
    }

    fn gauge(&mut self, family: u64, rows: usize) {
        let name = format!("pool_{family:03}_used_bytes");
        self.family(&name, "gauge", "Memory of the pool in use.");
        for row in 0..rows {
            let (labels, value) = (&self.labels, self.measured(family, row));
            let _ = writeln!(
                self.text,
                "{name}{{{labels},area=\"heap\",id=\"Generation {row}\"}} {value:.3}"
            );
        }
    }

    fn histogram(&mut self, family: u64, rows: usize) {
        let name = format!("http_server_requests_{family:03}_seconds");
        self.family(&name, "histogram", "Time to answer an HTTP request.");
        for row in 0..rows {
            let labels = format!("{},method=\"GET\",uri=\"/api/v1/items/{row}\"", self.labels);
            let mut count = 0;
            for (bucket, le) in (1..).zip(BUCKETS) {
                count += self.counted(family, row * 100 + bucket);
                let _ = writeln!(self.text, "{name}_bucket{{{labels},le=\"{le}\"}} {count}");
            }
            self.sum_and_count(&name, &labels, count);
        }
    }

    fn summary(&mut self, family: u64, rows: usize) {
        let name = format!("database_query_{family:03}_seconds");
        self.family(&name, "summary", "Time of a query.");
        for row in 0..rows {
            let labels = format!("{},query=\"select_{row}\"", self.labels);
            for (place, quantile) in (1..).zip(QUANTILES) {
                let value = self.measured(family, row * 100 + place) / 1e6;
                let _ = writeln!(
                    self.text,
                    "{name}{{{labels},quantile=\"{quantile}\"}} {value:.6}"
                );
            }
            self.sum_and_count(&name, &labels, self.counted(family, row));
        }
    }

    fn sum_and_count(&mut self, name: &str, labels: &str, count: u64) {
        let sum = count as f64 * 0.0371;
        let _ = writeln!(
            self.text,
            "{name}_sum{{{labels}}} {sum:.6}\n{name}_count{{{labels}}} {count}"
        );
    }

    /// Grows from round to round, at a pace of its own.
    fn counted(&self, family: u64, row: usize) -> u64 {
        let random = self.random(family, row);
        random % 1_000_000 + self.round * (random % 97)
    }

    /// Differs from round to round; below a million.
    fn measured(&self, family: u64, row: usize) -> f64 {
        let random = mix(self.random(family, row) ^ self.round);
        (random % 1_000_000_000) as f64 / 1e3
    }

    fn random(&self, family: u64, row: usize) -> u64 {
        mix(self.state ^ (family << 32) ^ row as u64)
    }
}

/// SplitMix64's next number: values that look random, and are the same for the same run.
fn mix(state: u64) -> u64 {
    let state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::collections::hash_map::RandomState;

    use prometheus_rsocket_exposition::Exposition;

    use super::*;

    fn texts(series: usize) -> Texts {
        Texts {
            seed: 7,
            application_series: series,
            job_series: series,
        }
    }

    fn parse(text: String) -> Exposition {
        Exposition::parse(text.into()).expect("a valid text")
    }

    #[test]
    fn a_text_is_valid_and_has_as_many_series_as_asked_for() {
        for series in [1, 2, 15, 16, 100, 1000] {
            let text = parse(texts(series).render(Source::Application(0), 3));
            assert_eq!(text.samples(), series);
            let hasher = RandomState::new();
            let distinct: HashSet<_> = text.series(&hasher).collect();
            assert_eq!(distinct.len(), series);
        }
        let text = texts(1000).render(Source::Application(0), 0);
        for kind in ["counter", "gauge", "histogram", "summary"] {
            assert!(
                text.contains(&format!("# TYPE {kind}")) || text.contains(&format!(" {kind}\n"))
            );
        }
    }

    #[test]
    fn sources_have_no_series_in_common_and_rounds_have_all() {
        let hasher = RandomState::new();
        let series = |source, round| -> HashSet<u64> {
            let text = parse(texts(100).render(source, round));
            text.series(&hasher).collect()
        };
        let first = series(Source::Application(0), 0);
        assert_eq!(first, series(Source::Application(0), 1));
        assert!(first.is_disjoint(&series(Source::Application(1), 0)));
        assert!(first.is_disjoint(&series(Source::Job(0), 0)));
    }

    #[test]
    fn values_change_from_round_to_round_and_not_from_run_to_run() {
        let render = |round| texts(100).render(Source::Application(0), round);
        assert_ne!(render(0), render(1));
        assert_eq!(render(1), render(1));
    }
}
