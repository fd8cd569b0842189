//! Databases that find each other by a swarm, in simulated worlds: peers come and go, both dial at once, addresses are old.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "swarm/table.rs"]
mod table;

use std::collections::BTreeSet;
use std::time::Duration;

use autobee::crypto::{CoreKey, PublicKey, Seed};
use autobee::db::{JoinedSwarm, RetrySettings, SwarmSettings, SwarmState};
use autobee::env::PeerAddr;
use autobee::{Autobee, Corestore, Error};
use autobee_sim::workload::{JsonApply, Op};
use autobee_sim::{Crash, PathConfig, ReplicaId, SimEnv, Stream, World, WorldConfig};

use table::{Table, TableSwarm};

type Db = Autobee<SimEnv>;

/// How often it is looked whether what must always be so is.
const LOOK: Duration = Duration::from_millis(50);

/// How long a connection that was closed may take to be over: what is on its way still goes out.
const FAREWELL: Duration = Duration::from_secs(15);

/// Virtual time in which all agree once nothing goes wrong any more.
const LONG: Duration = Duration::from_secs(300);

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// One replica: none while its process is down.
struct Member {
    id: ReplicaId,
    name: &'static str,
    identity: Seed,
    up: Option<(Db, JoinedSwarm)>,
    /// Since when more connections run than the swarm has.
    stray_since: Option<Duration>,
}

struct Group {
    world: World,
    table: Table,
    key: CoreKey,
    settings: SwarmSettings,
    members: Vec<Member>,
    /// Most connections that one had, and how often one was closed as the second with a peer, or as one too many.
    most: usize,
    duplicates: u64,
    full: u64,
}

async fn open(env: SimEnv, key: Option<CoreKey>, identity: Seed) -> Result<Db, Error> {
    let store = Corestore::open_default(env).await?;
    let mut builder = Autobee::builder(store).apply(JsonApply).identity(identity);
    if let Some(key) = key {
        builder = builder.key(key);
    }
    builder.open().await
}

fn settings(connections_max: usize) -> SwarmSettings {
    SwarmSettings::with(|settings| {
        settings.retry = RetrySettings::with(|retry| {
            retry.pause_ms_min = 100;
            retry.pause_ms_max = 2_000;
        });
        settings.connections_max = connections_max;
        settings.dials_max = 3;
        settings.dial_ms = 5_000;
        settings.turn_ms = 4_000;
    })
}

impl Group {
    /// So many replicas that know the key of the first one's database, and of nobody's address.
    fn new(seed: u64, count: usize, path: PathConfig, connections_max: usize) -> Self {
        let world = World::new(WorldConfig {
            seed,
            path,
            dial_limit: Duration::from_secs(3),
            ..WorldConfig::default()
        });
        let mut members = Vec::new();
        let mut key = None;
        for (number, name) in NAMES.into_iter().enumerate().take(count) {
            let id = world.add_replica(name).unwrap();
            // Which of two has the larger key differs from run to run.
            let identity = Seed::new([(seed as u8).wrapping_mul(31) ^ (number as u8).wrapping_mul(73); 32]);
            if number == 0 {
                let db = world.block_on(id, open(world.env(id), None, identity.clone()));
                let db = db.unwrap().unwrap();
                key = Some(db.key());
                world
                    .block_on(id, async move { db.close().await })
                    .unwrap()
                    .unwrap();
            }
            members.push(Member {
                id,
                name,
                identity,
                up: None,
                stray_since: None,
            });
        }
        Self {
            world,
            table: Table::default(),
            key: key.unwrap(),
            settings: settings(connections_max),
            members,
            most: 0,
            duplicates: 0,
            full: 0,
        }
    }

    /// Opens the database of a replica and joins.
    fn start(&mut self, number: usize) {
        let Member {
            id,
            name,
            ref identity,
            ..
        } = self.members[number];
        let env = self.world.env(id);
        let opened = open(env.clone(), Some(self.key), identity.clone());
        let db = self.world.block_on(id, opened).unwrap().unwrap();
        let swarm = TableSwarm {
            env,
            table: self.table.clone(),
            own: db.public_key(),
            listen: PeerAddr::new(format!("{name}:0")),
            is_announced: true,
        };
        let joined = db.join_with(swarm, self.settings).unwrap();
        self.members[number].up = Some((db, joined));
    }

