//! `examples/blobs`: files beside the database.

use std::fs;

use autobee::{Autobee, CoreKey, Corestore, NativeEnv, Range};
use autobee_sim::{View, check};
use proptest::prelude::*;

use crate::running::{Place, Running, assert_says, until};

#[path = "../../examples/blobs/files.rs"]
mod files;

use files::{FILES, File, Files, LOGS, NAME_MAX, Op, PIECE, file_key, place, places};

/// Bytes that do not repeat, of pieces that are full but for the last one.
fn content(bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 7) as u8)
        .collect()
}

/// A device, and where it listens.
fn listening(place: &Place, words: &[&str]) -> (Running, String, String) {
    let mut device = place.start("blobs", &[words, &["--listen", "127.0.0.1:0"]].concat());
    let key = device.hear_word("the key is");
    let address = device.hear_word("listening at");
    (device, key, address)
}

#[test]
fn a_file_goes_from_device_to_device() {
    let disk = Place::new("blobs");
    let bytes = content(20 * PIECE + 5);
    fs::write(disk.path("photo.jpg"), &bytes).unwrap();
    fs::write(disk.path("empty.txt"), b"").unwrap();

    let (mut one, key, first) = listening(&disk, &["one"]);
    one.say("put photo.jpg");
    let stored = one.hear("photo.jpg: 1310725 bytes, image/jpeg, ");
    assert!(stored.ends_with(", stored"), "{stored}");
    one.say("put photo.jpg as same one");
    one.hear("there already");
    one.say("put empty.txt");
    one.hear("empty.txt: 0 bytes, text/plain");

    let (mut two, _, second) = listening(&disk, &["two", "--join", &key, "--connect", &first]);
    two.say("get photo.jpg to two.jpg");
    two.hear("photo.jpg: 1310725 bytes at two.jpg");
    assert_eq!(fs::read(disk.path("two.jpg")).unwrap(), bytes);
    two.say("get empty.txt to two.txt");
    two.hear("empty.txt: 0 bytes at two.txt");
    two.say("ls");
    two.hear("21 of 21 pieces here");
    two.say("put two.txt");
    two.hear("this device may not write yet");
    assert_eq!(one.end().0, 0);

    // The third one never meets the first one, and has the file from the second one.
    let mut three = disk.start("blobs", &["three", "--join", &key, "--connect", &second]);
    three.say("get same one to three.jpg");
    three.hear("same one: 1310725 bytes at three.jpg");
    assert_eq!(fs::read(disk.path("three.jpg")).unwrap(), bytes);
    assert_eq!(three.end().0, 0);
    // One of its commands failed.
    assert_eq!(two.end().0, 1);
}

#[test]
fn members_store_and_names_are_taken_over_and_away() {
    let disk = Place::new("blobs-members");
    fs::write(disk.path("a.txt"), "a").unwrap();
    fs::write(disk.path("b.txt"), "b").unwrap();
    let (mut one, key, address) = listening(&disk, &["one"]);
    let mut two = disk.start("blobs", &["two", "--join", &key, "--connect", &address]);
    let member = two.hear_word("another one says: add");
    one.say("put a.txt as note.txt");
    one.hear("stored");
    one.say(&format!("add {member}"));
    two.say("get note.txt to read");
    two.hear("at read");
    // It has what `add` wrote as well, or gets it soon.
    until("the second device may write", || {
        two.say("put b.txt as note.txt");
        two.hear("note.txt").ends_with("stored")
    });
    // Its own name has other content now, and that is of the other device.
    one.say("get other.txt");
    two.say("put b.txt as other.txt");
    two.hear("there already");
    one.hear("other.txt: 1 bytes at other.txt");
    one.say("get note.txt");
    one.hear("note.txt: 1 bytes at note.txt");
    assert_eq!(fs::read(disk.path("note.txt")).unwrap(), b"b");
    one.say("rm note.txt");
    one.say("ls");
    let said = one.hear_until("other.txt: 1 bytes, text/plain");
    assert!(
        !said.iter().any(|line| line.contains("note.txt: 1 bytes, ")),
        "{said:?}"
    );
    assert_eq!(one.end().0, 0);
}

