//! The texts that the OpenMetrics project publishes for testing parsers, as a Go module has them.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::corpus::Case;

const MODULE: &str = "github.com/prometheus/OpenMetrics@v1.0.1-0.20250131122238-3bb328ab04d2";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Downloaded {
    dir: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    file: String,
    should_parse: bool,
}

/// One of the texts.
pub(crate) struct Published {
    /// Its name and its text.
    pub(crate) case: Case,
    /// Whether a parser that follows the specification takes it.
    pub(crate) is_valid: bool,
}

/// Downloads them, unless that has been done.
pub(crate) fn read() -> Vec<Published> {
    let output = Command::new("go")
        .args(["mod", "download", "-json", MODULE])
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{MODULE}: {said}");
    let module: Downloaded = serde_json::from_str(&said).unwrap();
    let directory = module.dir.join("tests/testdata/parsers");
    let cases = std::fs::read_dir(directory).unwrap();
    let mut cases: Vec<_> = cases.map(|case| one(&case.unwrap().path())).collect();
    cases.sort_by(|one, other| one.case.name.cmp(&other.case.name));
    cases
}

fn one(directory: &Path) -> Published {
    let description = std::fs::read_to_string(directory.join("test.json")).unwrap();
    let description: Description = serde_json::from_str(&description).unwrap();
    Published {
        case: Case {
            name: directory
                .file_name()
                .unwrap()
                .to_string_lossy()
                .into_owned(),
            texts: vec![std::fs::read(directory.join(description.file)).unwrap()],
            ..Case::default()
        },
        is_valid: description.should_parse,
    }
}