    fn stop(&mut self, number: usize, how: Crash) {
        self.count(number);
        (self.members[number].up, self.members[number].stray_since) = (None, None);
        self.world.crash(self.members[number].id, how);
    }

    fn count(&mut self, number: usize) {
        if let Some(state) = self.state(number) {
            self.duplicates += state.duplicates;
            self.full += state.full;
        }
    }

    fn db(&self, number: usize) -> &Db {
        &self.members[number].up.as_ref().unwrap().0
    }

    fn state(&self, number: usize) -> Option<SwarmState> {
        let (_, joined) = self.members[number].up.as_ref()?;
        Some(joined.state())
    }

    fn append(&self, number: usize, op: &Op) {
        let (db, value) = (self.db(number).clone(), op.to_value());
        let appended = async move { db.append_optimistic(value).await };
        self.world
            .block_on(self.members[number].id, appended)
            .unwrap()
            .unwrap();
    }

    /// Lets time pass, and looks all the while: nobody has two connections with one peer, or more than may be.
    fn run(&mut self, time: Duration) {
        let end = self.world.now() + time;
        while self.world.now() < end {
            self.world.run_for(LOOK).unwrap();
            for number in 0..self.members.len() {
                let Some(state) = self.state(number) else { continue };
                let peers: BTreeSet<PublicKey> = state.peers.iter().map(|peer| peer.key).collect();
                assert_eq!(peers.len(), state.peers.len(), "two connections with one peer");
                assert!(!peers.contains(&self.db(number).public_key()));
                assert!(state.connections <= self.settings.connections_max);
                assert!(state.dialling <= self.settings.dials_max);
                self.most = self.most.max(state.connections);
                // What the swarm does not have any more runs no longer.
                let (running, now) = (self.db(number).status().peers.len(), self.world.now());
                let stray_since = &mut self.members[number].stray_since;
                if running <= state.connections {
                    *stray_since = None;
                } else {
                    let since = stray_since.get_or_insert(now);
                    assert!(now - *since < FAREWELL, "{running} run, of {}", state.connections);
                }
            }
        }
    }

    fn wait_for(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let end = self.world.now() + LONG;
        while !is_so(self) {
            if self.world.now() >= end {
                let states: Vec<_> = (0..self.members.len()).map(|number| self.state(number)).collect();
                panic!("{what}: not in {LONG:?}: {states:#?}");
            }
            self.run(Duration::from_millis(500));
        }
    }

    /// All have the same entries in the same order, of which there are so many.
    fn agree(&self, entries: usize) -> bool {
        let order = self.db(0).order().unwrap();
        order.len() == entries
            && (1..self.members.len()).all(|number| self.db(number).order().unwrap() == order)
    }

    /// Each two have one connection, the same at both, and no other runs.
    fn is_whole(&self) -> bool {
        let streams = |number: usize| -> Option<BTreeSet<_>> {
            let state = self.state(number)?;
            let peers = state.peers.iter();
            let streams: BTreeSet<_> = peers.map(|peer| peer.session.progress().stream).collect();
            let running = self.db(number).status().peers.len();
            let others = self.members.len() - 1;
            (streams.len() == others && running == others).then_some(streams)
        };
        let Some(all) = (0..self.members.len()).map(streams).collect::<Option<Vec<_>>>() else {
            return false;
        };
        let distinct: BTreeSet<_> = all.iter().flatten().collect();
        distinct.len() == self.members.len() * (self.members.len() - 1) / 2
    }

    /// Something goes wrong.
    fn disturb(&mut self, chance: &mut Stream) {
        let count = self.members.len();
        let number = chance.below(count as u64) as usize;
        let other = (number + 1 + chance.below(count as u64 - 1) as usize) % count;
        let (a, b) = (self.members[number].id, self.members[other].id);
        match chance.below(6) {
            0 => self.world.reset_between(a, b),
            1 => self.world.mute_between(a, b),
            2 => {
                let ids = self.members.iter().map(|member| member.id);
                let (left, right) = ids.partition(|_| chance.below(2) == 0);
                self.world.partition(&[left, right]);
            }
            3 => self.world.heal(),
            // It comes back at another port, and others dial the old one until then.
            _ if self.members[number].up.is_some() => {
                let how = [Crash::Kill, Crash::PowerLoss][chance.below(2) as usize];
                self.stop(number, how);
                self.run(Duration::from_millis(chance.below(8_000)));
                self.world.restart(self.members[number].id);
                self.start(number);
            }
            _ => {}
        }
    }
}

