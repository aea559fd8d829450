//! `GET /targets`: HTTP service discovery, one target for each application of the cluster.
//!
//! Prometheus keeps its list when it gets anything but a 200, and drops every target that a 200 does not have. So there is
//! a whole list or none. A target whose labels or URL change is another target to Prometheus: they are the same at every
//! node.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::header::{HOST, HeaderMap};
use axum::http::uri::Authority;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::refusal::refusal;
use super::{Site, parameters};
use crate::targets::Application;

/// Where each application's own samples are.
pub(super) const APPLICATION_PATH: &str = "/metrics/app/";

/// One target, as Prometheus reads it.
#[derive(Debug, Serialize)]
struct Group<'a> {
    targets: [&'a str; 1],
    labels: BTreeMap<&'a str, String>,
}

/// Answers every application that is to be scraped.
pub(super) async fn targets(
    State(site): State<Site>,
    RawQuery(query): RawQuery,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if let Err(unreadable) = parameters::read(query.as_deref(), []) {
        return unreadable.into();
    }
    let address = site.targets_address.clone();
    let Some(address) = address.or_else(|| asked(&uri, &headers)) else {
        return refusal(StatusCode::BAD_REQUEST, "a Host header is required");
    };
    match site.targets.list().await {
        Ok(applications) => {
            let groups = applications.iter().map(|one| group(&address, one));
            Json(groups.collect::<Vec<_>>()).into_response()
        }
        Err(not_ready) => refusal(StatusCode::SERVICE_UNAVAILABLE, &not_ready.to_string()),
    }
}

/// The address by which this node was asked.
fn asked(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let host = || headers.get(HOST)?.to_str().ok()?.parse().ok();
    uri.authority().cloned().or_else(host)
}

fn group<'a>(address: &'a Authority, application: &'a Application) -> Group<'a> {
    let Application { id, about, .. } = application;
    let own = about.labels.iter().filter(|(name, _)| is_allowed(name));
    let mut labels: BTreeMap<_, _> = own
        .map(|(name, value)| (&**name, value.to_string()))
        .collect();
    let mut add = |name, value: String| drop(labels.insert(name, value));
    add("instance", id.instance.to_string());
    // Prometheus escapes the path.
    add(
        "__metrics_path__",
        format!("{APPLICATION_PATH}{}", id.instance),
    );
    if let Some(job) = &id.job {
        add("job", job.to_string());
        add("__param_job", job.to_string());
    }
    add("__meta_rsocket_id", id.to_string());
    add("__meta_rsocket_named", about.named.name().to_owned());
    add("__meta_rsocket_peer", about.peer.to_string());
    add("__meta_rsocket_transport", about.transport.to_owned());
    if let Some(identity) = &about.identity {
        add("__meta_rsocket_identity", identity.to_string());
    }
    if let Some(client) = &about.client {
        add("__meta_rsocket_client", client.to_string());
    }
    Group {
        targets: [address.as_str()],
        labels,
    }
}

/// Whether a target may have a label of this name: Prometheus takes reserved ones as settings, and before 3.0 refuses the
/// whole list for one that is not of letters, digits and underscores.
fn is_allowed(name: &str) -> bool {
    let begins = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let mut bytes = name.bytes();
    bytes.next().is_some_and(begins)
        && bytes.all(|byte| begins(byte) || byte.is_ascii_digit())
        && !name.starts_with("__")
        && !matches!(name, "instance" | "job")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::applications::sample::application;
    use super::*;
    use crate::directory::About;

    fn labelled(instance: &str, job: Option<&str>, labels: &[(&str, &str)]) -> Application {
        let application = application(instance, job);
        let labels = labels
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        Application {
            about: Arc::new(About {
                labels: labels.collect(),
                ..About::clone(&application.about)
            }),
            ..application
        }
    }

    fn json(application: &Application) -> serde_json::Value {
        let address = "proxy:8080".parse().unwrap();
        serde_json::to_value(group(&address, application)).unwrap()
    }

    #[test]
    fn a_target_is_found_by_its_instance_and_job() {
        let labels = [
            ("zone", "b"),
            ("job", "x"),
            ("__address__", "evil:1"),
            ("a-b", "c"),
            ("", "d"),
            ("1a", "e"),
        ];
        assert_eq!(
            json(&labelled("web/1 ä", Some("shop"), &labels)),
            serde_json::json!({
                "targets": ["proxy:8080"],
                "labels": {
                    "__meta_rsocket_client": "rust 0.1.0",
                    "__meta_rsocket_id": "shop/web/1 ä",
                    "__meta_rsocket_named": "description",
                    "__meta_rsocket_peer": "10.0.0.1:5",
                    "__meta_rsocket_transport": "tcp",
                    "__metrics_path__": "/metrics/app/web/1 ä",
                    "__param_job": "shop",
                    "instance": "web/1 ä",
                    "job": "shop",
                    "zone": "b",
                }
            })
        );
    }

    #[test]
    fn a_target_without_a_job_has_the_one_of_prometheus_configuration() {
        let json = json(&application("web-1", None));
        let labels = json["labels"].as_object().unwrap();
        assert!(!labels.contains_key("job") && !labels.contains_key("__param_job"));
    }

    #[test]
    fn the_address_is_the_one_that_was_asked_for() {
        let asked = |uri: &str, host: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(host) = host {
                headers.insert(HOST, host.parse().unwrap());
            }
            asked(&uri.parse().unwrap(), &headers).map(|address| address.to_string())
        };
        assert_eq!(
            asked("/targets", Some("proxy:8080")).as_deref(),
            Some("proxy:8080")
        );
        assert_eq!(
            asked("http://b:1/targets", Some("a:1")).as_deref(),
            Some("b:1")
        );
        assert_eq!(asked("/targets", Some("a b")), None);
        assert_eq!(asked("/targets", None), None);
    }
}
