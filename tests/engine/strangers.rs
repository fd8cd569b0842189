//! An engine with what strangers write, by hand.

use autobee::apply::ApplyFn;
use autobee::crypto::{CoreKey, Ed25519, KeyPair, Seed, Sign as _};
use autobee::engine::{Engine, EngineOptions, Trees, WINDOW_BATCHES, witness};
use autobee::hypercore::manifest::Manifest;
use autobee::wire::oplog::{Backer, OplogBlock, Witness};
use autobee::wire::{Encode as _, Index, Length, Link, Timestamp, Weight};
use autobee_sim::workload::{Contract, Op};
use bytes::Bytes;

/// An engine, its clock, and who writes here.
pub(crate) struct Local {
    pub(crate) engine: Engine<Ed25519>,
    key: CoreKey,
    pair: KeyPair,
    now: u64,
    length: u64,
}

impl Local {
    pub(crate) fn new() -> Self {
        let pair = pair(1);
        let key = Manifest::single(pair.public).key();
        let mut engine = Engine::new(EngineOptions {
            key,
            name: String::new(),
            apply: ApplyFn::new(Contract),
            optimistic: true,
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
        let (own, backer) = (pair(name), pair(u32::MAX));
        let key = Manifest::single(own.public).key();
        let manifest = Manifest::single(backer.public);
        let signature = witness::attest(
            &Ed25519,
            &backer.secret,
            &manifest.key(),
            &key,
            Length(1),
            Weight(5),
        )
        .unwrap();
        let claim = Witness {
            weight: Weight(5),
            backer: Backer {
                key: manifest.key(),
                length: Length(1),
                signature,
                manifest: Bytes::copy_from_slice(manifest.as_bytes()),
            },
        };
        let blocks = (0..count).map(|number| self.refused(number, Some(claim.clone())));
        (key, blocks.collect())
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

    pub(crate) fn feed(&mut self, (key, blocks): &(CoreKey, Vec<Bytes>)) {
        self.engine.ingest(*key, Index(0), blocks);
    }
}

pub(crate) fn pair(name: u32) -> KeyPair {
    let mut seed = [3; 32];
    seed[..4].copy_from_slice(&name.to_le_bytes());
    Ed25519.key_pair(&Seed::new(seed))
}
