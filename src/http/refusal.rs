//! An answer that says why there is no other: in the status line, which is what Prometheus' targets page shows, and as
//! text.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use hyper::ext::ReasonPhrase;

/// Bytes of a status line's reason; a longer one is cut. The text has all of it.
const MAX_REASON: usize = 200;

/// Answers `status` with this reason.
pub(super) fn refusal(status: StatusCode, reason: &str) -> Response {
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
    let mut response = (status, headers, format!("{reason}\n")).into_response();
    if let Ok(phrase) = ReasonPhrase::try_from(in_a_line(reason)) {
        response.extensions_mut().insert(phrase);
    }
    response
}

/// A reason may have come from an application: what would end the line is a space.
fn in_a_line(reason: &str) -> String {
    let end = reason.floor_char_boundary(MAX_REASON);
    let line = reason.get(..end).unwrap_or_default();
    line.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phrase(reason: &str) -> Vec<u8> {
        let response = refusal(StatusCode::BAD_GATEWAY, reason);
        let phrase = response.extensions().get::<ReasonPhrase>();
        phrase.expect("a phrase").as_bytes().to_vec()
    }

    #[test]
    fn the_status_line_says_why() {
        assert_eq!(phrase("no such application"), b"no such application");
        assert_eq!(phrase("größer"), "größer".as_bytes());
    }

    #[test]
    fn a_reason_cannot_end_the_line_and_is_cut_between_two_characters() {
        assert_eq!(
            phrase("a\r\nSet-Cookie: b\0\x7f\u{85}c"),
            b"a  Set-Cookie: b   c"
        );
        assert_eq!(phrase(&"x".repeat(1000)).len(), MAX_REASON);
        assert_eq!(
            phrase(&format!("x{}", "ö".repeat(1000))).len(),
            MAX_REASON - 1
        );
    }
}
