//! The programs of the README: they stand there as they are here, and do what it says.

use std::path::{Path, PathBuf};
use std::process::Command;

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// How many blocks of a page are files of this package. A comment names the file, and the block behind it is that file, to the letter.
fn shown(page: &str) -> usize {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = read(&here.join("../..").join(page));
    let mut shown = 0;
    let mut rest = page.as_str();
    while let Some((_, behind)) = rest.split_once("<!-- file: ") {
        let (name, behind) = behind.split_once(" -->").unwrap();
        let behind = behind.trim_start();
        let block = behind
            .strip_prefix("```rust\n")
            .unwrap_or_else(|| panic!("no block behind {name}"));
        let (block, behind) = block.split_once("```").unwrap();
        assert_eq!(block, read(&here.join(name)), "{name}");
        shown += 1;
        rest = behind;
    }
    // No other block is left that nobody compiles.
    assert_eq!(page.matches("```rust").count(), shown);
    shown
}

#[test]
fn the_pages_show_what_is_compiled() {
    assert_eq!(shown("README.md"), 4);
    assert_eq!(shown("docs/tutorial.md"), 5);
}

fn run(program: &str, name: &str) -> String {
    let dir: PathBuf = std::env::temp_dir().join(format!("autobee-notes-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let output = Command::new(program).current_dir(&dir).output().unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_first_program_prints_its_note() {
    assert_eq!(
        run(env!("CARGO_BIN_EXE_autobee-notes"), "first"),
        "milk: two bottles\n"
    );
}

#[test]
fn two_devices_agree() {
    let view = "[(b\"bread\", b\"one loaf\"), (b\"milk\", b\"two bottles\")]\n";
    assert_eq!(run(env!("CARGO_BIN_EXE_two_devices"), "two"), view.repeat(2));
}
