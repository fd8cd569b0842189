//! What own blocks carry, as a function of the order.

use std::collections::BTreeMap;

use autobee::apply::ApplyFn;
use autobee::crypto::{CoreKey, Ed25519, KeyPair, Seed, Sign as _};
use autobee::engine::{Checkpoint, ComposeError, Engine, EngineOptions, Trees, WINDOW_BATCHES};
use autobee::hypercore::manifest::Manifest;
use autobee::wire::oplog::{OplogBlock, ViewStamp};
use autobee::wire::{Decode as _, Encode as _, Index, Length, Timestamp, Weight};
use autobee_sim::workload::{JsonApply, Op};
use bytes::Bytes;

/// ```text
/// a: add b   --- b: two values --- a: three values
/// view   1        + 2              start 3, length 3
/// system 1        + 1              start 2, length 1
/// ```
#[test]
fn stamps_leave_out_what_others_batches_wrote() {
    let mut group = Group::new(2);
    group.append(0, &[Op::add_writer(group.key(1), 2)]);
    group.share();
    group.append(1, &[Op::put("m", "b1"), Op::put("m", "b2")]);
    group.share();
    group.append(0, &[Op::put("m", "a1"), Op::put("m", "a2"), Op::put("m", "a3")]);

    let views = group.last(0).views.unwrap();
    let range = |stamp: ViewStamp| (stamp.start.0, stamp.length.0);
    assert_eq!(
        (range(views.view.unwrap()), range(views.system)),
        ((3, 3), (2, 1))
    );
    assert_eq!(views.flushes, 3);
    let stamped: Vec<bool> = group.log(0).iter().map(|block| block.views.is_some()).collect();
    assert_eq!(
        stamped,
        [true, false, false, true],
        "the last of each batch alone"
    );
}

#[test]
fn a_grant_is_attested_by_the_block_that_makes_it_and_by_bystanders_once() {
    let mut group = Group::new(3);
    group.append(0, &[Op::add_writer(group.key(2), 2)]);
    assert_eq!(group.attested(0), [(2, 2)]);
    group.share();
    // The creator's own standing came from a batch too, so that a bystander vouches for it as well.
    group.append(2, &[Op::put("x", "1")]);
    assert_eq!(group.attested(2), [(0, 2)], "not about oneself");
    group.share();
    for peer in [0, 2] {
        group.append(peer, &[Op::put("x", "2")]);
        assert_eq!(group.attested(peer), []);
    }
}

/// ```text
/// a1: add b, c --+-- b1: put         heavy, late: moves in front of c1
///                \-- c1: add d 1     light; a hears of c1 first and attests d, then reorders
/// ```
#[test]
fn a_reorder_makes_nobody_testify_twice() {
    let mut group = Group::new(4);
    let [b, c, d] = [1, 2, 3].map(|peer| group.key(peer));
    group.append(0, &[Op::add_writer(b, 2), Op::add_writer(c, 0)]);
    group.share();
    group.append(2, &[Op::add_writer(d, 1)]);
    group.append(1, &[Op::put("x", "1")]);
    group.tell(2, 0);
    group.append(0, &[Op::put("y", "1")]);
    assert_eq!(group.attested(0), [(3, 1)]);
    group.tell(1, 0);
    assert!(group.peers[0].engine.stats().undos > 0, "nothing was reordered");
    group.append(0, &[Op::put("y", "2")]);
    assert_eq!(group.attested(0), []);
}

#[test]
fn what_is_owed_depends_on_the_blocks_and_not_on_their_way() {
    let keys = |group: &Group| [1, 2, 3, 4].map(|peer| group.key(peer));
    let history = || {
        let mut group = Group::new(5);
        let [b, c, d, e] = keys(&group);
        group.append(
            0,
            &[Op::add_writer(b, 2), Op::add_writer(c, 1), Op::add_writer(d, 0)],
        );
        group.share();
        group.append(1, &[Op::add_writer(e, 1)]);
        group.append(1, &[Op::remove_writer(c)]);
        group.append(2, &[Op::add_writer(e, 2)]);
        group.append(2, &[Op::add_writer(d, 2)]);
        group
    };
    let mut told = Vec::new();
    for delivery in [[1, 2], [2, 1]] {
        let mut group = history();
        for from in delivery {
            group.tell(from, 3);
        }
        group.append(3, &[Op::put("x", "1")]);
        told.push((group.attested(3), group.last(3).witness));
    }
    assert_eq!(told[0], told[1]);
    assert!(!told[0].0.is_empty());
}

