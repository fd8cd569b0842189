//! What becomes of an own entry, and what a wrong clock does to it.

use std::time::Duration;

use autobee::apply::{Apply, ApplyError, ApplyView, Entry, Host, WriterOptions};
use autobee::db::{AppendOptions, Appended, Event, Events, Outcome};
use autobee::env::memory::MemoryEnv;
use autobee::env::{Clock as _, Env as _, Wall};
use autobee::wire::{Length, Timestamp};
use autobee::{Autobee, Rules, Settings};

use crate::support::{Db, connect};
use crate::{memory_store, until};

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
/// Some day in 2026.
const TODAY: u64 = 1_780_000_000_000;

/// Puts each value once, as a key: who comes later is refused. `bad` is refused, and `add` before 32 bytes lets a writer in.
struct Once;

impl Apply for Once {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        host: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        for entry in entries {
            if entry.value() == b"bad" {
                return Err(ApplyError::reject("it is bad"));
            }
            if let Some(key) = entry.value().strip_prefix(b"add ") {
                let key = autobee::crypto::CoreKey::try_from(key);
                let key = key.map_err(|_| ApplyError::reject("no key"))?;
                host.add_writer(key, WriterOptions { weight: 1 });
                continue;
            }
            if view.get(entry.value()).await.is_some() {
                return Err(ApplyError::reject("it is taken"));
            }
            let mut write = view.write();
            write.put(entry.value(), b"");
            write.flush().await?;
        }
        Ok(())
    }
}

fn run<T>(test: impl AsyncFnOnce(&MemoryEnv) -> T) -> T {
    let env = MemoryEnv::new(1);
    env.clock().set_wall(Wall(TODAY));
    let ended = env.run(test(&env));
    ended.expect("the test waits for something that cannot happen")
}

async fn open(env: &MemoryEnv, join: Option<&Db>) -> Db {
    // Who is no member tries its own entries, as in the original.
    let builder = Autobee::builder(memory_store(env).await).apply(Once);
    let mut builder = builder.rules(Rules::interop());
    if let Some(db) = join {
        builder = builder.key(db.key());
    }
    builder.open().await.unwrap()
}

/// The second becomes a member of the first one's database, and both part again.
async fn become_member(a: &Db, b: &Db) {
    let session = connect(a, b).0;
    append(a, "").await;
    let added = [b"add ", &b.local().as_bytes()[..]].concat();
    a.append(added).await.unwrap();
    until(b, |db| db.writable()).await;
    session.close();
    session.ended().await;
}

async fn append(db: &Db, value: &str) -> Appended {
    let values = vec![value.to_owned().into()];
    db.append_with(values, AppendOptions::default()).await.unwrap()
}

async fn next_outcome(events: &mut Events) -> (u64, Outcome) {
    loop {
        if let Event::Outcome { length, outcome } = events.next().await.unwrap() {
            return (length.0, outcome);
        }
    }
}

fn rejected(why: &str) -> Outcome {
    Outcome::Rejected(why.into())
}

#[test]
fn what_apply_rejects_is_answered_and_told() {
    run(async |env| {
        let db = open(env, None).await;
        let mut events = db.events();
        let good = append(&db, "good").await;
        assert_eq!((good.length, good.outcome), (Length(1), Outcome::Applied));
        let bad = append(&db, "bad").await;
        assert_eq!((bad.length, bad.outcome), (Length(2), rejected("it is bad")));
        assert_eq!(db.append("bad").await.unwrap(), Length(3));
        for length in [2, 3] {
            assert_eq!(next_outcome(&mut events).await, (length, rejected("it is bad")));
        }
        assert_eq!(append(&db, "good").await.outcome, rejected("it is taken"));

        let stranger = open(&env.sibling(2), Some(&db)).await;
        let values = vec!["bad".into()];
        let options = AppendOptions { optimistic: true };
        let refused = stranger.append_with(values, options).await.unwrap();
        assert_eq!(refused.length, Length(1));
        assert!(matches!(refused.outcome, Outcome::Rejected(_)), "{refused:?}");
        // Once the creator's entries are here there is something to try it on.
        connect(&db, &stranger);
        until(&stranger, |db| db.order().unwrap().len() == 4).await;
        let values = vec!["bad".into()];
        let refused = stranger.append_with(values, options).await.unwrap();
        assert_eq!(refused.outcome, rejected("it is bad"));
    });
}

/// ```text
/// a: add b -- b joins --x  a: put k      b: put k       x-- one of them was first, and the other is told
/// ```
#[test]
fn who_loses_by_a_reorder_is_told() {
    run(async |env| {
        let a = open(env, None).await;
        let b = open(&env.sibling(2), Some(&a)).await;
        become_member(&a, &b).await;
        let mut events = [a.events(), b.events()];
        assert_eq!(append(&a, "k").await.outcome, Outcome::Applied);
        assert_eq!(append(&b, "k").await.outcome, Outcome::Applied);
        connect(&a, &b);
        // The creator is heavier: what it wrote at the same time comes first.
        assert_eq!(next_outcome(&mut events[1]).await, (1, rejected("it is taken")));
        for db in [&a, &b] {
            until(db, |db| db.order().unwrap().len() == 4).await;
        }
        a.close().await.unwrap();
        while let Ok(event) = events[0].next().await {
            assert!(!matches!(event, Event::Outcome { .. }), "{event:?}");
        }
    });
}

