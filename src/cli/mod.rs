//! The command line: flags, else environment, else defaults, made into [`Settings`].

mod agent;
mod bench;
mod cluster;
mod healthcheck;
mod proxies;
mod push;
mod rebalance;
mod runtime;
mod serve;
mod tls;
mod values;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::logging;
use crate::settings::Settings;

/// Exit status for bad usage or configuration.
const USAGE: u8 = 2;

/// Pulls metrics from applications that can only open connections outwards.
#[derive(Debug, Parser)]
#[command(
    name = "prometheus-rsocket-proxy",
    version,
    propagate_version = true,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::ServeArgs,
}

impl Cli {
    /// What to do, with or without a word for it.
    fn command(self) -> Command {
        self.command
            .unwrap_or_else(|| Command::Serve(Box::new(self.serve)))
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a proxy node (also without a subcommand)
    Serve(Box<serve::ServeArgs>),
    /// Answer a proxy's pulls with what HTTP targets in this network expose
    Agent(Box<agent::AgentArgs>),
    /// Ask a running node whether it is ready: exit status 0 if it is, else 1
    Healthcheck(Box<healthcheck::HealthcheckArgs>),
    /// Push exposition text and wait for the acknowledgement: exit status 0 once the proxy holds it, else 1
    Push(Box<push::PushArgs>),
    /// Put a node under load and measure it: exit status 0 if everything went well, else 1
    Bench(Box<bench::BenchArgs>),
}

/// How the program logs.
#[derive(Debug, Args)]
struct LogArgs {
    /// What to log: error, warn, info, debug, trace, or directives such as `info,prometheus_rsocket_proxy::rsocket=debug`
    #[arg(
        long = "log.level",
        env = "PROXY_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info"
    )]
    level: logging::Level,
    /// How a line looks
    #[arg(
        long = "log.format",
        env = "PROXY_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "logfmt"
    )]
    format: logging::Format,
}

/// Runs what `arguments` (the program's name first) ask for, and gives the exit status: 0 on success, 1 on a failure at
/// run time, 2 on bad usage or configuration.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match cli.command() {
        Command::Serve(args) => serve::run(&args),
        Command::Agent(args) => agent::run(&args),
        Command::Healthcheck(args) => healthcheck::run(&args),
        Command::Push(args) => push::run(&args),
        Command::Bench(args) => bench::run(*args),
    }
}

/// The settings of a node that is run with `flags` (and the environment); the error is one line that names the flag.
///
/// For programs that run a node inside themselves.
pub fn settings<'f>(flags: impl IntoIterator<Item = &'f str>) -> Result<Settings, String> {
    let arguments = std::iter::once("prometheus-rsocket-proxy").chain(flags);
    let cli = Cli::try_parse_from(arguments).map_err(|error| one_line(&error))?;
    match cli.command() {
        Command::Serve(args) => args.settings(),
        Command::Agent(_) | Command::Bench(_) | Command::Healthcheck(_) | Command::Push(_) => {
            Err("only `serve` has settings".into())
        }
    }
}

/// Help and version go out as they are; a mistake is one line that names the flag.
fn usage(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        // Nobody reads a failed write of the help text.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    bad_usage(&one_line(error))
}

/// The first paragraph: the others are hints and usage.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let line = first.split_whitespace().collect::<Vec<_>>().join(" ");
    line.trim_start_matches("error: ").to_owned()
}

/// Says what is wrong in one line on standard error.
#[expect(
    clippy::print_stderr,
    reason = "bad usage is told to whoever typed it, before logging is set up"
)]
fn bad_usage(line: &str) -> ExitCode {
    eprintln!("error: {line} (see --help)");
    ExitCode::from(USAGE)
}

/// Says in one line on standard error what went wrong at run time.
#[expect(
    clippy::print_stderr,
    reason = "the subcommands that end by themselves keep no log"
)]
fn failure(line: &str) -> ExitCode {
    eprintln!("error: {line}");
    ExitCode::FAILURE
}
