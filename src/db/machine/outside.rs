//! What of strangers is fetched and takes part: what members need without question, everything else in its turn.

use std::collections::BTreeSet;

use super::gather::Fed;
use super::log::StoredLog;
use super::logs::Measured;
use super::turns::Turns;
use super::{Effect, Machine, Now};
use crate::crypto::CoreKey;
use crate::engine::{LetGo, STRANGER_BLOCKS_MAX, STRANGER_BYTES_MAX};
use crate::env::{Crypto, Point, Slip, TraceEvent};
use crate::wire::Length;

impl<C: Crypto, L: StoredLog> Machine<C, L> {
    /// A log was open from the start. Those of strangers have their turns once the others are ordered.
    pub(super) fn loaded(&mut self, core: CoreKey, now: Now) {
        if core == self.logs.local() || self.engine.is_member(&core) || self.engine.was_needed(&core) {
            self.feed_or_give_up(&core, now);
        } else {
            self.allow(&core);
            let kept = self.engine.fed_from(&core);
            self.turns.wait(core, kept);
        }
    }

    /// All of them were: what those need that take part takes part, too.
    pub(super) fn started(&mut self, now: Now) {
        let mut taken: BTreeSet<CoreKey> = BTreeSet::new();
        while !self.turns.is_empty() || !taken.is_empty() {
            self.engine.take_in(now.wall);
            let missing: Vec<_> = self.engine.missing().collect();
            // What nobody has may be the anchor of an entry that a stranger wrote.
            let is_anchor = |core| !self.logs.has(core);
            let is_all = missing
                .iter()
                .any(|link| link.length == Length(1) && is_anchor(&link.key));
            let keys: BTreeSet<CoreKey> = missing.iter().map(|link| link.key).collect();
            let mut cores = self.turns.cores();
            cores.retain(|core| is_all || keys.contains(core));
            // More of a log may be named by what waited for less of it.
            cores.extend(taken.iter().filter(|core| keys.contains(*core)));
            taken.extend(&cores);
            let mut is_more = false;
            for core in cores {
                self.turns.remove(&core);
                let end = missing
                    .iter()
                    .filter(|link| link.key == core)
                    .map(|link| link.length.0);
                let least = self.logs.end(&core).unwrap_or(STRANGER_BLOCKS_MAX);
                self.logs
                    .limit(&core, Some(end.max().unwrap_or_default().max(least)), None);
                is_more |= self.feed_or_give_up(&core, now).is_some();
            }
            if !is_more {
                break;
            }
        }
        self.expect_stored();
    }

    /// These logs were here when the database was opened.
    pub(super) fn begun(&mut self, cores: &[CoreKey], now: Now) {
        for core in cores {
            self.allow(core);
            self.download(core);
            self.feed_stored(core, now);
        }
    }

    /// Hands on what is stored of a log, and was not to be taken before.
    pub(super) fn feed_stored(&mut self, core: &CoreKey, now: Now) {
        let here = self.logs.here(core).unwrap_or_default().0;
        let end = self.logs.end(core).unwrap_or(u64::MAX);
        let has_more = here.min(end) > self.logs.taken(core).0;
        if has_more && self.takes_part(core) && self.feed_or_give_up(core, now).is_some() {
            self.order_if(true, now);
        }
    }

    /// True when what comes of a log is to be ordered at once.
    fn takes_part(&self, core: &CoreKey) -> bool {
        *core == self.logs.local()
            || self.engine.is_member(core)
            || !(self.wanted.is_stranger(core) || self.turns.has(core))
            || self.engine.awaited().contains(core)
    }

    /// More came of a log that takes part only in its turn: notes that. False when it needs none.
    pub(super) fn takes_turn(&mut self, core: &CoreKey, now: Now) -> bool {
        self.allow(core);
        if self.takes_part(core) {
            return false;
        }
        let kept = self.logs.taken(core);
        let end = Length(self.logs.end(core).unwrap_or(u64::MAX));
        let has_more = self.logs.here(core).is_some_and(|here| here.min(end) > kept);
        if has_more {
            self.wanted.changed(core, true, now.mono);
            let kept = self.turns.kept(core).unwrap_or(kept);
            self.turns.wait(*core, kept);
        }
        true
    }