#[test]
fn a_restart_forgets_nothing_that_is_owed_and_repeats_nothing_that_was_told() {
    let mut group = Group::new(3);
    let [b, c] = [1, 2].map(|peer| group.key(peer));
    group.append(0, &[Op::add_writer(b, 2)]);
    group.restart(0);
    group.append(0, &[Op::put("x", "1")]);
    assert_eq!(group.attested(0), []);

    // Written without having been applied, as when a block of the view is missing.
    let peer = &mut group.peers[0];
    let value = Op::add_writer(c, 2).to_value().into();
    let batch = peer.engine.append(&[value], false, NOW, |_| None).unwrap();
    let blocks = peer.engine.stamp(batch, &Ed25519, &peer.pair.secret).unwrap();
    peer.log.extend(blocks);
    assert!(group.last(0).views.is_none() && group.attested(0).is_empty());
    group.restart(0);
    group.append(0, &[Op::put("x", "2")]);
    assert_eq!(group.attested(0), [(2, 2)]);

    // And what was heard is heard again.
    group.share();
    group.restart(2);
    group.append(2, &[Op::put("x", "3")]);
    let witness = group.last(2).witness.unwrap();
    assert_eq!((witness.weight, witness.backer.length), (Weight(2), Length(4)));
}

/// ```text
/// a1: add b, c, d --+-- b1: put        b vouches for all that a1 granted
///                   \-- c1: add e 1    heavy: moves in front of b1, in whose past it is not
/// ```
#[test]
fn a_restart_tells_what_the_last_own_block_knew_from_what_is_in_front_of_it() {
    for restarts in [false, true] {
        let mut group = Group::new(4);
        let [b, c, e] = [1, 2, 3].map(|peer| group.key(peer));
        group.append(0, &[Op::add_writer(b, 0), Op::add_writer(c, 2)]);
        group.share();
        group.append(1, &[Op::put("x", "1")]);
        group.append(2, &[Op::add_writer(e, 1)]);
        group.tell(2, 1);
        assert_eq!(group.peers[1].engine.stats().undos, 1, "nothing was reordered");
        if restarts {
            group.restart(1);
        }
        group.append(1, &[Op::put("x", "2")]);
        assert_eq!(group.attested(1), [(3, 1)], "restarted: {restarts}");
    }
}

/// ```text
/// a: add b, c --- put, put, ... ---------- b: put     b attests c, and proves its own weight
///                 what came before is forgotten
/// ```
#[test]
fn what_is_owed_and_was_heard_of_forgotten_entries_is_kept_over_a_restart() {
    for restarts in [0, 1, 2] {
        for told_before in [false, true] {
            let mut group = Group::with_window(4, 2);
            let [b, c, d] = [1, 2, 3].map(|peer| group.key(peer));
            group.append(0, &[Op::add_writer(b, 2), Op::add_writer(c, 1)]);
            group.share();
            if told_before {
                group.append(1, &[Op::put("x", "b")]);
                assert_eq!(group.attested(1), [(0, 2), (2, 1)]);
                group.share();
                group.append(0, &[Op::add_writer(d, 1)]);
            }
            for number in 0..12 {
                group.append(0, &[Op::put("x", number.to_string())]);
            }
            group.tell(0, 1);
            assert!(group.peers[1].engine.forgotten() > 4, "the grants are remembered");
            for _ in 0..restarts {
                group.reopen(1);
            }
            group.append(1, &[Op::put("x", "b")]);
            let owed = if told_before {
                vec![(3, 1)]
            } else {
                vec![(0, 2), (2, 1)]
            };
            assert_eq!(group.attested(1), owed, "{restarts} restarts");
            if !told_before {
                assert_eq!(
                    group.last(1).witness.map(|witness| witness.weight),
                    Some(Weight(2))
                );
            }
            group.reopen(1);
            group.append(1, &[Op::put("x", "b")]);
            assert_eq!(group.attested(1), []);
        }
    }
}

/// ```text
/// a1: add b, c --+-- a2 .. a20: puts            b forgets these, is restarted,
///                \-- c1: put, before all of a's  and has to go back for this
/// ```
#[test]
fn what_is_owed_stays_the_same_when_the_order_goes_back() {
    let mut attested = Vec::new();
    for (window, restarts) in [(WINDOW_BATCHES, false), (2, false), (2, true)] {
        let mut group = Group::with_window(4, window);
        let [b, c, d] = [1, 2, 3].map(|peer| group.key(peer));
        group.append(0, &[Op::add_writer(b, 2), Op::add_writer(c, 2)]);
        group.share();
        group.append(2, &[Op::put("y", "c")]);
        for number in 0..20 {
            let ops = match number {
                1 => vec![Op::add_writer(d, 1)],
                15 => vec![Op::add_writer(d, 2)],
                _ => vec![Op::put("x", number.to_string())],
            };
            group.append(0, &ops);
        }
        group.tell(0, 1);
        if restarts {
            group.reopen(1);
        }
        let before = group.peers[1].engine.forgotten();
        group.tell(2, 1);
        let went_back = group.peers[1].engine.stats().undos > 0;
        assert!(went_back, "{before}");
        group.append(1, &[Op::put("x", "b")]);
        let mut told = group.attested(1);
        told.sort_unstable();
        attested.push((told, group.last(1).witness.map(|witness| witness.weight)));
        group.reopen(1);
        group.append(1, &[Op::put("x", "b")]);
        assert_eq!(group.attested(1), []);
    }
    let expected = vec![(0, 2), (2, 2), (3, 1), (3, 2)];
    assert_eq!(attested, vec![(expected, Some(Weight(2))); 3]);
}

