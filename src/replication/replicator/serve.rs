//! What peers get from us: our sync, answers to wants, answers to requests.
//!
//! Source: spec/replication.md 6.3, 6.7 and 6.8. Where the original destroys the stream, or leaves the asker waiting, we
//! answer that there is no data.

use super::{Fault, PeerId, Replicator};
use crate::hypercore::flat_tree;
use crate::hypercore::manifest::Manifest;
use crate::hypercore::merkle::{ReadError, TreeError};
use crate::hypercore::proof::{Proof, RequestError, Source};
use crate::replication::core::Core;
use crate::replication::message::{
    Bitfield, DataMessage, Message, NoData, Range, RequestMessage, Sync, WANT_MAX, Want,
};

/// The announcement of leading blocks.
pub(super) const fn contiguous_range(length: u64) -> Message {
    Message::Range(Range {
        drop: false,
        start: 0,
        length,
    })
}

/// Whether an answer was possible.
#[expect(clippy::large_enum_variant, reason = "lives for a moment, on the stack")]
enum Answer {
    Data(Proof),
    NoData(u64),
    /// The request can never be proven: its sender is to blame.
    Nonsense,
}

impl Replicator {
    /// What we say of ourselves to a peer.
    pub(super) fn our_sync(&self, id: PeerId, core: &impl Core) -> Result<Option<Sync>, ReadError> {
        let Some(peer) = self.peers.get(&id) else {
            return Ok(None);
        };
        let tree = &core.head().tree;
        let same_fork = peer.sync.fork == tree.fork();
        Ok(Some(Sync {
            fork: tree.fork(),
            length: tree.length(),
            remote_length: if same_fork { peer.sync.length } else { 0 },
            can_upgrade: !peer.synced || (same_fork && can_upgrade(peer.sync.length, core)?),
            uploading: true,
            downloading: self.downloading,
            has_manifest: offered_manifest(core).is_some(),
            allow_push: false,
        }))
    }

    /// The next answer to a want or a request of a peer.
    pub(super) fn next_answer(&mut self, id: PeerId, core: &impl Core) -> Result<Option<Message>, ReadError> {
        while let Some(want) = self
            .peers
            .get_mut(&id)
            .and_then(|peer| peer.wants_due.pop_front())
        {
            if let Some(answer) = self.answer_want(id, want, core) {
                return Ok(Some(answer));
            }
        }
        let Some(request) = self
            .peers
            .get_mut(&id)
            .and_then(|peer| peer.requests_due.pop_front())
        else {
            return Ok(None);
        };
        let answer = answer_request(&request, core)?;
        Ok(Some(match answer {
            Answer::Data(proof) => Message::Data(Box::new(DataMessage {
                request: request.id,
                proof,
            })),
            Answer::NoData(reason) => Message::NoData(NoData {
                request: request.id,
                reason,
            }),
            Answer::Nonsense => {
                self.count_nonsense(id);
                Message::NoData(NoData {
                    request: request.id,
                    reason: NoData::INVALID_REQUEST,
                })
            }
        }))
    }

    fn count_nonsense(&mut self, id: PeerId) {
        let limit = self.settings.invalid_requests;
        let count = self.peers.get_mut(&id).map_or(0, |peer| {
            peer.invalid += 1;
            peer.invalid
        });
        if count == limit {
            self.blame(id, Fault::InvalidRequests { count });
        }
    }

    fn answer_want(&mut self, id: PeerId, want: Want, core: &impl Core) -> Option<Message> {
        let (length, contiguous) = (core.head().tree.length(), self.contiguous);
        let end = want.start.saturating_add(want.length);
        if end < contiguous || contiguous == length || (want.any && want.start < contiguous) {
            return Some(contiguous_range(contiguous));
        }
        let end = end.min(length);
        if want.any {
            let start = (want.start..end).find(|index| core.has(*index))?;
            return Some(Message::Range(Range {
                drop: false,
                start,
                length: 1,
            }));
        }
        let start = want.start - want.start % 32;
        if start >= end {
            return None;
        }
        // One message tells of so many blocks; what is left of the want waits for the next.
        let stop = end.min(start.saturating_add(WANT_MAX));
        if stop < end
            && let Some(peer) = self.peers.get_mut(&id)
        {
            let rest = Want {
                start: stop,
                length: end - stop,
                any: false,
            };
            peer.wants_due.push_front(rest);
        }
        let words: Vec<u32> = (start..stop).step_by(32).map(|start| core.word(start)).collect();
        let told = words.iter().rposition(|word| *word != 0)? + 1;
        Some(Message::Bitfield(Bitfield {
            start,
            words: words.into_iter().take(told.max(1)).collect(),
        }))
    }
}

/// The manifest, if it is one that peers cannot make from the key.
fn offered_manifest<C: Core>(core: &C) -> Option<&Manifest> {
    core.manifest()
        .filter(|manifest| !manifest.is_compat(&core.key()))
}

/// True when the upgrade from `length` to ours can be proven: all roots of that length are here.
fn can_upgrade(length: u64, core: &impl Core) -> Result<bool, ReadError> {
    let tree = &core.head().tree;
    if length == 0 {
        return Ok(true);
    }
    if length >= tree.length() {
        return Ok(false);
    }
    for root in flat_tree::full_roots(length) {
        if tree.node_if_stored(root, core.nodes())?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn answer_request(message: &RequestMessage, core: &impl Core) -> Result<Answer, ReadError> {
    let head = core.head();
    let manifest = offered_manifest(core).filter(|_| message.manifest);
    let lacks_block = message.request.block.is_some_and(|block| !core.has(block.index));
    if message.fork != head.tree.fork() || lacks_block {
        return Ok(match manifest {
            Some(manifest) => {
                let mut proof = Proof::empty(head.tree.fork());
                proof.manifest = Some(manifest.clone());
                Answer::Data(proof)
            }
            None => Answer::NoData(NoData::NOT_AVAILABLE),
        });
    }
    let source = Source {
        tree: &head.tree,
        nodes: core.nodes(),
        prologue_length: core
            .manifest()
            .and_then(Manifest::prologue)
            .map_or(0, |prologue| prologue.length),
        signature: head.signature.as_ref(),
    };
    let mut proof = match source.prove(&message.request) {
        Ok(proof) => proof,
        Err(RequestError::Tree(TreeError::Read(error))) => return Err(error),
        Err(RequestError::Tree(TreeError::Missing(_))) => {
            return Ok(Answer::NoData(NoData::INVALID_REQUEST));
        }
        Err(_) => return Ok(Answer::Nonsense),
    };
    if let Some(block) = &mut proof.block {
        match core.block(block.index)? {
            Some(value) => block.value = value,
            None => return Ok(Answer::NoData(NoData::NOT_AVAILABLE)),
        }
    }
    proof.manifest = manifest.cloned();
    Ok(Answer::Data(proof))
}
