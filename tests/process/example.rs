//! Examples as programs that a test runs.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds examples as this test was built. Gives the directory that has them.
pub(crate) fn build(names: &[&str]) -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--offline"]);
    for name in names {
        build.args(["--example", name]);
    }
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    assert!(build.status().unwrap().success());
    // target/PROFILE/deps/THIS
    let here = std::env::current_exe().unwrap();
    let profile = here.parent().and_then(|deps| deps.parent()).unwrap();
    profile.join("examples")
}

/// One of the examples that were built there.
pub(crate) fn program(built: &Path, name: &str) -> PathBuf {
    built.join(name).with_extension(std::env::consts::EXE_EXTENSION)
}
