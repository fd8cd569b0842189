//! Reading of vector files, and one module a file that checks its cases.

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
