//! The targets as the proxy is told of them, so that Prometheus can have each as one of its own.
//!
//! A target is known by instance and job. Its other labels are described, too, as far as there is room. Prometheus gives
//! all of them to the samples, so a text that is asked for alone is given only those that are not described.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use hyper::http::uri::PathAndQuery;
use prometheus_rsocket_client::{Description, TargetDescription, TargetName};
use prometheus_rsocket_exposition::Labels;
use prometheus_rsocket_wire::description::{MAX_LABELS, MAX_TARGETS, is_name};
use tracing::warn;

use super::target::{INSTANCE, JOB, Target};
use super::targets::Targets;

/// The client's name and version.
const CLIENT: &str = concat!("agent ", env!("CARGO_PKG_VERSION"));

/// All targets, and what the proxy is told of them.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) targets: Targets,
    pub(super) description: Description,
    by_name: HashMap<TargetName, One>,
}

/// A target that can be asked for alone, and the labels that its samples are given then.
#[derive(Debug, Clone)]
pub(super) struct One {
    pub(super) target: Arc<Target>,
    pub(super) labels: Labels,
}

impl Described {
    /// On a host of this name. Targets that do not fit into a description can only be asked for with all.
    pub(super) fn new(targets: Targets, host: &str) -> Self {
        let (named, described) = named(&targets, host);
        let mut description = Description {
            client: CLIENT.to_owned(),
            targets: described,
        };
        fit(&mut description);
        let described = description.targets.len();
        if described < targets.len() {
            warn!(
                targets = targets.len(),
                described,
                "not all targets fit into a description; the others cannot be scraped alone"
            );
        }
        let by_name = named.into_iter().zip(&description.targets);
        let by_name = by_name.map(|(target, described)| {
            let labels = undescribed(&target, described);
            (described.name(), One { target, labels })
        });
        Self {
            by_name: by_name.collect(),
            targets,
            description,
        }
    }

    /// The one that a pull means. The proxy may have given a job to one without.
    pub(super) fn one(&self, name: &TargetName) -> Option<&One> {
        let without_job = || {
            let instance = name.instance.clone();
            self.by_name.get(&TargetName {
                instance,
                job: None,
            })
        };
        self.by_name.get(name).or_else(without_job)
    }
}

/// Each with a name that no other has: of those at one address all but the first have the path in it.
fn named(targets: &Targets, host: &str) -> (Vec<Arc<Target>>, Vec<TargetDescription>) {
    let mut taken = HashSet::new();
    let named = targets.iter().take(MAX_TARGETS).filter_map(|target| {
        let mut one = described(target, host);
        let plain = one.instance.clone();
        let path = target.uri().path_and_query();
        let with_path = format!("{plain}{}", path.map_or("", PathAndQuery::as_str));
        let numbered = (2..=MAX_TARGETS).map(|number| format!("{plain}#{number}"));
        for instance in [plain.clone(), with_path].into_iter().chain(numbered) {
            one.instance = instance;
            if is_name(&one.instance) && taken.insert(one.name()) {
                return Some((Arc::clone(target), one));
            }
        }
        None
    });
    named.unzip()
}

fn described(target: &Target, host: &str) -> TargetDescription {
    let labels = target.labels();
    let job = labels.get(JOB).filter(|job| is_name(job));
    let others = labels.iter().filter(|(name, _)| {
        let settings = &target.job().settings;
        !matches!(*name, INSTANCE | JOB) && Some(*name) != settings.address_label.as_deref()
    });
    let others = others.take(MAX_LABELS);
    TargetDescription {
        instance: instance(target, host),
        job: job.map(str::to_owned),
        labels: others
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    }
}

/// What it is labelled with, or its address, as others would call it: twenty agents have a `localhost:9100` each.
fn instance(target: &Target, host: &str) -> String {
    let address = target.job().instance(target.uri());
    match target.labels().get(INSTANCE) {
        Some(own) if own != address && is_name(own) => return own.to_owned(),
        _ => {}
    }
    let own = target.uri().host().unwrap_or_default();
    let ip = own
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    let is_loopback = own == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    match address.strip_prefix(own) {
        Some(port) if is_loopback => format!("{host}{port}"),
        _ => address,
    }
}

/// Leaves out what makes the description too long: labels first, then targets from the end.
fn fit(description: &mut Description) {
    let is_too_long = |description: &Description| description.encode().is_err();
    if is_too_long(description) {
        description
            .targets
            .iter_mut()
            .for_each(|target| target.labels.clear());
    }
    while is_too_long(description) {
        let targets = &mut description.targets;
        targets.truncate(targets.len() * 9 / 10);
    }
}

