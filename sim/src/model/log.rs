//! A writer's log as the model sees it.

use autobee::crypto::{CoreKey, Verify};
use autobee::engine::dag::Claim;
use autobee::engine::witness;
use autobee::wire::oplog::OplogBlock;
use autobee::wire::{Length, Link};

use super::{ModelBatch, ModelBlock};

/// The batches of a writer whose log holds these blocks. An end that is no whole batch is left out.
#[must_use]
pub fn batches(writer: CoreKey, log: &[OplogBlock], verify: &impl Verify) -> Vec<ModelBatch> {
    let mut batches = Vec::new();
    let mut rest = log;
    while let Some(first) = rest.first() {
        let size = usize::try_from(first.batch.after)
            .unwrap_or(usize::MAX)
            .saturating_add(1);
        let Some((nodes, after)) = rest.split_at_checked(size) else {
            break;
        };
        let claim = first.witness.as_ref().map(|claim| Claim {
            weight: claim.weight,
            backer: Link {
                key: claim.backer.key,
                length: claim.backer.length,
            },
            valid: witness::verify(verify, &writer, claim),
        });
        let node = |block: &OplogBlock| ModelBlock {
            timestamp: block.timestamp,
            links: block.links.clone(),
            optimistic: block.optimistic,
            value: block
                .value
                .as_ref()
                .map(|value| value.to_vec())
                .unwrap_or_default(),
        };
        let first = Length((log.len() - rest.len()) as u64 + 1);
        batches.push(ModelBatch {
            writer,
            first,
            nodes: nodes.iter().map(node).collect(),
            claim,
        });
        rest = after;
    }
    batches
}
