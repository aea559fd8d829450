//! Stands before every path: so many requests, from those who have the password, with these headers in the response.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::{Active, Rules};
use crate::passwords::{Users, Verdict};

/// Whose password a request has.
#[derive(Debug, Clone)]
pub(crate) struct User(pub(crate) Arc<str>);

/// What holds before every path.
#[derive(Clone)]
pub(crate) struct Guard {
    pub(crate) active: watch::Receiver<Arc<Active>>,
    /// The path that asks for credentials of its own, if there is one: the password is not asked for there.
    pub(crate) own_credentials: Option<&'static str>,
}

/// Answers what may not be asked; a header that a response has of its own stays.
pub(crate) async fn guard(
    State(guard): State<Guard>,
    mut request: Request,
    next: Next,
) -> Response {
    let rules = Arc::clone(&guard.active.borrow().rules);
    let own = guard.own_credentials == Some(request.uri().path());
    let users = rules.users.as_ref().filter(|_| !own);
    let mut response = match admit(&rules, users, request.headers()).await {
        Ok(user) => {
            if let Some(user) = user {
                request.extensions_mut().insert(user);
            }
            next.run(request).await
        }
        Err(refusal) => refusal,
    };
    let headers = response.headers_mut();
    for (name, value) in &rules.headers {
        headers.entry(name).or_insert_with(|| value.clone());
    }
    response
}

/// The rate comes first, so that guesses count.
async fn admit(
    rules: &Rules,
    users: Option<&Users>,
    headers: &HeaderMap,
) -> Result<Option<User>, Response> {
    if rules.bucket.as_ref().is_some_and(|bucket| !bucket.take()) {
        return Err((StatusCode::TOO_MANY_REQUESTS, "Too Many Requests\n").into_response());
    }
    let Some(users) = users else {
        return Ok(None);
    };
    let Some((name, password)) = credentials(headers) else {
        return Err(unauthorized());
    };
    match users.verify(&name, password).await {
        Verdict::Right => Ok(Some(User(name.into()))),
        Verdict::Wrong => Err(unauthorized()),
        Verdict::Busy => {
            let later = [(RETRY_AFTER, "1")];
            let why = "too many passwords are being verified\n";
            Err((StatusCode::SERVICE_UNAVAILABLE, later, why).into_response())
        }
    }
}

fn unauthorized() -> Response {
    let challenge = [(WWW_AUTHENTICATE, "Basic")];
    (StatusCode::UNAUTHORIZED, challenge, "Unauthorized\n").into_response()
}

/// The name and the password of `Authorization: Basic` (RFC 7617).
pub(crate) fn credentials(headers: &HeaderMap) -> Option<(String, Zeroizing<Vec<u8>>)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = Zeroizing::new(BASE64_STANDARD.decode(encoded).ok()?);
    let colon = memchr::memchr(b':', &decoded)?;
    let (name, password) = decoded.split_at_checked(colon)?;
    let name = String::from_utf8(name.to_vec()).ok()?;
    Some((name, Zeroizing::new(password.get(1..)?.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<(String, Vec<u8>)> {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
        credentials(&headers).map(|(name, password)| (name, password.to_vec()))
    }

    #[test]
    fn a_name_ends_at_the_first_colon() {
        for (text, name, password) in [
            ("ann:one", "ann", "one"),
            ("ann:o:n:e", "ann", "o:n:e"),
            (":", "", ""),
        ] {
            let value = format!("bAsIc {}", BASE64_STANDARD.encode(text));
            let expected = (name.to_owned(), password.as_bytes().to_vec());
            assert_eq!(read(&value), Some(expected));
        }
    }

    #[test]
    fn what_are_no_credentials_are_none() {
        for value in [
            "",
            "Basic",
            "Basic YW5u",
            "Basic YW5uOm9uZ",
            "Bearer YW5uOm9uZQ==",
            "Basic  YW5uOm9uZQ==",
        ] {
            assert_eq!(read(value), None, "{value}");
        }
    }
}
