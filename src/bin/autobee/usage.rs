//! Reading the command line; and what is said, also in JSON, when it cannot be read.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use serde_json::{Value, json};

use crate::args::Cli;
use crate::out::{clean, one_line};

/// The exit code of what is not understood.
pub(crate) const USAGE: u8 = 2;

/// What was asked for; else the exit code, when help was given, or an error told.
pub(crate) fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| {
        let is_json = wants_json(std::env::args_os());
        match (error.use_stderr(), is_json) {
            // Nobody can be told when what is told cannot be written.
            (false, true) => {
                let help = json!({ "help": error.to_string() });
                let _ = writeln!(io::stdout(), "{}", one_line(&help));
            }
            (true, true) => {
                let _ = writeln!(io::stderr(), "{}", one_line(&object(&error)));
            }
            (_, false) => {
                let _ = error.print();
                if let Some(hint) = hint(&error) {
                    let _ = writeln!(io::stderr(), "hint: {hint}");
                }
            }
        }
        if error.use_stderr() {
            ExitCode::from(USAGE)
        } else {
            ExitCode::SUCCESS
        }
    })
}

/// Whether JSON is asked for on a command line that is not understood.
fn wants_json(words: impl Iterator<Item = OsString>) -> bool {
    let mut words = words.take_while(|word| word != "--");
    words.any(|word| word == "--json")
}

/// The error as all errors are in JSON.
fn object(error: &clap::Error) -> Value {
    let what = match error.kind() {
        // Help that nobody asked for.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            "a command is missing".to_owned()
        }
        _ => {
            let text = error.to_string();
            // Behind an empty line there are usage and tips.
            let text = text.split("\n\n").next().unwrap_or_default();
            let lines = text.trim_start_matches("error: ").lines().map(str::trim);
            clean(&lines.collect::<Vec<_>>().join(" "))
        }
    };
    let hint = hint(error).unwrap_or("autobee --help, or --help behind the command, says what is understood");
    json!({ "error": what, "hint": hint, "code": USAGE })
}

/// What to do about it, where the error does not say so.
fn hint(error: &clap::Error) -> Option<&'static str> {
    let is_dir = matches!(
        error.get(ContextKind::InvalidArg),
        Some(ContextValue::String(name)) if name.starts_with("--dir")
    );
    let is_empty = error.kind() == ErrorKind::InvalidValue
        && matches!(error.get(ContextKind::InvalidValue), Some(ContextValue::String(value)) if value.is_empty());
    (is_dir && is_empty).then_some(
        "AUTOBEE_DIR is set, and empty: unset it, or name a directory in it or with --dir (. is the current one)",
    )
}
