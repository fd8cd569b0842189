//! Forgetting a start of the order, and going on from there. What that rests on is argued in `base.rs`.

use std::collections::BTreeMap;

use crate::crypto::CoreKey;
use crate::engine::dag::{BatchId, Dag};
use crate::wire::Length;

use super::claims::WeightClaims;
use super::emission::Marks;
use super::timeline::NodeId;
use super::{Linearizer, PublishedOrder, Replay, Start};

impl<S: Clone> Linearizer<S> {
    /// Forgets a start of the order when more than twice `keep` settled batches are held, so that about `keep` stay.
    /// False when nothing was forgotten.
    ///
    /// The set forgets with it: ids of batches change. `keep` is a wish: the order can be cut between picks of the top
    /// level only, and one pick can have pulled many batches.
    pub fn forget<R: Replay<State = S>>(&mut self, dag: &mut Dag, replay: &R, keep: usize) -> bool {
        let is_settled = self.considered == dag.len() && self.published.path.len() == self.timeline.len();
        let Some(count) = self.forgettable(keep.max(1)).filter(|_| is_settled) else {
            return false;
        };
        let root = self.timeline.state_of(NodeId::ROOT);
        let settled: Vec<BatchId> = self.timeline.path_since(0).collect();
        let mut start = 0;
        let picks = self.picks.first(count).map(|(priority, end)| {
            let batches = &settled[start..end];
            start = end;
            (priority, batches)
        });
        let extended = self
            .base
            .extended(dag, replay, &self.rules, root, picks, self.spanned);
        let mut claimed = BTreeMap::new();
        for id in &settled[..start] {
            let batch = dag.batch(*id);
            claimed.insert(batch.writer, self.claims.highest(batch, 0));
        }
        self.base.note_covering(dag);

        let ids = dag.forget(|id| extended.goes[id.index()]);
        self.timeline.forget(start, &ids, dag);
        self.picks.forget(count);
        self.picks_begin_at(count);
        self.spanned = None;
        self.claims = WeightClaims::default();
        for (id, _) in dag.ready() {
            self.claims.add(dag, &self.rules, id);
        }
        self.unsettled = self.unsettled.iter().filter_map(|id| ids.get(*id)).collect();
        self.ancestry.clear();
        self.parked.renumber(&ids);
        self.marks = Marks::default();
        self.considered = dag.len();
        let path = self.timeline.path().to_vec();
        let accepted = path.iter().filter(|node| self.timeline.is_accepted(**node));
        self.published = PublishedOrder {
            order: accepted.copied().collect(),
            low_water: path.len(),
            path,
        };
        let place = (
            self.timeline.state_of(NodeId::ROOT),
            self.timeline.entries_before(),
            keep as u64,
        );
        self.base
            .advance(extended, &claimed, dag, replay, &self.rules, place);
        true
    }

    /// How many picks to forget.
    fn forgettable(&self, keep: usize) -> Option<usize> {
        let held = self.timeline.len();
        if held <= keep.saturating_mul(2) {
            return None;
        }
        let target = held - keep;
        let count = self.picks.ending_up_to(target);
        let end = self.picks.first(count).last().map_or(0, |(_, end)| end);
        // A look at all that is held must be worth it.
        if end * 2 >= keep {
            return Some(count);
        }
        // A pick that pulled that much goes as a whole.
        (held > keep.saturating_mul(4)).then(|| (count + 1).min(self.picks.len()))
    }

    /// True when a batch may belong into the forgotten start. See [`Linearizer::way_back`].
    #[must_use]
    pub const fn is_behind(&self) -> bool {
        self.base.is_behind()
    }

    /// From where to make the order anew when [`Linearizer::is_behind`]. The set is needed as it is then.
    pub fn way_back<R: Replay<State = S>>(&self, dag: &Dag, replay: &R) -> Start {
        let root = self.timeline.state_of(NodeId::ROOT);
        let at = self.base.way_back(dag, replay, &self.claims, root);
        Start {
            considered: self.considered_lengths(dag).collect(),
            ..self.base.start_at(at)
        }
    }

    /// The forgotten start, to go on from elsewhere. It is as good as new whatever else arrived since it was forgotten.
    pub fn start(&mut self, dag: &Dag) -> Start {
        self.base.note_covering(dag);
        let considered = self
            .considered_lengths(dag)
            .filter(|(key, length)| *length > dag.base_length(key));
        Start {
            considered: considered.collect(),
            ..self.base.start()
        }
    }

    /// The batches of each writer that the picks are right for.
    fn considered_lengths<'a>(&'a self, dag: &'a Dag) -> impl Iterator<Item = (CoreKey, Length)> + 'a {
        dag.base_lengths().map(|(key, base)| {
            let chain = dag.batches_of(&key);
            let count = chain.partition_point(|id| id.index() < self.considered);
            let last = count.checked_sub(1).map(|at| dag.batch(chain[at]).last);
            let earlier = self.base.considered.get(&key).copied();
            (key, last.max(earlier).unwrap_or(base))
        })
    }

    /// True when all that was forgotten is known to come before this batch.
    pub(crate) fn has_forgotten_in_past(&self, id: BatchId) -> bool {
        self.base.covers(id)
    }

    /// Settled batches that are held.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.timeline.len()
    }
}
