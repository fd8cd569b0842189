//! Blocks that the disk gives other bytes of than were written.

use std::fs;

use autobee::Autobee;
use autobee::crypto::CoreKey;
use autobee::env::native::NativeEnv;
use autobee::wire::Length;
use autobee_sim::workload::Op;

use super::{Directory, connect, open, until};

type Db = Autobee<NativeEnv>;

const ENTRIES: u64 = 30;

fn value(number: u64) -> String {
    format!("entry {number} {}", "x".repeat(3_000))
}

/// Flips a bit in the value of this entry, wherever it is stored.
#[expect(
    clippy::disallowed_methods,
    reason = "what a disk does to a file, it does not do through the database"
)]
fn rot(directory: &Directory, number: u64) {
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
        // The first is the block; the other one is the view's.
        for at in places.into_iter().take(1) {
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
            rot(dir, 7);
        } else {
            damaged.close().await.unwrap();
            rot(dir, 7);
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
