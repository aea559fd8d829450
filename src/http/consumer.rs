//! Who asks for pushes: each consumer gets each push once.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::HeaderMap;
use axum::http::header::USER_AGENT;
use axum::http::request::Parts;
use axum::response::Response;

use super::parameters::{self, Unreadable};
use crate::access::User;
use crate::store::{ConsumerName, MAX_NAME};

/// The parameter that names a consumer.
pub(super) const PARAMETER: &str = "consumer";
/// What Prometheus calls itself: its address alone is its name.
const PROMETHEUS: &str = "Prometheus";

/// The name of the consumer: what the request says, else its user, else its address.
pub(super) struct Consumer(pub(super) ConsumerName);

impl<S: Send + Sync> FromRequestParts<S> for Consumer {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let said = parameters::find(parts.uri.query(), PARAMETER)?;
        if let Some(said) = said {
            let name = ConsumerName::new(&said).ok_or(Unreadable::Value(
                "consumer must have 1 to 64 bytes and no control characters",
            ))?;
            return Ok(Self(name));
        }
        let user = parts.extensions.get::<User>();
        let name = match user {
            Some(user) => user.0.to_string(),
            None => by_address(parts.extensions.get(), &parts.headers),
        };
        let name = ConsumerName::new(&fitting(&name));
        Ok(Self(name.ok_or(Unreadable::Value("the user has no name"))?))
    }
}

/// An address, and which program asks from there: what somebody fetches on the host of a Prometheus takes nothing from it.
fn by_address(peer: Option<&ConnectInfo<SocketAddr>>, headers: &HeaderMap) -> String {
    let address = peer.map(|ConnectInfo(peer)| peer.ip().to_string());
    let address = address.unwrap_or_else(|| "unknown".to_owned());
    let agent = headers
        .get(USER_AGENT)
        .and_then(|agent| agent.to_str().ok());
    let product = agent.and_then(|agent| agent.split(['/', ' ']).next());
    match product.filter(|product| !product.is_empty()) {
        Some(PROMETHEUS) => address,
        Some(product) => format!("{address} {product}"),
        None => format!("{address} unknown"),
    }
}

/// As much as a name may have.
fn fitting(name: &str) -> String {
    let end = name.floor_char_boundary(MAX_NAME);
    let name = name.get(..end).unwrap_or_default();
    name.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use axum::http::{Request, StatusCode};

    use super::*;

    async fn name(
        query: &str,
        user: Option<&str>,
        agent: Option<&str>,
    ) -> Result<String, Response> {
        let mut request = Request::get(format!("/metrics/connected?{query}"));
        if let Some(agent) = agent {
            request = request.header(USER_AGENT, agent);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let peer: SocketAddr = "10.0.0.7:4711".parse().unwrap();
        parts.extensions.insert(ConnectInfo(peer));
        if let Some(user) = user {
            parts.extensions.insert(User(user.into()));
        }
        let consumer = Consumer::from_request_parts(&mut parts, &()).await?;
        Ok(consumer.0.as_str().to_owned())
    }

    #[tokio::test]
    async fn a_consumer_is_who_it_says_else_its_user_else_its_address() {
        let prometheus = Some("Prometheus/2.42.0+ds");
        let named = name("consumer=a&x=1", Some("ann"), prometheus).await;
        assert_eq!(named.unwrap(), "a");
        let user = name("", Some("ann"), Some("curl/8")).await;
        assert_eq!(user.unwrap(), "ann");
        assert_eq!(name("", None, prometheus).await.unwrap(), "10.0.0.7");
    }

    #[tokio::test]
    async fn another_program_at_the_address_of_a_prometheus_is_another_consumer() {
        for (agent, expected) in [
            (Some("curl/7.88.1"), "10.0.0.7 curl"),
            (Some("Mozilla/5.0 (X11)"), "10.0.0.7 Mozilla"),
            (Some(""), "10.0.0.7 unknown"),
            (None, "10.0.0.7 unknown"),
        ] {
            assert_eq!(name("", None, agent).await.unwrap(), expected);
        }
        let long = name("", None, Some(&"x".repeat(1000))).await.unwrap();
        assert_eq!(long.len(), MAX_NAME);
    }

    #[tokio::test]
    async fn a_name_that_is_none_is_refused() {
        let long = format!("consumer={}", "a".repeat(MAX_NAME + 1));
        for query in [
            "consumer=",
            "consumer=a%0Ab",
            "consumer=a&consumer=b",
            &long,
        ] {
            let refused = name(query, None, None).await.unwrap_err();
            assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{query}");
        }
    }
}
