//! Asks the scrape parser of Prometheus 3 (`textparse`) what it makes of a text and of what is served of it, and `expfmt`
//! whether it takes what is served as text. Needs Go.
#![no_main]

#[path = "../check.rs"]
mod check;

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use prometheus_rsocket_exposition::{Encoding, Format, merge_as};
use serde_json::Value;

static PARSER: LazyLock<Mutex<Parser>> = LazyLock::new(|| Mutex::new(Parser::start()));

/// The program that the differential tests ask.
struct Parser {
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Parser {
    fn start() -> Self {
        let source =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/differential/prometheus-3");
        let program = std::env::temp_dir().join(format!("textparse-{}", std::process::id()));
        let mut build = Command::new("go");
        let build = build.args(["build", "-o"]).arg(&program).arg(".");
        assert!(build.current_dir(source).status().unwrap().success());
        let mut child = Command::new(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::fs::remove_file(program).unwrap();
        Self {
            requests: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()),
        }
    }

    fn ask(&mut self, text: &[u8], format: Format) -> Value {
        let mut request = String::from("{\"text\":\"");
        for byte in text {
            write!(request, "{byte:02x}").unwrap();
        }
        let openmetrics = format == Format::OpenMetrics;
        writeln!(request, "\",\"openmetrics\":{openmetrics}}}").unwrap();
        self.requests.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }
}

/// Its samples in order, or what it has against the text. Without what it makes of them by itself: bounds that it spells
/// anew, and blanks before a name, which it takes for a part of it.
fn samples(answer: &Value) -> Result<Vec<String>, String> {
    if let Some(error) = answer["scrape"]["error"].as_str() {
        return Err(error.to_owned());
    }
    let samples = answer["scrape"]["samples"].as_array();
    let samples = samples.into_iter().flatten().filter_map(Value::as_str);
    let mut samples: Vec<_> = samples.map(|one| respelled(one.trim_start())).collect();
    samples.sort();
    Ok(samples)
}

/// With the bounds in one spelling.
fn respelled(sample: &str) -> String {
    let mut pieces = sample.split('"').map(str::to_owned).collect::<Vec<_>>();
    for at in 1..pieces.len() {
        let label = pieces[at - 1].rsplit(['{', ',']).next();
        if matches!(label, Some("le=" | "quantile="))
            && let Ok(bound) = pieces[at].parse::<f64>()
        {
            pieces[at] = bound.to_string();
        }
    }
    pieces.join("\"")
}

fuzz_target!(|text: &[u8]| {
    let mut parser = PARSER.lock().unwrap();
    for text in [text.to_vec(), [text, b"\n# EOF\n"].concat()] {
        let Ok(part) = check::parse(&text) else {
            continue;
        };
        let came = part.format();
        let before = samples(&parser.ask(&text, came));
        // Their bounds are spelled anew.
        let has_gauge_histograms = String::from_utf8_lossy(&text).contains("gaugehistogram");
        for format in [Format::Text, Format::OpenMetrics] {
            let merged = merge_as(Encoding::unescaped(format), vec![part.clone().into()]);
            let served: Vec<u8> = merged.into_chunks(1 << 16).flatten().collect();
            let answer = parser.ask(&served, format);
            let served = String::from_utf8_lossy(&served);
            let after = samples(&answer).unwrap_or_else(|error| panic!("{error}:\n{served}"));
            if format == Format::Text {
                let refused = answer["expfmt"]["error"].as_str();
                assert_eq!(refused, None, "{served}");
            }
            // Seconds cannot say every millisecond, nor text an exemplar.
            if let (true, Ok(before)) = (format == came && !has_gauge_histograms, &before) {
                assert_eq!(*before, after, "{served}");
            }
        }
    }
});
