//! `check-log`: the blocks of a real store, or of logs that were exported from one, against the reference model.

use std::path::{Path, PathBuf};

use autobee::crypto::CoreKey;
use autobee_sim::{ExportedLogs, StoreVerdict, check_logs, check_store};
use clap::Args;
use serde_json::json;

use super::{CliError, files};

#[derive(Debug, Args)]
pub(super) struct CheckLogArgs {
    /// The folder of the store, or a file of logs that sim/node/export.js wrote. It is only read.
    #[arg(value_name = "DIR|FILE")]
    path: PathBuf,
    /// The key of the database, in hexadecimal digits.
    #[arg(long, value_name = "HEX", value_parser = parse_key)]
    key: CoreKey,
    /// The key with which it is encrypted, in hexadecimal digits.
    #[arg(long, value_name = "HEX", value_parser = parse_key)]
    encryption_key: Option<CoreKey>,
    /// Prints a JSON object.
    #[arg(long)]
    json: bool,
}

fn parse_key(text: &str) -> Result<CoreKey, String> {
    text.parse()
        .map_err(|error| format!("expected 64 hexadecimal digits: {error}"))
}

pub(super) fn check_log(args: &CheckLogArgs) -> Result<(), CliError> {
    let encryption = args.encryption_key.map(|key| *key.as_bytes());
    let named = |error: &dyn std::fmt::Display| CliError::Usage(format!("{}: {error}", args.path.display()));
    let mut left_out = Vec::new();
    let verdict = if args.path.is_file() {
        let text = String::from_utf8(files::read(&args.path)?).map_err(|error| named(&error))?;
        let logs = ExportedLogs::parse(&text).map_err(|error| named(&error))?;
        left_out = logs.left_out().to_vec();
        check_logs(&logs, args.key, encryption)
    } else {
        check_store(&stored_files(&args.path)?, args.key, encryption)
    };
    let verdict = verdict.map_err(|error| named(&error))?;
    let StoreVerdict {
        logs,
        blocks,
        entries,
        keys,
        told,
        ..
    } = &verdict;
    if args.json {
        println!(
            "{}",
            json!({
                "logs": logs,
                "blocks": blocks,
                "entries": entries,
                "keys": keys,
                "left_out": left_out.iter().map(|(key, why)| json!({ "log": key, "why": why })).collect::<Vec<_>>(),
                "told": told,
            })
        );
        return done(told.failure.is_none());
    }
    for (key, why) in &left_out {
        println!("left out of the file: log {key} {why}");
    }
    if told.failure.is_none() {
        println!(
            "{logs} logs, {blocks} blocks: {entries} entries and {keys} keys are what the model makes of them"
        );
    } else {
        println!("{told}");
    }
    done(told.failure.is_none())
}

/// The files of a store in a folder, but for hidden ones: those are the world's own, such as its lock.
fn stored_files(folder: &Path) -> Result<Vec<(String, Vec<u8>)>, CliError> {
    let mut all = Vec::new();
    for path in files::listed(folder)? {
        let name = path.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        if path.is_file() && !name.starts_with('.') {
            all.push((name, files::read(&path)?));
        }
    }
    if all.is_empty() {
        return Err(CliError::Usage(format!(
            "{}: holds no files of a store",
            folder.display()
        )));
    }
    Ok(all)
}

const fn done(is_equal: bool) -> Result<(), CliError> {
    if is_equal { Ok(()) } else { Err(CliError::Bad) }
}