#[test]
fn a_writer_that_is_changed_to_later_was_listened_for() {
    let mut group = Group::new(2);
    let b = group.key(1);
    group.peers[1].engine.set_local(CoreKey::new([9; 32]));
    group.append(0, &[Op::add_writer(b, 2)]);
    group.share();
    group.peers[1].engine.set_local(b);
    group.append(1, &[Op::put("x", "1")]);
    assert_eq!(group.last(1).witness.unwrap().weight, Weight(2));
    assert_eq!(
        group.attested(1),
        [],
        "what was applied before is not its business"
    );
}

#[test]
fn a_faulty_backer_does_not_keep_a_good_one_out() {
    let mut group = Group::new(3);
    let [b, c] = [1, 2].map(|peer| group.key(peer));
    group.append(0, &[Op::add_writer(b, 2)]);
    group.share();
    group.append(1, &[Op::put("x", "1")]);
    // What b says about c is older than what a says, and its signature is worth nothing.
    let mut forged = group.last(1);
    let mut attestation = OplogBlock::from_bytes(&group.peers[0].log[0])
        .unwrap()
        .attestations
        .unwrap()[0];
    attestation.key = c;
    forged.attestations = Some(vec![attestation]);
    let forged = forged.to_bytes().unwrap();
    *group.peers[1].log.last_mut().unwrap() = forged.into();
    group.tell(1, 0);
    group.append(0, &[Op::add_writer(c, 2)]);
    group.tell(1, 2);
    group.tell(0, 2);
    group.append(2, &[Op::put("x", "2")]);
    let witness = group.last(2).witness.unwrap();
    assert_eq!(witness.backer.key, group.key(0));
    assert_eq!(group.peers[2].engine.order().last().unwrap().weight, Weight(2));
}

#[test]
fn what_no_peer_would_take_is_refused_before_it_is_in_the_order() {
    let mut group = Group::new(2);
    group.append(0, &[Op::put("x", "1")]);
    group.share();
    let values = vec![Bytes::from("{}"); 33];
    let stranger = &mut group.peers[1].engine;
    let refused = stranger.append(&values, true, NOW, |_| None).unwrap_err();
    assert_eq!(refused, ComposeError::LongOptimistic { blocks: 33 });
    let refused = stranger.append(&values, false, NOW, |_| None).unwrap_err();
    assert!(matches!(refused, ComposeError::NotWritable(_)));
    let refused = stranger.append(&[], true, NOW, |_| None).unwrap_err();
    assert_eq!(refused, ComposeError::Empty);
    assert_eq!(stranger.batches(), 1);
    let values = &values[..32];
    assert!(stranger.append(values, true, NOW, |_| None).is_ok());
    assert_eq!(stranger.drain(NOW, usize::MAX).unwrap().undone, 0);
    assert_eq!(stranger.batches(), 2);
}

const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// Peers, the first of them the creator, and the logs they write.
struct Group {
    peers: Vec<Peer>,
    manifests: BTreeMap<CoreKey, Bytes>,
    window: usize,
    now: Timestamp,
}

struct Peer {
    pair: KeyPair,
    local: CoreKey,
    engine: Engine<Ed25519>,
    trees: Trees,
    log: Vec<Bytes>,
    /// What it has of others.
    here: BTreeMap<CoreKey, Vec<Bytes>>,
}

impl Group {
    fn new(peers: u8) -> Self {
        Self::with_window(peers, WINDOW_BATCHES)
    }

