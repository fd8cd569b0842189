//! serve, sync, watch, status, diff: processes that talk over TCP on this machine.

use serde_json::json;

use crate::peer::Peer;
use crate::run::{Place, Serving, bytes_of};

#[test]
fn two_directories_converge() {
    let place = Place::new();
    let key = place.create("a");
    place.good("put from a --dir a");
    let b = place.json(&format!("join b {key}"))["local"]
        .as_str()
        .unwrap()
        .to_owned();
    place.good(&format!("add {b} --weight 2 --dir a"));

    let mut serving = place.serve("a", "");
    assert_eq!(
        (&serving.ready["event"], &serving.ready["key"]),
        (&json!("listening"), &json!(key))
    );
    let address = serving.address();
    let synced = place.json(&format!("sync --connect {address} --dir b"));
    assert_eq!(
        (&synced["caughtUp"], &synced["notTaken"], &synced["writable"]),
        (&json!(true), &json!(0), &json!(true))
    );
    assert!(serving.hear("connected")["peer"].is_string());
    serving.hear("disconnected");
    place.good("put also b --dir b");
    place.good(&format!("sync --connect {address} --dir b"));
    // Both ways, in the moment in which it ended: the other one is still served.
    assert_eq!(place.good("get also --dir a"), "b\n");
    assert_eq!(place.good("diff a b"), "");
    let log = place.jsons("log --dir b");
    assert_eq!(log, place.jsons("log --dir a"));
    let last = log.last().unwrap();
    assert_eq!(
        (
            &last["writer"],
            last["why"].as_str().unwrap().starts_with("links ")
        ),
        (&json!(b), true)
    );

    // What one process has open another one reads, and does not write.
    place.bad(
        "put x y --dir a",
        5,
        &["a is in use by another process", "hint: end the other process"],
    );
    let status = place.json("status --dir a");
    assert_eq!(status["writers"].as_array().unwrap().len(), 2);

    assert_eq!(serving.end("-INT"), 130, "as after Ctrl-C");
    place.good("put x y --dir a");
    let ran = place.run("diff a b");
    ran.is_bad(7, &["keys that differ: 1"]);
    assert_eq!(ran.out, "- x\ty\n");
    let ran = place.run("diff b a --json");
    assert_eq!(ran.out, "{\"a\":null,\"b\":\"y\",\"key\":\"x\"}\n");
}

#[test]
fn an_encrypted_database_needs_its_key() {
    let place = Place::new();
    let made = place.json("create a --encrypt");
    let [key, secret] = ["key", "encryptionKey"].map(|name| made[name].as_str().unwrap());
    place.good("put hidden treasure --dir a");
    let serving = place.serve("a", "");
    // Who serves it is asked for the key meanwhile.
    assert_eq!(place.json("id --secret --dir a")["encryptionKey"], json!(secret));
    let address = serving.address();
    place.good(&format!("join b {key} --encryption-key {secret}"));
    place.good(&format!("sync --connect {address} --dir b"));
    assert_eq!(place.good("get hidden --dir b"), "treasure\n");

    let other = "7".repeat(64);
    place.good(&format!("join c {key} --encryption-key {other}"));
    let ran = place.run(&format!("sync --connect {address} --timeout 2 --dir c"));
    assert_eq!(ran.code, 6, "{ran:?}");
    assert!(ran.err.contains("autobee id --secret"), "{ran:?}");
    place.bad(
        "get hidden --dir c",
        6,
        &["hint: who created the database has its encryption key"],
    );
    assert_eq!(serving.end("-TERM"), 143);
}

#[test]
fn a_ticket_is_all_that_somebody_needs_to_join() {
    let place = Place::new();
    let made = place.json("create a --encrypt");
    place.good("put hidden treasure --dir a");
    let serving = place.serve("a", "");
    let address = serving.address();
    let without = place.run(&format!("ticket --at {address} --dir a"));
    assert_eq!(without.code, 0, "{without:?}");
    assert!(without.err.contains("autobee id --secret"), "{without:?}");
    assert!(!without.out.contains(made["encryptionKey"].as_str().unwrap()));

    let printed = place.json(&format!("ticket --at {address} --secret --qr --dir a"));
    let ticket = printed["ticket"].as_str().unwrap();
    assert!(ticket.starts_with("autobee:") && printed["qr"].as_str().unwrap().contains('\u{2580}'));
    let joined = place.good(&format!("join b {ticket}"));
    assert!(joined.contains(&format!("sync --connect {address}")), "{joined}");
    place.good(&format!("sync --connect {address} --dir b"));
    assert_eq!(place.good("get hidden --dir b"), "treasure\n");
    assert_eq!(serving.end("-TERM"), 143);

    place.bad("join c autobee:nobody", 2, &["the key of the ticket"]);
    let cut = &ticket[..ticket.len() - 1];
    place.bad(
        &format!("join c {cut}"),
        2,
        &["the ticket is not as it was written"],
    );
    place.bad("join c nobody", 2, &["neither a key nor a ticket"]);
    place.create("d");
    place.bad("ticket --secret --dir d", 2, &["no encryption key"]);
}

