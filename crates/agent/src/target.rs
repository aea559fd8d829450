//! One target: where it is asked, and which labels its samples and its `up` have.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::Uri;
use hyper::http::uri::{Authority, Parts, PathAndQuery, Scheme};
use prometheus_rsocket_exposition::{LabelError, Labels};
use tracing::{debug, warn};

use super::fetch::FetchFailure;
use super::job::{Job, METRICS_PATH};

/// The label of `up` that carries the address where `--target-label` names no other.
const ADDRESS_LABEL: &str = "target";
/// The label by which Prometheus tells targets apart.
pub(super) const INSTANCE: &str = "instance";
/// The label that carries the name of a `scrape_config`.
pub(super) const JOB: &str = "job";

/// A target as it was asked for.
///
/// Written `URL[,NAME=VALUE]…`. The URL has no comma (it is `%2C` there); a value that has one stands in double quotes,
/// which are no part of it.
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
    /// A value that begins with a quote and does not end with one.
    #[error("the value of label {0:?} begins with a quote that is not closed")]
    OpenQuote(String),
    /// A label that cannot be added.
    #[error("label {0:?}: {1}")]
    Label(String, LabelError),
    /// A label of the name that carries the address.
    #[error("label {0:?} is that of --target-label; choose another name")]
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
        let (url, mut rest) = text
            .split_once(',')
            .map_or((text, None), |(url, rest)| (url, Some(rest)));
        let mut labels = Vec::new();
        while let Some(text) = rest {
            let (name, value) = match text.split_once('=') {
                Some((name, value)) if !name.contains(',') => (name, value),
                _ => {
                    let label = text.split(',').next().unwrap_or_default();
                    return Err(TargetError::NotALabel(label.to_owned()));
                }
            };
            let value = match value.strip_prefix('"') {
                Some(quoted) => {
                    let unclosed = || TargetError::OpenQuote(name.to_owned());
                    let (value, after) = unquoted(quoted).ok_or_else(unclosed)?;
                    rest = match after {
                        "" => None,
                        after => Some(after.strip_prefix(',').ok_or_else(unclosed)?),
                    };
                    value
                }
                None => {
                    let (value, after) = value
                        .split_once(',')
                        .map_or((value, None), |(value, after)| (value, Some(after)));
                    rest = after;
                    value.to_owned()
                }
            };
            labels.push((name, value));
        }
        Self::new(
            url,
            labels.iter().map(|(name, value)| (*name, value.as_str())),
        )
    }
}

/// What stands before the closing quote, without the backslashes before quotes and backslashes, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(letters.next()?.1),
            letter => value.push(letter),
        }
    }
    None
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

/// One target.
#[derive(Debug)]
pub(super) struct Target {
    uri: Uri,
    job: Arc<Job>,
    labels: Labels,
    up: Labels,
    down: AtomicBool,
}

impl Target {
    /// A target that is asked as `job` says, and gets the labels that belong to it.
    pub(super) fn new(spec: Spec, job: Arc<Job>) -> Result<Self, TargetError> {
        let Spec { uri, mut labels } = spec;
        let address_label = job.settings.address_label.as_deref();
        let name = address_label.unwrap_or(ADDRESS_LABEL);
        if labels.get(name).is_some() {
            return Err(TargetError::AddressLabel(name.to_owned()));
        }
        let instance = job.instance(&uri);
        if let Some(job) = &job.settings.name {
            default(&mut labels, JOB, job)?;
            default(&mut labels, INSTANCE, &instance)?;
        }
        let mut up = labels.clone();
        set(&mut up, name, &uri.to_string())?;
        default(&mut up, INSTANCE, &instance)?;
        if let Some(name) = address_label {
            set(&mut labels, name, &uri.to_string())?;
        }
        Ok(Self {
            uri,
            job,
            labels,
            up,
            down: AtomicBool::new(false),
        })
    }

    /// The target at an address of a list, with the labels that stand there. `__scheme__`, `__metrics_path__` and
    /// `__param_NAME` come before what is said of the job.
    pub(super) fn listed(
        address: &str,
        labels: &[(&str, &str)],
        job: &Arc<Job>,
    ) -> Result<Self, TargetError> {
        // Prometheus refuses these too: the path is a label of its own.
        if address.is_empty() || address.contains(['/', '?', '#']) {
            return Err(TargetError::Address(address.to_owned()));
        }
        let own = |name: &str| {
            let label = labels.iter().find(|(own, _)| *own == name);
            label.map(|(_, value)| *value)
        };
        let scheme = own("__scheme__").unwrap_or(&job.settings.scheme);
        let path = own("__metrics_path__").unwrap_or(&job.settings.metrics_path);
        let slash = if path.starts_with('/') { "" } else { "/" };
        let query = job.query(path, labels);
        let url = format!("{scheme}://{address}{slash}{path}{query}");
        let kept = labels.iter().filter(|(name, _)| !name.starts_with("__"));
        Self::new(Spec::new(&url, kept.copied())?, Arc::clone(job))
    }