/// The labels of its samples without those that Prometheus gives them.
fn undescribed(target: &Target, described: &TargetDescription) -> Labels {
    let mut labels = target.labels().clone();
    let job = described.job.as_ref().map(|_| JOB);
    let others = described.labels.keys().map(String::as_str);
    for name in others.chain(job).chain([INSTANCE]) {
        // Without a value there is no label; a name that is there is a good one.
        let _ = labels.insert(name, "");
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::super::job::JobSettings;
    use super::super::job::tests::job;
    use super::*;

    fn described(targets: &[&str], say: fn(&mut JobSettings)) -> Described {
        let job = job(say);
        let target =
            |spec: &&str| Arc::new(Target::new(spec.parse().unwrap(), Arc::clone(&job)).unwrap());
        Described::new(targets.iter().map(target).collect(), "h1")
    }

    fn json(described: &Described) -> String {
        let json = described.description.encode().unwrap();
        let json = String::from_utf8(json.to_vec()).unwrap();
        json.split_once("\"targets\":").unwrap().1.to_owned()
    }

    fn name(instance: &str, job: Option<&str>) -> TargetName {
        TargetName {
            instance: instance.to_owned(),
            job: job.map(str::to_owned),
        }
    }

    #[test]
    fn a_loopback_address_is_that_of_the_host() {
        let targets = [
            "http://localhost:9100",
            "http://127.0.0.1:1/x",
            "https://[::1]",
            "http://10.0.0.1:9100",
            "http://localhost:2,instance=db-1",
        ];
        assert_eq!(
            json(&described(&targets, |_| ())),
            r#"[{"instance":"h1:9100"},{"instance":"h1:1"},{"instance":"h1:443"},{"instance":"10.0.0.1:9100"},{"instance":"db-1"}]}"#
        );
    }

    #[test]
    fn a_target_is_known_by_instance_and_job_and_its_samples_get_what_is_not_described() {
        let described = described(
            &["http://localhost:9100,zone=b,job=other", "http://a:1"],
            |job| {
                job.name = Some("node".to_owned());
                job.address_label = Some("url".to_owned());
            },
        );
        let expected = r#"[{"instance":"h1:9100","job":"other","labels":{"zone":"b"}},{"instance":"a:1","job":"node"}]}"#;
        assert_eq!(json(&described), expected);
        let one = described.one(&name("h1:9100", Some("other"))).unwrap();
        assert_eq!(
            one.labels.to_string(),
            r#"{url="http://localhost:9100/metrics"}"#
        );
        assert!(described.one(&name("h1:9100", Some("node"))).is_none());
        assert!(described.one(&name("a:1", None)).is_none());
    }

    #[test]
    fn a_target_without_a_job_is_found_by_one_that_the_proxy_has_given_it() {
        let described = described(&["http://a:1"], |_| ());
        assert!(described.one(&name("a:1", Some("shop"))).is_some());
        assert!(described.one(&name("b:1", Some("shop"))).is_none());
    }

    #[test]
    fn no_two_targets_have_one_name() {
        let long = format!("http://d:1,instance={}", "x".repeat(255));
        let targets = [
            "http://a:1",
            "http://a:1/x",
            "http://a:1/x,y=1",
            "http://b:1",
            &long,
            &format!("{long},y=1"),
        ];
        let described = described(&targets, |_| ());
        let instances = described
            .description
            .targets
            .iter()
            .map(|one| &*one.instance);
        let instances: Vec<_> = instances.collect();
        assert_eq!(instances[..4], ["a:1", "a:1/x", "a:1#2", "b:1"]);
        // For the last there is none left.
        assert_eq!(instances.len(), 5);
        assert!(
            described
                .one(&name("a:1#2", None))
                .unwrap()
                .target
                .labels()
                .get("y")
                .is_some()
        );
    }

    #[test]
    fn what_does_not_fit_is_left_out_labels_first() {
        let long = |count: usize, length: usize| {
            let targets = (0..count).map(|number| {
                format!(
                    "http://a:1/{number},instance={number}{},zone=b",
                    "x".repeat(length)
                )
            });
            let targets: Vec<String> = targets.collect();
            let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
            described(&targets, |_| ())
        };
        let fits = long(900, 20);
        assert!(json(&fits).contains("zone"));
        let without_labels = long(900, 40);
        assert!(!json(&without_labels).contains("zone"));
        let (last, _) = (&without_labels.description.targets[899], ());
        assert_eq!(
            without_labels.one(&last.name()).unwrap().labels.to_string(),
            r#"{zone="b"}"#
        );
        let cut = long(900, 200);
        assert!((200..300).contains(&cut.description.targets.len()));
        assert_eq!(cut.targets.len(), 900);
        assert_eq!(long(1001, 1).description.targets.len(), 1000);
    }
}
