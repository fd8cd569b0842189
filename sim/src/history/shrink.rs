//! From a history that fails to a small one that fails by the same thing.

use super::{HistoryPeer, HistoryStep, PeerHistory};

/// What shrinking a history came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShrunkHistory {
    /// The smallest one that was found.
    pub history: PeerHistory,
    /// How many were played.
    pub played: u64,
}

/// Histories that are played at most.
const PLAYED_MAX: u64 = 20_000;

impl PeerHistory {
    /// Looks for the smallest history that fails by the invariant of this name: without steps, operations and peculiarities of
    /// peers that it does not take.
    #[must_use]
    pub fn shrink(&self, invariant: &str) -> ShrunkHistory {
        let mut search = HistorySearch {
            best: self.clone(),
            invariant,
            played: 0,
        };
        loop {
            let before = search.best.clone();
            search.steps();
            search.ops();
            search.peers();
            if search.best == before || search.played >= PLAYED_MAX {
                return ShrunkHistory {
                    history: search.best,
                    played: search.played,
                };
            }
        }
    }
}

struct HistorySearch<'a> {
    best: PeerHistory,
    invariant: &'a str,
    played: u64,
}

impl HistorySearch<'_> {
    /// Takes a candidate if it fails in the same way.
    fn attempt(&mut self, candidate: PeerHistory) -> bool {
        if candidate == self.best || self.played >= PLAYED_MAX || candidate.check().is_err() {
            return false;
        }
        self.played += 1;
        let is_same = candidate
            .play_caught()
            .is_err_and(|failure| failure.invariant == self.invariant);
        if is_same {
            self.best = candidate;
        }
        is_same
    }

    /// Halves, quarters, single steps: the last ones first, as earlier ones are what they follow from.
    fn steps(&mut self) {
        let mut chunk = self.best.steps.len();
        while chunk > 0 {
            let mut is_smaller = false;
            let mut end = self.best.steps.len();
            while end > 0 {
                let start = end.saturating_sub(chunk);
                let mut candidate = self.best.clone();
                candidate.steps.drain(start..end);
                is_smaller |= self.attempt(candidate);
                end = start.min(self.best.steps.len());
            }
            if chunk > 1 || !is_smaller {
                chunk /= 2;
            }
        }
    }

    /// Single operations of batches, and that strangers wrote them.
    fn ops(&mut self) {
        for at in 0..self.best.steps.len() {
            let HistoryStep::Append { ops, .. } = &self.best.steps[at] else {
                continue;
            };
            let count = ops.len();
            let mut candidate = self.best.clone();
            if let HistoryStep::Append { optimistic, .. } = &mut candidate.steps[at] {
                *optimistic = false;
            }
            self.attempt(candidate);
            let mut candidate = self.best.clone();
            if let HistoryStep::Append {
                meanwhile, refused, ..
            } = &mut candidate.steps[at]
            {
                (*meanwhile, *refused) = (None, false);
            }
            self.attempt(candidate);
            for op in (0..count).rev() {
                let mut candidate = self.best.clone();
                if let HistoryStep::Append { ops, .. } = &mut candidate.steps[at] {
                    ops.remove(op);
                }
                self.attempt(candidate);
            }
        }
    }

    /// The last peers, when nobody names them, and what is peculiar to one.
    fn peers(&mut self) {
        while self.best.peers.len() > 1 {
            let mut candidate = self.best.clone();
            candidate.peers.pop();
            if !self.attempt(candidate) {
                break;
            }
        }
        let mut candidate = self.best.clone();
        candidate.safe = false;
        self.attempt(candidate);
        for peer in 0..self.best.peers.len() {
            let mut candidate = self.best.clone();
            candidate.peers[peer] = HistoryPeer::default();
            self.attempt(candidate);
        }
    }
}
