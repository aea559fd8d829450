//! Where a redirect leads, and who is still shown the credentials there: the rules of Go's HTTP client.

use hyper::header::{HeaderValue, LOCATION};
use hyper::{HeaderMap, StatusCode, Uri};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// Requests for one text, the first among them.
pub(super) const MAX_REQUESTS: usize = 10;
/// What no URL has as it is, and some servers write.
const UNSAFE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`');

/// A redirect leads nowhere that can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("redirected to something that is no http:// or https:// URL without user and password")]
pub(super) struct Nowhere;

/// Where the answer of `base` says to ask instead, if it says so.
pub(super) fn target(
    status: StatusCode,
    headers: &HeaderMap,
    base: &Uri,
) -> Result<Option<Uri>, Nowhere> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = headers.get(LOCATION).map(HeaderValue::as_bytes);
    match location {
        // Not every answer of these names a place.
        None | Some(b"") => Ok(None),
        Some(location) => {
            let location = std::str::from_utf8(location).map_err(|_| Nowhere)?;
            resolve(base, location).map(Some).ok_or(Nowhere)
        }
    }
}

/// Whether what was shown to `from` may be shown to `to`: the same host, and never after TLS in the clear.
pub(super) fn may_show(from: &Uri, to: &Uri) -> bool {
    let secure = |uri: &Uri| uri.scheme_str() == Some("https");
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    host(from) == host(to) && (secure(to) || !secure(from))
}

/// A reference as RFC 3986 resolves it, section 5.2.
fn resolve(base: &Uri, reference: &str) -> Option<Uri> {
    let reference = reference.split('#').next().unwrap_or_default();
    let reference = utf8_percent_encode(reference, UNSAFE).to_string();
    let scheme = base.scheme_str()?;
    let url = if has_scheme(&reference) {
        reference
    } else if reference.starts_with("//") {
        format!("{scheme}:{reference}")
    } else {
        let (path, query) = match reference.split_once('?') {
            Some((path, query)) => (path, format!("?{query}")),
            None => (reference.as_str(), String::new()),
        };
        let path = match path {
            "" => base.path().to_owned(),
            path if path.starts_with('/') => without_dots(path),
            path => {
                let directory = base
                    .path()
                    .rsplit_once('/')
                    .map_or("", |(before, _)| before);
                without_dots(&format!("{directory}/{path}"))
            }
        };
        format!("{scheme}://{}{path}{query}", base.authority()?)
    };
    let uri: Uri = url.parse().ok()?;
    let authority = uri.authority()?.as_str();
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    (known && !authority.contains('@')).then_some(uri)
}

fn has_scheme(reference: &str) -> bool {
    let before = reference.split(['/', '?']).next().unwrap_or_default();
    before.contains(':')
}

/// A path from the root without `.` and `..`.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_resolved_as_browsers_and_go_do() {
        let base = "http://a:1/b/c/metrics?x=1".parse().unwrap();
        for (location, expected) in [
            ("http://other/", "http://other/"),
            ("https://other:2/m?y=1#part", "https://other:2/m?y=1"),
            ("//other/m", "http://other/m"),
            ("/mount/", "http://a:1/mount/"),
            ("mount/", "http://a:1/b/c/mount/"),
            ("../m", "http://a:1/b/m"),
            ("../../../..", "http://a:1/"),
            ("/x/./y/..", "http://a:1/x/"),
            ("?z=1", "http://a:1/b/c/metrics?z=1"),
            ("#part", "http://a:1/b/c/metrics"),
            ("/with blank", "http://a:1/with%20blank"),
            ("/a:b", "http://a:1/a:b"),
        ] {
            let resolved = resolve(&base, location).map(|uri| uri.to_string());
            assert_eq!(resolved.as_deref(), Some(expected), "{location}");
        }
        for location in [
            "ftp://a/",
            "file:///etc/passwd",
            "http://me:pw@a/",
            "http://",
            "javascript:1",
        ] {
            assert_eq!(resolve(&base, location), None, "{location}");
        }
    }

    #[test]
    fn only_an_answer_that_redirects_and_names_a_place_is_followed() {
        let base = "http://a/".parse().unwrap();
        let mut headers = HeaderMap::new();
        for status in [301, 302, 303, 307, 308] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(target(status, &headers, &base), Ok(None));
            headers.insert(LOCATION, "/m".parse().unwrap());
            let to = target(status, &headers, &base).unwrap().unwrap();
            assert_eq!(to, "http://a/m");
            headers.clear();
        }
        headers.insert(LOCATION, "/m".parse().unwrap());
        for status in [200, 300, 304, 404, 500] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(target(status, &headers, &base), Ok(None), "{status}");
        }
        headers.insert(LOCATION, "gopher://a".parse().unwrap());
        assert_eq!(target(StatusCode::FOUND, &headers, &base), Err(Nowhere));
    }

    #[test]
    fn credentials_are_shown_to_the_same_host_and_not_in_the_clear() {
        let may = |from: &str, to: &str| may_show(&from.parse().unwrap(), &to.parse().unwrap());
        assert!(may("http://a:1/", "http://A:2/other"));
        assert!(may("http://a/", "https://a/"));
        assert!(!may("https://a/", "http://a/"));
        assert!(!may("http://a/", "http://b/"));
        assert!(!may("http://a/", "http://sub.a/"));
    }
}
