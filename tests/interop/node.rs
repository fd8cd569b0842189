//! Node and the packages of this folder, for tests against the JavaScript implementation.
//!
//! A machine without Node, or without a way to the package registry, skips these tests and says so. Where they must
//! run, `AUTOBEE_REQUIRE_NODE=1` makes every skip a failure.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The oldest major version that the packages support.
const NODE_MAJOR_MIN: u32 = 20;

/// Ends of an installation that are the fault of this folder, not of the machine: the lock file does not fit
/// `package.json` or what the registry holds.
const OWN_FAULTS: &[&str] = &["EUSAGE", "EINTEGRITY", "EJSONPARSE"];

/// What runs a script of this folder. None, after saying why, when this machine cannot.
pub(crate) fn command(script: &str) -> Option<Command> {
    static READY: OnceLock<Result<(), String>> = OnceLock::new();
    match READY.get_or_init(prepare) {
        Ok(()) => {
            let mut command = Command::new("node");
            command.arg(folder().join(script));
            Some(command)
        }
        Err(reason) => {
            skipped(reason);
            None
        }
    }
}

/// Says why a test is skipped. Where it must run, that is a failure.
pub(crate) fn skipped(reason: &str) {
    let is_required = std::env::var_os("AUTOBEE_REQUIRE_NODE").is_some_and(|value| value == "1");
    assert!(!is_required, "skipped although AUTOBEE_REQUIRE_NODE=1: {reason}");
    // The harness swallows what a passing test prints, but not what goes to the stream itself.
    let line = format!("\nskipped: {reason}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Installs the packages unless they are there.
fn prepare() -> Result<(), String> {
    let major = version("node").unwrap_or(0);
    if major < NODE_MAJOR_MIN || version(npm()).is_none() {
        return Err(format!("Node {NODE_MAJOR_MIN} with npm is not installed"));
    }
    // Test binaries run side by side: one installs, the others wait. The system frees the lock of a process that dies.
    let lock = open(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop.lock"));
    lock.lock().unwrap();
    let wanted = read(&folder().join("package-lock.json"));
    let stamp = folder().join("node_modules/.installed-lock.json");
    if stamp.exists() && read(&stamp) == wanted {
        return Ok(());
    }
    install()?;
    write(&stamp, &wanted);
    Ok(())
}

fn install() -> Result<(), String> {
    let output = Command::new(npm())
        .args(["ci", "--prefer-offline"])
        .args(["--fetch-retries=1", "--fetch-retry-mintimeout=1000"])
        .current_dir(folder())
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut faults = said.lines().filter_map(|line| line.strip_prefix("npm error "));
    let code = faults.clone().find_map(|line| line.strip_prefix("code "));
    let is_own = code.is_some_and(|code| OWN_FAULTS.contains(&code.trim()));
    assert!(!is_own, "the packages do not install:\n{said}");
    let is_detail = |line: &&str| {
        !["code ", "syscall ", "errno "]
            .iter()
            .any(|name| line.starts_with(name))
    };
    let fault = faults.find(is_detail).unwrap_or("npm ci failed");
    Err(format!(
        "the packages of tests/interop cannot be installed ({}: {fault})",
        code.unwrap_or("no code"),
    ))
}

/// The major version of a program. None when it does not run.
fn version(program: &str) -> Option<u32> {
    let Output { status, stdout, .. } = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8(stdout).ok().filter(|_| status.success())?;
    let number = text.trim().trim_start_matches('v').split('.').next()?;
    number.parse().ok()
}

const fn npm() -> &'static str {
    if cfg!(windows) { "npm.cmd" } else { "npm" }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop")
}

#[expect(
    clippy::disallowed_types,
    reason = "a lock between test binaries is a file of this machine"
)]
fn open(path: &Path) -> std::fs::File {
    std::fs::File::create(path).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "the packages are files of this machine")]
fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "the packages are files of this machine")]
fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}
