//! On a terminal: colours, bars, Ctrl-C. The terminal is a pty that `script` of util-linux makes.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::run::{PROGRAM, Place};

/// True where a terminal can be made; says in words where not.
fn has_script() -> bool {
    let version = Command::new("script").arg("--version").output();
    let is_there = version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("util-linux"));
    if !is_there {
        eprintln!("skipped: there is no `script` of util-linux to make a terminal with");
    }
    is_there
}

/// The program on a terminal, ended as Ctrl-C ends it if it has not ended by then: what it showed, and its exit code.
fn on_terminal(place: &Place, words: &str, no_colour: bool, end_after: Option<Duration>) -> (String, i32) {
    let mut command = Command::new("script");
    command
        .args([
            "--quiet",
            "--return",
            "--command",
            &format!("{PROGRAM} {words}"),
            "/dev/null",
        ])
        .current_dir(place.path("."))
        .env("TERM", "xterm")
        .env_remove("AUTOBEE_DIR")
        .env_remove("NO_COLOR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    if no_colour {
        command.env("NO_COLOR", "1");
    }
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let typist = std::thread::spawn(move || {
        if let Some(after) = end_after {
            std::thread::sleep(after);
            // What the key sends: the terminal makes a signal of it.
            let _ = std::io::Write::write_all(&mut input, b"\x03");
            let _ = std::io::Write::flush(&mut input);
            std::thread::sleep(Duration::from_secs(5));
        }
        drop(input);
    });
    let output = child.wait_with_output().unwrap();
    if end_after.is_none() {
        typist.join().unwrap();
    }
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        output.status.code().unwrap_or(-1),
    )
}

#[test]
fn a_terminal_has_colours_unless_they_are_not_wanted() {
    if !has_script() {
        return;
    }
    let place = Place::new();
    place.create("notes");
    place.good("put greeting hello --dir notes");
    let (shown, code) = on_terminal(&place, "ls --dir notes", false, None);
    assert_eq!((shown.trim(), code), ("\u{1b}[1mgreeting\u{1b}[0m\thello", 0));
    let (shown, _) = on_terminal(&place, "ls --dir notes", true, None);
    assert_eq!(shown.trim(), "greeting\thello");
    let (shown, _) = on_terminal(&place, "ls --json --dir notes", false, None);
    assert_eq!(shown.trim(), "{\"key\":\"greeting\",\"value\":\"hello\"}");
}

#[test]
fn values_do_not_steer_the_terminal() {
    if !has_script() {
        return;
    }
    let place = Place::new();
    place.create("notes");
    let value = "two\n\tlines\u{1b}[31m\u{9b}\u{7}";
    assert!(
        place
            .command("put k --dir notes")
            .arg(value)
            .status()
            .unwrap()
            .success()
    );
    let (shown, code) = on_terminal(&place, "get k --dir notes", false, None);
    assert_eq!(
        (shown.trim(), code),
        ("two\r\n\tlines\\u{1b}[31m\\u{9b}\\u{7}", 0)
    );
    let (shown, _) = on_terminal(&place, "export --format csv --dir notes", false, None);
    assert!(
        shown.contains("lines\\u{1b}[31m") && !shown.contains('\u{1b}'),
        "{shown:?}"
    );
    // A file or a program gets the bytes as they are.
    assert_eq!(place.good("get k --dir notes"), format!("{value}\n"));
}

#[test]
fn the_status_is_live_until_ctrl_c() {
    if !has_script() {
        return;
    }
    let place = Place::new();
    let key = place.create("notes");
    place.good("put greeting hello --dir notes");
    place.good(&format!("join other {key}"));
    let serving = place.serve("notes", "");
    let words = format!("status --connect {} --dir other", serving.address());
    let (shown, code) = on_terminal(&place, &words, true, Some(Duration::from_secs(3)));
    assert_eq!(code, 130, "{shown}");
    let writer = format!("writer {}", &key[..8]);
    assert!(shown.contains(&writer) && shown.contains("peer 0"), "{shown}");
    assert!(shown.contains("1/1 blocks, 1 applied"), "{shown}");
    // It was closed: the directory is free, and what came is there.
    assert_eq!(place.good("get greeting --dir other"), "hello\n");
    place.bad("put x y --dir other", 6, &["is not a writer"]);
}
