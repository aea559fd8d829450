//! What the client counts about itself.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use bytes::{Bytes, BytesMut};

/// The last line of an OpenMetrics text.
const EOF: &[u8] = b"# EOF";
const PREFIX: &str = "prometheus_rsocket_client_";

/// Why an attempt to connect failed, or a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Nobody listens at the address.
    Refused,
    /// The proxy, or the way to it, took longer than 10 s for a connection or a handshake, or than a push could wait.
    Timeout,
    /// TLS did not come about.
    Tls,
    /// The WebSocket did not come about.
    WebSocket,
    /// The connection was made, but no key came within 10 s, and there is another proxy to try.
    NoKey,
    /// The proxy closed the connection.
    Closed,
    /// The proxy ended the connection with an ERROR.
    Error,
    /// The proxy gave no sign of life.
    Silent,
    /// The proxy broke the protocol.
    Protocol,
    /// The proxy opens no envelope of version 2, and less is forbidden.
    Downgrade,
    /// The credentials cannot be read, or the proxy refuses them, or an HTTP proxy asks for others (407).
    Credentials,
    /// The HTTP proxy on the way to the proxy did not let the connection through.
    HttpProxy,
    /// Any other failure of the network.
    Network,
}

impl Reason {
    const ALL: [Self; 13] = [
        Self::Refused,
        Self::Timeout,
        Self::Tls,
        Self::WebSocket,
        Self::NoKey,
        Self::Closed,
        Self::Error,
        Self::Silent,
        Self::Protocol,
        Self::Downgrade,
        Self::Credentials,
        Self::HttpProxy,
        Self::Network,
    ];

    /// The value of the label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::WebSocket => "websocket",
            Self::NoKey => "no_key",
            Self::Closed => "closed",
            Self::Error => "error",
            Self::Silent => "silent",
            Self::Protocol => "protocol",
            Self::Downgrade => "downgrade",
            Self::Credentials => "credentials",
            Self::HttpProxy => "http_proxy",
            Self::Network => "network",
        }
    }
}

/// What a client has counted since it was made; see [`Client::metrics`](crate::Client::metrics).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Whether a connection is there and its key has come.
    pub connected: bool,
    /// Connections made, up to the arrival of the key.
    pub connects: u64,
    /// Attempts to connect that followed a failed one or the end of a connection.
    pub retries: u64,
    /// Attempts that failed and connections that ended without the client's doing, by reason; those that did not happen
    /// are left out.
    pub connection_errors: Vec<(Reason, u64)>,
    /// Pulls answered with a text.
    pub pulls_answered: u64,
    /// Pulls answered with an ERROR: there was no text, or too many were being rendered.
    pub pulls_failed: u64,
    /// Pulls that the proxy gave up before they were answered.
    pub pulls_cancelled: u64,
    /// Pushes that the proxy acknowledged.
    pub pushes_acknowledged: u64,
    /// Pushes sent without waiting for an acknowledgement.
    pub pushes_unacknowledged: u64,
    /// Pushes that the proxy refused.
    pub pushes_refused: u64,
    /// Pushes that were not acknowledged in time, or for which there was no text.
    pub pushes_failed: u64,
}

/// A count that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increment(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The counters behind [`Metrics`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    connected: AtomicBool,
    pub(crate) connects: Counter,
    pub(crate) retries: Counter,
    connection_errors: [Counter; Reason::ALL.len()],
    pub(crate) pulls_answered: Counter,
    pub(crate) pulls_failed: Counter,
    pub(crate) pulls_cancelled: Counter,
    pub(crate) pushes_acknowledged: Counter,
    pub(crate) pushes_unacknowledged: Counter,
    pub(crate) pushes_refused: Counter,
    pub(crate) pushes_failed: Counter,
}

impl Counters {
    /// Whether there has been a connection whose key came.
    pub(crate) fn has_connected(&self) -> bool {
        self.connects.get() > 0
    }

    pub(crate) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Relaxed);
    }

    pub(crate) fn connection_error(&self, reason: Reason) {
        let counters = Reason::ALL.iter().zip(&self.connection_errors);
        for (_, counter) in counters.filter(|(other, _)| **other == reason) {
            counter.increment();
        }
    }

    pub(crate) fn snapshot(&self) -> Metrics {
        let errors = Reason::ALL.into_iter().zip(&self.connection_errors);
        Metrics {
            connected: self.connected.load(Relaxed),
            connects: self.connects.get(),
            retries: self.retries.get(),
            connection_errors: errors
                .map(|(reason, counter)| (reason, counter.get()))
                .filter(|(_, count)| *count > 0)
                .collect(),
            pulls_answered: self.pulls_answered.get(),
            pulls_failed: self.pulls_failed.get(),
            pulls_cancelled: self.pulls_cancelled.get(),
            pushes_acknowledged: self.pushes_acknowledged.get(),
            pushes_unacknowledged: self.pushes_unacknowledged.get(),
            pushes_refused: self.pushes_refused.get(),
            pushes_failed: self.pushes_failed.get(),
        }
    }
}

