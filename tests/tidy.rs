//! Rules of the house that no compiler checks: layers, provisional modules, determinism, plain text.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "this test reads the source tree itself"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules that stand in for something that is not built yet. Whoever replaces one removes its line here.
const PROVISIONAL: &[&str] = &[];

/// Which modules of the crate each module may name. Arrows point down only.
const LAYERS: &[(&str, &[&str])] = &[
    ("crypto", &[]),
    ("wire", &["crypto"]),
    ("env", &["crypto"]),
    ("store", &["env", "wire", "crypto"]),
    ("hypercore", &["store", "env", "wire", "crypto"]),
    ("bee", &["hypercore", "store", "env", "wire", "crypto"]),
    ("replication", &["hypercore", "store", "env", "wire", "crypto"]),
    ("apply", &["bee", "hypercore", "store", "env", "wire", "crypto"]),
    (
        "engine",
        &[
            "apply",
            "bee",
            "replication",
            "hypercore",
            "store",
            "env",
            "wire",
            "crypto",
        ],
    ),
    (
        "db",
        &[
            "engine",
            "apply",
            "bee",
            "replication",
            "hypercore",
            "store",
            "env",
            "wire",
            "crypto",
            "error",
            "Error",
        ],
    ),
];

/// What would bring the real world past the env traits, or randomness into an order.
const BANNED: &[&str] = &[
    "std::time::Instant",
    "SystemTime",
    "std::fs",
    "std::net",
    "std::thread",
    "tokio::net",
    "tokio::time",
    "tokio::fs",
    "tokio::spawn",
    "OsRng",
    "thread_rng",
    "HashMap",
    "HashSet",
    "FuturesUnordered",
];

#[test]
fn provisional_modules_are_listed() {
    let found: BTreeSet<String> = sources(&["src", "sim/src"])
        .into_iter()
        .filter(|path| {
            path.components()
                .any(|part| part.as_os_str().to_string_lossy().starts_with("provisional"))
        })
        .map(|path| relative(&path))
        .collect();
    let listed: BTreeSet<String> = PROVISIONAL.iter().map(ToString::to_string).collect();
    assert_eq!(
        found, listed,
        "provisional modules in the tree (left) and in this list (right)"
    );
}

#[test]
fn arrows_between_layers_point_down() {
    let mut wrong = Vec::new();
    for (layer, below) in LAYERS {
        for path in sources(&[&format!("src/{layer}")]) {
            for (number, line) in code_lines(&path) {
                for named in line.split("crate::").skip(1) {
                    let name: String = named
                        .chars()
                        .take_while(|c| c.is_alphanumeric() || *c == '_')
                        .collect();
                    if name != *layer && !below.contains(&name.as_str()) {
                        wrong.push(format!("{}:{number}: {layer} names {name}", relative(&path)));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_has_a_layer() {
    let layers: BTreeSet<&str> = LAYERS.iter().map(|(layer, _)| *layer).collect();
    let folders: BTreeSet<String> = fs::read_dir(root().join("src"))
        .expect("src can be listed")
        .map(|entry| entry.expect("src can be listed"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != "bin")
        .collect();
    assert_eq!(folders, layers.into_iter().map(ToOwned::to_owned).collect());
}

#[test]
fn the_world_comes_in_through_the_env_traits() {
    let mut wrong = Vec::new();
    for path in sources(&["src", "sim/src"]) {
        let name = relative(&path);
        // The native world is the world; binaries and the second scheduler stand outside of the simulated one.
        if name.starts_with("src/env/native")
            || name.starts_with("src/bin")
            || name == "sim/src/main.rs"
            || name.starts_with("sim/src/cli/")
        {
            continue;
        }
        for (number, line) in code_lines(&path) {
            for banned in BANNED {
                if line.contains(banned) && !allowed(&name, banned) {
                    wrong.push(format!("{name}:{number}: {banned}"));
                }
            }
            if line.contains("select!") && !line.contains("biased") && !line.contains("use ") {
                wrong.push(format!("{name}:{number}: select! without biased"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn sources_are_ascii() {
    let mut wrong = Vec::new();
    for path in sources(&[
        "src",
        "sim/src",
        "tests",
        "benches",
        "examples",
        "fuzz/fuzz_targets",
    ]) {
        let text = fs::read_to_string(&path).expect("sources can be read");
        if let Some(position) = text.lines().position(|line| !line.is_ascii()) {
            wrong.push(format!("{}:{}", relative(&path), position + 1));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Files of the simulator that read scenario files or report to people, outside of the simulated world; and the lock that
/// asks which thread it is on, to refuse what would wait for itself.
fn allowed(file: &str, banned: &str) -> bool {
    banned == "std::fs" && file == "sim/src/scenario/load.rs"
        || banned == "std::thread" && ["sim/src/sweep.rs", "src/db/shell/lock.rs"].contains(&file)
}

/// Lines of code with their numbers: no comments, nothing below the first test module.
fn code_lines(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).expect("sources can be read");
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(number, line)| (number + 1, line.to_owned()))
        .collect()
}

fn sources(folders: &[&str]) -> Vec<PathBuf> {
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut found = Vec::new();
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("folders can be listed").path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .to_string_lossy()
        .replace('\\', "/")
}
