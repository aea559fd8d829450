//! The types of OpenMetrics, and what they are in text format 0.0.4.

use crate::metadata::Kind;

/// A type of OpenMetrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenMetricsType {
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    StateSet,
    Summary,
    Info,
    Unknown,
}

impl OpenMetricsType {
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        Some(match text {
            b"counter" => Self::Counter,
            b"gauge" => Self::Gauge,
            b"stateset" => Self::StateSet,
            b"histogram" => Self::Histogram,
            b"gaugehistogram" => Self::GaugeHistogram,
            b"summary" => Self::Summary,
            b"info" => Self::Info,
            b"unknown" | b"untyped" => Self::Unknown,
            _ => return None,
        })
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::StateSet => "stateset",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::Unknown => "unknown",
        }
    }

    /// What it is in text format 0.0.4.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Counter => Kind::Counter,
            Self::Gauge | Self::Info | Self::StateSet => Kind::Gauge,
            Self::Histogram | Self::GaugeHistogram => Kind::Histogram,
            Self::Summary => Kind::Summary,
            Self::Unknown => Kind::Untyped,
        }
    }

    /// What a family is of which only this is known.
    pub(crate) fn of(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter,
            Kind::Gauge => Self::Gauge,
            Kind::Histogram => Self::Histogram,
            Kind::Summary => Self::Summary,
            Kind::Untyped => Self::Unknown,
        }
    }

    /// What a family of this type has at the end of its name in text format 0.0.4.
    pub(crate) fn suffix(self) -> &'static [u8] {
        match self {
            Self::Counter => b"_total",
            Self::Info => b"_info",
            _ => b"",
        }
    }

    /// As [`OpenMetricsType::suffix`], but nothing where the name already has it, as some libraries name families.
    pub(crate) fn suffix_of(self, name: &[u8]) -> &'static [u8] {
        let suffix = self.suffix();
        if name.ends_with(suffix) { b"" } else { suffix }
    }

    /// Whether samples with this suffix become a gauge of their own in text format 0.0.4.
    pub(crate) fn derives(self, suffix: &[u8]) -> bool {
        match self {
            Self::GaugeHistogram => matches!(suffix, b"_created" | b"_gcount" | b"_gsum"),
            Self::Counter | Self::Histogram | Self::Summary => suffix == b"_created",
            Self::Gauge | Self::Info | Self::StateSet | Self::Unknown => false,
        }
    }
}
