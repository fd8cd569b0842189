//! Peers in a world in memory, and short scripts of what happens to them.
//!
//! ```text
//! a     one value            a-b      a and b connect, get all that the other has, and part
//! a3    three values         a-b-c    the same, each with each
//! a+3   one batch of three   *        the same, all
//! a>c1  a adds c, ceiling 1  a!c      a removes c
//! a~    an optimistic value
//! ```

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Deref;
use std::time::Duration;

use autobee::Settings;
use autobee::apply::Apply;
use autobee::crypto::CoreKey;
use autobee::env::{Clock as _, Env as _};
use autobee::hypercore::{CoreOptions, DownloadRange};
use autobee::wire::oplog::OplogBlock;
use autobee::wire::{Decode as _, Length, Link};
use autobee_sim::workload::Op;
use bytes::Bytes;

use crate::support;
pub(crate) use crate::support::{Db, Raw, add, connect, have, put, weights};

/// Makes databases, each on a machine of its own.
pub(crate) struct World {
    world: support::World,
    /// Counts values, so that no two are equal.
    values: RefCell<u64>,
}

impl Deref for World {
    type Target = support::World;

    fn deref(&self) -> &support::World {
        &self.world
    }
}

pub(crate) fn run(test: impl AsyncFnOnce(World)) {
    support::in_world(async |world| {
        let values = RefCell::default();
        test(World { world, values }).await;
    });
}

/// Plays a script among as many peers as it names, of whom `a` made the database and added the others. In the end all
/// agree, and have all values.
pub(crate) fn story(script: &str) {
    run(async |world| {
        let all = world.members(peers_of(script)).await;
        world.play(&all, script).await;
        world.play(&all, "*").await;
    });
}

fn peers_of(script: &str) -> usize {
    let letters = script.bytes().filter(u8::is_ascii_lowercase);
    letters.max().map_or(1, |last| usize::from(last - b'a') + 1)
}

impl World {
    // Databases.

    /// Opens what is on a machine, or something new.
    pub(crate) async fn open(&self, seed: u64, key: Option<CoreKey>, apply: impl Apply) -> Db {
        self.world.open(seed, key, apply, Settings::default()).await
    }

    /// One that makes the database on machine 1, and others on machines 2 and so on that join it.
    pub(crate) async fn peers(&self, count: usize) -> Vec<Db> {
        let mut all = vec![self.create(1).await];
        for seed in 2..=count as u64 {
            all.push(self.join(seed, &all[0]).await);
        }
        all
    }

    /// The same, and the first one has added the others, as indexers, and all know it.
    pub(crate) async fn members(&self, count: usize) -> Vec<Db> {
        let all = self.peers(count).await;
        for peer in &all[1..] {
            add(&all[0], peer, 2).await;
        }
        self.exchange(&all.iter().collect::<Vec<_>>()).await;
        assert!(all[1..].iter().all(Db::writable));
        all
    }

    // What happens to them.

    /// Plays a script.
    pub(crate) async fn play(&self, all: &[Db], script: &str) {
        for step in script.split_whitespace() {
            self.step(all, step).await;
        }
    }

    async fn step(&self, all: &[Db], step: &str) {
        let peer = |letter: &str| &all[usize::from(letter.as_bytes()[0] - b'a')];
        if step == "*" {
            self.exchange(&all.iter().collect::<Vec<_>>()).await;
        } else if step.contains('-') {
            self.exchange(&step.split('-').map(peer).collect::<Vec<_>>())
                .await;
        } else if let Some((by, whom)) = step.split_once('>') {
            add(peer(by), peer(whom), whom[1..].parse().unwrap()).await;
        } else if let Some((by, whom)) = step.split_once('!') {
            remove(peer(by), peer(whom).local()).await;
        } else if let Some(by) = step.strip_suffix('~') {
            peer(by).append_optimistic(self.value(by)).await.unwrap();
        } else if let Some((by, count)) = step.split_once('+') {
            let values = (0..count.parse().unwrap()).map(|_| self.value(by).into());
            peer(by).append_batch(values.collect()).await.unwrap();
        } else {
            let count = if step.len() > 1 {
                step[1..].parse().unwrap()
            } else {
                1
            };
            for _ in 0..count {
                peer(step).append(self.value(&step[..1])).await.unwrap();
            }
        }
    }

