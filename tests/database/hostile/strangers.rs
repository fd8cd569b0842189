//! An engine with what strangers write, by hand.

use autobee::apply::ApplyFn;
use autobee::crypto::{CoreKey, Ed25519, KeyPair, Seed, Sign as _};
use autobee::engine::{Engine, EngineOptions, Trees, WINDOW_BATCHES, witness};
use autobee::hypercore::manifest::Manifest;
use autobee::wire::oplog::{Backer, OplogBlock, Witness};
use autobee::wire::{Encode as _, Index, Length, Link, Timestamp, Weight};
use autobee_sim::workload::{JsonApply, Op};
use bytes::Bytes;

/// An engine, its clock, and who writes here.
pub(crate) struct Local {
    pub(crate) engine: Engine<Ed25519>,
    key: CoreKey,
    pair: KeyPair,
    pub(crate) now: u64,
    length: u64,
}

impl Local {
    pub(crate) fn new() -> Self {
        let pair = pair(1);
        let key = Manifest::single(pair.public).key();
        let mut engine = Engine::new(EngineOptions {
            key,
            name: String::new(),
            apply: ApplyFn::new(JsonApply),
            optimistic: true,
            rules: Some(autobee::wire::Rules::interop()),
            verify: Ed25519,
            trees: Trees::unshared(&key, 1 << 20).unwrap(),
            window_batches: WINDOW_BATCHES,
        });
        engine.set_local(key);
        Self {
            engine,
            key,
            pair,
            now: 1_000_000,
            length: 0,
        }
    }

    pub(crate) fn drain(&mut self) {
        while self.engine.drain(Timestamp(self.now), usize::MAX).unwrap().more {}
    }

    pub(crate) fn append(&mut self, op: &Op) {
        self.now += 1;
        let values = [op.to_value().into()];
        let batch = self.engine.append(&values, false, Timestamp(self.now), |_| None);
        let batch = batch.unwrap();
        self.drain();
        let blocks = self.engine.stamp(batch, &Ed25519, &self.pair.secret).unwrap();
        self.length += blocks.len() as u64;
    }

    /// The log of a stranger: refused entries of one block each, every one with a claim that another log of it backs.
    pub(crate) fn claims(&self, name: u32, count: u64) -> (CoreKey, Vec<Bytes>) {
        let key = Manifest::single(pair(name).public).key();
        let claim = claim_of(&key, 5);
        let blocks = (0..count).map(|number| self.refused(number, Some(claim.clone())));
        (key, blocks.collect())
    }

    /// A member whose ceiling is 1, with a log of entries of one block each, every one with a claim above that.
    pub(crate) fn member_claims(&mut self, name: u32, count: u64) -> (CoreKey, Vec<Bytes>) {
        let key = Manifest::single(pair(name).public).key();
        self.append(&Op::add_writer(key, 1));
        let creator = self.head();
        let links = |number| (number == 0).then_some(creator).into_iter().collect();
        let blocks = (0..count).map(|number| self.claiming(&key, number, links(number)));
        (key, blocks.collect())
    }

    /// Two such members; each entry links the last one of the other.
    pub(crate) fn linked_claims(&mut self, names: [u32; 2], count: u64) -> [(CoreKey, Vec<Bytes>); 2] {
        let keys = names.map(|name| Manifest::single(pair(name).public).key());
        for key in keys {
            self.append(&Op::add_writer(key, 1));
        }
        let creator = self.head();
        let link = |key, length| match length {
            0 => creator,
            length => Link {
                key,
                length: Length(length),
            },
        };
        let first = (0..count).map(|number| self.claiming(&keys[0], number, vec![link(keys[1], number)]));
        let second =
            (0..count).map(|number| self.claiming(&keys[1], number, vec![link(keys[0], number + 1)]));
        [(keys[0], first.collect()), (keys[1], second.collect())]
    }

    fn claiming(&self, key: &CoreKey, number: u64, links: Vec<Link>) -> Bytes {
        let block = OplogBlock {
            timestamp: Timestamp(self.now + number),
            links,
            witness: Some(claim_of(key, 1_000 + number)),
            value: Some(Op::put("m", number.to_string()).to_value().into()),
            ..OplogBlock::default()
        };
        block.to_bytes().unwrap().into()
    }

    /// Another member, with an entry that is older than the claims.
    pub(crate) fn late(&mut self, name: u32) -> (CoreKey, Vec<Bytes>) {
        let key = Manifest::single(pair(name).public).key();
        self.append(&Op::add_writer(key, 1));
        let block = OplogBlock {
            timestamp: Timestamp(1),
            links: vec![self.head()],
            value: Some(Op::put("late", "1").to_value().into()),
            ..OplogBlock::default()
        };
        (key, vec![block.to_bytes().unwrap().into()])
    }

    /// The log that backs them.
    pub(crate) fn backer(&self) -> (CoreKey, Vec<Bytes>) {
        let key = Manifest::single(pair(u32::MAX).public).key();
        (key, vec![self.refused(0, None)])
    }

    fn refused(&self, number: u64, witness: Option<Witness>) -> Bytes {
        let mut op = Op::put("x", number.to_string());
        op.reject = true;
        let creator = Link {
            key: self.key,
            length: Length(1),
        };
        let block = OplogBlock {
            timestamp: Timestamp(self.now + number),
            links: vec![creator],
            witness,
            optimistic: true,
            value: Some(op.to_value().into()),
            ..OplogBlock::default()
        };
        block.to_bytes().unwrap().into()
    }

    fn head(&self) -> Link {
        Link {
            key: self.key,
            length: Length(self.length),
        }
    }

    pub(crate) fn feed(&mut self, (key, blocks): &(CoreKey, Vec<Bytes>)) {
        self.engine.ingest(*key, Index(0), blocks);
    }
}

/// A claim of this writer that the first block of another log backs.
fn claim_of(writer: &CoreKey, weight: u64) -> Witness {
    let backer = pair(u32::MAX);
    let manifest = Manifest::single(backer.public);
    let (length, weight) = (Length(1), Weight(weight));
    let signature = witness::attest(&Ed25519, &backer.secret, &manifest.key(), writer, length, weight);
    Witness {
        weight,
        backer: Backer {
            key: manifest.key(),
            length,
            signature: signature.unwrap(),
            manifest: Bytes::copy_from_slice(manifest.as_bytes()),
        },
    }
}

pub(crate) fn pair(name: u32) -> KeyPair {
    let mut seed = [3; 32];
    seed[..4].copy_from_slice(&name.to_le_bytes());
    Ed25519.key_pair(&Seed::new(seed))
}
