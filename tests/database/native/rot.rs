//! Blocks that the disk gives other bytes of than were written.

use std::fs;
use std::time::Duration;

use autobee::crypto::CoreKey;
use autobee::db::Pending;
use autobee::env::native::NativeEnv;
use autobee::wire::Length;
use autobee::{Autobee, Corestore, ErrorKind, Event};
use autobee_sim::workload::{JsonApply, Op};

use super::{Directory, connect, open, until};

type Db = Autobee<NativeEnv>;

const ENTRIES: u64 = 30;

fn value(number: u64) -> String {
    format!("entry {number} {}", "x".repeat(3_000))
}

/// Where a value is stored: in the block of its entry first, then in that of the view.
#[derive(Clone, Copy)]
enum Of {
    Log = 0,
    View = 1,
}

/// Flips a bit in the value of this entry, in one of the places where it is stored.
#[expect(
    clippy::disallowed_methods,
    reason = "what a disk does to a file, it does not do through the database"
)]
fn rot(directory: &Directory, number: u64, of: Of) {
    let text = format!("entry {number} x").into_bytes();
    let mut found = 0;
    for file in fs::read_dir(&directory.0).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|kind| kind != "segment") {
            continue;
        }
        let mut bytes = fs::read(&path).unwrap();
        let places: Vec<usize> = (0..bytes.len() - text.len())
            .filter(|at| bytes[*at..].starts_with(&text))
            .collect();
        for at in places.into_iter().skip(of as usize).take(1) {
            bytes[at + text.len() + 100] ^= 4;
            found += 1;
        }
        fs::write(&path, bytes).unwrap();
    }
    assert_eq!(found, 1);
}

fn have(db: &Db, key: &CoreKey) -> u64 {
    let writers = db.status().writers;
    let writer = writers.iter().find(|writer| writer.key == *key);
    writer.map_or(0, |writer| writer.have.0)
}

/// One of whose blocks one is damaged serves the others, fetches it from whoever has it, and serves that, too: a peer's log
/// and the own one. What is damaged while the database is open is found when a peer asks for it; before, when it is opened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_block_is_fetched_from_a_peer_again() {
    for (of_own, is_open) in [(false, false), (false, true), (true, false), (true, true)] {
        let [a_dir, b_dir, c_dir] =
            ["a", "b", "c"].map(|name| Directory::new(&format!("rot-{of_own}-{is_open}-{name}")));
        let a = open(&a_dir, None).await;
        let local = a.local();
        for number in 0..ENTRIES {
            a.append(Op::put(format!("k{number}"), value(number)).to_value())
                .await
                .unwrap();
        }
        let b = open(&b_dir, Some(&a)).await;
        connect(&a_dir.env(), &a, &b_dir.env(), &b).await;
        until(&b, |b| b.order().unwrap().len() as u64 == ENTRIES).await;
        let order = b.order().unwrap();
        let (dir, other, other_dir, mut damaged) = if of_own {
            (&a_dir, b, &b_dir, a)
        } else {
            (&b_dir, a, &a_dir, b)
        };
        for peer in damaged.status().peers {
            peer.session.close();
            peer.session.ended().await;
        }
        if is_open {
            rot(dir, 7, Of::Log);
        } else {
            damaged.close().await.unwrap();
            rot(dir, 7, Of::Log);
            damaged = open(dir, None).await;
            assert_eq!(damaged.order().unwrap(), order[..7]);
        }

        let c = open(&c_dir, Some(&other)).await;
        connect(&dir.env(), &damaged, &c_dir.env(), &c).await;
        until(&c, |c| have(c, &local) >= 7).await;
        until(&damaged, |damaged| have(damaged, &local) == 7).await;
        assert_eq!(damaged.order().unwrap().len(), if is_open { 30 } else { 7 });
        connect(&other_dir.env(), &other, &dir.env(), &damaged).await;
        until(&damaged, |damaged| {
            have(damaged, &local) == ENTRIES && damaged.order().unwrap() == order
        })
        .await;
        until(&c, |c| c.order().unwrap() == order).await;
        assert_eq!(
            c.view().get(b"k7").await.unwrap().as_deref(),
            Some(value(7).as_bytes())
        );
        if of_own {
            let length = damaged.append(Op::put("on", "top").to_value()).await.unwrap();
            assert_eq!(length, Length(ENTRIES + 1));
        }
    }
}

async fn filled(dir: &Directory) -> Db {
    let db = open(dir, None).await;
    for number in 0..ENTRIES {
        let put = Op::put(format!("k{number}"), value(number));
        db.append(put.to_value()).await.unwrap();
    }
    db
}

/// What comes to somebody who listens as soon as the database is open, within a moment.
async fn told(db: &Db) -> Vec<Event> {
    let mut events = db.events();
    let mut told = Vec::new();
    while let Ok(event) = tokio::time::timeout(Duration::from_millis(100), events.next()).await {
        told.push(event.unwrap());
    }
    told
}