    /// Hands logs to the engine whose turn it is. None when it is nobody's.
    pub(super) fn admit(&mut self, now: Now) -> Option<Fed> {
        self.turns.pass(now.mono);
        let (mut fed, mut spent) = (None::<Fed>, 0);
        while !Turns::is_portion(spent) {
            let wanted = &self.wanted;
            let Some(core) = self.turns.next(|core| wanted.announcer(core)) else {
                break;
            };
            let more = self.feed_or_give_up(&core, now);
            let tries = more.map_or(0, |fed| fed.blocks as u64).max(1);
            self.turns.spend(tries);
            spent += tries;
            if let Some(more) = more {
                self.sights.note(Point::StrangerTurn);
                self.trace(|| TraceEvent::StrangerTurn { core });
                let sum = fed.get_or_insert(Fed { blocks: 0, bytes: 0 });
                sum.blocks += more.blocks;
                sum.bytes += more.bytes;
            }
        }
        fed
    }

    /// The set was ordered: what strangers have in it to no avail leaves it.
    pub(super) fn let_go(&mut self) {
        if !self.engine.is_settled() {
            return;
        }
        self.turns.pay(self.engine.tried());
        self.turns.ordered(self.engine.records().head());
        for gone in self.engine.let_go(&mut self.released) {
            let core = gone.core;
            self.logs.give_back(&core, gone.kept);
            if self.logs.has(&core) {
                let is_tried = gone.is_tried && !self.planted.has(Slip::LetGoForgotten);
                self.turns.left(&LetGo { is_tried, ..gone }, self.planted);
            } else {
                self.engine.forget_left(&core);
            }
            self.note_stalled(&core);
            self.trace(|| TraceEvent::StrangerLetGo {
                core,
                kept: gone.kept.0,
            });
        }
    }

    /// What had left the set comes back, where its writer has a record by now or a member needs it. True when something
    /// does.
    pub(super) fn take_back(&mut self, now: Now) -> bool {
        if !self.engine.is_settled() {
            return false;
        }
        let mut back: BTreeSet<CoreKey> = self.logs.limited().into_iter().collect();
        if !back.is_empty() || !self.turns.is_empty() {
            let awaited = self.engine.awaited_lengths();
            // Of a log that was taken as far as somebody needed it others may need more.
            let is_awaited = |core: &CoreKey| awaited.get(core) > Some(&self.logs.taken(core));
            let comes_back = |core: &CoreKey| self.engine.is_member(core) || is_awaited(core);
            back.retain(comes_back);
            back.extend(self.turns.cores().into_iter().filter(comes_back));
        }
        let mut is_back = false;
        for core in back {
            self.turns.remove(&core);
            self.allow(&core);
            is_back |= self.feed_or_give_up(&core, now).is_some();
        }
        if is_back {
            self.engine.go_on();
        }
        is_back
    }

    /// Looks how much of a log may be fetched, and says so when that is news.
    pub(super) fn allow(&mut self, core: &CoreKey) {
        let allowance = self.allowance(core);
        let (end, most) = allowance.map_or((None, None), |(end, most)| (Some(end), most));
        if self.logs.limit(core, end, most) {
            self.download(core);
        }
    }

    /// Has a log fetched as far as it may be. Of the own one peers have nothing that is not here, unless this is an older
    /// copy of it.
    pub(super) fn download(&mut self, core: &CoreKey) {
        if self.logs.has(core) {
            let end = self.logs.end(core).or(self.first_end(core));
            let block_bytes_max = self.logs.block_bytes_max(core);
            self.effects.push(Effect::Download {
                core: *core,
                end,
                block_bytes_max,
            });
        }
    }

    /// The first block of a log that is not to be fetched, and the most bytes of one that is, if they are bounded; none for
    /// those of members.
    fn allowance(&mut self, core: &CoreKey) -> Option<(u64, Option<u64>)> {
        if *core == self.logs.local() || self.engine.is_member(core) {
            return None;
        }
        let awaited = self.engine.awaited_lengths().get(core).copied();
        let needed = self.engine.needed(core).max(awaited.unwrap_or_default()).0;
        let is_stranger = self.wanted.is_stranger(core) || self.turns.has(core);
        if !is_stranger && needed == 0 {
            return None;
        }
        let measured = self.logs.measure(core);
        let Measured { here, bytes, all, .. } = measured;
        if here < needed {
            return Some((needed, None));
        }
        let has_room = bytes < STRANGER_BYTES_MAX && self.logs.limited_bytes() < self.stranger_bytes_max;
        let (end, most) = if bytes > STRANGER_BYTES_MAX {
            // Whoever stored that: it does not count.
            (measured.fitting, 0)
        } else if !has_room {
            (here, 0)
        } else if here > 0 && all <= STRANGER_BYTES_MAX {
            (STRANGER_BLOCKS_MAX, STRANGER_BYTES_MAX)
        } else {
            // Blocks may be large: one after the other.
            (here + 1, STRANGER_BYTES_MAX - bytes)
        };
        Some((needed.max(end.min(STRANGER_BLOCKS_MAX)), Some(most)))
    }
}
