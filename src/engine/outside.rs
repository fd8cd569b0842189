//! Letting go of what strangers wrote in vain, and what must not be let go of.
//!
//! Whoever has no record may write as many batches as it likes. What apply refuses of them, wherever their turn comes,
//! leaves the set when a drain is over ([`Engine::let_go`]); whoever drives the engine feeds it again when its turn comes,
//! when its writer gets a record, or when a member's batch needs it. What members' batches link, back or need stays for
//! ever, whether apply accepted it or not: peers that have the one must be able to get the other.

use std::collections::{BTreeMap, BTreeSet};

use super::Engine;
use super::dag::Gate;
use crate::crypto::{CoreKey, Verify};
use crate::env::Point;
use crate::wire::{Length, Link, Timestamp};

/// Blocks of the log of somebody who is no member, and that no member needs, that are looked at. More than the longest
/// batch that is tried has no sense; a second batch would have to wait until the first one made its writer a member.
pub const STRANGER_BLOCKS_MAX: u64 = 32;

/// The same, in bytes.
pub const STRANGER_BYTES_MAX: u64 = 1 << 20;

/// Steps of a trial that cost about what one call of apply does.
const STEPS_OF_AN_APPLY: u64 = 8;

/// A log of which batches left the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LetGo {
    /// Which.
    pub core: CoreKey,
    /// Up to where it is still in the set.
    pub kept: Length,
    /// The next batch behind that is tried when it is fed again. Else only a record of its writer helps.
    pub is_tried: bool,
}

impl<V: Verify> Engine<V> {
    /// Up to where batches of members need this log: they link it, back their claims with it, or need it here.
    #[must_use]
    pub fn needed(&self, core: &CoreKey) -> Length {
        let base = self.dag.base_length(core);
        let chain = self.dag.batches_of(core);
        let settled = chain.partition_point(|id| self.order.is_settled(*id));
        let settled = settled.checked_sub(1).map(|at| self.dag.batch(chain[at]).last);
        let noted = self.needed.get(core).copied();
        settled.max(noted).unwrap_or_default().max(base)
    }

    /// True when the engine that was here before had a record of this writer, or needed its log.
    #[must_use]
    pub fn was_needed(&self, core: &CoreKey) -> bool {
        self.recorded.has(core) || self.past.hold.contains_key(core) || self.needed(core) > Length::ZERO
    }

    /// What trying strangers cost since the engine was made, in calls of apply.
    #[must_use]
    pub const fn tried(&self) -> u64 {
        let stats = self.order.stats();
        stats.refusals + stats.stranger_steps / STEPS_OF_AN_APPLY + self.vouched.tries
    }

    /// Hands what was fed over to the set, without ordering it, so that [`Engine::missing`] tells what it lacks.
    pub fn take_in(&mut self, now: Timestamp) {
        _ = self.collect(now);
    }

    /// Takes out of the set what strangers have in it to no avail: all that no complete order has room for, and what
    /// depends on it. Of the logs in `closed`, which are not read any more, also what waits for others. Does nothing
    /// before a drain is over, and leaves `closed` as it is then.
    ///
    /// What it gives has to be fed again from [`Engine::fed_from`] on when it is to take part.
    pub fn let_go(&mut self, closed: &mut BTreeSet<CoreKey>) -> Vec<LetGo> {
        let is_over = self.is_settled() && self.stopped.is_none() && !self.order.is_behind();
        if !is_over || !self.order.has_seen_all(&self.dag) {
            return Vec::new();
        }
        let outside: Vec<_> = self.order.outside().collect();
        if outside.is_empty() && closed.is_empty() {
            return Vec::new();
        }
        let needed = self.needed_now();
        let kept = |core: &CoreKey| needed.get(core).copied().unwrap_or_default();
        // Up to where each of them stays.
        let mut goes: BTreeMap<CoreKey, Length> = BTreeMap::new();
        let mut go = |core: CoreKey, before: Length| {
            let stays = goes.entry(core).or_insert(before);
            *stays = before.min(*stays);
        };
        for id in outside {
            let batch = self.dag.batch(id);
            if batch.first > kept(&batch.writer) {
                go(batch.writer, Length(batch.first.0 - 1));
            }
        }
        for core in std::mem::take(closed) {
            go(core, kept(&core).max(self.needed(&core)));
        }
        self.follow_waiting(&mut goes, &kept);
        let gone = goes.iter().map(|(core, kept)| LetGo {
            core: *core,
            kept: *kept,
            is_tried: self.is_tried_behind(core, *kept),
        });
        let gone: Vec<LetGo> = gone.collect();
        self.order.let_go(&mut self.dag, &goes);
        for (core, kept) in &goes {
            self.forget_fed(core, *kept);
        }
        self.sights.note_if(Point::StrangerLetGo, !gone.is_empty());
        gone
    }

    /// What had left the set was fed again: the round that it belongs to is not over.
    pub const fn go_on(&mut self) {
        self.round_over = false;
    }

    /// Forgets a log that is gone for good.
    pub fn forget_left(&mut self, core: &CoreKey) {
        self.order.forget_left(core);
    }

    /// Notes what settled batches need that does not order them. Before they are forgotten.
    pub(super) fn note_needs(&mut self) {
        let order = &self.order;
        let gates = self.dag.take_gates(|dag, gate| {
            let batch = dag.find(gate.batch);
            batch.is_some_and(|id| order.is_settled(id))
        });
        for gate in gates {
            self.note_needed(gate.needs);
        }
    }

    /// What batches need that were ordered before this engine was made, as its checkpoint says.
    pub(super) fn note_considered(&mut self) {
        let considered = self.past.hold.iter();
        let strangers = considered.filter(|(core, _)| self.order.state().system.member(core).is_none());
        let strangers: Vec<_> = strangers.map(|(core, length)| (*core, *length)).collect();
        self.needed.extend(strangers);
    }

