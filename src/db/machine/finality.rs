//! Which start of the order can no longer change: what was found, and when it is looked for.

use std::time::Duration;

use super::log::StoredLog;
use super::{Effect, Machine, Now};
use crate::crypto::CoreKey;
use crate::db::Event;
use crate::engine::Settled;
use crate::env::{Crypto, Mono, Point, Slip};

/// What was found, and told.
#[derive(Debug)]
pub(super) struct Finality {
    /// Between two looks; none are made when it is zero.
    each: Duration,
    /// None before the first drain.
    next_at: Option<Mono>,
    /// The longest start that was settled, and whether that rests on strangers.
    longest: (u64, bool),
    told: u64,
}

impl Finality {
    pub(super) const fn new(each: Duration) -> Self {
        Self {
            each,
            next_at: None,
            longest: (0, false),
            told: 0,
        }
    }
}

impl Finality {
    /// A log was rewritten: what was settled may not be any more.
    pub(super) const fn reset(&mut self) {
        (self.longest, self.told) = ((0, false), 0);
    }
}

impl<C: Crypto, L: StoredLog> Machine<C, L> {
    /// The longest start of the order that can no longer change, if those whom `is_silent` names write nothing more.
    pub fn settled(&mut self, is_silent: impl Fn(&CoreKey) -> bool) -> Settled {
        let mut settled = self.engine.settled(is_silent);
        self.sights.note_if(Point::OrderSettled, settled.entries > 0);
        if settled.silent.is_empty() || self.planted.has(Slip::SupposedKept) {
            let longest = &mut self.finality.longest;
            if settled.entries > longest.0 {
                *longest = (settled.entries, settled.rests_on_strangers);
            } else {
                (settled.entries, settled.rests_on_strangers) = *longest;
                settled.head = self.engine.head_behind(settled.entries);
            }
        }
        settled
    }

    /// Tells listeners when more is settled than they know, if it is time to look.
    pub(super) fn tell_settled(&mut self, now: Now) {
        let Finality { each, next_at, .. } = self.finality;
        let at = *self.finality.next_at.get_or_insert(now.mono + each);
        if each.is_zero() || next_at.is_none() || now.mono < at {
            return;
        }
        self.finality.next_at = Some(now.mono + each);
        let Settled { entries, head, .. } = self.settled(|_| false);
        if entries > self.finality.told {
            self.finality.told = entries;
            self.effects.push(Effect::Tell(Event::Settled { entries, head }));
        }
    }
}
