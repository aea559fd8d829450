//! Numbers as Go's `strconv.ParseFloat` and `ParseInt` read them, which is what Prometheus uses.
//!
//! Prometheus refuses the characters `p`, `P` and `_` before it calls `ParseFloat`
//! (`parseFloat` in `model/textparse/promparse.go`), and Go's hexadecimal floats need a `p`, so
//! only decimal numbers, infinities and NaN remain.

use std::io::Write as _;

use crate::class::part;

/// More digits than any number needs, few enough that Go and Rust read the same value: Go stops
/// counting exponents at 10,000.
const MAX_LENGTH: usize = 1_000;

/// The smallest whole number which rounds to infinity: halfway between the largest of 64 bits and what would
/// be the next.
const FIRST_INFINITE: &[u8; 309] = b"179769313486231580793728971405303415079934132710037826936173778980\
444968292764750946649017977587207096330286416692887910946555547851940402630657488671505820681908902000\
708383676273854845817711531764475730270069855571366959622842914819860834936475292719074168444365510704\
342711559699508093042880177904174497792";

/// Numbers with fewer digits and no larger exponent cannot leave the range of 64 bits.
const SAFE: usize = 100;

/// The end of the decimal number without exponent at `at`, if there is one and it is certainly
/// valid. The usual way: most values look like `12.5`.
#[inline]
pub(crate) fn plain_decimal_end(line: &[u8], at: usize) -> Option<usize> {
    let start = at + usize::from(line.get(at) == Some(&b'-'));
    let whole = digits_end(line, start);
    let mut end = whole;
    if line.get(whole) == Some(&b'.') {
        end = digits_end(line, whole + 1);
    }
    let has_digit = whole > start || end > whole + 1;
    (has_digit && end - start <= SAFE).then_some(end)
}

/// Whether the token is a number which Prometheus accepts as value.
pub(crate) fn is_float(token: &[u8]) -> bool {
    is_decimal(token) || is_infinity(token) || is_nan(token)
}

/// Whether the token is a number that Prometheus takes for a time.
pub(crate) fn is_finite_float(token: &[u8]) -> bool {
    is_decimal(token)
}

/// Whether the token is a number below zero, or would be with more than 64 bits. It must be one that
/// [`is_float`] accepts.
pub(crate) fn is_negative(token: &[u8]) -> bool {
    let Some(number) = token.strip_prefix(b"-") else {
        return false;
    };
    let is_digit = |byte: &&u8| !matches!(byte, b'e' | b'E');
    let mut mantissa = number.iter().take_while(is_digit);
    mantissa.any(|byte| !matches!(byte, b'0' | b'.'))
}

/// Go allows no sign before NaN.
pub(crate) fn is_nan(token: &[u8]) -> bool {
    token.eq_ignore_ascii_case(b"nan")
}

fn is_infinity(token: &[u8]) -> bool {
    let unsigned = match token {
        [b'+' | b'-', rest @ ..] => rest,
        _ => token,
    };
    unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity")
}

/// `[+-]? digits [. digits] [eE [+-]? digits]` with at least one digit before the exponent, and
/// within range: Go reports an error where Rust reads an infinity.
fn is_decimal(token: &[u8]) -> bool {
    let signed = usize::from(matches!(token.first(), Some(b'+' | b'-')));
    let whole = digits_end(token, signed);
    let mut mantissa = whole;
    if token.get(whole) == Some(&b'.') {
        mantissa = digits_end(token, whole + 1);
    }
    if whole == signed && mantissa <= whole + 1 {
        return false;
    }
    if mantissa == token.len() {
        return token.len() <= SAFE || is_finite(token);
    }
    if !matches!(token.get(mantissa), Some(b'e' | b'E')) {
        return false;
    }
    let exponent = mantissa + 1 + usize::from(matches!(token.get(mantissa + 1), Some(b'+' | b'-')));
    let end = digits_end(token, exponent);
    end > exponent && end == token.len() && is_finite(token)
}

/// Whether a decimal number whose form has been checked rounds to one of 64 bits. Looks at digits only: to
/// read all of a number can take as long as to read hundreds of others.
fn is_finite(token: &[u8]) -> bool {
    if token.len() > MAX_LENGTH {
        return false;
    }
    let Some((digits, power)) = digits_and_power(token) else {
        return true;
    };
    match power - FIRST_INFINITE.len() as i64 {
        0 => {
            let digits = digits
                .iter()
                .take_while(|byte| !matches!(byte, b'e' | b'E'));
            digits.filter(|&&byte| byte != b'.').lt(FIRST_INFINITE)
        }
        larger => larger < 0,
    }
}

