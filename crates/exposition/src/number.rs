//! Numbers as Go's `strconv.ParseFloat` and `ParseInt` read them, which is what Prometheus uses.
//!
//! Prometheus refuses the characters `p`, `P` and `_` before it calls `ParseFloat`
//! (`parseFloat` in `model/textparse/promparse.go`), and Go's hexadecimal floats need a `p`, so
//! only decimal numbers, infinities and NaN remain.

/// More digits than any number needs, few enough that Go and Rust read the same value: Go stops
/// counting exponents at 10,000.
const MAX_LENGTH: usize = 1_000;

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

/// Whether the token is a number below zero. It must be one that [`is_float`] accepts.
pub(crate) fn is_negative(token: &[u8]) -> bool {
    token.first() == Some(&b'-') && read(token).is_some_and(|value| value < 0.0)
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

fn is_finite(token: &[u8]) -> bool {
    token.len() <= MAX_LENGTH && read(token).is_some_and(f64::is_finite)
}

/// Reads a number whose form has been checked.
pub(crate) fn read(token: &[u8]) -> Option<f64> {
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
    fn negative_zero_is_not_below_zero() {
        assert!(!is_negative(b"-0.0"));
        assert!(!is_negative(b"-1e-999"));
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
}
