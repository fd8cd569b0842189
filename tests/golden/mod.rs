//! Reading of vector files, and one module a file that checks its cases.

pub(crate) mod append;
pub(crate) mod autobee_encryption;
pub(crate) mod bee_changes;
pub(crate) mod bee_cross_core;
pub(crate) mod bee_diff;
pub(crate) mod bee_encoding;
pub(crate) mod bee_ops;
pub(crate) mod bee_ranges;
pub(crate) mod bee_steps;
pub(crate) mod block_encryption;
pub(crate) mod corestore_keys;
pub(crate) mod crypto;
pub(crate) mod divergences;
pub(crate) mod encoding;
pub(crate) mod engine;
pub(crate) mod fast_forward;
pub(crate) mod flush;
pub(crate) mod history;
pub(crate) mod hypercore_messages;
pub(crate) mod id_encoding;
pub(crate) mod manifest;
pub(crate) mod merkle;
pub(crate) mod noise;
pub(crate) mod oplog;
pub(crate) mod order;
pub(crate) mod proofs;
pub(crate) mod protomux;
pub(crate) mod replication_requests;
pub(crate) mod replication_transcripts;
pub(crate) mod scenarios;
pub(crate) mod secret_stream_transcripts;
pub(crate) mod secretstream;
pub(crate) mod stored;
pub(crate) mod system_records;
pub(crate) mod wakeup_messages;
pub(crate) mod witness;

use std::env;
use std::path::PathBuf;

use serde_json::Value;

/// One vector file, and how much of it was covered.
pub(crate) struct Golden {
    name: &'static str,
    root: Value,
    covered: usize,
    uncovered: Vec<String>,
}

impl Golden {
    /// Reads `name.json` from `$AUTOBEE_VECTORS`, or from `tests/vectors`.
    pub(crate) fn load(name: &'static str) -> Self {
        let directory = env::var_os("AUTOBEE_VECTORS").map_or_else(
            || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors")),
            PathBuf::from,
        );
        let path = directory.join(name).with_extension("json");
        #[expect(clippy::disallowed_methods, reason = "vectors are files of the test itself")]
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let root = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self {
            name,
            root,
            covered: 0,
            uncovered: Vec::new(),
        }
    }

    /// The whole file.
    pub(crate) fn root(&self) -> &Value {
        &self.root
    }

    /// Runs `check` on every case. `Ok(())` counts it as covered, `Err(why)` as not covered; a mismatch panics.
    pub(crate) fn each(&mut self, mut check: impl FnMut(&Value) -> Result<(), String>) {
        let cases = self.root["cases"].as_array().cloned().unwrap_or_default();
        assert!(!cases.is_empty(), "{}: no cases", self.name);
        for (position, case) in cases.iter().enumerate() {
            match check(case) {
                Ok(()) => self.covered += 1,
                Err(why) => self
                    .uncovered
                    .push(format!("{} case {position}: {why}", self.name)),
            }
        }
    }

    /// Prints the count, and fails when nothing was covered, or, under `AUTOBEE_VECTORS_STRICT=1`, not everything.
    #[expect(clippy::print_stdout, reason = "the count is what the run is for")]
    pub(crate) fn finish(self) {
        println!(
            "{}: {} covered, {} uncovered",
            self.name,
            self.covered,
            self.uncovered.len()
        );
        for line in &self.uncovered {
            println!("  uncovered: {line}");
        }
        assert!(self.covered > 0, "{}: nothing covered", self.name);
        let strict = env::var_os("AUTOBEE_VECTORS_STRICT").is_some_and(|value| value == "1");
        assert!(
            !strict || self.uncovered.is_empty(),
            "{}: uncovered cases under strict",
            self.name
        );
    }
}

/// Loads `name.json`, checks every case, prints the count.
pub(crate) fn run(name: &'static str, check: impl FnMut(&Value) -> Result<(), String>) {
    let mut golden = Golden::load(name);
    golden.each(check);
    golden.finish();
}

/// A field that may be null or missing.
pub(crate) fn optional(value: &Value) -> Option<&Value> {
    Some(value).filter(|value| !value.is_null())
}

/// A text field.
pub(crate) fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("expected text, found {value}"))
}

/// An integer field: a number, or a decimal text when it is above `2^53 - 1`.
pub(crate) fn uint(value: &Value) -> u64 {
    value
        .as_u64()
        .or_else(|| value.as_str()?.parse().ok())
        .unwrap_or_else(|| panic!("expected an integer, found {value}"))
}

/// An array field.
pub(crate) fn list(value: &Value) -> &[Value] {
    value
        .as_array()
        .unwrap_or_else(|| panic!("expected a list, found {value}"))
}

/// A hexadecimal field of exactly `N` bytes.
pub(crate) fn fixed<const N: usize>(value: &Value) -> [u8; N] {
    hex(value)
        .try_into()
        .unwrap_or_else(|_| panic!("expected {N} bytes, found {value}"))
}

/// Bytes as vectors write them.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a block: hexadecimal text, or `{repeat, count}`.
pub(crate) fn block(value: &Value) -> Vec<u8> {
    match value.get("repeat") {
        Some(unit) => {
            hex(unit).repeat(usize::try_from(uint(&value["count"])).unwrap_or_else(|_| panic!("{value}")))
        }
        None => hex(value),
    }
}

/// The bytes of a hexadecimal text field.
pub(crate) fn hex(value: &Value) -> Vec<u8> {
    let text = value
        .as_str()
        .unwrap_or_else(|| panic!("expected hex, found {value}"));
    assert!(text.len().is_multiple_of(2), "odd hex: {text}");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap_or_else(|_| panic!("not hex: {text}")))
        .collect()
}
