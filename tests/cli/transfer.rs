//! import and export.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::run::Place;

#[test]
fn what_is_exported_can_be_imported_in_both_formats() {
    let place = Place::new();
    place.create("notes");
    let awkward = "a \"quoted\" value, with\nlines and \u{1f41d}";
    for (key, value) in [("plain", "1"), ("comma,key", "2"), ("awkward", awkward)] {
        let ran = place
            .command("put --dir notes")
            .arg(key)
            .arg(value)
            .output()
            .unwrap();
        assert!(ran.status.success());
    }
    for format in ["jsonl", "csv"] {
        let file = format!("all.{format}");
        let answer = place.json(&format!("export {file} --dir notes"));
        assert_eq!(answer, json!({ "exported": 3, "file": file }));
        place.create(&format!("copy-{format}"));
        let answer = place.json(&format!("import {file} --dir copy-{format}"));
        assert_eq!(answer, json!({ "imported": 3, "file": file }));
        assert_eq!(place.good(&format!("diff notes copy-{format}")), "");
        // To stdout it is the same.
        assert_eq!(
            place.good(&format!("export --format {format} --dir notes")),
            place.read(&file)
        );
    }
    let some = place.good("export --prefix comma --format csv --dir notes");
    assert_eq!(some, "key,value\n\"comma,key\",2\n");
    place.bad("export all.csv --dir notes", 1, &["is there already"]);
}

#[test]
fn many_lines_come_in_batches() {
    let place = Place::new();
    place.create("notes");
    let lines: String = (0..1234)
        .map(|number| format!("{{\"put\":[\"key {number:04}\",\"{number}\"]}}\n"))
        .collect();
    place.write("many.jsonl", &lines);
    let out = place.good("import many.jsonl --dir notes");
    assert_eq!(out, "1234 entries were imported\n");
    let out = place.good("ls --dir notes --keys");
    assert_eq!(out.lines().count(), 1234);
    place.write("gone.jsonl", "{\"del\":\"key 0001\"}\n\n{\"del\":\"key 0002\"}\n");
    place.good("import gone.jsonl --dir notes");
    assert_eq!(place.good("ls --dir notes --keys").lines().count(), 1232);
}

#[test]
fn a_line_that_is_wrong_is_named_and_nothing_of_the_file_is_imported() {
    let place = Place::new();
    place.create("notes");
    let wrong = [
        (
            "broken.jsonl",
            "{\"key\":\"a\",\"value\":\"1\"}\n\n{\"key\":\"b\"\n",
            "broken.jsonl, line 3: it is no JSON",
        ),
        (
            "number.jsonl",
            "{\"key\":\"a\",\"value\":1}\n",
            "number.jsonl, line 1: it must be",
        ),
        (
            "short.csv",
            "key,value\na,1\nb\n",
            "short.csv, line 3: it has 1 fields, and the first line has 2",
        ),
        (
            "columns.csv",
            "name,value\na,1\n",
            "columns.csv, line 1: it must name the columns key and value",
        ),
    ];
    for (name, text, said) in wrong {
        place.write(name, text);
        let words = format!("import {name} --dir notes");
        place.bad(&words, 1, &[said, "nothing was imported", "hint: mend the line"]);
    }
    std::fs::write(place.path("bytes.csv"), b"key,value\na,\xff\n").unwrap();
    place.bad(
        "import bytes.csv --dir notes",
        1,
        &["line 2: field 2 is no UTF-8 text"],
    );
    assert_eq!(place.good("ls --dir notes"), "");
    place.bad("import nowhere.csv --dir notes", 1, &["reading nowhere.csv"]);
}

