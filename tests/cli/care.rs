//! verify, salvage, compact, backup, restore, doctor.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::run::{Place, bytes_of};

/// A database with some values of some length.
fn filled(place: &Place, dir: &str) -> String {
    let key = place.create(dir);
    let lines: String = (0..300)
        .map(|number| {
            format!(
                "{{\"key\":\"key {number:03}\",\"value\":\"{}\"}}\n",
                "v".repeat(200)
            )
        })
        .collect();
    assert_eq!(place.feed(&format!("import - --dir {dir}"), &lines).code, 0);
    key
}

/// Changes a byte in the middle of the value under a key, wherever it is written.
fn damage(place: &Place, dir: &str, mark: &[u8]) {
    let mut hits = 0;
    for (name, mut bytes) in bytes_of(&place.path(dir)) {
        let found: Vec<usize> = (0..bytes.len().saturating_sub(mark.len()))
            .filter(|at| bytes[*at..].starts_with(mark))
            .collect();
        for at in found {
            bytes[at + mark.len() + 60] ^= 1;
            hits += 1;
        }
        std::fs::write(place.path(&format!("{dir}/{name}")), bytes).unwrap();
    }
    assert!(hits > 0, "the mark is somewhere");
}

#[test]
fn what_is_sound_is_said_to_be() {
    let place = Place::new();
    filled(&place, "notes");
    let verified = place.json("verify --dir notes");
    assert_eq!(
        (&verified["sound"], &verified["keys"]),
        (&json!(true), &json!(300))
    );
    assert!(verified["values"].as_u64().unwrap() > 300);
    let out = place.good("verify --dir notes");
    assert!(out.contains("everything is as it was written"), "{out}");
}

#[test]
fn damage_is_found_and_what_can_be_read_is_saved() {
    let place = Place::new();
    filled(&place, "notes");
    damage(&place, "notes", b"{\"put\":[\"key 123\",");
    let before = bytes_of(&place.path("notes"));
    place.bad("verify --dir notes", 4, &["damaged", "hint: restore a backup"]);
    let ran = place.run("verify --dir notes --json");
    let verified: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(verified["sound"], false);
    assert!(
        verified["damages"][0]["file"]
            .as_str()
            .unwrap()
            .ends_with(".segment")
    );
    place.bad("backup copy --dir notes", 4, &["damaged, so it was not copied"]);
    assert!(!place.path("copy").exists() && !place.path("copy.partial").exists());

    let saved = place.json("salvage saved --entries entries.jsonl --dir notes");
    assert!(saved["lost"].as_u64().unwrap() >= 1, "{saved}");
    assert_eq!(saved["entries"], json!(299));
    let entries = place.read("entries.jsonl");
    assert_eq!(entries.lines().count(), 299);
    assert!(!entries.contains("key 123") && entries.contains("key 124"));
    let kept = place.good("ls --keys --dir saved");
    assert_eq!(saved["keys"], json!(kept.lines().count()));
    assert_eq!(bytes_of(&place.path("notes")), before, "nothing is written there");
    // Peers may have what is lost, so it does not go on without them.
    place.bad(
        "put a b --dir saved",
        6,
        &["may go on at peers", "hint: this directory may be older"],
    );
}

/// A database that is made in its place would be another one, with another key.
#[test]
fn a_store_that_lost_everything_is_not_made_anew() {
    let place = Place::new();
    place.create("notes");
    for (name, _) in bytes_of(&place.path("notes")) {
        std::fs::write(place.path(&format!("notes/{name}")), "").unwrap();
    }
    for words in ["ls", "put a b", "id --secret", "serve", "salvage saved"] {
        let code = if words == "salvage saved" { 4 } else { 3 };
        place.bad(&format!("{words} --dir notes"), code, &["error: ", "hint: "]);
    }
    place.bad("verify --dir notes", 4, &["there is no database in notes"]);
    assert!(!place.path("saved").exists());
}

