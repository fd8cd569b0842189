//! Which claims of other writers about their views are compared, and when: one at a time, and not too often.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::crypto::CoreKey;
use crate::engine::ViewClaim;
use crate::env::Mono;

/// What part of the time between two comparisons a claim waits for newer ones.
const SETTLES_IN: u32 = 10;

/// Claims that are to be compared.
#[derive(Default)]
pub(super) struct Compare {
    /// Between two of them; none are compared when it is zero.
    each: Duration,
    /// The newest one.
    pending: Option<Box<ViewClaim>>,
    is_running: bool,
    next_at: Mono,
    /// The cores that writers named first. A writer who names others again and again is not followed.
    cores: BTreeMap<CoreKey, [CoreKey; 2]>,
}

impl Compare {
    pub(super) fn new(each: Duration) -> Self {
        Self {
            each,
            ..Self::default()
        }
    }

    /// There is another claim. The newest one counts, a tenth of the time between two comparisons after the first of them:
    /// more of the same writer is often on its way.
    pub(super) fn add(&mut self, claim: Box<ViewClaim>, now: Mono) {
        let cores = claim.cores();
        let is_known = *self.cores.entry(claim.batch.key).or_insert(cores) == cores;
        if is_known && !self.each.is_zero() {
            if self.pending.is_none() {
                self.next_at = self.next_at.max(now + self.each / SETTLES_IN);
            }
            self.pending = Some(claim);
        }
    }

    /// The claim that is to be compared now.
    pub(super) fn begin(&mut self, now: Mono) -> Option<Box<ViewClaim>> {
        if self.is_running || now < self.next_at {
            return None;
        }
        let claim = self.pending.take()?;
        self.is_running = true;
        self.next_at = now + self.each;
        Some(claim)
    }

    /// A comparison is over.
    pub(super) const fn over(&mut self) {
        self.is_running = false;
    }

    /// When the next one is due.
    pub(super) fn wake_at(&self) -> Option<Mono> {
        let waits = self.pending.is_some() && !self.is_running;
        waits.then_some(self.next_at)
    }
}
