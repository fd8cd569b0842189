//! What is not understood, and JSON for all that is said.

use serde_json::{Value, json};

use crate::run::{Place, Ran};

/// The one object that a run said on stderr.
fn error_of(ran: &Ran) -> Value {
    assert_eq!(ran.out, "", "{ran:?}");
    serde_json::from_str(&ran.err).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

#[test]
fn errors_of_usage_are_objects_too() {
    let place = Place::new();
    for (words, said) in [
        ("fly --json", "unrecognized subcommand 'fly'"),
        ("--json", "a command is missing"),
        ("put --json", "<KEY>"),
        ("ls --limit many --json", "invalid value 'many'"),
        ("join notes nonsense --json", "a key is 52 characters"),
        ("man fly --json", "there is no command \"fly\""),
        ("watch --json", "without peers nothing changes"),
        ("export --format csv --json", "CSV is no JSON"),
    ] {
        let ran = place.run(words);
        assert_eq!(ran.code, 2, "{ran:?}");
        let error = error_of(&ran);
        assert_eq!(error["code"], 2, "{ran:?}");
        let what = error["error"].as_str().unwrap();
        assert!(what.contains(said) && !what.contains('\n'), "{what:?}");
    }
    // What is said of is no option when it is behind --.
    let ran = place.run("put -- a b --json");
    assert!(ran.code == 2 && ran.err.starts_with("error: "), "{ran:?}");
}

#[test]
fn help_and_pages_are_objects_too() {
    let place = Place::new();
    for (words, name, said) in [
        ("--help --json", "help", "Exit codes: 0 done"),
        ("sync --help --json", "help", "--timeout"),
        ("--version --json", "help", "autobee "),
        ("man", "man", ".TH autobee"),
        ("man sync", "man", ".TH autobee-sync"),
        ("completions bash", "completions", "_autobee()"),
    ] {
        let words = words.trim_end_matches(" --json");
        let answer = place.json(words);
        assert!(answer[name].as_str().unwrap().contains(said), "{answer}");
    }
}

#[test]
fn an_empty_directory_in_the_environment_is_explained() {
    let place = Place::new();
    for words in ["ls", "ls --json"] {
        let output = place.command(words).env("AUTOBEE_DIR", "").output().unwrap();
        let ran = Ran::of(&output, words);
        ran.is_bad(
            2,
            &[
                "a value is required for '--dir <DIR>'",
                "AUTOBEE_DIR is set, and empty",
            ],
        );
    }
}

#[test]
fn what_is_no_address_is_said_at_once() {
    let place = Place::new();
    place.create("notes");
    for words in [
        "sync --connect nonsense --dir notes",
        "sync --connect 127.0.0.1:99999 --dir notes",
        "serve --listen 127.0.0.1 --dir notes",
        "watch --connect :7 --dir notes",
        "status --connect host: --dir notes",
    ] {
        place.bad(words, 2, &["an address is HOST:PORT"]);
    }
}

#[test]
fn odd_values_are_taken_or_refused_in_words() {
    let place = Place::new();
    place.create("notes");
    place.good("put -1 -5 --dir notes");
    assert_eq!(place.good("get -1 --dir notes"), "-5\n");
    let writer = "7".repeat(64);
    place.bad(
        &format!("add {writer} --weight 0 --dir notes"),
        2,
        &["0 is not in 1.."],
    );
    place.write("file", "");
    place.bad("ls --dir file", 3, &["there is no directory file", "hint: "]);
}

/// What steers a terminal, or turns what stands beside it, in all that programs read.
#[test]
fn json_holds_nothing_that_steers_a_terminal() {
    let place = Place::new();
    place.create("notes");
    let (key, value) = ("k\u{1b}]0;title\u{7}\u{7f}", "v\u{9b}31m\u{202e}\r\n\u{1f41d}");
    let put = place.command("put --dir notes").args([key, value]).status();
    assert!(put.unwrap().success());
    let entry = json!({ "key": key, "value": value });
    let mut get = place.command("get --json --dir notes");
    let got = Ran::of(&get.arg(key).output().unwrap(), "get");
    let listed = place.good("ls --json --dir notes");
    for out in [&got.out, &listed, &place.good("export --dir notes")] {
        assert_eq!(serde_json::from_str::<Value>(out).unwrap(), entry);
    }
    place.create("other");
    let mut said = vec![got.out, listed, place.good("log --json --dir notes")];
    said.push(place.run("diff notes other --json").out);
    let missing = place.command("get --json --dir other").arg(key).output();
    said.push(Ran::of(&missing.unwrap(), "get").err);
    said.push(place.good("ls --dir notes"));
    for text in said {
        let is_plain =
            |letter: char| letter == '\n' || letter == '\t' || !(letter.is_control() || letter == '\u{202e}');
        assert!(!text.is_empty() && text.chars().all(is_plain), "{text:?}");
    }
}