/// ```text
/// a: add b -- b joins --x  a: put k      b: put k, refused; put k again; reopened      x-- b applies it all again
/// ```
#[test]
fn what_was_rejected_before_an_opening_is_no_news_when_it_is_rejected_again() {
    run(async |env| {
        let a = open(env, None).await;
        let other = env.sibling(2);
        let b = open(&other, Some(&a)).await;
        become_member(&a, &b).await;
        assert_eq!(append(&b, "k").await.outcome, Outcome::Applied);
        assert_eq!(append(&b, "k").await.outcome, rejected("it is taken"));
        b.close().await.unwrap();

        let b = open(&other, Some(&a)).await;
        let mut events = b.events();
        assert_eq!(append(&a, "other").await.outcome, Outcome::Applied);
        connect(&a, &b);
        until(&b, |db| db.order().unwrap().len() == 5).await;
        assert!(b.stats().undone > 0, "the creator is heavier, and comes first");
        assert_eq!(append(&b, "k").await.outcome, rejected("it is taken"));
        // Nothing was told of the second entry, which is what it was.
        assert_eq!(next_outcome(&mut events).await, (3, rejected("it is taken")));
    });
}

/// The order is held from its last entry on, so that what was appended is forgotten before the append returns.
#[test]
fn what_is_forgotten_at_once_is_answered_and_told_when_it_changes() {
    run(async |env| {
        let a = open(env, None).await;
        let settings = Settings::with(|settings| settings.window_batches = 1);
        let builder = Autobee::builder(memory_store(&env.sibling(2)).await).apply(Once);
        let builder = builder.rules(Rules::interop()).key(a.key());
        let b = builder.settings(settings).open().await.unwrap();
        become_member(&a, &b).await;
        let mut events = b.events();
        let keys = ["k", "k", "l", "m", "n"];
        let outcomes = [
            Outcome::Applied,
            rejected("it is taken"),
            Outcome::Applied,
            Outcome::Applied,
            Outcome::Applied,
        ];
        for (key, outcome) in keys.into_iter().zip(outcomes) {
            assert_eq!(append(&b, key).await.outcome, outcome, "{key}");
        }
        assert_eq!(next_outcome(&mut events).await, (2, rejected("it is taken")));

        // The order goes back, and the first is refused now as the second is still.
        append(&a, "k").await;
        connect(&a, &b);
        assert_eq!(next_outcome(&mut events).await, (1, rejected("it is taken")));
        until(&b, |db| db.order().unwrap().len() == 8).await;
        assert_eq!(append(&b, "n").await.outcome, rejected("it is taken"));
        assert_eq!(next_outcome(&mut events).await, (6, rejected("it is taken")));
    });
}

#[test]
fn a_clock_that_was_a_day_ahead_is_said() {
    run(async |env| {
        let clock = env.clock();
        let db = open(env, None).await;
        append(&db, "first").await;
        clock.set_wall(Wall(TODAY + DAY));
        assert_eq!(append(&db, "tomorrow").await.outcome, Outcome::Applied);
        assert_eq!(db.status().ahead, []);
        let ahead = |db: &Db| -> Vec<(u64, Timestamp, bool)> {
            let ahead = db.status().ahead.into_iter();
            ahead
                .map(|entry| (entry.length.0, entry.until, entry.is_applied))
                .collect()
        };

        clock.set_wall(Wall(TODAY));
        let until_then = Timestamp(TODAY + DAY - 2 * HOUR);
        assert_eq!(ahead(&db), [(2, until_then, true)], "at peers");
        let mut events = db.events();
        let waiting = Outcome::Waiting {
            until: Some(until_then),
        };
        for length in [3, 4] {
            let appended = append(&db, &format!("today {length}")).await;
            assert_eq!((appended.length.0, appended.outcome), (length, waiting.clone()));
            assert_eq!(next_outcome(&mut events).await, (length, waiting.clone()));
        }
        assert_eq!(ahead(&db), [(3, until_then, false), (2, until_then, true)]);
        assert_eq!(db.view().get(b"today 3").await.unwrap(), None);

        // At a peer nothing that stands on it is applied either, and that is said there, too.
        let (peer, mut changes) = (open(&env.sibling(2), Some(&db)).await, Default::default());
        connect(&db, &peer);
        while ahead(&peer) != [(2, until_then, false)] {
            peer.changed(&mut changes).await;
        }
        assert_eq!(peer.order().unwrap().len(), 1);

        clock.set_wall(Wall(TODAY + DAY));
        let before = clock.now();
        for length in [3, 4] {
            assert_eq!(next_outcome(&mut events).await, (length, Outcome::Applied));
        }
        assert!(clock.now().since(before) <= Duration::from_secs(1));
        assert!(db.view().get(b"today 3").await.unwrap().is_some());
        assert_eq!(ahead(&db), []);
    });
}

#[test]
fn a_clock_at_1970_that_is_put_right_lets_entries_in_within_a_second() {
    run(async |env| {
        let db = open(env, None).await;
        append(&db, "entry").await;
        let peer = open(&env.sibling(2), Some(&db)).await;
        env.clock().set_wall(Wall(0));
        connect(&db, &peer);
        until(&peer, |db| {
            db.status().writers.iter().any(|writer| writer.have.0 == 1)
        })
        .await;
        until(&peer, |db| !db.status().ahead.is_empty()).await;
        env.clock().sleep(Duration::from_millis(2_500)).await;
        assert_eq!(peer.order().unwrap(), []);

        env.clock().set_wall(Wall(TODAY));
        let before = env.clock().now();
        // Nobody calls `update`.
        until(&peer, |db| db.order().unwrap().len() == 1).await;
        assert!(env.clock().now().since(before) <= Duration::from_secs(1));
    });
}