#[test]
fn a_peer_that_is_not_there_is_exit_code_8() {
    let place = Place::new();
    place.create("a");
    place.bad(
        "sync --connect 127.0.0.1:1 --timeout 1 --dir a",
        8,
        &["127.0.0.1:1 was not reached", "hint: look whether the peer runs"],
    );
    place.bad(
        "serve --listen 203.0.113.1:1 --dir a",
        1,
        &["listening at 203.0.113.1:1 failed", "hint: choose another"],
    );
    // A peer of another database has nothing of this one.
    place.create("b");
    let key = "7".repeat(64);
    place.good(&format!("join c {key}"));
    let serving = place.serve("b", "");
    let words = format!("sync --connect {} --timeout 1 --dir c", serving.address());
    place.bad(&words, 8, &["has nothing of this database"]);
    // Also when there is something here.
    let words = format!("sync --connect {} --timeout 1 --dir a", serving.address());
    place.bad(&words, 8, &["has nothing of this database"]);
    // Whoever goes on dialling says so.
    let mut command = place.command("serve --connect 127.0.0.1:1 --json --dir a");
    command.stderr(std::process::Stdio::piped());
    let mut serving = Serving::start(command);
    let mut said = String::new();
    let mut stderr = std::io::BufReader::new(serving.child.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut stderr, &mut said).unwrap();
    assert!(
        said.contains("127.0.0.1:1 was not reached") && said.contains("again and again"),
        "{said}"
    );
    assert_eq!(serving.end("-INT"), 130);
}

#[test]
fn what_is_waited_for_is_said() {
    let place = Place::new();
    place.create("a");
    let ran = place.run("sync --connect 127.0.0.1:1 --timeout 4 --dir a");
    ran.is_bad(
        8,
        &[
            "note: 127.0.0.1:1 was not reached",
            "it gives up when nothing changes for 4 seconds",
        ],
    );
}

/// ```text
/// a      1   2a       served
/// copy   1   2b       sync: the log was written twice
/// ```
#[test]
fn a_directory_that_was_copied_and_written_twice_is_not_caught_up() {
    let place = Place::new();
    place.create("a");
    place.good("put first 1 --dir a");
    std::fs::create_dir(place.path("copy")).unwrap();
    for (name, bytes) in bytes_of(&place.path("a")) {
        std::fs::write(place.path(&format!("copy/{name}")), bytes).unwrap();
    }
    // One is longer: at the same length it is the other one that hears of it first.
    for (dir, key) in [("a", "x"), ("a", "y"), ("copy", "z")] {
        place.good(&format!("put {key} {dir} --dir {dir}"));
    }
    let serving = place.serve("a", "");
    let words = format!("sync --connect {} --dir copy", serving.address());
    place.bad(
        &words,
        6,
        &[
            "was written twice",
            "hint: the directory was copied and written twice",
        ],
    );
}

#[test]
fn the_key_of_a_writer_is_not_that_of_the_database() {
    let place = Place::new();
    let key = place.create("a");
    let b = place.json(&format!("join b {key}"))["local"].clone();
    let b = b.as_str().unwrap();
    place.good(&format!("add {b} --dir a"));
    let serving = place.serve("a", "");
    let address = serving.address();
    place.good(&format!("sync --connect {address} --dir b"));
    place.good("put from b --dir b");
    place.good(&format!("sync --connect {address} --dir b"));
    place.good(&format!("join c {b}"));
    place.bad(
        &format!("sync --connect {address} --timeout 20 --dir c"),
        2,
        &["is the key of a writer's log", &key],
    );
    assert_eq!(serving.end("-TERM"), 143);

    // Under the rules of the original nobody can be sure.
    let made = place.json("create d --interop");
    let e = place.json(&format!("join e {}", made["key"].as_str().unwrap()))["local"].clone();
    let e = e.as_str().unwrap();
    place.good(&format!("add {e} --dir d"));
    let serving = place.serve("d", "");
    let address = serving.address();
    for _ in 0..2 {
        let ran = place.run(&format!("sync --connect {address} --dir e"));
        assert!(ran.code == 0 && !ran.err.contains("begins behind"), "{ran:?}");
        place.good("put from e --dir e");
    }
    place.good(&format!("join f {e}"));
    let ran = place.run(&format!("sync --connect {address} --timeout 3 --dir f"));
    assert!(ran.err.contains("begins behind entries of other logs"), "{ran:?}");
    assert_eq!(serving.end("-TERM"), 143);
}

