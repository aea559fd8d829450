//! How applications are targets of their own.

use std::time::Duration;

use clap::Parser;
use hyper::http::uri::Authority;
use prometheus_rsocket_exposition::Labels;

use prometheus_rsocket_config::values::any_duration;

/// Applications as targets of their own.
#[derive(Debug, Clone, Parser)]
#[group(skip)]
pub struct Settings {
    /// Keep an application whose connection broke in /targets until this long after, so that its `up` is 0
    #[arg(id = "targets.linger", long, value_name = "DURATION", default_value = "5m", value_parser = any_duration)]
    pub linger: Duration,
    /// Address that /targets tells Prometheus to scrape; none: the one at which it was asked
    #[arg(id = "targets.address", long, value_name = "HOST:PORT", value_parser = address)]
    pub address: Option<Authority>,
    /// Labels whose values name an application that does not say what it is, where all its samples have the same.
    /// Repeatable
    #[arg(id = "targets.by", long, value_name = "LABEL", default_value = "instance", value_delimiter = ',', value_parser = label)]
    pub by: Vec<String>,
}

fn address(text: &str) -> Result<Authority, String> {
    match text.parse::<Authority>() {
        Ok(address) if !text.contains('@') => Ok(address),
        _ => Err("must be HOST or HOST:PORT".into()),
    }
}

/// The name of a label that samples can have.
fn label(name: &str) -> Result<String, String> {
    // The value makes no difference.
    let added = Labels::default().insert(name, "x");
    added.map_err(|error| error.to_string())?;
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_maybe_a_port() {
        for good in ["proxy", "proxy.internal:8080", "[::1]:8080", "10.0.0.1:80"] {
            assert_eq!(address(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "http://proxy:8080",
            "me@proxy:8080",
            "a b",
            "proxy/targets",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