#[test]
fn what_is_only_read_is_saved_too() {
    let place = Place::new();
    filled(&place, "notes");
    let set = |mode| {
        std::fs::set_permissions(place.path("notes"), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set(0o500);
    let saved = place.json("salvage saved --dir notes");
    set(0o700);
    assert_eq!((&saved["lost"], &saved["keys"]), (&json!(0), &json!(300)));
    assert_eq!(place.good("diff notes saved"), "");
}

/// What a database keeps of where it stands is replaced with each put, and the file grows by it.
#[test]
fn space_is_given_back() {
    let place = Place::new();
    place.create("notes");
    for number in 0..120 {
        place.good(&format!("put same {number} --dir notes"));
    }
    let before = place.jsons("log --dir notes");
    let done = place.json("compact --dir notes");
    let [was, is] = ["before", "after"].map(|name| done[name].as_u64().unwrap());
    assert!(is < was * 4 / 5, "{done}");
    assert_eq!(place.jsons("log --dir notes"), before);
    assert_eq!(place.good("get same --dir notes"), "119\n");
    assert_eq!(place.json("verify --dir notes")["sound"], true);
    place.good("put more again --dir notes");
    let serving = place.serve("notes", "");
    place.bad("compact --dir notes", 5, &["in use by another process"]);
    drop(serving);
}

#[test]
fn a_backup_is_put_back_and_waits_for_a_peer() {
    let place = Place::new();
    let key = filled(&place, "notes");
    place.good("backup copy --dir notes");
    place.bad(
        "backup copy --dir notes",
        1,
        &["there is a database in copy already"],
    );
    place.good("put later entry --dir notes");
    let restored = place.json("restore copy again");
    assert_eq!(
        (&restored["key"], &restored["unconfirmed"]),
        (&json!(key), &json!("Restored"))
    );
    place.bad("get later --dir again", 3, &[]);
    place.bad(
        "put x y --dir again",
        6,
        &["may go on at peers", "autobee sync --connect HOST:PORT"],
    );

    // A peer has what the backup lacks: its own log goes on behind it.
    let peer = place.json(&format!("join peer {key}"));
    assert!(peer["local"].is_string());
    let serving = place.serve("notes", "");
    place.good(&format!("sync --connect {} --dir peer", serving.address()));
    assert_eq!(serving.end("-INT"), 130);
    let serving = place.serve("peer", "");
    place.good(&format!("sync --connect {} --dir again", serving.address()));
    assert_eq!(place.good("get later --dir again"), "entry\n");
    place.good("put x y --dir again");
    assert_eq!(place.jsons("log --last 1 --dir again")[0]["length"], json!(302));
}

#[test]
fn a_backup_is_made_of_what_is_served() {
    let place = Place::new();
    filled(&place, "notes");
    let serving = place.serve("notes", "");
    place.good("backup copy --dir notes");
    assert_eq!(place.good("diff notes copy"), "");
    assert_eq!(serving.end("-INT"), 130);
    place.bad("restore notes copy", 1, &["there is a database in copy already"]);
    place.bad("restore nowhere again", 3, &["there is no directory nowhere"]);
}

#[test]
fn the_doctor_says_what_to_do() {
    let place = Place::new();
    place.create("notes");
    let checks = place.jsons("doctor --dir notes");
    let verdict = |checks: &[serde_json::Value], name: &str| {
        let found = checks.iter().find(|check| check["check"] == name);
        found.unwrap_or_else(|| panic!("{name}: {checks:?}"))["verdict"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    for name in [
        "version",
        "directory",
        "permissions",
        "lock",
        "disk",
        "files",
        "database",
        "logs",
        "clock",
    ] {
        assert_eq!(verdict(&checks, name), "good", "{checks:?}");
    }
    place.write("notes/letter.txt", "dear");
    for (name, mode) in [("notes", 0o755), ("notes/letter.txt", 0o644)] {
        std::fs::set_permissions(place.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let serving = place.serve("notes", "");
    let checks = place.jsons("doctor --dir notes");
    for name in ["permissions", "lock", "files"] {
        assert_eq!(verdict(&checks, name), "notice", "{checks:?}");
    }
    assert_eq!(serving.end("-INT"), 130);
    let out = place.good("doctor --dir notes");
    assert!(out.contains("chmod -R go= notes"), "{out}");
    place.bad("doctor --dir nowhere", 1, &["checks that are bad: 1"]);
}
