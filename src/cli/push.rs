//! `push`: pushes exposition text from a file or standard input, for cron jobs and shell scripts.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::hash::RandomState;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use prometheus_rsocket_client::{Builder, Client, ConnectError, Description, PushError};
use prometheus_rsocket_config::values;
use prometheus_rsocket_exposition::{Exposition, Labels, Limits, ParseError, merge};

use super::proxies::ProxyArgs;
use super::{bad_usage, failure, runtime};
use crate::logging;

/// The client's name and version.
const CLIENT: &str = concat!("push ", env!("CARGO_PKG_VERSION"));
/// Bytes of labelled text that are copied at a time.
const CHUNK: usize = 64 << 10;
/// The delays between attempts to connect: a proxy that restarts is back within seconds.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct PushArgs {
    /// File to push; - or none: standard input
    #[arg(value_name = "FILE", default_value = "-", hide_default_value = true)]
    file: PathBuf,
    /// Add this label to every sample. A sample's own label of that name is renamed to exported_NAME. Repeatable
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = Label::parse)]
    labels: Vec<Label>,
    #[command(flatten)]
    proxy: ProxyArgs,
    /// Give up if the proxy has not acknowledged the push after this, reconnects included
    #[arg(long = "timeout", value_name = "DURATION", default_value = "30s", value_parser = values::duration)]
    timeout: Duration,
    /// Maximum size of the text
    #[arg(long = "max-bytes", value_name = "BYTES", default_value = "64MiB", value_parser = values::bytes)]
    max_bytes: usize,
    /// Print errors only
    #[arg(long = "quiet", short = 'q')]
    quiet: bool,
    #[command(flatten)]
    log: logging::Settings,
}

/// A label that the command line adds.
#[derive(Debug, Clone)]
struct Label {
    name: String,
    value: String,
}

impl Label {
    /// An empty value is mostly that of a variable that is not set, and would be no label to Prometheus.
    fn parse(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .filter(|(_, value)| !value.is_empty())
            .ok_or("a label is written NAME=VALUE")?;
        Labels::default()
            .insert(name, value)
            .map_err(|error| error.to_string())?;
        Ok(Self {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }
}

impl PushArgs {
    fn labels(&self) -> Result<Labels, String> {
        let mut labels = Labels::default();
        for Label { name, value } in &self.labels {
            if labels.get(name).is_some() {
                return Err(format!("--label names {name} twice"));
            }
            labels
                .insert(name, value)
                .map_err(|error| error.to_string())?;
        }
        Ok(labels)
    }
}

/// Exit status 0 says that the proxy has acknowledged the push, and nothing less.
pub(super) fn run(args: &PushArgs) -> ExitCode {
    // What is wrong with the flags is said before a producer is waited for.
    let checked = builder(args, Bytes::new()).and_then(|_| args.labels());
    let labels = match checked {
        Ok(labels) => labels,
        Err(line) => return bad_usage(&line),
    };
    match push(args, &labels) {
        Ok(text) => {
            if !args.quiet {
                report(&text);
            }
            ExitCode::SUCCESS
        }
        Err(error @ Error::Invalid { .. }) => point_at(&error),
        Err(error) => failure(&error.to_string()),
    }
}

/// As compilers do it: the place first, so that editors and scripts find it.
#[expect(clippy::print_stderr, reason = "standard output is for data")]
fn point_at(error: &Error) -> ExitCode {
    eprintln!("{error}");
    ExitCode::FAILURE
}

fn push(args: &PushArgs, labels: &Labels) -> Result<Text, Error> {
    let text = Text::read(&args.file, args.max_bytes, labels)?;
    if !args.quiet {
        if let Some(repeated) = &text.repeated {
            warn(repeated);
        }
        logging::init(&args.log);
    }
    let builder = builder(args, text.bytes.clone()).map_err(Error::Flags)?;
    runtime::block_on_one(send(builder, args.timeout)).map_err(Error::Runtime)??;
    Ok(text)
}

#[expect(clippy::print_stderr, reason = "standard output is for data")]
fn report(text: &Text) {
    eprintln!("pushed and acknowledged, samples: {}", text.samples);
}

#[expect(clippy::print_stderr, reason = "standard output is for data")]
fn warn(repeated: &Repeated) {
    eprintln!("warning: {repeated}");
}

/// Why nothing was pushed, or nothing was acknowledged.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{name}: {error}")]
    Read { name: String, error: io::Error },
    #[error("{name}: longer than {max_bytes} bytes (--max-bytes)")]
    TooLong { name: String, max_bytes: usize },
    #[error("{name}:{position}: {reason}")]
    Invalid {
        name: String,
        position: Position,
        reason: &'static str,
    },
    /// Mostly a producer at the other end of the pipe that has failed: not to be taken for success.
    #[error("{name}: no samples, nothing to push")]
    NoSamples { name: String },
    /// Files that were good a moment ago.
    #[error("{0}")]
    Flags(String),
    #[error(transparent)]
    Runtime(io::Error),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Push(#[from] PushError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    line: usize,
    column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl From<ParseError> for Position {
    fn from(error: ParseError) -> Self {
        Self {
            line: error.line(),
            column: error.column(),
        }
    }
}

/// A text that the proxy would take, with its labels.
#[derive(Debug)]
struct Text {
    bytes: Bytes,
    samples: usize,
    repeated: Option<Repeated>,
}

/// Series that occur more than once in a text.
#[derive(Debug)]
struct Repeated {
    name: String,
    /// Where the first of them occurs again; not known where a line cannot be read by itself.
    line: Option<usize>,
    samples: usize,
}

impl fmt::Display for Repeated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(
            f,
            ": duplicate series, Prometheus drops all samples of a series but one (samples: {})",
            self.samples
        )
    }
}

impl Repeated {
    fn find(name: &str, text: &[u8], exposition: &Exposition) -> Option<Self> {
        let hasher = RandomState::new();
        let series: HashSet<u64> = exposition.series(&hasher).collect();
        let samples = exposition.samples() - series.len();
        (samples > 0).then(|| Self {
            name: name.to_owned(),
            line: first_repeated(text, &hasher),
            samples,
        })
    }
}

impl Text {
    /// Reads to the end, however long a producer takes for it.
    fn read(file: &Path, max_bytes: usize, labels: &Labels) -> Result<Self, Error> {
        let (name, bytes) = if file == Path::new("-") {
            let name = "<stdin>".to_owned();
            (name, read_at_most(io::stdin().lock(), max_bytes))
        } else {
            let bytes = File::open(file).and_then(|file| read_at_most(file, max_bytes));
            (file.display().to_string(), bytes)
        };
        match bytes {
            Ok(bytes) if bytes.len() > max_bytes => Err(Error::TooLong { name, max_bytes }),
            Ok(bytes) => Self::check(name, bytes.into(), labels),
            Err(error) => Err(Error::Read { name, error }),
        }
    }

