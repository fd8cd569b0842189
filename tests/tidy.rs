//! Rules of the house that no compiler checks: layers, provisional modules, determinism, plain text.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "this test reads the source tree itself"
)]

#[path = "tidy/links.rs"]
mod links;

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

#[test]
fn cited_documents_and_sections_exist() {
    let mut wrong = Vec::new();
    let mut cited = 0;
    for path in sources(&["src", "sim/src", "sim/tests", "tests", "benches", "examples"]) {
        let name = relative(&path);
        if name == "tests/tidy.rs" || name.contains("node_modules") {
            continue;
        }
        for citation in citations(&comments(&path)) {
            cited += 1;
            if let Err(why) = check(&path, &citation) {
                wrong.push(format!(
                    "{name}: {} {:?}: {why}",
                    citation.file, citation.sections
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cited > 90, "only {cited} citations were found");
}

#[test]
fn citations_are_read_to_their_end() {
    let text = "x (spec/hyperbee.md 7.3 to 7.5), y. Source: spec/autobee.md 4, 5.7 and 10. The (spec/autobee.md 6 \"Ack\").";
    let found: Vec<_> = citations(text)
        .into_iter()
        .map(|citation| (citation.file, citation.sections))
        .collect();
    let expected = [
        ("spec/hyperbee.md", vec!["7.3", "7.5"]),
        ("spec/autobee.md", vec!["4", "5.7", "10"]),
        ("spec/autobee.md", vec!["6"]),
    ];
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(file, sections)| (file.to_owned(), sections.into_iter().map(str::to_owned).collect()))
        .collect();
    assert_eq!(found, expected);
    let nowhere = Citation {
        file: "spec/autobee.md".into(),
        sections: vec!["99".into()],
    };
    assert!(check(root(), &nowhere).is_err());
}

/// A document that a comment names, and the sections of it.
struct Citation {
    file: String,
    sections: Vec<String>,
}

/// Reads citations such as `spec/autobee.md 2.4 to 2.7, 7`.
fn citations(text: &str) -> Vec<Citation> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut found = Vec::new();
    for (number, word) in words.iter().enumerate() {
        let start = word.trim_start_matches(['(', '`', '[', '"']);
        let Some(end) = start.find(".md") else { continue };
        let file = &start[..end + 3];
        if file.contains("://") || file.len() == 3 {
            continue;
        }
        let is_followed = start[end + 3..].trim_matches('`').is_empty();
        let following = words[number + 1..].iter().take_while(|_| is_followed);
        let mut sections = Vec::new();
        for word in following {
            if ["to", "and"].contains(word) {
                continue;
            }
            let number = word.trim_end_matches([',', '.', ';', ':', ')']);
            let is_section = number.split('.').all(|part| part.parse::<u16>().is_ok());
            if !is_section {
                break;
            }
            sections.push(number.to_owned());
            let goes_on = word.len() == number.len() || word.ends_with(',') && !word.ends_with("),");
            if !goes_on {
                break;
            }
        }
        found.push(Citation {
            file: file.to_owned(),
            sections,
        });
    }
    found
}

/// Looks for a document beside the file that cites it, at the root, and under `docs`; and in it for the sections.
fn check(by: &Path, citation: &Citation) -> Result<(), String> {
    let beside = by.parent().unwrap_or(by);
    let places = [beside.to_owned(), root().to_owned(), root().join("docs")];
    let file = places
        .iter()
        .map(|place| place.join(&citation.file))
        .find(|file| file.is_file())
        .ok_or("there is no such document")?;
    let text = fs::read_to_string(file).expect("documents can be read");
    let places = numbered_places(&text);
    for section in &citation.sections {
        if !places.contains(section.as_str()) {
            return Err(format!("it has no section {section}"));
        }
    }
    Ok(())
}

/// The numbers of sections, and those of numbered items with the section that they stand in before them.
fn numbered_places(text: &str) -> BTreeSet<String> {
    let mut places = BTreeSet::new();
    let mut section = String::new();
    for line in text.lines() {
        let first = line
            .trim_start_matches('#')
            .split_whitespace()
            .next()
            .unwrap_or("");
        let Some(number) = first
            .strip_suffix('.')
            .or_else(|| line.starts_with('#').then_some(first))
        else {
            continue;
        };
        if line.starts_with('#') {
            number.clone_into(&mut section);
            places.insert(section.clone());
        } else if number.parse::<u16>().is_ok() {
            places.insert(format!("{section}.{number}"));
        }
    }
    places
}

/// The comments of a file as one text.
fn comments(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("sources can be read");
    let lines = text.lines().map(str::trim_start);
    let comments = lines.filter_map(|line| line.strip_prefix("//"));
    comments
        .map(|line| line.trim_start_matches(['/', '!']))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Files of the simulator that read scenario files or report to people, outside of the simulated world; and the lock that
/// asks which thread it is on, to refuse what would wait for itself.
fn allowed(file: &str, banned: &str) -> bool {
    banned == "std::fs" && file == "sim/src/scenario/load.rs"
        || banned == "std::thread" && ["sim/src/sweep.rs", "src/db/shell/lock.rs"].contains(&file)
        || file == "sim/src/kit/outside.rs"
        || file == "sim/src/kit/second.rs" && ["std::fs", "std::thread"].contains(&banned)
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