/// What a decimal number has from its first digit which is not zero, and the power of ten by which 0.ddd is to be
/// multiplied, d being these digits; `None` for zero.
fn digits_and_power(token: &[u8]) -> Option<(&[u8], i64)> {
    let mantissa_to = token
        .iter()
        .position(|byte| matches!(byte, b'e' | b'E'))
        .unwrap_or(token.len());
    let (mantissa, exponent) = token.split_at(mantissa_to);
    let point = mantissa
        .iter()
        .position(|&byte| byte == b'.')
        .unwrap_or(mantissa.len());
    let first = mantissa
        .iter()
        .position(|byte| matches!(byte, b'1'..=b'9'))?;
    let power = if first < point {
        (point - first) as i64
    } else {
        -((first - point - 1) as i64)
    };
    let power = power.saturating_add(read_exponent(exponent));
    Some((part(token, first, token.len()), power))
}

/// A time in seconds, in milliseconds, if the token is a number from 0 on for which 64 bits suffice.
pub(crate) fn milliseconds(token: &[u8]) -> Option<u64> {
    if !is_float(token) {
        return None;
    }
    // Numbers far from 1 are the dearest to read, and none of these is a time.
    let seconds = match digits_and_power(token) {
        Some((_, power)) if power < -10 => 0.0,
        _ => read(token)?,
    };
    // Prometheus: `int64(ts * 1000)` in `openmetricsparse.go`.
    let milliseconds = (seconds * 1_000.0).trunc();
    let has_room = (0.0..9_223_372_036_854_775_808.0).contains(&milliseconds);
    has_room.then_some(milliseconds as u64)
}

/// Appends a time in seconds, which [`milliseconds`] reads, in milliseconds.
pub(crate) fn write_milliseconds(out: &mut Vec<u8>, seconds: &[u8]) {
    let milliseconds = milliseconds(seconds).unwrap_or_default();
    // To a `Vec`, writing cannot fail.
    let _ = write!(out, "{milliseconds}");
}

/// Appends a time in milliseconds, which [`is_timestamp`] accepts, in seconds that Prometheus reads as the same
/// milliseconds.
pub(crate) fn write_seconds(out: &mut Vec<u8>, milliseconds: &[u8]) {
    let digits = std::str::from_utf8(milliseconds).unwrap_or_default();
    let milliseconds: u64 = digits.parse().unwrap_or_default();
    let (seconds, rest) = (milliseconds / 1_000, milliseconds % 1_000);
    // To a `Vec`, writing cannot fail.
    let _ = write!(out, "{seconds}");
    // In numbers this large, milliseconds are lost.
    if rest > 0 && milliseconds < 1 << 53 {
        let _ = write!(out, ".{rest:03}");
        // Prometheus multiplies and truncates: half a millisecond more makes up for what that loses.
        let read = milliseconds as f64 / 1_000.0 * 1_000.0;
        if read.trunc() as u64 != milliseconds {
            out.push(b'5');
        }
    }
}