    /// What is wrong is said where it stands in the text as it came.
    fn check(name: String, bytes: Bytes, labels: &Labels) -> Result<Self, Error> {
        let refused = |name, position, reason| Error::Invalid {
            name,
            position,
            reason,
        };
        let checked = Exposition::parse(bytes.clone()).and_then(|exposition| {
            let labelled = exposition.with_labels(labels, false, &Limits::NONE)?;
            Ok((exposition, labelled))
        });
        let (exposition, labelled) = match checked {
            Ok(checked) => checked,
            Err(error) => return Err(refused(name, error.into(), error.kind().as_str())),
        };
        if exposition.has_timestamps() {
            return Err(refused(
                name,
                first_timestamp(&bytes),
                "a timestamp, which would be out of date when the push is scraped",
            ));
        }
        let samples = exposition.samples();
        if samples == 0 {
            return Err(Error::NoSamples { name });
        }
        let repeated = Repeated::find(&name, &bytes, &exposition);
        let bytes = if labels.is_empty() {
            bytes
        } else {
            written(labelled)
        };
        Ok(Self {
            bytes,
            samples,
            repeated,
        })
    }
}

/// An exposition as a text.
fn written(exposition: Exposition) -> Bytes {
    let merged = merge(vec![Arc::new(exposition).into()]);
    let chunks = merged.into_chunks(CHUNK);
    chunks.flatten().collect::<Vec<u8>>().into()
}

/// One byte more than `max_bytes` tells that there is more.
fn read_at_most(from: impl Read, max_bytes: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(max_bytes).unwrap_or(u64::MAX);
    from.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Where the first timestamp stands in a valid text that has one.
fn first_timestamp(text: &[u8]) -> Position {
    let lines = text.split(|byte| *byte == b'\n').zip(1..);
    let found = lines
        .filter_map(|(text, line)| Some((timestamp_column(text)?, line)))
        .next();
    let (column, line) = found.unwrap_or((1, 1));
    Position { line, column }
}

/// The first line of a valid text that has a series for the second time.
fn first_repeated(text: &[u8], hasher: &RandomState) -> Option<usize> {
    let mut seen = HashSet::new();
    let lines = text.split(|byte| *byte == b'\n').zip(1..);
    let mut repeated = lines.filter(|(line, _)| {
        let alone = Exposition::parse(Bytes::copy_from_slice(line));
        alone.is_ok_and(|alone| alone.series(hasher).any(|series| !seen.insert(series)))
    });
    repeated.next().map(|(_, line)| line)
}

/// A timestamp is what follows the shortest beginning of the line that is a sample by itself. In OpenMetrics an exemplar
/// may follow there as well, whose `#` is no comment within a line.
fn timestamp_column(line: &[u8]) -> Option<usize> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let is_sample = |text: &[u8]| {
        let text = Exposition::parse(Bytes::copy_from_slice(text));
        text.is_ok_and(|text| text.samples() == 1 && !text.has_timestamps())
    };
    let ends = line.iter().enumerate().filter(|(_, byte)| blank(byte));
    let (end, _) = ends
        .into_iter()
        .find(|(end, _)| line.get(..*end).is_some_and(is_sample))?;
    let rest = line.get(end..)?;
    let after = rest.iter().position(|byte| !blank(byte))?;
    matches!(rest.get(after)?, b'0'..=b'9' | b'-' | b'+').then_some(end + after + 1)
}

/// A pull that comes meanwhile is answered with nothing: the samples are to be served once, as a push.
fn builder(args: &PushArgs, text: Bytes) -> Result<Builder, String> {
    let client = Client::builder_async(move |request| {
        let text = if request.push {
            text.clone()
        } else {
            Bytes::new()
        };
        std::future::ready(text)
    });
    // There is nothing to scrape.
    let description = Description {
        client: CLIENT.to_owned(),
        targets: Vec::new(),
    };
    let client = client
        .description(description)
        .map_err(|error| error.to_string())?;
    let client = client
        .backoff(FIRST_BACKOFF, MAX_BACKOFF)
        .timeout(args.timeout);
    args.proxy.apply(client)
}

async fn send(builder: Builder, within: Duration) -> Result<(), Error> {
    let begin = Instant::now();
    let client = builder.connect_and_wait().await?;
    let left = within.saturating_sub(begin.elapsed());
    let pushed = client.push_within(left).await;
    client.close().await;
    Ok(pushed?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &'static str) -> String {
        let checked = Text::check(
            "text".into(),
            Bytes::from_static(text.as_bytes()),
            &Labels::default(),
        );
        checked.expect_err("a refusal").to_string()
    }

    #[test]
    fn what_is_wrong_with_a_text_is_said_with_file_line_and_column() {
        assert_eq!(refused("up 1\nup{ 1\n"), "text:2:5: invalid label name");
        assert_eq!(refused(""), "text: no samples, nothing to push");
        assert_eq!(
            refused("# TYPE up gauge\n"),
            "text: no samples, nothing to push"
        );
    }

    #[test]
    fn a_series_that_occurs_twice_is_said_with_its_line() {
        let repeated = |text: &'static str| {
            let bytes = Bytes::from_static(text.as_bytes());
            let text = Text::check("text".into(), bytes, &Labels::default()).unwrap();
            text.repeated.map(|repeated| repeated.to_string())
        };
        assert_eq!(repeated("a{x=\"1\"} 1\na{x=\"2\"} 1\na 1\n"), None);
        let said = "text:3: duplicate series, Prometheus drops all samples of a series but one (samples: 2)";
        assert_eq!(
            repeated("a{x=\"1\",y=\"2\"} 1\nb 1\na{y=\"2\",x=\"1\"} 2\nb 1\n").as_deref(),
            Some(said)
        );
    }

    #[test]
    fn a_timestamp_is_found_where_it_stands() {
        for (text, at) in [
            ("a 1\nb{c=\"d 1 2\"} 1  1700000000000\n", "2:17"),
            ("a 1 1700000000000", "1:5"),
            (
                "# TYPE a counter\na_total 1 # {x=\"y\"} 1 2\nb 1 1.5 # {x=\"y\"} 1\n# EOF\n",
                "3:5",
            ),
        ] {
            let refused = refused(text);
            assert!(
                refused.starts_with(&format!("text:{at}: a timestamp")),
                "{refused}"
            );
        }
    }

    #[test]
    fn no_more_than_the_bound_is_kept() {
        assert_eq!(read_at_most(io::repeat(b'a'), 10).unwrap().len(), 11);
        assert_eq!(read_at_most(&b"up 1\n"[..], 10).unwrap(), b"up 1\n");
    }
}
