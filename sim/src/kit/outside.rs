//! What the kit has to do with the real world: the environment, files, the terminal, panics, how long something takes.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stderr,
    reason = "a test talks to people and keeps files; nothing of it reaches the simulated world"
)]

use std::any::Any;
use std::cell::RefCell;
use std::io::{IsTerminal as _, Write as _};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

/// How this library was compiled.
const OPT_LEVEL: &str = env!("AUTOBEE_SIM_OPT_LEVEL");

/// Letters of the name of a file.
const NAME_MAX: usize = 120;

/// A clock of the machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopwatch(Instant);

impl Stopwatch {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

// Names and places.

/// What a place in the code is called where files are named after it.
pub(super) fn place(at: &Location<'_>) -> String {
    let stem = Path::new(at.file())
        .file_stem()
        .map_or_else(|| "check".into(), |stem| stem.to_string_lossy().into_owned());
    file_name(&format!("{stem}-{}", at.line()))
}

/// A text, as the name of a file.
pub(super) fn file_name(text: &str) -> String {
    let letter = |letter: char| {
        let is_plain = letter.is_alphanumeric() || "-_.".contains(letter);
        if is_plain { letter } else { '-' }
    };
    let name: String = text.chars().map(letter).take(NAME_MAX).collect();
    let name = name.trim_matches(['.', '-']).to_owned();
    if name.is_empty() { "check".into() } else { name }
}

/// The name of the test that this thread runs; none outside of a test.
pub(super) fn test_name() -> Option<String> {
    let name = std::thread::current().name()?.to_owned();
    (name != "main").then_some(name)
}

/// The command that runs this test.
pub(super) fn test_command() -> String {
    let mut command = "cargo test".to_owned();
    if let Some(package) = variable("CARGO_PKG_NAME") {
        command.push_str(" -p ");
        command.push_str(&package);
    }
    if let Some(name) = test_name() {
        command.push(' ');
        command.push_str(&name);
    }
    command
}

/// Where the files of all checks of this test program are.
pub(super) fn folder() -> PathBuf {
    let built = std::env::current_exe().ok();
    // The program is in target/debug/deps.
    let target = built
        .as_deref()
        .and_then(|exe| exe.ancestors().find(|folder| folder.ends_with("target")))
        .map_or_else(|| PathBuf::from("target"), Path::to_path_buf);
    target.join("autobee-sim").join(program(built.as_deref()))
}

/// What this test program is called: its package, and its file among the tests of the package.
fn program(built: Option<&Path>) -> String {
    let stem = built.and_then(Path::file_stem).unwrap_or_default();
    let stem = stem.to_string_lossy();
    // Cargo appends a hash.
    let file = stem.rsplit_once('-').map_or(&*stem, |(file, _)| file);
    match variable("CARGO_PKG_NAME") {
        Some(package) if package.replace('-', "_") == file => file_name(&package),
        Some(package) => file_name(&format!("{package}-{file}")),
        None => file_name(file),
    }
}

/// A path as people write it: from where they are, when it is below.
pub(super) fn shown_path(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}

// The environment.

/// Runs that are made at the same time.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

// Files.

pub(super) fn write(path: &Path, text: &str) -> Result<(), String> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(path, text))
        .map_err(|error| format!("{}: {error}", path.display()))
}

pub(super) fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

pub(super) fn remove(path: &Path) {
    // What is not there need not be removed.
    let _ = std::fs::remove_file(path);
}

// People.

/// Shows on one line of a terminal how far something is.
pub(super) struct ProgressLine {
    is_terminal: bool,
    is_shown: bool,
}

impl ProgressLine {
    pub(super) fn new() -> Self {
        Self {
            is_terminal: std::io::stderr().is_terminal(),
            is_shown: false,
        }
    }

    pub(super) fn say(&mut self, text: &str) {
        if self.is_terminal {
            // Straight to the terminal: what a test prints is kept back until it fails.
            let _ = write!(std::io::stderr(), "\r\x1b[2K{text}");
            self.is_shown = true;
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.is_shown {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}

/// Prints a line with the output of the test.
pub(super) fn say(text: &str) {
    eprintln!("{text}");
}

/// Says once how to get a fast simulator, when this one was compiled without optimisation.
pub(super) fn say_if_slow() {
    static ONCE: Once = Once::new();
    if OPT_LEVEL != "0" {
        return;
    }
    ONCE.call_once(|| {
        let hint = "autobee-sim was compiled without optimisation and is about 50 times slower so. In Cargo.toml of the workspace:\n\n\
                    [profile.dev.package.\"*\"]\nopt-level = 3\n\n";
        // Not kept back when the test passes.
        let _ = std::io::stderr().write_all(hint.as_bytes());
    });
}

// Panics.

/// What a panic said, and where.
#[derive(Debug)]
pub(crate) struct Panicked(pub(crate) String);

thread_local! {
    /// Set while code of the app runs on this thread: where it panicked.
    static WATCHED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs code of the app. A panic in it is an answer, and prints nothing.
pub(crate) fn quietly<T>(run: impl FnOnce() -> T) -> Result<T, Panicked> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let former = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let is_watched = WATCHED.with_borrow_mut(|watched| {
                if let Some(place) = watched {
                    *place = panic.location().map(ToString::to_string).unwrap_or_default();
                }
                watched.is_some()
            });
            if !is_watched {
                former(panic);
            }
        }));
    });
    let outer = WATCHED.replace(Some(String::new()));
    let outcome = catch_unwind(AssertUnwindSafe(run));
    let place = WATCHED.replace(outer).unwrap_or_default();
    outcome.map_err(|panic| Panicked(format!("{} ({place})", message(&*panic))))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".into())
}
