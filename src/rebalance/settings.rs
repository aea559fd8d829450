//! When a node that has more connections than its peers closes some, and how fast.

use std::time::Duration;

use clap::{ArgAction, Parser};
use prometheus_rsocket_config::values::duration;

/// When a node that has more connections than its peers closes some, and how fast.
#[derive(Debug, Clone, Parser)]
#[group(skip)]
pub struct Settings {
    /// Close connections when this node has more than its share, so that the applications reconnect to other nodes
    #[arg(
        id = "rebalance.enabled",
        long,
        value_name = "BOOL",
        default_value = "true",
        action = ArgAction::Set
    )]
    pub enabled: bool,
    /// Begin when this node has more than this many times the mean of all nodes
    #[arg(id = "rebalance.tolerance", long, value_name = "FACTOR", default_value = "1.2", value_parser = tolerance)]
    pub tolerance: f64,
    /// Begin only when this node has more than this many connections above the mean
    #[arg(
        id = "rebalance.min-surplus",
        long,
        value_name = "N",
        default_value = "10"
    )]
    pub min_surplus: usize,
    /// Begin only when the nodes of the cluster have not changed for this long
    #[arg(id = "rebalance.settle-time", long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub settle_time: Duration,
    /// Close no connection younger than this; set it to two scrape intervals
    #[arg(id = "rebalance.min-connection-age", long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub min_connection_age: Duration,
    /// Close at most this share of this node's connections per second
    #[arg(id = "rebalance.max-rate", long, value_name = "PERCENT", default_value = "1%", value_parser = share)]
    pub max_rate: f64,
    // No flags: the simulation of a thousand nodes chose these (`docs/rebalancing.md`).
    /// What a round closes is spread over this.
    #[arg(skip = Duration::from_secs(10))]
    pub spread: Duration,
    /// After a round: until gossip and connections that come back have shown what came of it.
    #[arg(skip = Duration::from_secs(5))]
    pub freeze: Duration,
    /// The first pause after closing connections did not help; doubled each time, up to the longest.
    #[arg(skip = Duration::from_mins(10))]
    pub first_pause: Duration,
    /// The longest such pause.
    #[arg(skip = Duration::from_hours(2))]
    pub longest_pause: Duration,
}

fn tolerance(value: &str) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(factor) if factor.is_finite() && factor > 1.0 => Ok(factor),
        _ => Err("must be a number greater than one, such as 1.2".into()),
    }
}

fn share(value: &str) -> Result<f64, String> {
    let percent = value.strip_suffix('%').map(str::parse::<f64>);
    match percent {
        Some(Ok(percent)) if percent > 0.0 && percent <= 100.0 => Ok(percent / 100.0),
        _ => Err("must be a percentage above 0% and up to 100%, such as 1%".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage() {
        assert_eq!(share("1%"), Ok(0.01));
        assert_eq!(share("0.5%"), Ok(0.005));
        for senseless in ["1", "0%", "101%", "-1%", "NaN%", "inf%", "%", ""] {
            assert!(share(senseless).is_err(), "{senseless}");
        }
    }

    #[test]
    fn a_tolerance_leaves_room_above_the_mean() {
        assert_eq!(tolerance("1.2"), Ok(1.2));
        for senseless in ["1", "0.8", "NaN", "inf", "20%"] {
            assert!(tolerance(senseless).is_err(), "{senseless}");
        }
    }
}
