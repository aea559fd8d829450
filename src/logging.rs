//! Log lines on standard error: logfmt as Prometheus' own components write it, or JSON.
//!
//! A logfmt line is `ts=… level=info msg="listening" listener=web address=127.0.0.1:41234`: the message first and always
//! quoted, then the fields of the event, then those of its spans, innermost first.

use std::fmt::{self, Write as _};
use std::io;
use std::str::FromStr;
use std::time::SystemTime;

use clap::{Args, ValueEnum};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// How the program logs.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct Settings {
    /// Only log messages with the given severity or above: error, warn, info, debug or trace; or directives such as
    /// info,prometheus_rsocket_proxy::rsocket=debug
    #[arg(
        id = "log.level",
        long,
        env = "PROXY_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info"
    )]
    pub level: Level,
    /// Output format of log messages
    #[arg(
        id = "log.format",
        long,
        env = "PROXY_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "logfmt"
    )]
    pub format: Format,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// `key=value` pairs
    Logfmt,
    /// One JSON object per line
    Json,
}

/// Which events are logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level(String);

impl FromStr for Level {
    type Err = String;

    fn from_str(level: &str) -> Result<Self, String> {
        // A bare word would be taken as the name of a module: `--log.level=inof` must not silence everything.
        let known = level.split(',').all(|directive| {
            let level = directive.rsplit('=').next().unwrap_or_default();
            level.parse::<tracing::level_filters::LevelFilter>().is_ok()
        });
        if known && EnvFilter::try_new(level).is_ok() {
            Ok(Self(level.to_owned()))
        } else {
            Err("expected error, warn, info, debug or trace".into())
        }
    }
}

/// Logs each packet that it cannot read, which the node counts; other directives can say otherwise.
const QUIET: &str = "chitchat=error";

/// Sets the process's log up. Once; later calls change nothing.
pub fn init(settings: &Settings) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(format!("{QUIET},{}", settings.level.0)))
        .with_writer(io::stderr);
    // An error says that a log is set up already, as in tests that run several nodes.
    let _ = match settings.format {
        Format::Logfmt => builder
            .fmt_fields(LogfmtFields)
            .event_format(Logfmt)
            .try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
}

struct Logfmt;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let now = humantime::format_rfc3339_millis(SystemTime::now());
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => "error",
            tracing::Level::WARN => "warn",
            tracing::Level::INFO => "info",
            tracing::Level::DEBUG => "debug",
            tracing::Level::TRACE => "trace",
        };
        write!(writer, "ts={now} level={level}")?;
        context.format_fields(writer.by_ref(), event)?;
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                write!(writer, "{fields}")?;
            }
        }
        writeln!(writer)
    }
}

/// Writes fields as ` key=value`, each with a blank before it.
struct LogfmtFields;

impl<'w> FormatFields<'w> for LogfmtFields {
    fn format_fields<R: tracing_subscriber::field::RecordFields>(
        &self,
        writer: Writer<'w>,
        fields: R,
    ) -> fmt::Result {
        let mut visitor = LogfmtVisitor {
            message: String::new(),
            rest: String::new(),
        };
        fields.record(&mut visitor);
        let mut writer = writer;
        if !visitor.message.is_empty() {
            write!(writer, " msg=")?;
            quoted(&mut writer, &visitor.message)?;
        }
        writer.write_str(&visitor.rest)
    }
}

struct LogfmtVisitor {
    message: String,
    rest: String,
}

impl LogfmtVisitor {
    fn record(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
            return;
        }
        // Writing to a string does not fail.
        let _ = write!(self.rest, " {}=", field.name());
        let plain = !value.is_empty()
            && value
                .chars()
                .all(|c| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '=' | '\\'));
        let _ = if plain {
            self.rest.write_str(value)
        } else {
            quoted(&mut self.rest, value)
        };
    }
}

impl Visit for LogfmtVisitor {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record(field, &format!("{value:?}"));
    }
}

/// Quotes a value; a line feed of somebody else's must not begin a log line.
fn quoted(writer: &mut impl fmt::Write, value: &str) -> fmt::Result {
    writer.write_char('"')?;
    for c in value.chars() {
        match c {
            '"' => writer.write_str("\\\"")?,
            '\\' => writer.write_str("\\\\")?,
            '\n' => writer.write_str("\\n")?,
            c if c.is_control() => write!(writer, "{}", c.escape_default())?,
            c => writer.write_char(c)?,
        }
    }
    writer.write_char('"')
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .fmt_fields(LogfmtFields)
            .event_format(Logfmt)
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_has_the_quoted_message_and_then_the_fields() {
        let line =
            logged(|| tracing::info!(listener = "web", address = %"127.0.0.1:41234", "listening"));
        assert!(
            line.ends_with(" level=info msg=\"listening\" listener=web address=127.0.0.1:41234\n"),
            "{line}"
        );
        assert!(line.starts_with("ts=20"), "{line}");
    }

    #[test]
    fn a_value_from_outside_cannot_begin_a_line_or_a_field() {
        let line = logged(|| tracing::warn!(reason = "a\nlevel=error \"x\"\u{7}", "not scraped"));
        assert_eq!(line.lines().count(), 1);
        assert!(
            line.ends_with("reason=\"a\\nlevel=error \\\"x\\\"\\u{7}\"\n"),
            "{line}"
        );
    }

    #[test]
    fn fields_of_the_span_follow_those_of_the_event() {
        let line = logged(|| {
            let _span = tracing::info_span!("connection", peer = "10.0.0.1:1").entered();
            tracing::info!(outcome = "timeout", "not scraped");
        });
        assert!(
            line.ends_with("msg=\"not scraped\" outcome=timeout peer=10.0.0.1:1\n"),
            "{line}"
        );
    }

    #[test]
    fn a_misspelt_level_is_an_error() {
        assert!("inof".parse::<Level>().is_err());
        assert!(
            "info,prometheus_rsocket_proxy::rsocket=debug"
                .parse::<Level>()
                .is_ok()
        );
    }
}