/// Some dials are refused, some are never answered.
fn rough() -> PathConfig {
    PathConfig {
        refuse_64k: 6_000,
        hang_64k: 3_000,
        latency_us_max: 60_000,
        ..PathConfig::default()
    }
}

#[test]
fn peers_that_come_and_go_find_each_other_and_converge() {
    let (mut duplicates, mut crossed) = (0, 0);
    for seed in 0..8 {
        let mut group = Group::new(seed, 5, rough(), 64);
        let mut chance = group.world.stream("disturbances");
        // Nobody is there, or it is somebody else.
        let topic = autobee::crypto::discovery_key(&group.key);
        group
            .table
            .put(topic, PublicKey::new([1; 32]), PeerAddr::new("nowhere"));
        group
            .table
            .put(topic, PublicKey::new([255; 32]), PeerAddr::new("a:49152"));
        for number in 0..5 {
            group.start(number);
        }
        let mut entries = 0;
        for number in 1..5 {
            group.append(0, &Op::add_writer(group.db(number).local(), 2));
            entries += 1;
        }
        group.wait_for("all may write", |group| {
            (1..5).all(|number| group.db(number).writable())
        });
        for round in 0..12 {
            group.disturb(&mut chance);
            group.run(Duration::from_millis(chance.below(4_000)));
            let number = chance.below(5) as usize;
            group.append(number, &Op::put(format!("{round}"), "x"));
            entries += 1;
        }
        group.world.heal();
        group.world.set_paths(PathConfig::default());
        group.wait_for("all have everything", |group| group.agree(entries));
        group.wait_for("all are connected", Group::is_whole);
        (0..5).for_each(|number| group.count(number));
        assert!(group.most <= 4);
        duplicates += group.duplicates;
        crossed += u64::from(group.duplicates > 0);
    }
    assert!(crossed > 2, "dials cross in many worlds: {crossed}, {duplicates}");
}

#[test]
fn more_peers_than_connections_still_hear_of_everything() {
    let mut full = 0;
    for seed in 0..4 {
        let mut group = Group::new(100 + seed, 6, PathConfig::default(), 2);
        let mut chance = group.world.stream("disturbances");
        for number in 0..6 {
            group.start(number);
        }
        for number in 1..6 {
            group.append(0, &Op::add_writer(group.db(number).local(), 2));
        }
        group.wait_for("all may write", |group| {
            (1..6).all(|number| group.db(number).writable())
        });
        for round in 0..6 {
            let number = chance.below(6) as usize;
            group.append(number, &Op::put(format!("{round}"), "x"));
            group.disturb(&mut chance);
        }
        group.world.heal();
        group.wait_for("all have everything", |group| group.agree(5 + 6));
        // Partners go on to change.
        group.run(Duration::from_secs(60));
        (0..6).for_each(|number| group.count(number));
        assert_eq!(group.most, 2);
        full += group.full;
    }
    assert!(full > 0, "somebody was one too many");
}

#[test]
fn who_leaves_is_gone_and_equal_seeds_are_equal_runs() {
    let run = |seed| {
        let mut group = Group::new(seed, 3, rough(), 64);
        (0..3).for_each(|number| group.start(number));
        group.wait_for("all are connected", Group::is_whole);
        let (db, joined) = group.members[1].up.take().unwrap();
        let topic = *joined.topic();
        assert_eq!(topic, db.discovery_key());
        group.world.block_on(group.members[1].id, joined.close()).unwrap();
        group.run(Duration::from_secs(20));
        assert_eq!(
            db.status().peers.len(),
            0,
            "its connections are closed, and nobody gets in"
        );
        for number in [0, 2] {
            let state = group.state(number).unwrap();
            assert_eq!(state.peers.len(), 1);
            assert!(
                state.failures > 0 && state.last_error.is_some(),
                "it is dialled in vain"
            );
        }
        group.world.trace_hash()
    };
    let hashes: Vec<_> = [3, 3, 4].map(run).into();
    assert_eq!(hashes[0], hashes[1]);
    assert_ne!(hashes[0], hashes[2]);
}
