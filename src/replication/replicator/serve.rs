//! What peers get from us: our sync, answers to wants, answers to requests.
//!
//! Source: spec/replication.md 6.3, 6.7 and 6.8. Where the original destroys the stream, or leaves the asker waiting, we
//! answer that there is no data.

use super::{PeerFault, PeerId, Replicator};
use crate::env::Point;
use crate::hypercore::CoreError;
use crate::hypercore::proof::Proof;
use crate::replication::core::{Answer, LogState, OfferedLog};
use crate::replication::message::{
    BitfieldMessage, DataMessage, Message, NoData, RangeMessage, RequestMessage, Sync, WANT_MAX, Want,
};

/// The announcement of leading blocks.
pub(super) const fn contiguous_range(length: u64) -> Message {
    Message::Range(RangeMessage {
        drop: false,
        start: 0,
        length,
    })
}

impl Replicator {
    /// What we say of ourselves to a peer.
    pub(super) fn our_sync(&mut self, id: PeerId, core: &impl OfferedLog) -> Result<Option<Sync>, CoreError> {
        let Some(peer) = self.peers.get_mut(&id) else {
            return Ok(None);
        };
        let LogState { fork, length, .. } = self.known;
        let same_fork = peer.sync.fork == fork;
        let their_length = peer.sync.length;
        let can_upgrade = match peer.synced {
            false => true,
            true if !same_fork || (their_length > 0 && their_length >= length) => false,
            true => their_length == 0 || core.has_roots(their_length)?,
        };
        peer.lacks_roots = peer.synced && same_fork && their_length < length && !can_upgrade;
        Ok(Some(Sync {
            fork,
            length,
            remote_length: if same_fork { their_length } else { 0 },
            can_upgrade,
            uploading: true,
            downloading: self.downloading,
            has_manifest: self.known.offers_manifest,
            allow_push: false,
        }))
    }

    /// The next answer to a want or a request of a peer.
    pub(super) fn next_answer(
        &mut self,
        id: PeerId,
        core: &impl OfferedLog,
    ) -> Result<Option<Message>, CoreError> {
        while let Some(want) = self
            .peers
            .get_mut(&id)
            .and_then(|peer| peer.wants_due.pop_front())
        {
            if let Some(answer) = self.answer_want(id, want, core)? {
                return Ok(Some(answer));
            }
        }
        // What was cut is answered once peers can be told of the new fork: until then they would take an answer, or none, for
        // a fault.
        if self.known.is_rewriting {
            return Ok(None);
        }
        let Some(request) = self
            .peers
            .get_mut(&id)
            .and_then(|peer| peer.requests_due.pop_front())
        else {
            return Ok(None);
        };
        let is_of_this = request.fork == self.known.fork;
        let absent = match request.request.block {
            Some(block) if is_of_this && !core.has(block.index)? => Some(block.index),
            _ => None,
        };
        let answer = self.answer_request(id, &request, is_of_this && absent.is_none(), core)?;
        let absent = absent.filter(|index| *index < self.known.length);
        let (Some(start), Some(peer)) = (absent, self.peers.get_mut(&id)) else {
            return Ok(Some(answer));
        };
        // Whoever was told that it is here hears first that it is here no longer: else the answer is a fault.
        peer.outbox.push_front(answer);
        Ok(Some(Message::Range(RangeMessage {
            drop: true,
            start,
            length: 1,
        })))
    }

    fn answer_request(
        &mut self,
        id: PeerId,
        asked: &RequestMessage,
        is_here: bool,
        core: &impl OfferedLog,
    ) -> Result<Message, CoreError> {
        let request = asked.id;
        let data = |proof| Message::Data(Box::new(DataMessage { request, proof }));
        let none = |reason| Message::NoData(NoData { request, reason });
        let answer = if is_here {
            core.prove(&asked.request, asked.manifest)?
        } else {
            Answer::Absent
        };
        Ok(match answer {
            Answer::Proof(proof) => data(proof),
            Answer::Absent => match core.offered_manifest()?.filter(|_| asked.manifest) {
                Some(manifest) => {
                    let mut proof = Proof::empty(self.known.fork);
                    proof.manifest = Some(manifest);
                    data(proof)
                }
                None => none(NoData::NOT_AVAILABLE),
            },
            Answer::Incomplete => none(NoData::INVALID_REQUEST),
            Answer::Nonsense => {
                self.count_nonsense(id);
                none(NoData::INVALID_REQUEST)
            }
        })
    }

    fn count_nonsense(&mut self, id: PeerId) {
        let limit = self.settings.invalid_requests;
        self.sights.note(Point::NonsenseAsked);
        let count = self.peers.get_mut(&id).map_or(0, |peer| {
            peer.invalid += 1;
            peer.invalid
        });
        if count == limit {
            self.blame(id, PeerFault::InvalidRequests { count });
        }
    }

    fn answer_want(
        &mut self,
        id: PeerId,
        want: Want,
        core: &impl OfferedLog,
    ) -> Result<Option<Message>, CoreError> {
        let LogState {
            length, contiguous, ..
        } = self.known;
        let end = want.start.saturating_add(want.length);
        if end < contiguous || contiguous == length || (want.any && want.start < contiguous) {
            return Ok(Some(contiguous_range(contiguous)));
        }
        let end = end.min(length);
        let start = want.start - want.start % 32;
        if start >= end {
            return Ok(None);
        }
        // One message tells of so many blocks; what is left of the want waits for the next.
        let stop = end.min(start.saturating_add(WANT_MAX));
        let words = core.words(start..stop)?;
        if want.any {
            let there = (want.start..stop).find(|index| {
                let bit = index - start;
                let word = usize::try_from(bit / 32).ok().and_then(|word| words.get(word));
                word.is_some_and(|word| word >> (bit % 32) & 1 == 1)
            });
            return Ok(there.map(|start| {
                Message::Range(RangeMessage {
                    drop: false,
                    start,
                    length: 1,
                })
            }));
        }
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
        Ok((!words.is_empty()).then(|| Message::Bitfield(BitfieldMessage { start, words })))
    }
}
