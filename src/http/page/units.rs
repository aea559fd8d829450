//! Numbers and times as people read them.

use std::fmt::Display;
use std::time::{Duration, SystemTime};

use bytesize::ByteSize;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// How long ago it was, in no more than two units: `3 h 5 min`. What lies ahead, because a clock was set, is now.
pub(super) fn ago(then: SystemTime, now: SystemTime) -> String {
    let seconds = now.duration_since(then).unwrap_or_default().as_secs();
    match seconds {
        0..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => two(seconds, (MINUTE, "min"), (1, "s")),
        HOUR..DAY => two(seconds, (HOUR, "h"), (MINUTE, "min")),
        DAY.. => two(seconds, (DAY, "d"), (HOUR, "h")),
    }
}

fn two(seconds: u64, large: (u64, &str), small: (u64, &str)) -> String {
    let rest = seconds % large.0 / small.0;
    let larger = format!("{} {}", seconds / large.0, large.1);
    match rest {
        0 => larger,
        rest => format!("{larger} {rest} {}", small.1),
    }
}

/// To the second, in UTC.
pub(super) fn moment(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// How long something took: `12 ms`, `1.25 s`.
pub(super) fn seconds(seconds: f64) -> String {
    let millis = Duration::try_from_secs_f64(seconds)
        .unwrap_or_default()
        .as_millis();
    match millis {
        0 => "< 1 ms".into(),
        1..1000 => format!("{millis} ms"),
        1000.. => format!("{seconds:.2} s"),
    }
}

/// `12.3 KiB`
pub(super) fn bytes(bytes: usize) -> String {
    ByteSize::b(bytes as u64).display().iec().to_string()
}

/// `10,000`
pub(super) fn count(number: impl Display) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_no_more_than_two_units() {
        let now = SystemTime::now();
        for (seconds, said) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (61, "1 min 1 s"),
            (3 * HOUR + 5 * MINUTE + 59, "3 h 5 min"),
            (2 * DAY + HOUR, "2 d 1 h"),
            (400 * DAY, "400 d"),
        ] {
            assert_eq!(ago(now - Duration::from_secs(seconds), now), said);
        }
        assert_eq!(ago(now + Duration::from_secs(9), now), "0 s");
    }

    #[test]
    fn numbers_are_short_and_have_units() {
        assert_eq!(seconds(0.0001), "< 1 ms");
        assert_eq!(seconds(0.0129), "12 ms");
        assert_eq!(seconds(9.5), "9.50 s");
        assert_eq!(bytes(5), "5 B");
        assert_eq!(bytes(12_600), "12.3 KiB");
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
    }
}
