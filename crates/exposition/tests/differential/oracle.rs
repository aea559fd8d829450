//! Asks the Go programs beside this file.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

/// What one parser made of a text.
#[derive(Debug, Deserialize)]
pub(crate) struct Reading {
    pub(crate) error: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) samples: Vec<String>,
    /// The types and units of families and the start times of samples, by the scrape parser.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) metadata: Vec<String>,
}

/// What the parsers of one version of Prometheus made of a text.
#[derive(Debug, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) scrape: Reading,
    pub(crate) expfmt: Reading,
}

/// The parsers of one version of Prometheus.
#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) name: &'static str,
    program: PathBuf,
}

impl Oracle {
    /// Builds the program; none if there is no Go.
    pub(crate) fn build(name: &'static str) -> Option<Self> {
        if Command::new("go").arg("version").output().is_err() {
            return None;
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/differential")
            .join(name);
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let status = Command::new("go")
            .args(["build", "-o"])
            .args([program.as_os_str(), ".".as_ref()])
            .current_dir(source)
            .status()
            .unwrap();
        assert!(status.success(), "go build failed for {name}");
        Some(Self { name, program })
    }

    /// Its verdicts on the texts, each marked whether it is OpenMetrics.
    pub(crate) fn ask(&self, texts: &[(&[u8], bool)]) -> Vec<Verdict> {
        let mut requests = String::new();
        for (text, openmetrics) in texts {
            requests.push_str("{\"text\":\"");
            for byte in *text {
                write!(requests, "{byte:02x}").unwrap();
            }
            writeln!(requests, "\",\"openmetrics\":{openmetrics}}}").unwrap();
        }
        let mut child = Command::new(&self.program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let writer = std::thread::spawn(move || stdin.write_all(requests.as_bytes()).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(output.status.success(), "{} failed", self.name);
        let verdicts: Vec<Verdict> = output
            .stdout
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert_eq!(verdicts.len(), texts.len());
        verdicts
    }
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_default())
}
