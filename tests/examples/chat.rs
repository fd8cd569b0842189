//! `examples/chat`: a room of several processes.

use std::collections::BTreeMap;

use autobee::ViewChange;
use autobee_sim::{View, check};
use proptest::prelude::*;

use crate::running::{Place, Running, assert_says};

#[path = "../../examples/chat/room.rs"]
mod room;

use room::{
    COUNT, LINE_MAX, LINES, Line, NAME_MAX, NAMES, Op, Room, count, name_key, short, told, writer_key,
};

/// Says a line, and waits until it is shown.
fn write(who: &mut Running, line: &str) {
    who.say(line);
    who.hear(line);
}

/// The room as it is shown by `/log`.
fn log(who: &mut Running) -> Vec<String> {
    who.say("/log");
    let mut lines = who.hear_until(" lines");
    // Those that were said before are in front.
    let first = lines.iter().rposition(|line| line.starts_with("   1 ")).unwrap();
    lines.split_off(first)
}

#[test]
fn a_newcomer_is_let_in_and_what_was_written_apart_is_told() {
    let place = Place::new("chat");
    let mut ada = place.start("chat", &["ada-room", "ada", "--listen", "127.0.0.1:0"]);
    let key = ada.hear_word("the room is");
    let address = ada.hear_word("others are welcome at");
    let mut bob = place.start(
        "chat",
        &["bob-room", "bob", "--join", &key, "--connect", &address],
    );
    let member = bob.hear_word("/add");
    bob.hear("* connected with");
    bob.say("let me in");
    bob.hear("* not said: ");
    ada.say(&format!("/add {member}"));
    bob.hear("* you may write now");
    bob.say("hello");
    ada.hear("bob: hello");
    ada.say("welcome");
    bob.hear("ada: welcome");
    let (code, _) = bob.end();
    assert_eq!(code, 0);

    // Both write, and nobody hears of it.
    let mut bob = place.start("chat", &["bob-room", "bob"]);
    assert!(bob.hear("ada: welcome").starts_with("   2 "));
    write(&mut bob, "on the train");
    write(&mut ada, "anyone?");
    assert_eq!(bob.end().0, 0);

    let mut bob = place.start("chat", &["bob-room", "bob", "--connect", &address]);
    bob.hear("bob: on the train");
    bob.hear("ada: anyone?");
    ada.hear("bob: on the train");
    ada.say("there you are");
    bob.hear("ada: there you are");
    bob.say("yes");
    ada.hear("bob: yes");
    let logs = [log(&mut ada), log(&mut bob)];
    assert_eq!(logs[0], logs[1]);
    assert_eq!(logs[0].len(), 7, "{logs:?}");
    // One of the two saw the later line first, and was told where the other one goes.
    let told = |who: &Running| {
        let inserted = who.said().iter().filter(|line| line.starts_with('+'));
        inserted.cloned().collect::<Vec<_>>()
    };
    let told = [told(&ada), told(&bob)].concat();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("(goes before \""), "{told:?}");
    assert_eq!([ada.end().0, bob.end().0], [0, 0]);
}

#[test]
fn a_name_belongs_to_who_is_first() {
    let place = Place::new("chat-names");
    let mut ada = place.start("chat", &["one", "ada", "--listen", "127.0.0.1:0"]);
    let key = ada.hear_word("the room is");
    let address = ada.hear_word("others are welcome at");
    let mut other = place.start("chat", &["two", "ada", "--join", &key, "--connect", &address]);
    let member = other.hear_word("/add");
    ada.say(&format!("/add {member}"));
    other.hear("* not taken: the name ada is taken");
    other.say("it is me");
    let heard = ada.hear("it is me");
    assert!(heard.contains(&format!("{}: it is me", &member[..8])), "{heard}");
    ada.say("/who");
    ada.hear("* ada is ");
    ada.say("/nothing");
    ada.hear("/add KEY lets somebody write");
    ada.say("/add nobody");
    ada.hear("* /add is followed by the key of somebody");
    ada.say("\u{1b}[2J");
    ada.hear("* a line has no control characters");
    ada.say("/quit");
    assert_eq!([ada.end().0, other.end().0], [0, 0]);
}

#[test]
#[cfg(unix)]
fn ctrl_c_leaves_in_good_order() {
    let place = Place::new("chat-stop");
    let mut ada = place.start("chat", &["room", "ada", "--connect", "127.0.0.1:1"]);
    ada.hear("* 127.0.0.1:1 was not reached");
    write(&mut ada, "still here");
    let (code, lines) = ada.interrupt();
    assert_eq!(code, 0, "{lines:?}");
    let (code, lines) = place.run("chat", &["room", "ada"], "");
    assert_eq!(code, 0, "{lines:?}");
    assert_says(&lines, "   1 ada: still here");
}

