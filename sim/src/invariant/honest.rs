//! Peers that keep to the protocol are never held to be at fault.
//!
//! Source: `replication::replicator::PeerFault`. What one replica takes for a fault of another is mended in most cases: the
//! block is asked of others, or asked again by a later connection. So nothing but this check sees what made it think so.

use super::{Invariant, Moment};

/// See the module.
#[derive(Debug, Default)]
pub struct HonestPeers {
    looks: u64,
}

impl Invariant for HonestPeers {
    fn name(&self) -> &'static str {
        "honest peers"
    }

    fn tick(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        if moment.claims.may_blame {
            return Ok(());
        }
        for replica in moment.replicas {
            if let Some(point) = replica.blames.first() {
                return Err(format!(
                    "{} holds a peer to be at fault, though all keep to the protocol: {}",
                    replica.name,
                    point.meaning()
                ));
            }
            self.looks += 1;
        }
        Ok(())
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![("looks for blame", self.looks)]
    }
}
