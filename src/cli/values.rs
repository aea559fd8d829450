//! What the values of flags are read by: from what people write, or to the reason why it cannot be had.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

pub(super) use crate::limits::sizes::bytes;

/// Bytes of one RSocket frame: its length prefix has 24 bits.
const MAX_FRAME: u64 = (1 << 24) - 1;
/// The shortest frame limit that leaves room for an envelope's wrapped key.
const MIN_FRAME: u64 = 4 << 10;
/// More than anybody waits for a node that leaves; the clock can add it to any time.
const MAX_GRACE_PERIOD: Duration = Duration::from_hours(24);

/// A duration, which may be zero.
pub(super) fn any_duration(value: &str) -> Result<Duration, String> {
    humantime::parse_duration(value)
        .map_err(|error| format!("{error}; a duration is written as 500ms, 10s or 1h30m"))
}

/// A duration above zero.
pub(super) fn duration(value: &str) -> Result<Duration, String> {
    match any_duration(value)? {
        Duration::ZERO => Err("must be more than zero".into()),
        duration => Ok(duration),
    }
}

/// How long a node may take to leave.
pub(super) fn grace_period(value: &str) -> Result<Duration, String> {
    let period = duration(value)?;
    if period > MAX_GRACE_PERIOD {
        let longest = humantime::format_duration(MAX_GRACE_PERIOD);
        return Err(format!("must be no more than {longest}"));
    }
    Ok(period)
}

/// A network, or the one address that is all of it.
pub(super) fn network(value: &str) -> Result<IpNet, String> {
    let address = value.parse::<IpAddr>().map(IpNet::from);
    address
        .or_else(|_| value.parse())
        .map_err(|_| "neither an address nor a network, as 192.0.2.1 or 10.0.0.0/8".into())
}

/// A web origin as browsers name it (RFC 6454, section 6.2).
pub(super) fn origin(value: &str) -> Result<String, String> {
    let host = value.split_once("://").map(|(_, host)| host);
    let lower_case = !value.contains(|letter: char| letter.is_ascii_uppercase());
    match host {
        Some(host) if lower_case && !host.is_empty() && !host.contains(['/', '?', '#', '@']) => {
            Ok(value.to_owned())
        }
        _ => Err("an origin is written https://HOST or https://HOST:PORT, in lower case".into()),
    }
}

/// The bytes that a frame may have.
pub(super) fn frame_bytes(value: &str) -> Result<usize, String> {
    let bytes = bytes(value)?;
    if (MIN_FRAME..=MAX_FRAME).contains(&(bytes as u64)) {
        Ok(bytes)
    } else {
        Err(format!("must be between {MIN_FRAME} and {MAX_FRAME} bytes"))
    }
}

/// A number above zero.
pub(super) fn positive(value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(0) => Err("must be more than zero".into()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}