/// A number as Prometheus 3 spells the bounds of histograms (`FormatOpenMetricsFloat` in its `model/labels/float.go`);
/// `None`: it is no number.
pub(crate) fn as_bound(token: &[u8]) -> Option<String> {
    let number = read(token).filter(|_| is_float(token))?;
    if number.is_nan() {
        return Some("NaN".to_owned());
    }
    if number.is_infinite() {
        let sign = if number > 0.0 { '+' } else { '-' };
        return Some(format!("{sign}Inf"));
    }
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    if (-4..6).contains(&exponent) {
        return Some(format!("{number:?}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    Some(format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs()))
}

/// The number after the `e`; one of so many digits that they say all is a very large one.
fn read_exponent(exponent: &[u8]) -> i64 {
    const LARGE: i64 = 1 << 40;
    let digits = std::str::from_utf8(exponent.get(1..).unwrap_or_default()).unwrap_or_default();
    match digits {
        "" => 0,
        _ if digits.starts_with('-') => digits.parse().unwrap_or(-LARGE),
        _ => digits.parse().unwrap_or(LARGE),
    }
}

/// Reads a number whose form has been checked.
fn read(token: &[u8]) -> Option<f64> {
    std::str::from_utf8(token).ok()?.parse().ok()
}

/// The first byte at or after `at` which is no digit.
#[inline]
pub(crate) fn digits_end(line: &[u8], mut at: usize) -> usize {
    while line.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

/// Whether a run of digits is within the range of a signed 64-bit integer.
pub(crate) fn is_timestamp(digits: &[u8]) -> bool {
    // 18 digits always fit.
    !digits.is_empty()
        && (digits.len() <= 18
            || std::str::from_utf8(digits).is_ok_and(|text| text.parse::<i64>().is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_go_reads_is_a_number() {
        for token in [
            "0",
            "-0",
            "+1",
            "1.",
            ".5",
            "-.5",
            "1e5",
            "1E+5",
            "1.5e-300",
            "inf",
            "+Inf",
            "-INF",
            "Infinity",
            "+infinity",
            "NaN",
            "nan",
            "NAN",
            "1e308",
            "0e999",
            "1e-999",
            "00012",
            "1.7976931348623157e308",
        ] {
            assert!(is_float(token.as_bytes()), "{token}");
        }
    }

    #[test]
    fn what_go_or_prometheus_refuses_is_no_number() {
        for token in [
            "", "-", ".", "+.", "e5", "1e", "1e+", "1 ", "0x1p3", "0x10", "1_000", "+nan", "-NaN",
            "infi", "1e999", "-1e309", "1.8e308", "1,5", "1f", "--1", "1.2.3", "\u{0661}",
        ] {
            assert!(!is_float(token.as_bytes()), "{token}");
        }
    }

    #[test]
    fn a_long_number_is_checked_for_overflow() {
        assert!(!is_float("9".repeat(400).as_bytes()));
        assert!(is_float("9".repeat(300).as_bytes()));
        assert!(is_float(format!("0.{}", "3".repeat(900)).as_bytes()));
        assert!(!is_float(format!("0.{}", "3".repeat(1_000)).as_bytes()));
        assert_eq!(plain_decimal_end("9".repeat(400).as_bytes(), 0), None);
    }

    #[test]
    fn the_range_ends_where_numbers_round_to_infinity() {
        let first = std::str::from_utf8(FIRST_INFINITE).unwrap();
        let last = first.replace("97792", "97791");
        for (number, finite) in [
            (first.to_owned(), false),
            (last.clone(), true),
            (format!("{last}.99999"), true),
            (format!("{first}.0"), false),
            (format!("-{first}000e-3"), false),
            (format!("-{last}999e-3"), true),
            (format!("0.00{first}e311"), false),
            (format!("+0.00{last}e+311"), true),
            (format!("{}e308", "1.7976931348623158"), true),
            ("1.7976931348623159e308".to_owned(), false),
            ("0.17e310".to_owned(), false),
            (".17e309".to_owned(), true),
            ("1e999999999999999999999999".to_owned(), false),
            ("1e-999999999999999999999999".to_owned(), true),
            ("0e999999999999999999999999".to_owned(), true),
            (
                "1e00000000000000000000000000000000000000005".to_owned(),
                true,
            ),
        ] {
            assert_eq!(is_float(number.as_bytes()), finite, "{number}");
            if number.len() < 400 {
                let read = number.parse::<f64>().unwrap().is_finite();
                assert_eq!(read, finite, "{number}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn the_range_is_that_of_a_reader(
            number in "[+-]?[0-9]{1,30}(\\.[0-9]{0,30})?([eE][+-]?(2[5-9][0-9]|30[0-9]|31[0-9]|[0-9]{1,3}))?",
        ) {
            let read = number.parse::<f64>().unwrap().is_finite();
            proptest::prop_assert_eq!(is_float(number.as_bytes()), read);
        }
    }

    #[test]
    fn seconds_are_read_as_milliseconds() {
        for (token, expected) in [
            ("1520879607.789", Some(1_520_879_607_789)),
            ("0.0009", Some(0)),
            ("1e-300", Some(0)),
            ("-1e-300", Some(0)),
            ("-0", Some(0)),
            ("-1", None),
            ("NaN", None),
            ("Inf", None),
            ("1e15", Some(1_000_000_000_000_000_000)),
            ("1e16", None),
            ("1e300", None),
            ("x", None),
        ] {
            assert_eq!(milliseconds(token.as_bytes()), expected, "{token}");
        }
    }

    proptest::proptest! {
        #[test]
        fn milliseconds_are_written_as_seconds_and_read_again(milliseconds in 0..1_u64 << 50) {
            let mut seconds = Vec::new();
            write_seconds(&mut seconds, milliseconds.to_string().as_bytes());
            proptest::prop_assert_eq!(super::milliseconds(&seconds), Some(milliseconds));
        }
    }

    #[test]
    fn zero_is_not_below_zero() {
        assert!(!is_negative(b"-0.0"));
        assert!(!is_negative(b"-0e9"));
        assert!(is_negative(b"-.01e9"));
        assert!(!is_negative(b"NaN"));
        // Rounds to zero, but that is dear to know.
        assert!(is_negative(b"-1e-999"));
        assert!(is_negative(b"-1"));
        assert!(is_negative(b"-Inf"));
        assert!(!is_negative(b"1"));
    }

    #[test]
    fn timestamps_end_at_the_range_of_64_bits() {
        assert!(is_timestamp(b"9223372036854775807"));
        assert!(!is_timestamp(b"9223372036854775808"));
        assert!(is_timestamp(b"000000000000000000000000000001"));
        assert!(!is_timestamp(b""));
    }

    #[test]
    fn bounds_are_spelled_as_prometheus_does() {
        for (token, expected) in [
            ("1", "1.0"),
            ("-0", "-0.0"),
            ("0.10", "0.1"),
            ("2.50e1", "25.0"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("123456", "123456.0"),
            ("1000000", "1e+06"),
            ("-1234567.5", "-1.2345675e+06"),
            ("1e100", "1e+100"),
            ("inf", "+Inf"),
            ("-Infinity", "-Inf"),
            ("nan", "NaN"),
        ] {
            assert_eq!(
                as_bound(token.as_bytes()).as_deref(),
                Some(expected),
                "{token}"
            );
        }
        for token in ["", "x", "1.0.0", "0x1p3", "1e999"] {
            assert_eq!(as_bound(token.as_bytes()), None, "{token}");
        }
    }
}