#[test]
fn files_of_other_programs_are_read_or_explained() {
    let place = Place::new();
    place.create("notes");
    let mark = "\u{feff}";
    place.write(
        "mark.jsonl",
        &format!("{mark}{{\"key\":\"a\",\"value\":\"1\"}}\r\n{{\"del\":\"b\"}}\r\n"),
    );
    place.write("mark.csv", &format!("{mark}key,value\r\nc,3\r\n"));
    place.write("empty.jsonl", "");
    for (file, count) in [("mark.jsonl", 2), ("mark.csv", 1), ("empty.jsonl", 0)] {
        assert_eq!(
            place.json(&format!("import {file} --dir notes"))["imported"],
            json!(count)
        );
    }
    assert_eq!(place.good("ls --dir notes"), "a\t1\nc\t3\n");
    std::fs::write(place.path("wide.jsonl"), b"\xff\xfe{\0").unwrap();
    place.write("empty.csv", "");
    place.write("other.csv", "Key;Value\na;1\n");
    place.write("open.csv", "key,value\nd,4\ne,\"5\nf,6\n");
    let long = "v".repeat(9 << 20);
    place.write(
        "long.jsonl",
        &format!("\n{{\"key\":\"g\",\"value\":\"{long}\"}}\n"),
    );
    for (file, said) in [
        ("wide.jsonl", "line 1: it is UTF-16 text"),
        (
            "empty.csv",
            "line 1: it must name the columns key and value, and the file is empty",
        ),
        ("other.csv", "and names \"Key;Value\""),
        (
            "open.csv",
            "line 3: a quote of the row that begins there is not closed",
        ),
        ("long.jsonl", "line 2: it is an entry of more than 8388608 bytes"),
    ] {
        place.bad(
            &format!("import {file} --dir notes"),
            1,
            &[said, "nothing was imported"],
        );
    }
    // A row without an end is not read into memory as a whole.
    let row = format!("key,value\nd,4\ne,\"{}", "v,w\n".repeat(5 << 20));
    let ran = place.feed("import - --format csv --dir notes", &row);
    ran.is_bad(
        1,
        &[
            "stdin, line 3: the row that begins there has more than 16777216 bytes",
            "1 entries before it",
        ],
    );
    assert_eq!(place.good("ls --dir notes"), "a\t1\nc\t3\nd\t4\n");
}

#[test]
fn of_a_stream_it_is_said_how_much_was_imported() {
    let place = Place::new();
    place.create("notes");
    let mut lines: String = (0..700)
        .map(|number| format!("{{\"key\":\"k{number}\",\"value\":\"v\"}}\n"))
        .collect();
    lines.push_str("nonsense\n{\"key\":\"later\",\"value\":\"v\"}\n");
    let ran = place.feed("import - --dir notes", &lines);
    ran.is_bad(
        1,
        &[
            "stdin, line 701: it is no JSON",
            "700 entries before it were imported, and nothing from it on",
        ],
    );
    assert_eq!(place.good("ls --dir notes --keys").lines().count(), 700);
    place.bad("get later --dir notes", 3, &[]);
}

/// ```text
/// 700 lines, and no end of them     Ctrl-C     what was imported is said, and closed: the directory is free
/// ```
#[test]
fn who_ends_an_import_hears_how_far_it_was() {
    let place = Place::new();
    place.create("notes");
    let mut command = place.command("import - --dir notes");
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    for number in 0..700 {
        writeln!(input, "{{\"key\":\"k{number}\",\"value\":\"v\"}}").unwrap();
    }
    input.flush().unwrap();
    // The first 500 are a batch.
    while place.good("ls --keys --dir notes").lines().count() < 500 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    let ended = child.wait_with_output().unwrap();
    drop(input);
    assert_eq!(ended.status.code(), Some(130));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(
        said.contains("500 entries were imported before it was ended"),
        "{said}"
    );
    place.good("put more again --dir notes");
}

#[test]
fn who_may_not_write_imports_nothing() {
    let place = Place::new();
    let key = place.create("notes");
    place.good(&format!("join other {key}"));
    place.write("one.csv", "key,value\na,1\n");
    place.bad("import one.csv --dir other", 6, &["is not a writer"]);
}
