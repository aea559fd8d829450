//! The flags that say when a node lets go of connections that others have room for.

use std::time::Duration;

use clap::{ArgAction, Args};

use super::values::duration;
use crate::settings::Rebalance;

#[derive(Debug, Args)]
pub(super) struct RebalanceArgs {
    /// Close some connections when this node has more than its share, so that they come back to others
    #[arg(
        long = "rebalance.enabled",
        env = "PROXY_REBALANCE_ENABLED",
        value_name = "BOOL",
        default_value = "true",
        action = ArgAction::Set
    )]
    rebalance_enabled: bool,
    /// Begin above this many times the mean of all nodes
    #[arg(long = "rebalance.tolerance", env = "PROXY_REBALANCE_TOLERANCE", value_name = "FACTOR", default_value = "1.2", value_parser = tolerance)]
    rebalance_tolerance: f64,
    /// Begin only with more than this above the mean
    #[arg(
        long = "rebalance.min-surplus",
        env = "PROXY_REBALANCE_MIN_SURPLUS",
        value_name = "N",
        default_value = "10"
    )]
    rebalance_min_surplus: usize,
    /// Begin only when the nodes have stayed the same for this long
    #[arg(long = "rebalance.settle-time", env = "PROXY_REBALANCE_SETTLE_TIME", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    rebalance_settle_time: Duration,
    /// Close no connection younger than this; set it to two scrape intervals
    #[arg(long = "rebalance.min-connection-age", env = "PROXY_REBALANCE_MIN_CONNECTION_AGE", value_name = "DURATION", default_value = "60s", value_parser = duration)]
    rebalance_min_connection_age: Duration,
    /// Close no more than this share of this node's connections in a second
    #[arg(long = "rebalance.max-rate", env = "PROXY_REBALANCE_MAX_RATE", value_name = "PERCENT", default_value = "1%", value_parser = share)]
    rebalance_max_rate: f64,
}

impl RebalanceArgs {
    pub(super) fn settings(&self) -> Rebalance {
        Rebalance {
            enabled: self.rebalance_enabled,
            tolerance: self.rebalance_tolerance,
            min_surplus: self.rebalance_min_surplus,
            settle_time: self.rebalance_settle_time,
            min_connection_age: self.rebalance_min_connection_age,
            max_rate: self.rebalance_max_rate,
            ..Rebalance::default()
        }
    }
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
