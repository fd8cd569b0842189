//! `check-log`: the blocks of a real store against the reference model.

use std::path::PathBuf;

use autobee::crypto::CoreKey;
use autobee_sim::{StoreVerdict, check_store};
use clap::Args;
use serde_json::json;

use super::{CliError, files};

#[derive(Debug, Args)]
pub(super) struct CheckLogArgs {
    /// The folder of the store. It is only read.
    folder: PathBuf,
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
    let mut all = Vec::new();
    for path in files::listed(&args.folder)? {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        // Hidden files are the world's own, such as its lock.
        if path.is_file() && !name.starts_with('.') {
            all.push((name, files::read(&path)?));
        }
    }
    if all.is_empty() {
        return Err(CliError::Usage(format!(
            "{}: holds no files of a store",
            args.folder.display()
        )));
    }
    let encryption = args.encryption_key.map(|key| *key.as_bytes());
    let verdict = check_store(&all, args.key, encryption)
        .map_err(|error| CliError::Usage(format!("{}: {error}", args.folder.display())))?;
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
            json!({ "logs": logs, "blocks": blocks, "entries": entries, "keys": keys, "told": told })
        );
    } else if told.failure.is_none() {
        println!(
            "{logs} logs, {blocks} blocks: {entries} entries and {keys} keys are what the model makes of them"
        );
    } else {
        println!("{told}");
    }
    if told.failure.is_none() {
        Ok(())
    } else {
        Err(CliError::Bad)
    }
}