    fn note_needed(&mut self, needs: Link) {
        let needs = self.behind_anchor(needs);
        let noted = self.needed.entry(needs.key).or_default();
        *noted = needs.length.max(*noted);
    }

    /// The entry that an anchor is of, when it is a stranger's that is here.
    fn behind_anchor(&self, link: Link) -> Link {
        let of = self.anchor_of.get(&link.key).filter(|_| link.length == Length(1));
        of.copied().unwrap_or(link)
    }

    /// True when a log is that of a member, or the local one.
    fn is_ours(&self, core: &CoreKey) -> bool {
        self.is_member(core) || self.attestations.local() == Some(*core)
    }

    /// Up to where each log that no member wrote has to stay in the set, as far as it is not settled.
    fn needed_now(&self) -> BTreeMap<CoreKey, Length> {
        let mut next: Vec<Link> = Vec::new();
        for (key, length) in &self.needed {
            next.push(Link {
                key: *key,
                length: *length,
            });
        }
        // No gate is open to a batch that waits: what it names has to be here when it does not any more.
        let stuck: BTreeSet<CoreKey> = self.dag.stuck().map(|(writer, _)| writer).collect();
        for writer in stuck.iter().filter(|writer| self.is_ours(writer)) {
            next.extend(self.dag.waiting_for(writer).map(|(_, _, link)| link));
        }
        // What is to be acknowledged.
        next.extend(self.vouched.links().chain(self.vouched.untried()));
        if let Some(local) = self.attestations.local() {
            next.push(Link {
                key: local,
                length: self.dag.known_length(&local),
            });
        }
        let mut gates: BTreeMap<CoreKey, Vec<Gate>> = BTreeMap::new();
        for gate in self.dag.gates() {
            gates.entry(gate.batch.key).or_default().push(*gate);
        }
        let mut needed: BTreeMap<CoreKey, Length> = BTreeMap::new();
        while let Some(link) = next.pop() {
            let Link { key, mut length } = self.behind_anchor(link);
            if let Some(id) = self.dag.find(Link { key, length }) {
                length = self.dag.batch(id).last;
            }
            let before = needed.get(&key).copied().unwrap_or_default();
            if length <= before {
                continue;
            }
            needed.insert(key, length);
            let chain = self.dag.batches_of(&key);
            let from =
                chain.partition_point(|id| self.order.is_settled(*id) || self.dag.batch(*id).last <= before);
            for id in chain[from..]
                .iter()
                .take_while(|id| self.dag.batch(**id).first <= length)
            {
                let parents = self.dag.batch(*id).parents.iter();
                let unsettled = parents.filter(|parent| !self.order.is_settled(**parent));
                next.extend(unsettled.map(|parent| {
                    let parent = self.dag.batch(*parent);
                    Link {
                        key: parent.writer,
                        length: parent.last,
                    }
                }));
            }
            let of_batches = gates.get(&key).into_iter().flatten();
            next.extend(
                of_batches
                    .filter(|gate| gate.batch.length <= length)
                    .map(|gate| gate.needs),
            );
            let waiting = self.dag.waiting_for(&key);
            next.extend(
                waiting
                    .filter(|(first, _, _)| *first <= length)
                    .map(|(_, _, link)| link),
            );
        }
        needed
    }

    /// Batches of strangers that wait go with what they name.
    fn follow_waiting(&self, goes: &mut BTreeMap<CoreKey, Length>, kept: &impl Fn(&CoreKey) -> Length) {
        let stuck = self.dag.stuck().map(|(writer, _)| writer);
        let stuck: BTreeSet<CoreKey> = stuck.filter(|writer| !self.is_ours(writer)).collect();
        let mut is_more = !goes.is_empty();
        while std::mem::take(&mut is_more) {
            for writer in &stuck {
                let stays = goes.get(writer).copied();
                let first = self.dag.waiting_for(writer).find(|(first, _, link)| {
                    let goes = goes.get(&link.key).is_some_and(|stays| link.length > *stays);
                    goes && *first > kept(writer)
                });
                let before = first.map(|(first, _, _)| Length(first.0 - 1));
                if let Some(before) = before.filter(|before| stays.is_none_or(|stays| *before < stays)) {
                    goes.insert(*writer, before);
                    is_more = true;
                }
            }
        }
    }

    fn is_tried_behind(&self, core: &CoreKey, kept: Length) -> bool {
        let next = Link {
            key: *core,
            length: Length(kept.0 + 1),
        };
        let Some(first) = self.dag.find(next) else {
            return true;
        };
        // Under safe rules those that follow are tried all the same.
        let batches = self.dag.batches_of(core).iter().skip_while(|id| **id != first);
        let few = if self.rules.set.is_safe() { usize::MAX } else { 1 };
        batches.take(few).any(|id| self.rules.tries(self.dag.batch(*id)))
    }

    /// Forgets the blocks of a log behind this length.
    fn forget_fed(&mut self, core: &CoreKey, kept: Length) {
        let is_empty = kept == Length::ZERO;
        if let Some(reader) = self.readers.get_mut(core) {
            let before = reader.held();
            reader.let_go(kept);
            self.blocks -= before - reader.held();
            if is_empty {
                self.readers.remove(core);
            }
        }
        for lengths in [&mut self.anchored, &mut self.past.hold, &mut self.past.taken] {
            match lengths.get_mut(core) {
                Some(length) if !is_empty => *length = kept.min(*length),
                _ => _ = lengths.remove(core),
            }
        }
        self.anchor_of
            .retain(|_, of| of.key != *core || of.length <= kept);
    }
}