    /// A value like no other, under one of a few keys.
    fn value(&self, by: &str) -> Vec<u8> {
        let mut count = self.values.borrow_mut();
        *count += 1;
        Op::put(format!("k{}", *count % 7), format!("{by}{count}")).to_value()
    }

    /// Connects each with each until everybody has what the others have, and parts them. All agree then.
    pub(crate) async fn exchange(&self, all: &[&Db]) {
        let mut sessions = Vec::new();
        for (at, left) in all.iter().enumerate() {
            sessions.extend(all[at + 1..].iter().map(|right| connect(left, right)));
        }
        self.until(|| is_alike(all)).await;
        for (near, far) in sessions {
            near.close();
            near.ended().await;
            far.ended().await;
        }
        converged(all).await;
    }

    pub(crate) async fn wait(&self, seconds: u64) {
        self.world.wait(Duration::from_secs(seconds)).await;
    }

    /// Milliseconds since 1970; all machines have the same clock.
    pub(crate) fn millis(&self) -> u64 {
        self.env(1).clock().wall().0
    }
}

// One peer.

pub(crate) async fn remove(db: &Db, writer: CoreKey) {
    db.append(Op::remove_writer(writer).to_value()).await.unwrap();
}

pub(crate) async fn get(db: &Db, key: &str) -> Option<String> {
    let value = db.view().get(key.as_bytes()).await.unwrap();
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

pub(crate) async fn listing(db: &Db) -> Vec<(Bytes, Bytes)> {
    db.view().all().await.unwrap()
}

/// How long the own log is.
pub(crate) fn length(db: &Db) -> u64 {
    have(db, &db.local())
}

/// The last entry of the own log.
pub(crate) fn last_block(db: &Db) -> OplogBlock {
    OplogBlock::from_bytes(db.blocks(&db.local()).last().unwrap()).unwrap()
}

pub(crate) fn head(db: &Db) -> Link {
    Link {
        key: db.local(),
        length: Length(length(db)),
    }
}

pub(crate) fn is_removed(db: &Db, writer: &Db) -> bool {
    db.writer(&writer.local()).unwrap().is_removed
}

// Several.

/// All show the same: the full listing of the view, the order with its weights, the records.
pub(crate) async fn converged(all: &[&Db]) {
    for db in all {
        assert_eq!(db.order().unwrap(), all[0].order().unwrap());
        assert_eq!(db.writers(), all[0].writers());
        assert_eq!(listing(db).await, listing(all[0]).await);
        assert_eq!(db.stalled(), []);
    }
}

/// All have the same blocks, and made the same order of them.
fn is_alike(all: &[&Db]) -> bool {
    let mut writers: BTreeSet<CoreKey> = all.iter().map(|db| db.local()).collect();
    writers.extend(all.iter().flat_map(|db| db.writers()).map(|record| record.key));
    let alike = |key| all.iter().all(|db| have(db, key) == have(all[0], key));
    writers.iter().all(alike)
        && all
            .iter()
            .all(|db| db.order().unwrap() == all[0].order().unwrap())
}

/// Hands the log of one writer, and nothing else, from its owner to somebody.
pub(crate) async fn carry(world: &World, seed: u64, from: &Db, to: &Db) {
    const ALL: DownloadRange = DownloadRange::ALL;
    let raw = Raw::open(world, seed).await;
    let log = raw.store.get(CoreOptions::key(from.local())).await.unwrap();
    let _download = log.download(ALL).unwrap();
    let session = raw.connect(from).1;
    world
        .until(|| log.contiguous_length().unwrap() == Length(length(from)))
        .await;
    session.close();
    session.ended().await;
    let session = raw.connect(to).1;
    world.until(|| have(to, &from.local()) == length(from)).await;
    world.wait(1).await;
    session.close();
    session.ended().await;
}
