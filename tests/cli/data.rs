//! create, join, id, put, get, del, ls, writers, log; and how a command finds its directory.

use serde_json::{Value, json};

use crate::run::Place;

#[test]
fn a_database_is_made_written_and_read() {
    let place = Place::new();
    let made = place.json("create notes");
    assert_eq!(made["rules"], "safe");
    assert_eq!(place.json("id --dir notes")["writable"], true);
    assert_eq!(
        (&made["encryptionKey"], &made["key"]),
        (&Value::Null, &made["local"])
    );
    assert_eq!(place.good("put greeting hello --dir notes"), "");
    let put = place.json("put answer 42 --dir notes");
    assert_eq!((&put["length"], &put["outcome"]), (&json!(2), &json!("applied")));
    assert_eq!(place.good("get greeting --dir notes"), "hello\n");
    assert_eq!(
        place.json("get greeting --dir notes"),
        json!({ "key": "greeting", "value": "hello" })
    );
    assert_eq!(place.good("ls --dir notes"), "answer\t42\ngreeting\thello\n");
    assert_eq!(place.good("ls gr --keys --dir notes"), "greeting\n");
    assert_eq!(
        place.good("ls --keys --reverse --limit 1 --dir notes"),
        "greeting\n"
    );
    assert_eq!(
        place.jsons("ls a --dir notes"),
        [json!({ "key": "answer", "value": "42" })]
    );
    assert_eq!(place.good("del answer --dir notes"), "");
    place.bad("get answer --dir notes", 3, &["there is no key \"answer\""]);

    // A value from stdin stays as it is.
    assert_eq!(place.feed("put text --dir notes", "two\nlines\n").code, 0);
    assert_eq!(place.good("get text --dir notes"), "two\nlines\n\n");
    assert_eq!(place.good("ls text --dir notes"), "text\ttwo\\nlines\\n\n");
}

#[test]
fn the_directory_is_named_or_in_the_environment_or_the_current_one() {
    let place = Place::new();
    let key = place.create("notes");
    let other = place.create("other");
    let id = |command: &mut std::process::Command| -> String {
        let output = command.output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        answer["key"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        id(place.command("id --json").current_dir(place.path("notes"))),
        key
    );
    assert_eq!(id(place.command("id --json").env("AUTOBEE_DIR", "notes")), key);
    let mut both = place.command("id --json --dir other");
    assert_eq!(id(both.env("AUTOBEE_DIR", "notes")), other);

    let hints = ["there is no database in .", "hint: ", "autobee create DIR"];
    place.bad("id", 3, &hints);
    place.bad("put a b --dir nowhere", 3, &["there is no directory nowhere"]);
    assert!(!place.path("nowhere").exists(), "asking makes nothing");
}

#[test]
fn a_directory_that_is_not_free_is_left_alone() {
    let place = Place::new();
    place.create("notes");
    place.bad("create notes", 1, &["a database in notes already", "hint: "]);
    std::fs::create_dir(place.path("full")).unwrap();
    place.write("full/letter.txt", "dear");
    place.bad("create full", 1, &["is not empty", "hint: choose"]);
    let key = "0".repeat(64);
    place.bad(&format!("join full {key}"), 1, &["is not empty"]);
    assert_eq!(place.read("full/letter.txt"), "dear");
}

#[test]
fn what_is_made_holds_secrets_and_is_for_its_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    place.create("notes --encrypt");
    let mode = |name: &str| std::fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("notes"), 0o700);
    for entry in std::fs::read_dir(place.path("notes")).unwrap() {
        let name = entry.unwrap().file_name();
        assert_eq!(mode(&format!("notes/{}", name.to_string_lossy())), 0o600);
    }
}

#[test]
fn an_encrypted_database_says_its_key_when_it_is_asked() {
    let place = Place::new();
    let made = place.json("create notes --encrypt");
    let secret = made["encryptionKey"].as_str().unwrap();
    assert_eq!(secret.len(), 64);
    assert_eq!(place.json("id --dir notes").get("encryptionKey"), None);
    assert_eq!(place.json("id --secret --dir notes")["encryptionKey"], secret);
    // The directory remembers it.
    place.good("put a hidden --dir notes");
    assert_eq!(place.good("get a --dir notes"), "hidden\n");
    let files = crate::run::bytes_of(&place.path("notes"));
    let is_clear = |(_, bytes): &(String, Vec<u8>)| bytes.windows(6).any(|window| window == b"hidden");
    assert!(!files.iter().any(is_clear), "values are not in clear");
}