impl Metrics {
    /// Puts itself behind the application's text, in the format that this is in.
    pub(crate) fn append_to(&self, text: &Bytes) -> Bytes {
        let openmetrics = text.split(|&byte| byte == b'\n').any(|line| line == EOF);
        let body = text.trim_ascii_end();
        // Where the text ends otherwise than with EOF, it is left as it is.
        let body = body
            .strip_suffix(EOF)
            .filter(|_| openmetrics)
            .unwrap_or(text);
        let own = self.text(openmetrics);
        let mut joined = BytesMut::with_capacity(body.len() + own.len() + 8);
        joined.extend_from_slice(body);
        if !body.is_empty() && !body.ends_with(b"\n") {
            joined.extend_from_slice(b"\n");
        }
        joined.extend_from_slice(own.as_bytes());
        if openmetrics {
            joined.extend_from_slice(EOF);
            joined.extend_from_slice(b"\n");
        }
        joined.freeze()
    }

    fn text(&self, openmetrics: bool) -> String {
        let errors = self.connection_errors.iter();
        let errors: Vec<_> = errors
            .map(|(reason, count)| (reason.label(), *count))
            .collect();
        let pulls = [
            ("answered", self.pulls_answered),
            ("failed", self.pulls_failed),
            ("cancelled", self.pulls_cancelled),
        ];
        let pushes = [
            ("acknowledged", self.pushes_acknowledged),
            ("unacknowledged", self.pushes_unacknowledged),
            ("refused", self.pushes_refused),
            ("failed", self.pushes_failed),
        ];
        let mut families = Families::new(openmetrics);
        families.gauge(
            "connected",
            "Whether the client is connected.",
            self.connected,
        );
        families.counter("connects", "Connections made.", self.connects);
        families.counter("retries", "Repeated attempts to connect.", self.retries);
        families.counters(
            "connection_errors",
            "Failed attempts and connections lost.",
            "reason",
            &errors,
        );
        families.counters(
            "pulls",
            "Pulls of the proxy, as they ended.",
            "outcome",
            &pulls,
        );
        families.counters("pushes", "Pushes, as they ended.", "outcome", &pushes);
        families.text
    }
}

/// Families in the making. Writing to a string cannot fail.
struct Families {
    text: String,
    /// There, a counter's family lacks the `_total` of its samples.
    openmetrics: bool,
}

impl Families {
    fn new(openmetrics: bool) -> Self {
        Self {
            text: String::new(),
            openmetrics,
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: bool) {
        let name = format!("{PREFIX}{name}");
        self.head(&name, help, "gauge");
        let _ = writeln!(self.text, "{name} {}", u8::from(value));
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        let name = self.counter_head(name, help);
        let _ = writeln!(self.text, "{name} {value}");
    }

    fn counters(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) {
        if values.is_empty() {
            return;
        }
        let name = self.counter_head(name, help);
        for (label_value, value) in values {
            let _ = writeln!(self.text, "{name}{{{label}=\"{label_value}\"}} {value}");
        }
    }

    fn counter_head(&mut self, name: &str, help: &str) -> String {
        let family = format!("{PREFIX}{name}");
        let samples = format!("{family}_total");
        let named = if self.openmetrics { &family } else { &samples };
        self.head(named, help, "counter");
        samples
    }

    fn head(&mut self, family: &str, help: &str, kind: &str) {
        let _ = writeln!(self.text, "# HELP {family} {help}");
        let _ = writeln!(self.text, "# TYPE {family} {kind}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appended(text: &'static str) -> String {
        let counters = Counters::default();
        counters.connects.increment();
        counters.connection_error(Reason::Refused);
        let text = counters
            .snapshot()
            .append_to(&Bytes::from_static(text.as_bytes()));
        String::from_utf8(text.to_vec()).unwrap()
    }

    #[test]
    fn own_metrics_follow_a_text_with_or_without_a_last_line_break() {
        for text in ["up 1", "up 1\n"] {
            let text = appended(text);
            assert!(text.starts_with("up 1\n# HELP prometheus_rsocket_client_connected "));
            assert!(text.contains(
                "# TYPE prometheus_rsocket_client_connects_total counter\n\
                 prometheus_rsocket_client_connects_total 1\n"
            ));
            assert!(text.contains(
                "\nprometheus_rsocket_client_connection_errors_total{reason=\"refused\"} 1\n"
            ));
        }
        assert!(appended("").starts_with("# HELP"));
    }

    #[test]
    fn own_metrics_stand_before_the_end_of_an_openmetrics_text() {
        for text in ["up 1\n# EOF", "up 1\n# EOF\n"] {
            let text = appended(text);
            assert!(text.starts_with("up 1\n# HELP"));
            assert!(text.contains("# TYPE prometheus_rsocket_client_connects counter\n"));
            assert!(text.ends_with("\n# EOF\n"));
            assert_eq!(text.matches("# EOF").count(), 1);
        }
    }
}
