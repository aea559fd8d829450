//! The command line: flags, else environment, else defaults, made into [`Settings`](crate::node::Settings).

mod agent;
mod bench;
mod healthcheck;
mod proxies;
mod push;
#[cfg(test)]
mod reference;
mod runtime;
mod serve;
mod tls;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::node::Checked;

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
    fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::from_arg_matches(&command().try_get_matches_from(arguments)?)
    }

    /// What to do, with or without a word for it.
    fn command(self) -> Command {
        self.command
            .unwrap_or_else(|| Command::Serve(Box::new(self.serve)))
    }
}

/// The command line. What `serve` has without a variable of its own has one named as the flag.
fn command() -> clap::Command {
    let command = <Cli as CommandFactory>::command().mut_args(with_variable);
    command.mut_subcommands(|subcommand| match subcommand.get_name() {
        "serve" => subcommand.mut_args(with_variable),
        // The line at its end says what went wrong.
        "push" => subcommand.mut_arg("log.level", |level| level.default_value("warn")),
        _ => subcommand,
    })
}

/// `--web.listen-address` is `PROXY_WEB_LISTEN_ADDRESS`.
fn with_variable(arg: Arg) -> Arg {
    match arg.get_long() {
        Some(flag) if arg.get_env().is_none() => {
            let variable = format!("PROXY_{}", flag.replace(['.', '-'], "_").to_uppercase());
            arg.env(variable)
        }
        _ => arg,
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

/// Runs what `arguments` (the program's name first) ask for, and gives the exit status: 0 on success, 1 on a failure at
/// run time, 2 on bad usage or configuration.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::read(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match cli.command() {
        Command::Serve(args) => serve::run(*args),
        Command::Agent(args) => agent::run(&args),
        Command::Healthcheck(args) => healthcheck::run(&args),
        Command::Push(args) => push::run(&args),
        Command::Bench(args) => bench::run(*args),
    }
}

/// The settings of a node that is run with `flags` (and the environment); the error is one line that names the flag.
///
/// For programs that run a node inside themselves.
pub fn settings<'f>(flags: impl IntoIterator<Item = &'f str>) -> Result<Checked, String> {
    let arguments = std::iter::once("prometheus-rsocket-proxy").chain(flags);
    let cli = Cli::read(arguments.map(OsString::from)).map_err(|error| one_line(&error))?;
    match cli.command() {
        Command::Serve(args) => args.node.check(),
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

/// The first paragraph, and what may have been meant; the others are hints and usage.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let line = first.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.trim_start_matches("error: ");
    match suggestion(error) {
        Some(meant) => format!("{line}; did you mean '{meant}'?"),
        None => line.to_owned(),
    }
}

/// The flag, subcommand or value that is most like what was written.
fn suggestion(error: &clap::Error) -> Option<&str> {
    let kinds = [
        ContextKind::SuggestedArg,
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedValue,
    ];
    kinds.into_iter().find_map(|kind| match error.get(kind)? {
        ContextValue::String(meant) => Some(meant.as_str()),
        ContextValue::Strings(meant) => meant.last().map(String::as_str),
        _ => None,
    })
}

/// Says what is wrong in one line on standard error.
#[expect(
    clippy::print_stderr,
    reason = "bad usage is told on standard error, before logging is set up"
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
