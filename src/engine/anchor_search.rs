//! Finding out whether an awaited link is to an anchor of a forgotten entry.
//!
//! Anchors that apply made have records, and are known by these. But any entry could have one, and which batches take
//! part must not depend on what a peer has forgotten: a link to an anchor that nobody made opens at a peer that still has
//! the entry, so it has to open here, too. Nobody honest links one, so there is time: such a link waits for some
//! seconds, for in most cases it is to the first block of a writer, which arrives. Only then are the keys of all
//! forgotten entries computed, in portions.

use std::collections::{BTreeMap, BTreeSet};

use crate::crypto::CoreKey;
use crate::wire::{Length, Timestamp};

/// The next step of such a search.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnchorPace {
    /// How long a link to a first block waits before it is looked for among anchors of forgotten entries, in
    /// milliseconds.
    pub(super) patience_ms: u64,
    /// Entries that are looked at in one step.
    pub(super) portion: usize,
}

impl Default for AnchorPace {
    fn default() -> Self {
        Self {
            patience_ms: 5_000,
            portion: 1_000,
        }
    }
}

/// Looks for anchors.
#[derive(Debug, Default)]
pub(super) struct AnchorSearch {
    pace: AnchorPace,
    /// Since when each link waits.
    since: BTreeMap<CoreKey, Timestamp>,
    /// These are no anchors of what was forgotten.
    answered: BTreeSet<CoreKey>,
    /// These are. Only what somebody links gets here.
    found: BTreeSet<CoreKey>,
    pass: Option<Pass>,
}

/// Once through all forgotten entries.
#[derive(Debug)]
struct Pass {
    wanted: BTreeSet<CoreKey>,
    /// Writers with how much of them is left, from the end.
    left: Vec<(CoreKey, Length)>,
}

impl AnchorSearch {
    /// A search that looked at nothing yet.
    pub(super) fn new(pace: AnchorPace) -> Self {
        Self {
            pace,
            ..Self::default()
        }
    }

    /// Sets how it goes on.
    pub(super) const fn set_pace(&mut self, pace: AnchorPace) {
        self.pace = pace;
    }

    pub(super) const fn pace(&self) -> AnchorPace {
        self.pace
    }

    /// One portion: the anchors that were found. `awaited` are the keys whose first block is linked and not here.
    pub(super) fn step(
        &mut self,
        now: Timestamp,
        awaited: &BTreeSet<CoreKey>,
        forgotten: impl FnOnce() -> Vec<(CoreKey, Length)>,
        anchor: impl Fn(CoreKey, Length) -> Option<CoreKey>,
    ) -> Vec<CoreKey> {
        self.since.retain(|key, _| awaited.contains(key));
        self.answered.retain(|key| awaited.contains(key));
        for key in awaited {
            self.since.entry(*key).or_insert(now);
        }
        if self.pass.is_none() {
            let patience_ms = self.pace.patience_ms;
            let is_due = |at: &Timestamp| at.0.saturating_add(patience_ms) <= now.0;
            let due = self
                .since
                .iter()
                .filter(|(_, at)| is_due(at))
                .map(|(key, _)| *key);
            let wanted: BTreeSet<CoreKey> = due.filter(|key| !self.answered.contains(key)).collect();
            self.pass = (!wanted.is_empty()).then(|| Pass {
                wanted,
                left: forgotten(),
            });
        }
        let mut found = Vec::new();
        let Some(pass) = &mut self.pass else {
            return found;
        };
        for _ in 0..self.pace.portion {
            let Some((writer, length)) = pass.left.last_mut() else {
                break;
            };
            if *length == Length::ZERO {
                pass.left.pop();
                continue;
            }
            let key = anchor(*writer, *length);
            length.0 -= 1;
            if let Some(key) = key.filter(|key| pass.wanted.remove(key)) {
                self.since.remove(&key);
                self.found.insert(key);
                found.push(key);
            }
        }
        if pass.left.is_empty() {
            self.answered.append(&mut pass.wanted);
            self.pass = None;
        }
        found
    }

    /// Begins anew on another start of the order. What was found stays true.
    pub(super) fn restart(&mut self) {
        *self = Self {
            pace: self.pace,
            found: std::mem::take(&mut self.found),
            ..Self::default()
        };
    }

    /// All anchors that were found.
    pub(super) fn found(&self) -> impl Iterator<Item = CoreKey> {
        self.found.iter().copied()
    }

    /// True when there are entries left to look at.
    pub(super) const fn is_running(&self) -> bool {
        self.pass.is_some()
    }

    /// When the next link has waited long enough.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let open = self.since.iter().filter(|(key, _)| !self.answered.contains(key));
        open.map(|(_, at)| Timestamp(at.0.saturating_add(self.pace.patience_ms)))
            .min()
    }
}