#[test]
fn what_makes_no_sense_is_told_in_words() {
    let place = Place::new("chat-bad");
    for (words, said) in [
        (&[][..], "a directory and a name are needed"),
        (&["room"], "a directory and a name are needed"),
        (&["room", "a b"], "a name has 1 to 24 characters"),
        (&["room", "ada", "--join", "key"], "--join: "),
        (&["room", "ada", "--listen"], "--listen is followed by something"),
        (&["room", "ada", "--loud", "very"], "there is no --loud"),
    ] {
        let (code, lines) = place.run("chat", words, "");
        assert_eq!(code, 2, "{lines:?}");
        assert_says(&lines, said);
        assert_says(&lines, "usage: chat DIR NAME");
    }
    let (code, lines) = place.run("chat", &["room", "ada", "--listen", "nowhere"], "");
    assert_eq!(code, 1, "{lines:?}");
    assert_says(&lines, "listening at nowhere failed");

    assert!(Op::parse(&format!("say {}", "x".repeat(LINE_MAX))).is_err());
    assert!(Op::parse(&format!("name {}", "x".repeat(NAME_MAX + 1))).is_err());
    let op = Op::Name("x".repeat(NAME_MAX));
    assert_eq!(Op::parse(&op.to_text()), Ok(op));
}

/// The change from lines to others. A line is the id of its writer and log, with a text.
fn change(old: &[&str], new: &[&str]) -> Vec<ViewChange> {
    let value =
        |lines: &[&str], number: usize| lines.get(number).map(|line| format!("{line} {line}!").into());
    let numbers = 0..old.len().max(new.len());
    let changes = numbers.map(|number| ViewChange {
        key: [LINES, format!("{:010}", number + 1).as_bytes()].concat().into(),
        old: value(old, number),
        new: value(new, number),
    });
    let mut changes: Vec<_> = changes.filter(|change| change.old != change.new).collect();
    if old.len() != new.len() {
        changes.push(ViewChange {
            key: COUNT.into(),
            old: Some(old.len().to_string().into()),
            new: Some(new.len().to_string().into()),
        });
    }
    changes
}

#[test]
fn a_reader_is_told_what_became_of_the_lines() {
    for (old, new, said) in [
        (&["a"][..], &["a", "b", "c"][..], &["   2 b!", "   3 c!"][..]),
        (&["a", "b"], &["a", "x", "b"], &["+  2 x!  (goes before \"b!\")"]),
        (
            &["a", "b"],
            &["x", "y", "a", "b", "z"],
            &[
                "+  1 x!  (goes before \"a!\")",
                "+  2 y!  (goes before \"a!\")",
                "   5 z!",
            ],
        ),
        (&["a", "b", "c"], &["a", "c", "b"], &["~  3 b!  (was line 2)"]),
        (
            &["a", "b", "c"],
            &["a", "c"],
            &["-    b!  (not in the room in the agreed order)"],
        ),
        // None of the changes has the line that the second one goes behind.
        (
            &["a", "b", "c"],
            &["a", "x", "c", "b"],
            &["+  2 x!  (goes before \"b!\")", "~  4 b!  (was line 2)"],
        ),
        // The last line is where it was, and none of the changes has it.
        (
            &["a", "b", "c"],
            &["a", "x", "c"],
            &[
                "-    b!  (not in the room in the agreed order)",
                "+  2 x!  (goes before line 3)",
            ],
        ),
    ] {
        let mut lines = old.len() as u64;
        assert_eq!(told(&change(old, new), &mut lines), said, "{old:?} {new:?}");
        assert_eq!(lines, new.len() as u64);
    }
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof!["[a-c]".prop_map(Op::Name), "[a-z]{1,3}".prop_map(Op::Say)]
}

/// Lines are numbered without a gap, none is there twice, and each name has one who has it.
async fn in_order(view: &View) -> Result<(), String> {
    let (mut lines, mut seen) = (0, BTreeMap::new());
    for (key, value) in view.all().await.map_err(|error| error.to_string())? {
        if let Some(line) = Line::read(&key, &value) {
            lines += 1;
            if line.number != lines {
                return Err(format!("line {} is number {lines}", line.number));
            }
            let id = value
                .split(|byte| *byte == b' ')
                .next()
                .unwrap_or_default()
                .to_vec();
            if let Some(other) = seen.insert(id, line.number) {
                return Err(format!("line {} is line {other}, too", line.number));
            }
        }
        if let Some(name) = key.strip_prefix(NAMES) {
            let writer: autobee::CoreKey = String::from_utf8_lossy(&value).parse().map_err(|_| "no key")?;
            let known = view
                .get(&writer_key(&writer))
                .await
                .map_err(|error| error.to_string())?;
            if known.as_deref() != Some(name) {
                return Err(format!("{} has {name:?}, and goes by {known:?}", short(&writer)));
            }
        }
    }
    let counted = view.get(COUNT).await.map_err(|error| error.to_string())?;
    match count(counted.as_deref()) {
        counted if counted == lines => Ok(()),
        counted => Err(format!("{lines} lines are counted as {counted}")),
    }
}

#[test]
fn rooms_converge() {
    assert!(name_key("ada").starts_with(NAMES));
    check(|| Room)
        .typed_ops(op(), |op| op.to_text())
        .members_by(Op::Add)
        .always("in order", in_order)
        .name("chat")
        .run();
}
