//! What a replica holds is what the slow obvious model makes of the blocks that it has.

use autobee::crypto::{CoreKey, Verify};
use autobee::db::OrderedEntry;
use autobee::engine::anchor;
use autobee::wire::Decode as _;
use autobee::wire::oplog::OplogBlock;
use bytes::Bytes;

use super::{Outcome, Violation};
use crate::model::{Rules, batches, canonical};

/// Compares a replica of the database `bootstrap` with the model.
#[must_use]
pub fn reference(bootstrap: CoreKey, outcome: &Outcome, verify: &impl Verify) -> Option<Violation> {
    let violation = |what: String| {
        Some(Violation {
            invariant: "reference",
            what,
        })
    };
    let mut set = Vec::new();
    for (key, blocks) in &outcome.cores {
        let log: Vec<OplogBlock> = blocks
            .iter()
            .map_while(|block| OplogBlock::from_bytes(block).ok())
            .collect();
        set.extend(batches(*key, &log, verify));
    }
    // A key that no core has, should a length ever be beyond what an encoding carries.
    let anchor = |key, length| anchor(key, length).map_or(CoreKey::new([0; 32]), |link| link.key);
    let model = canonical(
        &Rules {
            bootstrap,
            optimistic: true,
            anchor: &anchor,
        },
        &set,
    );
    let order: Vec<OrderedEntry> = model
        .order
        .iter()
        .flat_map(|(at, weight)| {
            let batch = &set[*at];
            batch.numbered().map(|(length, _)| OrderedEntry {
                key: batch.writer,
                length,
                weight: *weight,
            })
        })
        .collect();
    if order != outcome.order {
        let at = order
            .iter()
            .zip(&outcome.order)
            .take_while(|(a, b)| a == b)
            .count();
        return violation(format!(
            "order of {} differs at entry {at}: {:?}, the model has {:?}",
            outcome.replica,
            outcome.order.get(at),
            order.get(at),
        ));
    }
    let view: Vec<(Bytes, Bytes)> = model
        .state
        .view
        .into_iter()
        .map(|(key, value)| (key.into(), value.into()))
        .collect();
    if view != outcome.view {
        return violation(format!("view of {} is not the model's", outcome.replica));
    }
    None
}
