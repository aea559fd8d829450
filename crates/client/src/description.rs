//! What the client says that the application is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

use bytes::Bytes;
use prometheus_rsocket_wire::Description;
use prometheus_rsocket_wire::description::{
    DescriptionError, MAX_NAME, TargetDescription, is_name,
};

/// The client's name and version.
const CLIENT: &str = concat!("rust ", env!("CARGO_PKG_VERSION"));
/// Where Linux says what the host is called.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

/// What the application says of itself: the one target that it is, or all of a description.
#[derive(Debug, Clone, Default)]
pub(crate) struct Described {
    whole: Option<Description>,
    instance: Option<String>,
    job: Option<String>,
    labels: BTreeMap<String, String>,
}

impl Described {
    pub(crate) fn set(&mut self, description: Description) -> Result<(), DescriptionError> {
        self.whole = Some(description);
        self.check()
    }

    pub(crate) fn set_instance(&mut self, instance: String) -> Result<(), DescriptionError> {
        self.instance = Some(instance);
        self.check()
    }

    pub(crate) fn set_job(&mut self, job: String) -> Result<(), DescriptionError> {
        self.job = Some(job);
        self.check()
    }

    pub(crate) fn set_label(
        &mut self,
        name: String,
        value: String,
    ) -> Result<(), DescriptionError> {
        self.labels.insert(name, value);
        self.check()
    }

    fn check(&self) -> Result<(), DescriptionError> {
        let longest = || "x".repeat(MAX_NAME);
        self.clone().description(longest).encode().map(drop)
    }

    /// What is to be sent. An application that gives itself no name is called otherwise each time this is asked for.
    pub(crate) fn encode(self) -> Result<Bytes, DescriptionError> {
        self.description(default_instance).encode()
    }

    fn description(self, default_instance: impl FnOnce() -> String) -> Description {
        self.whole.unwrap_or_else(|| Description {
            client: CLIENT.to_owned(),
            targets: vec![TargetDescription {
                instance: self.instance.unwrap_or_else(default_instance),
                job: self.job,
                labels: self.labels,
            }],
        })
    }
}

/// Host name and process id; with a number behind them for all but the first client of a process.
fn default_instance() -> String {
    static CLIENTS: AtomicU32 = AtomicU32::new(0);
    let (host, process) = (host_name(), process::id());
    match CLIENTS.fetch_add(1, Ordering::Relaxed) {
        0 => format!("{host}:{process}"),
        before => format!("{host}:{process}:{}", before.saturating_add(1)),
    }
}

fn host_name() -> String {
    let set = ["HOSTNAME", "COMPUTERNAME"]
        .map(env::var)
        .into_iter()
        .flatten()
        .next();
    let name = set.or_else(|| fs::read_to_string(HOST_NAME_FILE).ok());
    let name = name.unwrap_or_default();
    match name.trim() {
        // Process and number need some bytes as well.
        name if is_name(name) && name.len() <= 200 => name.to_owned(),
        _ => "localhost".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(described: Described) -> String {
        String::from_utf8(described.encode().unwrap().to_vec()).unwrap()
    }

    #[test]
    fn an_application_that_gives_itself_no_name_is_called_by_host_and_process() {
        let start = format!(
            "{{\"client\":\"{CLIENT}\",\"targets\":[{{\"instance\":\"{}",
            host_name()
        );
        let mut of_job = Described::default();
        of_job.set_job("shop".to_owned()).unwrap();
        let of_job = json(of_job);
        assert!(of_job.starts_with(&start), "{of_job}");
        assert!(of_job.contains(&format!(":{}", process::id())));
        assert!(of_job.ends_with(r#","job":"shop"}]}"#), "{of_job}");
        assert_ne!(json(Described::default()), json(Described::default()));
    }

    #[test]
    fn a_mistake_is_found_where_it_is_made() {
        let mut described = Described::default();
        assert_eq!(
            described.set_instance(String::new()),
            Err(DescriptionError::Instance)
        );
        described.set_instance("web-1".to_owned()).unwrap();
        assert_eq!(
            described.set_job("x".repeat(256)),
            Err(DescriptionError::Job)
        );
        described.set_job("shop".to_owned()).unwrap();
        let label = described
            .clone()
            .set_label("__scheme__".to_owned(), String::new());
        assert_eq!(label, Err(DescriptionError::LabelName));
        described
            .set_label("zone".to_owned(), "b".to_owned())
            .unwrap();
        let target = r#"{"instance":"web-1","job":"shop","labels":{"zone":"b"}}"#;
        assert_eq!(
            json(described),
            format!(r#"{{"client":"{CLIENT}","targets":[{target}]}}"#)
        );
    }
}