#[test]
fn who_was_removed_hears_of_it() {
    let place = Place::new();
    let key = place.create("a");
    let b = place.json(&format!("join b {key}"))["local"]
        .as_str()
        .unwrap()
        .to_owned();
    place.good(&format!("add {b} --dir a"));
    let serving = place.serve("a", "");
    place.good(&format!("sync --connect {} --dir b", serving.address()));
    assert_eq!(serving.end("-INT"), 130);
    place.good(&format!("remove {b} --dir a"));
    place.good("put late entry --dir b");
    let serving = place.serve("a", "");
    let ran = place.run(&format!("sync --connect {} --dir b", serving.address()));
    assert!(
        ran.code == 0 && ran.err.contains("this writer was removed"),
        "{ran:?}"
    );
    place.bad("get late --dir b", 3, &[]);
    place.bad("put more again --dir b", 6, &["is not a writer"]);
}

#[test]
fn the_last_member_stays() {
    let place = Place::new();
    let key = place.create("a");
    let before = place.good("log --json --dir a");
    place.bad(&format!("remove {key} --dir a"), 1, &["the only member"]);
    assert_eq!(place.good("log --json --dir a"), before);
    let other = "7".repeat(64);
    let ran = place.run(&format!("remove {other} --dir a"));
    assert!(
        ran.code == 0 && ran.err.contains("it is no member here"),
        "{ran:?}"
    );
    place.good(&format!("add {other} --dir a"));
    let ran = place.run(&format!("remove {key} --dir a"));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

#[test]
fn changes_are_watched_while_they_come() {
    let place = Place::new();
    let key = place.create("a");
    place.good(&format!("join b {key}"));
    place.bad("watch --dir b", 2, &["without peers nothing changes"]);
    let mut watching = Serving::start(place.command("watch user/ --listen 127.0.0.1:0 --json --dir b"));
    assert_eq!(watching.ready["event"], "watching");
    let address = watching.address();
    for (name, value) in [("user/ada", "1"), ("other", "2"), ("user/ada", "3")] {
        place.good(&format!("put {name} {value} --dir a"));
        place.good(&format!("sync --connect {address} --dir a"));
    }
    let change = |old, new| json!({ "event": "change", "key": "user/ada", "old": old, "new": new });
    assert_eq!(watching.hear("change"), change(None, Some("1")));
    assert_eq!(watching.hear("change"), change(Some("1"), Some("3")));
    place.good("del user/ada --dir a");
    place.good(&format!("sync --connect {address} --dir a"));
    assert_eq!(watching.hear("change"), change(Some("3"), None));
    assert_eq!(watching.end("-INT"), 130);
}

#[test]
fn a_status_names_peers() {
    let place = Place::new();
    let key = place.create("a");
    place.good("put x y --dir a");
    place.good(&format!("join b {key}"));
    let serving = place.serve("a", "");
    let words = format!("status --connect {} --dir b", serving.address());
    let status = place.json(&words);
    assert_eq!(status["peers"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&status["key"], &status["writable"]),
        (&json!(key), &json!(false))
    );
    let out = place.good("status --dir a");
    assert!(
        out.contains("which may write") && out.contains("1/1 blocks, 1 applied"),
        "{out}"
    );
}

/// The entries are those of `db_peer`, and of whoever applies as it does.
#[test]
fn db_peer_takes_part() {
    let place = Place::new();
    let path = place.path("theirs");
    let mut theirs = Peer::start(&[
        "create",
        "--dir",
        path.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
    ]);
    let (key, address) = (theirs.word("key"), theirs.address());
    theirs.tell("put greeting hello from there");
    let local = place.json(&format!("join ours {key}"))["local"]
        .as_str()
        .unwrap()
        .to_owned();
    theirs.tell(&format!("add {local} 2"));
    place.good(&format!("sync --connect {address} --dir ours"));
    assert_eq!(place.json("id --dir ours")["rules"], "interop");
    assert_eq!(place.good("get greeting --dir ours"), "hello from there\n");
    place.good("put answer 42 --dir ours");
    place.good("del greeting --dir ours");
    place.good(&format!("sync --connect {address} --dir ours"));
    let dump = theirs.dump();
    assert_eq!(dump["view"], json!({ "answer": "42" }));
    assert_eq!(
        dump["order"].as_array().unwrap().len(),
        place.jsons("log --dir ours").len()
    );
    theirs.quit();
    // And a directory is a directory, whichever program made it.
    assert_eq!(place.good("ls --dir theirs"), "answer\t42\n");
}