#[test]
fn what_is_not_here_or_is_not_what_it_should_be_is_told_in_words() {
    let disk = Place::new("blobs-missing");
    fs::write(disk.path("big"), content(3 * PIECE)).unwrap();
    let (mut one, key, address) = listening(&disk, &["one"]);
    one.say("put big");
    one.hear("stored");
    let mut two = disk.start("blobs", &["two", "--join", &key, "--connect", &address]);
    // The name comes, and the file stays where it is.
    until("the name is there", || {
        two.say("ls");
        two.say("nothing");
        let said = two.hear_until("blobs: nothing: no command");
        said.iter().any(|line| line.contains("0 of 3 pieces here"))
    });
    two.end();
    one.end();

    for (words, said) in [
        (
            "get big to here",
            "blobs: get big to here: piece 1 of 3 is at nobody who is connected",
        ),
        ("get small", "blobs: get small: there is no file small"),
        ("rm small", "there is no file small"),
        ("put nowhere", "nowhere: "),
        ("add nobody", "no key of a device"),
        ("store big", "no command; they are put PATH"),
    ] {
        let (code, lines) = disk.run("blobs", &["two", "--wait", "1"], words);
        assert_eq!(code, 1, "{lines:?}");
        assert_says(&lines, said);
    }
    let (code, lines) = disk.run("blobs", &["one"], "get big\nput big as a/b");
    assert_eq!(code, 1, "{lines:?}");
    assert_says(&lines, "there is something at big already");
    assert_says(&lines, "a name has 1 to 255 bytes, no slash, no colon");
    assert!(!disk.path("here").exists() && !disk.path("here.part").exists());

    #[cfg(unix)]
    {
        let mut two = disk.start("blobs", &["two", "--wait", "1000"]);
        two.say("get big to here");
        until("a part of the file is there", || disk.path("here.part").exists());
        let (code, lines) = two.interrupt();
        assert_eq!(code, 0, "{lines:?}");
        assert!(!disk.path("here").exists() && !disk.path("here.part").exists());
    }

    // Somebody says of the pieces of one file that they are another one.
    let claimed = file(3 * PIECE as u64);
    tell(&disk, "one", claimed);
    let (code, lines) = disk.run("blobs", &["one"], "get forged to here");
    assert_eq!(code, 1, "{lines:?}");
    assert_says(&lines, "is not the file that has this hash");
    assert!(!disk.path("here").exists() && !disk.path("here.part").exists());

    // Somebody says that it has what is stored: it is stored all the same.
    fs::write(disk.path("claimed"), "claimed").unwrap();
    let hash = blake2b_simd::Params::new().hash_length(32).hash(b"claimed");
    tell(
        &disk,
        "one",
        File {
            hash: hash.to_hex().to_string(),
            ..file(7)
        },
    );
    let (code, lines) = disk.run("blobs", &["one"], "put claimed\nput claimed as again");
    assert_eq!(code, 0, "{lines:?}");
    assert_says(
        &lines,
        &format!(
            "claimed: 7 bytes, application/octet-stream, {}, stored",
            hash.to_hex()
        ),
    );
    assert_says(&lines, "there already");

    for (words, said) in [
        (&[][..], "a directory is needed"),
        (&["one", "--wait", "long"], "--wait: "),
        (&["one", "--join", "key"], "--join: "),
        (&["one", "--loud", "very"], "there is no --loud"),
    ] {
        let (code, lines) = disk.run("blobs", words, "");
        assert_eq!(code, 2, "{lines:?}");
        assert_says(&lines, said);
    }
}

/// Appends to the database of a directory that the first pieces there are this file.
fn tell(disk: &Place, dir: &str, file: File) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Corestore::open_default(NativeEnv::new(disk.path(dir)).unwrap())
            .await
            .unwrap();
        let db = Autobee::builder(store).apply(Files).open().await.unwrap();
        let logs = db.view().entries(Range::prefix(LOGS)).await.unwrap();
        let log: CoreKey = String::from_utf8_lossy(&logs[0].0[LOGS.len()..]).parse().unwrap();
        let name = "forged".to_owned();
        let place = files::Place { log, first: 0 };
        db.append(Op::Put { name, file, place }.to_bytes()).await.unwrap();
        db.close().await.unwrap();
    });
}

fn file(size: u64) -> File {
    File {
        hash: "0".repeat(64),
        size,
        media_type: "text/plain".to_owned(),
    }
}

#[test]
fn operations_that_lead_elsewhere_are_refused() {
    let log = CoreKey::new([7; 32]);
    let put = |name: &str, file: File, first| {
        let (name, place) = (name.to_owned(), files::Place { log, first });
        Op::Put { name, file, place }.check()
    };
    assert_eq!(put("a b.txt", file(9), 0), Ok(()));
    for name in [
        "",
        ".",
        "..",
        "a/b",
        "a\\b",
        "a:b",
        "a\nb",
        &"x".repeat(NAME_MAX + 1),
    ] {
        assert!(put(name, file(9), 0).is_err(), "{name:?}");
    }
    let hash = "0".repeat(63) + "/";
    assert!(put("a", File { hash, ..file(9) }, 0).is_err());
    assert!(put("a", file(u64::MAX), 0).is_err());
    assert!(put("a", file(0), u64::MAX).is_err());
    assert_eq!((file(0).pieces(), file(PIECE as u64 + 1).pieces()), (0, 2));
}

fn op() -> impl Strategy<Value = Op> {
    let name = || "[a-c]";
    let put = (name(), 0..3_u8, 0..3_u8, 0..9_u64).prop_map(|(name, hash, log, first)| Op::Put {
        name,
        file: File {
            hash: hash.to_string().repeat(64),
            ..file(1)
        },
        place: files::Place {
            log: CoreKey::new([log; 32]),
            first,
        },
    });
    prop_oneof![3 => put, 1 => name().prop_map(|name| Op::Remove { name })]
}

/// Each file has a place, in a log that is listed.
async fn can_be_found(view: &View) -> Result<(), String> {
    let failed = |error: autobee::Error| error.to_string();
    for (key, value) in view.entries(Range::prefix(FILES)).await.map_err(failed)? {
        let file = files::file(&value)?;
        let found = view.entries(places(&file.hash)).await.map_err(failed)?;
        let found = found.first().and_then(|(key, value)| place(key, value));
        let place = found.ok_or_else(|| format!("{key:?} has no place"))?;
        let log = view
            .get(format!("{LOGS}{}", place.log).as_bytes())
            .await
            .map_err(failed)?;
        log.ok_or("a log is not listed")?;
    }
    Ok(())
}

#[test]
fn names_converge() {
    assert_eq!(file_key("a"), "file/a");
    check(|| Files)
        .typed_ops(op(), Op::to_bytes)
        .members_by(|device| Op::Add { device })
        .always("can be found", can_be_found)
        .name("blobs")
        .run();
}
