//! `docs/settings.md`: every flag, as `--help` describes it.

use std::fmt::Write as _;
use std::fs;

use clap::{Arg, Command};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/settings.md");
const RENEW: &str = "PROXY_TEST_UPDATE=1 cargo test --lib settings_md";

fn reference() -> String {
    let mut text = format!(
        "# Settings\n\nA flag can also be set by the environment variable beside it, where there is one; the flag has precedence.\n\n\
         <!-- Made from the flags. `{RENEW}` makes it anew. -->\n"
    );
    let mut command = super::command();
    command.build();
    let subcommands = command.get_subcommands();
    for subcommand in subcommands.filter(|subcommand| subcommand.get_name() != "help") {
        section(&mut text, subcommand);
    }
    text
}

fn section(text: &mut String, command: &Command) {
    let about = command.get_about().map(ToString::to_string);
    let _ = write!(
        text,
        "\n## {}\n\n{}.\n\n| Flag | Environment | Default | |\n|---|---|---|---|\n",
        command.get_name(),
        about.unwrap_or_default()
    );
    let built_in = |arg: &&Arg| matches!(arg.get_id().as_str(), "help" | "version");
    for arg in command.get_arguments().filter(|arg| !built_in(arg)) {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            flag(arg),
            code(arg.get_env().map(|name| name.to_string_lossy())),
            code(
                arg.get_default_values()
                    .first()
                    .map(|value| value.to_string_lossy())
            ),
            help(arg).replace('|', "\\|"),
        );
    }
}

fn flag(arg: &Arg) -> String {
    let takes_value = arg.get_action().takes_values();
    let value = arg.get_value_names().unwrap_or_default().first();
    let value = value.filter(|_| takes_value).map(ToString::to_string);
    match (arg.get_long(), value) {
        (Some(flag), Some(value)) => format!("`--{flag}={value}`"),
        (Some(flag), None) => format!("`--{flag}`"),
        (None, value) => code(value),
    }
}

fn help(arg: &Arg) -> String {
    let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let described: Vec<_> = arg
        .get_possible_values()
        .into_iter()
        .filter_map(|value| Some(format!("`{}`: {}", value.get_name(), value.get_help()?)))
        .collect();
    if !described.is_empty() {
        let _ = write!(text, ". {}", described.join("; "));
    }
    text
}

fn code(text: Option<impl AsRef<str>>) -> String {
    text.map(|text| format!("`{}`", text.as_ref()))
        .unwrap_or_default()
}

#[test]
fn settings_md_describes_the_flags_as_they_are() {
    let made = reference();
    if std::env::var_os("PROXY_TEST_UPDATE").is_some() {
        fs::write(FILE, &made).unwrap();
    }
    let kept = fs::read_to_string(FILE).unwrap_or_default();
    assert!(
        kept == made,
        "docs/settings.md is not what the flags say; renew it: {RENEW}"
    );
}
