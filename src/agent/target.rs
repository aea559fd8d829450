//! One target: where it is asked, and which labels its samples and its `up` have.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::uri::{Authority, Parts, PathAndQuery, Scheme};
use hyper::Uri;
use prometheus_rsocket_exposition::{LabelError, Labels};
use tracing::{debug, info, warn};

use super::fetch::Failure;

/// Where metrics are if an address does not say.
pub(super) const METRICS_PATH: &str = "/metrics";
/// The label of `up` that carries the address where `--target-label` names no other.
const ADDRESS_LABEL: &str = "target";
/// The label by which Prometheus tells targets apart.
const INSTANCE: &str = "instance";

/// A target as it was asked for.
///
/// Written `URL[,NAME=VALUE]…`: neither the URL nor a value has a comma (in a URL it is `%2C`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    uri: Uri,
    labels: Labels,
}

/// Why something is no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not an address that can be asked.
    #[error("a target is written http://HOST:PORT/PATH or https://HOST:PORT/PATH")]
    Url,
    /// Not an address of a list.
    #[error("{0:?} is not HOST:PORT")]
    Address(String),
    /// The address would carry a secret into labels and log.
    #[error("a target's URL has no user and password")]
    Credentials,
    /// A label that is not written as one.
    #[error("a label is written NAME=VALUE, not {0:?}")]
    NotALabel(String),
    /// A label that cannot be added.
    #[error("label {0:?}: {1}")]
    Label(String, LabelError),
    /// A label of the name that carries the address.
    #[error("label {0:?} carries the target's address; --target-label can name another for that")]
    AddressLabel(String),
}

impl Spec {
    /// A target at this URL, with these labels.
    pub(super) fn new<'l>(
        url: &str,
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
    ) -> Result<Self, TargetError> {
        let mut own = Labels::default();
        for (name, value) in labels {
            own.insert(name, value)
                .map_err(|error| TargetError::Label(name.to_owned(), error))?;
        }
        Ok(Self {
            uri: address(url)?,
            labels: own,
        })
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

impl FromStr for Spec {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let mut parts = text.split(',');
        let url = parts.next().unwrap_or_default();
        let labels: Result<Vec<_>, _> = parts
            .map(|label| {
                label
                    .split_once('=')
                    .ok_or_else(|| TargetError::NotALabel(label.to_owned()))
            })
            .collect();
        Self::new(url, labels?)
    }
}

/// The URL as it is asked: without a path it means [`METRICS_PATH`].
fn address(url: &str) -> Result<Uri, TargetError> {
    let mut parts: Parts = url
        .parse::<Uri>()
        .map_err(|_| TargetError::Url)?
        .into_parts();
    let scheme = parts.scheme.as_ref().map(Scheme::as_str);
    let authority = parts.authority.as_ref().ok_or(TargetError::Url)?;
    if !matches!(scheme, Some("http" | "https")) || !has_good_port(authority) {
        return Err(TargetError::Url);
    }
    if authority.as_str().contains('@') {
        return Err(TargetError::Credentials);
    }
    let path = parts
        .path_and_query
        .as_ref()
        .map_or("/", PathAndQuery::as_str);
    if let Some(query) = path.strip_prefix('/')
        && (query.is_empty() || query.starts_with('?'))
    {
        let path = format!("{METRICS_PATH}{query}");
        parts.path_and_query = Some(path.parse().map_err(|_| TargetError::Url)?);
    }
    Uri::from_parts(parts).map_err(|_| TargetError::Url)
}

/// A host, and a port unless the scheme's is meant.
fn has_good_port(authority: &Authority) -> bool {
    let host = authority.host();
    let whole = authority.as_str();
    let after_host = whole
        .rsplit('@')
        .next()
        .and_then(|rest| rest.strip_prefix(host));
    match after_host {
        _ if host.is_empty() => false,
        Some("") => true,
        _ => authority.port_u16().is_some_and(|port| port > 0),
    }
}

/// `host:port`, with the scheme's port if the address has none.
fn instance(uri: &Uri) -> String {
    let port = match uri.scheme_str() {
        Some("https") => 443,
        _ => 80,
    };
    let host = uri.host().unwrap_or_default();
    format!("{host}:{}", uri.port_u16().unwrap_or(port))
}