#[test]
fn usage_is_exit_code_2() {
    let place = Place::new();
    place.bad("put", 2, &["Usage: autobee put"]);
    place.bad("fly", 2, &["unrecognized subcommand"]);
    place.bad("join notes nokey", 2, &["invalid value 'nokey'"]);
    let key = "0".repeat(64);
    for secret in ["abc", &"+a".repeat(32), &"\u{e9}".repeat(32)] {
        place.bad(
            &format!("join notes {key} --encryption-key {secret}"),
            2,
            &["64 hexadecimal digits"],
        );
    }
}

#[test]
fn who_is_no_writer_is_told_what_to_do() {
    let place = Place::new();
    let key = place.create("notes");
    let joined = place.json(&format!("join other {key}"));
    let local = joined["local"].as_str().unwrap();
    assert_ne!(local, key);
    let add = format!("autobee add {local}");
    place.bad(
        "put a b --dir other",
        6,
        &["is not a writer of this database", &add],
    );
    // A program reads it, too.
    let ran = place.run("put a b --dir other --json");
    let error: Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!((ran.code, &error["code"]), (6, &json!(6)));
    assert!(error["hint"].as_str().unwrap().contains(&add));
    let optimistic = place.run("put a b --optimistic --dir other");
    assert_eq!(optimistic.code, 0, "{optimistic:?}");
    assert!(
        optimistic.err.contains("once a member acknowledged it"),
        "{optimistic:?}"
    );
}

#[test]
fn writers_come_and_go() {
    let place = Place::new();
    let key = place.create("notes --interop");
    let writer = "7".repeat(64);
    place.good(&format!("add {writer} --weight 3 --dir notes"));
    let of = |writer: &str| {
        let writers = place.jsons("writers --dir notes");
        let found = writers.iter().find(|record| record["writer"] == writer);
        found.unwrap().clone()
    };
    let record = of(&writer);
    assert_eq!(
        (&record["role"], &record["maxWeight"]),
        (&json!("member"), &json!(3))
    );
    assert_eq!(of(&key)["local"], true);
    place.good(&format!("remove {writer} --dir notes"));
    assert_eq!(of(&writer)["role"], "removed");
    let out = place.good("writers --dir notes");
    assert!(out.contains(&format!("{writer}  removed")), "{out}");
    assert!(out.contains("member, this directory"), "{out}");

    let log = place.jsons("log --dir notes");
    assert_eq!(log[0]["op"], json!({ "addWriter": writer, "weight": 3 }));
    assert_eq!(log[1]["op"], json!({ "removeWriter": writer }));
}

#[test]
fn the_log_tells_who_when_and_why() {
    let place = Place::new();
    let key = place.create("notes");
    for (name, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
        place.good(&format!("put {name} {value} --dir notes"));
    }
    let log = place.jsons("log --dir notes");
    assert_eq!(log.len(), 3);
    for (position, entry) in log.iter().enumerate() {
        assert_eq!(entry["position"], position);
        assert_eq!(
            (&entry["writer"], &entry["length"]),
            (&json!(key), &json!(position + 1))
        );
        assert!(entry["time"].as_u64().unwrap() > 1_700_000_000_000);
    }
    assert_eq!(log[0]["why"], "the first");
    assert_eq!(log[1]["why"], "follows in its log");
    assert_eq!(log[2]["op"], json!({ "put": ["a", "3"] }));
    let last = place.jsons("log --last 1 --dir notes");
    assert_eq!(last, log[2..]);
    let none = format!("log --writer {} --dir notes", "7".repeat(64));
    assert_eq!(place.good(&none), "");
    let out = place.good("log --last 1 --dir notes");
    assert!(
        out.contains(&format!("{}:3", &key[..8])) && out.contains("put a 3"),
        "{out}"
    );
}

#[test]
fn whoever_reads_no_more_is_no_error() {
    let place = Place::new();
    place.create("notes");
    let lines: String = (0..2000)
        .map(|number| {
            format!(
                "{{\"key\":\"key {number:06}\",\"value\":\"{}\"}}\n",
                "v".repeat(100)
            )
        })
        .collect();
    assert_eq!(place.feed("import - --dir notes", &lines).code, 0);
    let mut child = place
        .command("ls --dir notes")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