    /// The same target with what is known of `before`.
    pub(super) fn after(self, before: &Self) -> Self {
        let down = before.down.load(Ordering::Relaxed);
        Self {
            down: AtomicBool::new(down),
            ..self
        }
    }

    /// How it is asked, and what holds for its text.
    pub(super) fn job(&self) -> &Arc<Job> {
        &self.job
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
        self.up == other.up && self.labels == other.labels && Arc::ptr_eq(&self.job, &other.job)
    }

    /// Says so once when it goes down, and once when it is back, at the same level.
    pub(super) fn note(&self, failure: Option<&FetchFailure>) {
        let was_down = self.down.swap(failure.is_some(), Ordering::Relaxed);
        let target = &self.uri;
        match (was_down, failure) {
            (false, None) => {}
            (true, None) => warn!(%target, "target is up again"),
            (false, Some(reason)) => warn!(%target, %reason, "target is down"),
            (true, Some(reason)) => debug!(%target, %reason, "target is still down"),
        }
    }
}

fn set(labels: &mut Labels, name: &str, value: &str) -> Result<(), TargetError> {
    labels
        .insert(name, value)
        .map_err(|error| TargetError::Label(name.to_owned(), error))
}

/// For a label that is not there.
fn default(labels: &mut Labels, name: &str, value: &str) -> Result<(), TargetError> {
    match labels.get(name) {
        Some(_) => Ok(()),
        None => set(labels, name, value),
    }
}

#[cfg(test)]
mod tests {
    use super::super::job::tests::job;
    use super::*;

    fn target(spec: &str, address_label: Option<&str>) -> Target {
        let job = job(|settings| settings.address_label = address_label.map(str::to_owned));
        Target::new(spec.parse().unwrap(), job).unwrap()
    }

    #[test]
    fn a_quoted_value_loses_its_quotes_and_may_have_commas() {
        let text = r#"http://a:1,x="b, c",y=d"e,z="say \"f\" \\","#;
        let labels = text.trim_end_matches(',').parse::<Spec>().unwrap().labels;
        assert_eq!(
            labels.to_string(),
            r#"{x="b, c",y="d\"e",z="say \"f\" \\"}"#
        );
        for open in [
            r#"http://a,x="b"#,
            r#"http://a,x="b\""#,
            r#"http://a,x="b"c"#,
        ] {
            let refused = open.parse::<Spec>();
            assert_eq!(refused, Err(TargetError::OpenQuote("x".into())), "{open}");
        }
    }

    #[test]
    fn a_target_of_a_named_job_has_the_labels_that_prometheus_gives_it() {
        let job = job(|settings| settings.name = Some("node".into()));
        let target = Target::listed("web-1", &[("zone", "b")], &job).unwrap();
        assert_eq!(
            target.labels().to_string(),
            r#"{instance="web-1",job="node",zone="b"}"#
        );
        let own = [("job", "mine"), ("instance", "")];
        let target = Target::listed("web-1:9100", &own, &job).unwrap();
        assert_eq!(
            target.up().to_string(),
            r#"{instance="web-1:9100",job="mine",target="http://web-1:9100/metrics"}"#
        );
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
            Target::new("http://a,target=1".parse().unwrap(), job(|_| ())),
            Err(TargetError::AddressLabel(_))
        ));
    }

    #[test]
    fn a_list_asks_as_its_job_says_unless_labels_say_otherwise() {
        let job = job(|settings| {
            settings.scheme = "https".into();
            settings.metrics_path = "/probe".into();
            let params = [("match[]", "up"), ("match[]", "b"), ("module", "http")];
            settings.params = params
                .map(|(name, value)| (name.into(), value.into()))
                .to_vec();
        });
        let uri = |labels: &[(&str, &str)]| {
            Target::listed("a:1", labels, &job)
                .unwrap()
                .uri()
                .to_string()
        };
        assert_eq!(
            uri(&[]),
            "https://a:1/probe?match%5B%5D=up&match%5B%5D=b&module=http"
        );
        assert_eq!(
            uri(&[
                ("__param_module", "tcp"),
                ("__param_x", "1"),
                ("__scheme__", "http")
            ]),
            "http://a:1/probe?match%5B%5D=up&match%5B%5D=b&module=tcp&x=1"
        );
    }
}
