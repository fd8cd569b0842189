//! Files of people: scenarios by their names, and what is written for them.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "these files lie outside the simulated world"
)]

use std::fs::File;
use std::path::{Path, PathBuf};

use autobee_sim::scenario::nearest;

use super::CliError;

/// A file outside of the simulated world.
pub(super) type PlainFile = File;

/// The folder of scenarios, below the current one or one that holds it.
fn scenarios_folder() -> Option<PathBuf> {
    let mut folder = PathBuf::from("scenarios");
    for _ in 0..8 {
        if folder.is_dir() {
            return Some(folder);
        }
        folder = Path::new("..").join(folder);
    }
    None
}

/// All scenario files: those of these folders, or of every folder.
pub(super) fn scenarios(folders: Option<&[&str]>) -> Result<Vec<PathBuf>, CliError> {
    let root = scenarios_folder();
    let mut found = Vec::new();
    for folder in root.iter().flat_map(|root| entries(root)) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        if folders.is_none_or(|folders| folders.contains(&&*name)) {
            let files = entries(&folder).into_iter();
            found.extend(files.filter(|path| path.extension().is_some_and(|ending| ending == "toml")));
        }
    }
    if found.is_empty() {
        return Err(CliError::Usage(
            "no scenarios below scenarios/: run this in the repository".into(),
        ));
    }
    found.sort();
    Ok(found)
}

/// A scenario file by its path, or by its name in any of the folders.
pub(super) fn locate(file: &Path) -> Result<PathBuf, CliError> {
    if file.is_file() {
        return Ok(file.to_owned());
    }
    let stem = |path: &Path| {
        path.file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let all = scenarios(None).unwrap_or_default();
    let name = stem(file);
    let is_name = file.components().count() == 1;
    let mut called: Vec<&PathBuf> = all.iter().filter(|known| stem(known) == name).collect();
    if is_name && called.len() == 1 {
        return Ok(called.remove(0).clone());
    }
    let shown = file.display();
    let names: Vec<String> = all.iter().map(|known| stem(known)).collect();
    let meant: Vec<String> = match nearest(&name, names.iter().map(String::as_str)) {
        Some(near) => {
            let near = all.iter().filter(|known| stem(known) == near);
            near.map(|known| known.display().to_string()).collect()
        }
        None => Vec::new(),
    };
    Err(CliError::Usage(if file.is_dir() {
        format!(
            "{shown} is a folder: a scenario is a file, and `cargo sim replay` takes the folder of a failure"
        )
    } else if meant.is_empty() {
        format!("{shown}: there is no such scenario; `cargo sim list` shows them")
    } else {
        format!(
            "{shown}: there is no such scenario; did you mean {}?",
            meant.join(" or ")
        )
    }))
}

/// What is in a folder, sorted.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

pub(super) fn create(path: &Path) -> Result<File, CliError> {
    File::create(path).map_err(|error| failed(path, &error))
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    std::fs::write(path, bytes).map_err(|error| failed(path, &error))
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(|error| failed(path, &error))
}

/// Opens a file to write behind its end; makes it when it is not there.
pub(super) fn append(path: &Path) -> Result<File, CliError> {
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true);
    options.open(path).map_err(|error| failed(path, &error))
}

/// What is in a folder, sorted; a folder that cannot be read is an error.
pub(super) fn listed(path: &Path) -> Result<Vec<PathBuf>, CliError> {
    std::fs::read_dir(path).map_err(|error| failed(path, &error))?;
    Ok(entries(path))
}

pub(super) fn make_folder(path: &Path) -> Result<(), CliError> {
    std::fs::create_dir_all(path).map_err(|error| failed(path, &error))
}

/// Removes a file if it is there.
pub(super) fn remove(path: &Path) {
    // One that cannot be removed is written over, or read by nobody.
    let _ = std::fs::remove_file(path);
}

fn failed(path: &Path, error: &std::io::Error) -> CliError {
    CliError::Usage(format!("{}: {error}", path.display()))
}