/// One target.
#[derive(Debug)]
pub(super) struct Target {
    uri: Uri,
    labels: Labels,
    up: Labels,
    down: AtomicBool,
}

impl Target {
    /// `address_label` is the label that each sample is to carry with the target's address.
    pub(super) fn new(spec: Spec, address_label: Option<&str>) -> Result<Self, TargetError> {
        let Spec { uri, mut labels } = spec;
        let name = address_label.unwrap_or(ADDRESS_LABEL);
        if labels.get(name).is_some() {
            return Err(TargetError::AddressLabel(name.to_owned()));
        }
        let with = |labels: &mut Labels, name: &str, value: &str| {
            labels
                .insert(name, value)
                .map_err(|error| TargetError::Label(name.to_owned(), error))
        };
        let mut up = labels.clone();
        with(&mut up, name, &uri.to_string())?;
        if up.get(INSTANCE).is_none() {
            with(&mut up, INSTANCE, &instance(&uri))?;
        }
        if let Some(name) = address_label {
            with(&mut labels, name, &uri.to_string())?;
        }
        Ok(Self {
            uri,
            labels,
            up,
            down: AtomicBool::new(false),
        })
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The labels that each of its samples is given.
    pub(super) fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The labels of its `up`: its own, `instance` and the address. Whatever differs from it differs in one of these.
    pub(super) fn up(&self) -> &Labels {
        &self.up
    }

    /// Whether both mean the same, whatever became of the last fetch.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.up == other.up && self.labels == other.labels
    }

    /// Says so once when it goes down, and once when it is back.
    pub(super) fn note(&self, failure: Option<&Failure>) {
        let was_down = self.down.swap(failure.is_some(), Ordering::Relaxed);
        let target = &self.uri;
        match (was_down, failure) {
            (false, None) => {}
            (true, None) => info!(%target, "target is fetched again"),
            (false, Some(reason)) => warn!(%target, %reason, "target is down"),
            (true, Some(reason)) => debug!(%target, %reason, "target is still down"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(spec: &str, address_label: Option<&str>) -> Target {
        Target::new(spec.parse().unwrap(), address_label).unwrap()
    }

    #[test]
    fn a_target_is_an_address_and_labels() {
        let target = target("http://localhost:9100,job=node,instance=web-1", None);
        assert_eq!(target.uri(), "http://localhost:9100/metrics");
        assert_eq!(
            target.labels().to_string(),
            r#"{instance="web-1",job="node"}"#
        );
        assert_eq!(
            target.up().to_string(),
            r#"{instance="web-1",job="node",target="http://localhost:9100/metrics"}"#
        );
    }

    #[test]
    fn no_label_is_added_to_samples_unless_asked_and_up_has_some_always() {
        let plain = target("https://[::1]/m?a=%2C", None);
        assert!(plain.labels().is_empty());
        assert_eq!(
            plain.up().to_string(),
            r#"{instance="[::1]:443",target="https://[::1]/m?a=%2C"}"#
        );
        let asked = target("http://a:1/m", Some("url"));
        assert_eq!(asked.labels().to_string(), r#"{url="http://a:1/m"}"#);
        assert_eq!(
            asked.up().to_string(),
            r#"{instance="a:1",url="http://a:1/m"}"#
        );
    }

    #[test]
    fn what_is_wrong_with_a_target_is_said() {
        for url in [
            "",
            "localhost:9100",
            "ftp://a/",
            "http://",
            "http://:1/",
            "http://a:/",
            "http://a:x/",
            "http://a:0/",
            "http://a:70000/",
            "/metrics",
            "http://a b/",
        ] {
            assert_eq!(url.parse::<Spec>(), Err(TargetError::Url), "{url}");
        }
        assert_eq!(
            "http://me:pw@a/".parse::<Spec>(),
            Err(TargetError::Credentials)
        );
        assert_eq!(
            "http://a,job".parse::<Spec>(),
            Err(TargetError::NotALabel("job".into()))
        );
        assert_eq!(
            "http://a,le=1".parse::<Spec>(),
            Err(TargetError::Label("le".into(), LabelError::Reserved))
        );
        assert!(matches!(
            Target::new("http://a,target=1".parse().unwrap(), None),
            Err(TargetError::AddressLabel(_))
        ));
    }
}