/// A bit anywhere in the file of who wrote half of the entries: in a block of its log, in nodes of the tree of the log, in the
/// trees. Whatever is missing then comes again, with its nodes, and so does what others write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(
    clippy::disallowed_methods,
    reason = "what a disk does to a file, it does not do through the database"
)]
async fn a_damaged_record_of_the_own_log_comes_again_with_its_nodes() {
    let [a_dir, b_dir] = ["a", "b"].map(|name| Directory::new(&format!("rot-anywhere-{name}")));
    let a = open(&a_dir, None).await;
    let b = open(&b_dir, Some(&a)).await;
    connect(&a_dir.env(), &a, &b_dir.env(), &b).await;
    a.append(Op::add_writer(b.local(), 1).to_value()).await.unwrap();
    until(&b, Db::writable).await;
    for number in 0..20 {
        b.append(Op::put(format!("k{number}"), "v").to_value())
            .await
            .unwrap();
    }
    until(&a, |a| a.order().unwrap() == b.order().unwrap()).await;
    b.close().await.unwrap();
    let segment = b_dir.0.join("00000001.segment");
    let written = fs::read(&segment).unwrap();
    let mut healed = 0;
    for at in (1_000..written.len()).step_by(331) {
        let damaged_dir = Directory::new("rot-anywhere-damaged");
        fs::create_dir_all(&damaged_dir.0).unwrap();
        for file in fs::read_dir(&b_dir.0).unwrap() {
            let path = file.unwrap().path();
            if path.is_file() {
                fs::copy(&path, damaged_dir.0.join(path.file_name().unwrap())).unwrap();
            }
        }
        let mut bytes = written.clone();
        bytes[at] ^= 0x10;
        fs::write(damaged_dir.0.join("00000001.segment"), bytes).unwrap();
        // What nothing can be read without is told when it is opened.
        let store = Corestore::open_default(damaged_dir.env()).await;
        let Ok(store) = store else { continue };
        let opened = Autobee::builder(store).apply(JsonApply).open().await;
        let Ok(b) = opened else { continue };
        if b.order().unwrap().len() < 20 {
            let new = format!("new {at}");
            a.append(Op::put(new.clone(), "x").to_value()).await.unwrap();
            connect(&a_dir.env(), &a, &damaged_dir.env(), &b).await;
            until(&b, |b| b.order().unwrap() == a.order().unwrap()).await;
            assert!(b.view().get(new.as_bytes()).await.unwrap().is_some());
            healed += 1;
        }
        b.close().await.unwrap();
    }
    assert!(healed > 5, "{healed}");
}

/// Nobody else has it, and the view lacks it: the opening that finds it tells whoever listens first, and the status says it at
/// each opening.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_block_of_the_own_log_is_told() {
    let dir = Directory::new("rot-alone");
    filled(&dir).await.close().await.unwrap();
    rot(&dir, 7, Of::Log);
    for opening in 0..3 {
        let db = open(&dir, None).await;
        assert_eq!(db.order().unwrap().len(), 7);
        let told = told(&db).await;
        let is_told = |event: &Event| matches!(event, Event::Error { what } if what.contains("block 7 of"));
        assert_eq!(
            told.iter().any(is_told),
            opening == 0,
            "opening {opening}: {told:?}"
        );
        let [own] = &db.status().writers[..] else {
            panic!("{:?}", db.status());
        };
        assert_eq!((own.have, own.length), (Length(7), Length(ENTRIES)));
        assert_eq!(own.pending, Some(Pending::Blocks));
        if opening == 2 {
            // Both wait for a peer that has it, as long as is set.
            let (confirmed, appended) = tokio::join!(db.confirm(), db.append("x"));
            assert_eq!(confirmed.unwrap_err().kind(), appended.unwrap_err().kind());
        }
        db.close().await.unwrap();
    }
}

/// The logs have all of it: what is read says so, and the next opening makes it anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_block_of_the_view_is_told_and_made_anew() {
    let dir = Directory::new("rot-view");
    let db = filled(&dir).await;
    let all = db.view().all().await.unwrap();
    db.close().await.unwrap();
    rot(&dir, 7, Of::View);
    let db = open(&dir, None).await;
    for _ in 0..2 {
        let refused = db.view().all().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
    }
    db.close().await.unwrap();
    for opening in 0..2 {
        let db = open(&dir, None).await;
        let told = told(&db).await;
        let is_told = told.contains(&Event::Rebuilt { from: 0, to: 0 });
        assert_eq!(is_told, opening == 0, "{told:?}");
        assert_eq!(db.view().all().await.unwrap(), all);
        db.close().await.unwrap();
    }
}
