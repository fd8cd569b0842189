//! Tree nodes that are asked for ahead of the blocks below them.
//!
//! A request says how far its proof has to climb, and is sent long before the answers to those before it are here. With
//! hundreds of requests on their way no proof can count on the nodes that its neighbours bring, so that each block of a
//! long download would come with nine or ten nodes, most of them again and again. So of every few blocks that lie one
//! window ahead the first leaf is asked for, without its block: it comes with the siblings of its whole way up, and the
//! blocks next to it climb only as far as these.
//!
//! To the source it is a request for a node, as in any search for a byte offset.

use super::{PeerId, Replicator};
use crate::env::Mono;
use crate::hypercore::CoreError;
use crate::hypercore::proof::{HashRequest, Request};
use crate::replication::core::OfferedLog;
use crate::replication::message::Message;

/// Blocks that share one scout. A power of two.
const GROUP: u64 = 1 << GROUP_DEPTH;
const GROUP_DEPTH: u64 = 4;

/// With fewer requests at a time the ways are short enough.
const WINDOW_MIN: u64 = 4 * GROUP;

/// From this average size on, in bytes, a few nodes make no difference.
const BLOCK_BYTES_MAX: u64 = 16 * 1024;

impl Replicator {
    /// A peer is about to be asked for block `index` of a range: prepares what lies ahead.
    pub(super) fn scout(
        &mut self,
        id: PeerId,
        index: u64,
        core: &impl OfferedLog,
        now: Mono,
    ) -> Result<(), CoreError> {
        let Some(peer) = self.peers.get(&id) else {
            return Ok(());
        };
        let known = self.known;
        let window = u64::try_from(self.window(peer)).unwrap_or(u64::MAX);
        if window < WINDOW_MIN || known.byte_length / known.length.max(1) > BLOCK_BYTES_MAX {
            return Ok(());
        }
        let near = index.saturating_add(window);
        let far = near.saturating_add(window);
        let first = self.demand.scouted.max(near - near % GROUP);
        let limit = known.length.min(peer.sync.length);
        if first > far || first >= limit {
            return Ok(());
        }
        self.demand.scouted = first.saturating_add(GROUP);
        let is_useful = self.demand.wants(first) && peer.offers(first, known.fork) && !core.has(first)?;
        if !is_useful || !self.is_provable(peer, first, core)? {
            return Ok(());
        }
        let leaf = first.saturating_mul(2);
        let nodes = core.missing_nodes(leaf)?;
        if nodes <= GROUP_DEPTH {
            return Ok(());
        }
        let request = Request {
            hash: Some(HashRequest { index: leaf, nodes }),
            ..Request::default()
        };
        let message = self.start(id, self.request(request), now);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.outbox.push_back(Message::Request(message));
        }
        Ok(())
    }
}