    /// Peers that hold so many batches.
    fn with_window(peers: u8, window: usize) -> Self {
        let pairs: Vec<KeyPair> = (0..peers)
            .map(|peer| Ed25519.key_pair(&Seed::new([peer; 32])))
            .collect();
        let manifests: Vec<Manifest> = pairs.iter().map(|pair| Manifest::single(pair.public)).collect();
        let creator = manifests[0].key();
        Self {
            peers: pairs
                .into_iter()
                .zip(&manifests)
                .map(|(pair, manifest)| {
                    let trees = Trees::unshared(&manifest.key(), 1 << 20).unwrap();
                    Peer {
                        pair,
                        local: manifest.key(),
                        engine: open(creator, manifest.key(), &trees, window, &[]),
                        trees,
                        log: Vec::new(),
                        here: BTreeMap::new(),
                    }
                })
                .collect(),
            window,
            manifests: manifests
                .iter()
                .map(|manifest| (manifest.key(), Bytes::copy_from_slice(manifest.as_bytes())))
                .collect(),
            now: NOW,
        }
    }

    fn key(&self, peer: usize) -> CoreKey {
        self.peers[peer].local
    }

    /// Appends operations as one batch, a second later than the last one.
    fn append(&mut self, peer: usize, ops: &[Op]) {
        self.now.0 += 1_000;
        let values: Vec<Bytes> = ops.iter().map(|op| op.to_value().into()).collect();
        let peer = &mut self.peers[peer];
        let manifests = |key: &CoreKey| self.manifests.get(key).cloned();
        let batch = peer.engine.append(&values, false, self.now, manifests).unwrap();
        peer.drain(self.now);
        let blocks = peer.engine.stamp(batch, &Ed25519, &peer.pair.secret).unwrap();
        peer.log.extend(blocks);
    }

    /// Everything of one peer's log goes to another.
    fn tell(&mut self, from: usize, to: usize) {
        let (key, log) = (self.key(from), self.peers[from].log.clone());
        let peer = &mut self.peers[to];
        peer.here.insert(key, log);
        peer.feed();
        peer.drain(self.now);
    }

    /// Everybody hears everything.
    fn share(&mut self) {
        for from in 0..self.peers.len() {
            for to in (0..self.peers.len()).filter(|to| *to != from) {
                self.tell(from, to);
            }
        }
    }

    /// Of a restarted peer nothing is left but the logs.
    fn restart(&mut self, peer: usize) {
        self.resume(peer, &[]);
    }

    /// A peer is restarted, and goes on from what it stored.
    fn reopen(&mut self, peer: usize) {
        let stored = self.peers[peer].engine.checkpoints();
        let stored = stored.iter().map(|checkpoint| checkpoint.to_bytes().unwrap());
        let stored: Vec<_> = stored
            .map(|bytes| Checkpoint::from_bytes(&bytes).unwrap())
            .collect();
        self.resume(peer, &stored);
    }

    fn resume(&mut self, peer: usize, checkpoints: &[Checkpoint]) {
        let creator = self.key(0);
        let peer = &mut self.peers[peer];
        peer.engine = open(creator, peer.local, &peer.trees, self.window, checkpoints);
        peer.feed();
        peer.drain(self.now);
    }

    fn log(&self, peer: usize) -> Vec<OplogBlock> {
        let log = self.peers[peer].log.iter();
        log.map(|block| OplogBlock::from_bytes(block).unwrap()).collect()
    }

    fn last(&self, peer: usize) -> OplogBlock {
        self.log(peer).pop().unwrap()
    }

    /// Whom the last block of a peer attests, and what.
    fn attested(&self, peer: usize) -> Vec<(usize, u64)> {
        let attestations = self.last(peer).attestations.unwrap_or_default();
        let peer_of = |key: CoreKey| self.peers.iter().position(|peer| peer.local == key).unwrap();
        attestations
            .iter()
            .map(|attestation| (peer_of(attestation.key), attestation.weight.0))
            .collect()
    }
}

impl Peer {
    fn feed(&mut self) {
        let logs = self.here.iter().chain([(&self.local, &self.log)]);
        for (key, log) in logs {
            let from = self.engine.fed_from(key);
            let new = log.get(usize::try_from(from.0).unwrap()..).unwrap_or_default();
            self.engine.ingest(*key, Index(from.0), new);
        }
    }

    fn drain(&mut self, now: Timestamp) {
        while self.engine.drain(now, usize::MAX).unwrap().is_behind {
            self.engine.go_back().unwrap();
            self.feed();
        }
    }
}

fn open(
    creator: CoreKey,
    local: CoreKey,
    trees: &Trees,
    window_batches: usize,
    checkpoints: &[Checkpoint],
) -> Engine<Ed25519> {
    let options = EngineOptions {
        key: creator,
        name: String::new(),
        apply: ApplyFn::new(JsonApply),
        optimistic: true,
        rules: Some(autobee::wire::Rules::interop()),
        verify: Ed25519,
        trees: trees.clone(),
        window_batches,
    };
    let mut engine = Engine::resume(options, checkpoints).unwrap();
    engine.set_local(local);
    engine
}
