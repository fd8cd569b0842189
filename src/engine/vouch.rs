//! Letting strangers in under safe rules: their batches are tried outside of the order, and what apply accepts is
//! acknowledged.
//!
//! Under [`Rules::safe`](crate::wire::Rules::safe) a batch of somebody who is no member takes part only as an ancestor of a
//! member's batch. So a member that gets one asks apply, on top of its order, what it would say; if it accepts, the next own
//! block links the batch, an acknowledgement if there is nothing else to write. What apply said here counts for nothing:
//! every peer asks it again where the order puts the batch. An apply that stops, stops nothing: the batch is just not
//! acknowledged. Where apply waits for a block that is not here, the batch is tried again once it is.
//!
//! A batch that apply refuses is no obstacle to what its writer says later: peers that get both refuse the first one, and
//! go on to the next.
//!
//! A batch that would send peers back behind what they have forgotten is not acknowledged either.

use std::collections::{BTreeMap, BTreeSet};

use super::Engine;
use super::dag::{BatchId, Dag};
use super::linearizer::{PlacedBatch, Replay as _, Verdict};
use super::replay::Pause;
use super::trees::MissingBlock;
use crate::crypto::{CoreKey, Verify};
use crate::env::Point;
use crate::wire::{Length, Link, Timestamp, Weight};

/// Strangers' batches that apply accepted when they were tried, and that nobody acknowledged yet.
#[derive(Debug, Default)]
pub(super) struct Vouched {
    /// Of each log the last block.
    accepted: BTreeMap<CoreKey, Length>,
    /// Those that could not be tried without a block that is not here. They stay in the set until it is.
    untried: BTreeMap<CoreKey, Length>,
    /// The latest of those that were accepted.
    latest: Timestamp,
    /// Calls of apply that trying them took.
    pub(super) tries: u64,
}

impl Vouched {
    /// True when there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.accepted.is_empty()
    }

    /// What the next own block links besides the heads.
    pub(super) fn links(&self) -> impl Iterator<Item = Link> {
        self.accepted.iter().map(|(key, length)| Link {
            key: *key,
            length: *length,
        })
    }

    /// Those that are to be tried again.
    pub(super) fn untried(&self) -> impl Iterator<Item = Link> {
        self.untried.iter().map(|(key, length)| Link {
            key: *key,
            length: *length,
        })
    }

    /// True when one of them is of this log.
    pub(super) fn has(&self, core: &CoreKey) -> bool {
        self.accepted.contains_key(core)
    }

    /// The own block that links them is not written before them.
    pub(super) const fn latest(&self) -> Timestamp {
        self.latest
    }

    /// An own block links them.
    pub(super) fn clear(&mut self) {
        self.accepted.clear();
        self.untried.clear();
        self.latest = Timestamp::default();
    }
}

impl<V: Verify> Engine<V> {
    /// Tries what strangers have in the set, when a drain is over. Gives a block without which not all could be tried.
    pub(super) fn try_strangers(&mut self) -> Option<MissingBlock> {
        self.vouched.clear();
        let local = self.attestations.local();
        let may_vouch = self.rules.set.is_safe()
            && !self.system().is_genesis()
            && local.is_some_and(|local| self.is_writer(&local));
        if !may_vouch {
            return None;
        }
        let mut outside: Vec<BatchId> = self.order.outside().collect();
        outside.sort_unstable();
        let mut accepted: BTreeSet<BatchId> = BTreeSet::new();
        // Also those that apply refused.
        let mut tried: BTreeSet<BatchId> = BTreeSet::new();
        let mut wanted = None;
        let mut state = self.order.state().clone();
        for id in outside {
            let batch = self.dag.batch(id);
            let is_open = |parent: &BatchId| self.order.is_settled(*parent) || tried.contains(parent);
            let may_be_tried =
                self.order.is_told(id) && !self.is_member(&batch.writer) && batch.parents.iter().all(is_open);
            if !may_be_tried {
                continue;
            }
            if !self.rules.tries(batch) {
                // Refused by everybody, without asking apply.
                tried.insert(id);
                continue;
            }
            self.vouched.tries += 1;
            let step = PlacedBatch {
                id,
                batch,
                weight: Weight::ZERO,
                date: self.order.date_of(&self.dag, id),
            };
            let mut run = self.run(1);
            match run.apply(&state, step) {
                Ok(verdict) => {
                    tried.insert(id);
                    if let Verdict::Accepted(behind) = verdict {
                        state = behind;
                        accepted.insert(id);
                    }
                }
                Err(_) => {
                    if let Some(Pause::Missing(block)) = run.pause {
                        wanted.get_or_insert(block);
                        self.vouched.untried.insert(batch.writer, batch.last);
                    }
                }
            }
        }
        self.sights.note_if(Point::StrangerVouched, !accepted.is_empty());
        self.vouch(&accepted);
        wanted
    }

    fn vouch(&mut self, accepted: &BTreeSet<BatchId>) {
        let Self {
            dag, order, vouched, ..
        } = self;
        let dag: &Dag = dag;
        for id in accepted {
            let batch = dag.batch(*id);
            vouched.accepted.insert(batch.writer, batch.last);
            vouched.latest = vouched.latest.max(order.date_of(dag, *id));
        }
    }
}
