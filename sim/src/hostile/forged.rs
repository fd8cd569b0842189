//! A true log with a bit flipped in what is said of it.

use std::sync::{Arc, Mutex};

use autobee::crypto::Hash;
use autobee::env::{Entropy as _, Env};
use autobee::hypercore::proof::Proof;
use autobee::replication::message::Message;
use bytes::Bytes;

use super::hoard::Hoard;
use super::line::{Attack, HostileStream};

/// Where the bit is.
#[derive(Debug, Clone, Copy)]
enum ForgedPlace {
    Block,
    BlockNode,
    UpgradeNode,
    Signature,
}

/// Fetches a log by all its lines, and forges each proof that it is asked for. Each stream prefers another place.
pub(super) struct Forger<E: Env> {
    hoard: Arc<Mutex<Hoard<E>>>,
    preferred: usize,
    bit: u8,
    forged: u64,
    /// Every how many blocks it forges one, and nothing else; none: everything.
    spared: Option<u64>,
    served: u64,
}

/// Blocks that are sound behind each that is not, with one more at each stream.
const SPARED: u64 = 3;

const PLACES: [ForgedPlace; 4] = [
    ForgedPlace::Block,
    ForgedPlace::Signature,
    ForgedPlace::BlockNode,
    ForgedPlace::UpgradeNode,
];

impl<E: Env> Forger<E> {
    pub(super) fn new(env: &E, hoard: &Arc<Mutex<Hoard<E>>>, attempt: u64) -> Self {
        let [bit] = env.entropy().array();
        Self {
            hoard: Arc::clone(hoard),
            preferred: usize::try_from(attempt % PLACES.len() as u64).unwrap_or(0),
            bit,
            forged: 0,
            spared: None,
            served: 0,
        }
    }

    /// One that forges a few blocks alone.
    pub(super) fn of_blocks(env: &E, hoard: &Arc<Mutex<Hoard<E>>>, attempt: u64) -> Self {
        Self {
            spared: Some(SPARED + attempt % 4),
            ..Self::new(env, hoard, attempt)
        }
    }

    /// Flips a bit where it prefers to, or at the next place that there is.
    fn forge(&mut self, proof: &mut Proof) -> bool {
        if let Some(spared) = self.spared {
            self.served += u64::from(proof.block.is_some());
            return self.served % spared == 1 && self.forge_at(ForgedPlace::Block, proof);
        }
        let places = PLACES.iter().cycle().skip(self.preferred).take(PLACES.len());
        places.into_iter().any(|place| self.forge_at(*place, proof))
    }

    fn forge_at(&self, place: ForgedPlace, proof: &mut Proof) -> bool {
        match place {
            ForgedPlace::Block => {
                let value = proof.block.as_mut().map(|block| &mut block.value);
                value.is_some_and(|value| self.flip(value))
            }
            ForgedPlace::Signature => {
                let signature = proof
                    .upgrade
                    .as_mut()
                    .and_then(|upgrade| upgrade.signature.as_mut());
                signature.is_some_and(|signature| self.flip(signature))
            }
            ForgedPlace::BlockNode => {
                let node = proof.block.as_mut().and_then(|block| block.nodes.first_mut());
                node.is_some_and(|node| self.flip_hash(&mut node.hash))
            }
            ForgedPlace::UpgradeNode => {
                let upgrade = proof.upgrade.as_mut();
                let node = upgrade.and_then(|upgrade| upgrade.nodes.first_mut());
                node.is_some_and(|node| self.flip_hash(&mut node.hash))
            }
        }
    }

    fn flip(&self, bytes: &mut Bytes) -> bool {
        let mut changed = bytes.to_vec();
        let at = usize::from(self.bit).checked_rem(changed.len());
        let Some(byte) = at.and_then(|at| changed.get_mut(at)) else {
            return false;
        };
        *byte ^= 1 << (self.bit % 8);
        *bytes = changed.into();
        true
    }

    fn flip_hash(&self, hash: &mut Hash) -> bool {
        let mut bytes = *hash.as_bytes();
        bytes[usize::from(self.bit % 32)] ^= 1 << (self.bit % 8);
        *hash = Hash::new(bytes);
        true
    }
}

impl<E: Env> Attack<E> for Forger<E> {
    fn opened(&mut self, line: &mut HostileStream<E>) {
        line.share(&self.hoard);
    }

    fn tamper(&mut self, mut message: Message) -> Vec<Message> {
        if let Message::Data(data) = &mut message {
            let is_forged = self.forge(&mut data.proof);
            self.forged += u64::from(is_forged);
        }
        vec![message]
    }

    fn misdeeds(&self) -> u64 {
        self.forged
    }
}
