//! Sign, sync, send: whatever a power cut takes, no peer ever sees two logs of one owner at one length.
//!
//! A writer appends, with and without signing at once, truncates and reopens after power cuts; a peer takes what is offered after every step. The second
//! test lets the peer see more than is offered, to prove that the rule is needed and that this test would notice.
use std::collections::BTreeMap;
use std::sync::Arc;

use autobee::crypto::{Ed25519, Hash, Seed, Sign as _};
use autobee::env::memory::MemoryEnv;
use autobee::env::{Env as _, Spawn as _};
use autobee::hypercore::proof::Head;
use autobee::hypercore::{Core, CoreAppendOptions, CoreOptions, Corestore, CorestoreOptions};
use autobee::store::{Seglog, StoreEngine as _, StoreHandle};
use autobee::wire::Length;
use autobee_sim::disk::{Choose as _, DiskCrash, Seeded, SimDisk};
use bytes::Bytes;

const SEEDS: u64 = 60;
const STEPS: u32 = 60;

/// What a peer saw: which content the owner signed at each length of each fork.
#[derive(Default)]
struct Peer {
    seen: BTreeMap<(u64, u64), Hash>,
    contradictions: usize,
}

impl Peer {
    fn sees(&mut self, head: &Head) {
        let tree = &head.tree;
        let hash = *self
            .seen
            .entry((tree.fork(), tree.length()))
            .or_insert_with(|| tree.hash());
        if hash != tree.hash() {
            self.contradictions += 1;
        }
    }
}

async fn open(env: &MemoryEnv, disk: &SimDisk) -> (Corestore<MemoryEnv>, Core<MemoryEnv>) {
    let (store, owner) = StoreHandle::new(Seglog::default().open(Arc::new(disk.clone())).unwrap());
    env.spawn().dedicated("store", owner);
    let store = Corestore::open(env.clone(), store, CorestoreOptions::default())
        .await
        .unwrap();
    let pair = Ed25519.key_pair(&Seed::new([1; 32]));
    let core = store.get(CoreOptions::key_pair(pair)).await.unwrap();
    (store, core)
}

/// Runs one writer. Gives the number of contradictions that a peer found, when it sees what `shown` shows.
fn contradictions(seed: u64, shown: fn(&Core<MemoryEnv>) -> Head, unsigned_too: bool) -> usize {
    let env = MemoryEnv::new(seed);
    let ended = env.run(async {
        let mut choice = Seeded::new(seed);
        let mut disk = SimDisk::new(seed);
        let mut peer = Peer::default();
        let (mut store, mut core) = open(&env, &disk).await;
        // What an acknowledged write left: it must be there after every cut.
        let mut acknowledged = core.head().unwrap();
        for step in 0..STEPS {
            let blocks = (0..=choice.below(3))
                .map(|at| Bytes::from(format!("{seed} {step} {at}")))
                .collect();
            match choice.below(10) {
                0..=2 => {
                    core.append_visible(blocks, CoreAppendOptions::default()).unwrap();
                }
                3..=4 => {
                    core.append(blocks).await.unwrap();
                    acknowledged = core.head().unwrap();
                }
                5 => {
                    let length = u64::from(choice.below(20)).min(core.length().unwrap().0);
                    core.truncate(Length(length), None).await.unwrap();
                    acknowledged = core.head().unwrap();
                }
                6..=7 => {
                    let appended = store.transact(|change| change.append_unsigned(&core, blocks));
                    assert_eq!(appended.unwrap().0, core.length().unwrap());
                    if choice.below(2) == 0 {
                        assert!(core.sign_head().unwrap().is_some());
                        assert_eq!(core.sign_head().unwrap(), None, "it is signed");
                    }
                }
                _ => {
                    let how = DiskCrash::ALL[choice.below(6) as usize];
                    drop((store, core));
                    disk = disk.crash(how, &mut choice);
                    (store, core) = open(&env, &disk).await;
                    let (head, floor) = (core.head().unwrap(), &acknowledged.tree);
                    assert!(
                        (head.tree.fork(), head.tree.length()) >= (floor.fork(), floor.length()),
                        "seed {seed}: acknowledged {floor:?}, found {:?}",
                        head.tree
                    );
                    acknowledged = head;
                }
            }
            let head = shown(&core);
            assert!(head.tree.length() == 0 || head.signature.is_some() || unsigned_too);
            peer.sees(&head);
        }
        peer.contradictions
    });
    ended.unwrap()
}

#[test]
fn what_is_offered_is_never_contradicted() {
    for seed in 0..SEEDS {
        assert_eq!(
            contradictions(seed, |core| core.peer_access().offered().unwrap(), false),
            0,
            "seed {seed}"
        );
    }
}

#[test]
fn without_the_rule_peers_would_find_contradictions() {
    let found: usize = (0..SEEDS)
        .map(|seed| contradictions(seed, |core| core.head().unwrap(), true))
        .sum();
    assert!(
        found > 0,
        "nothing was ever contradicted, so the rule is not tested"
    );
}
