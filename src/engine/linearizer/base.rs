//! The base of the order: which batches leave the forgotten start of the order as it is, and how far to go back when one
//! does not.
//!
//! # Glossary
//!
//! | term | meaning |
//! | --- | --- |
//! | candidate | an unsettled batch with its priority (weight, then timestamp, key, length) |
//! | pick | a candidate that won at the top level: it is settled after its unsettled ancestors |
//! | pulled | emitted as an ancestor of a pick or of a trial; then refused batches are settled, too |
//! | trial | an emission of a candidate's ancestors, to find its weight and admission, that may be taken back |
//! | settled | has its place in the order for as long as nothing cuts in before it |
//! | prefix | the start of the order that was forgotten: some number of picks with all that they pulled |
//! | base | the end of the prefix, and the state there |
//! | ladder | shorter prefixes of the same order, to which the engine can go back |
//! | top | a batch of the prefix that no other batch of it comes after |
//! | cover | the tops that a batch has in its past; all of them: it covers the prefix |
//! | to beat | to have a better priority than a pick |
//! | to span | to cover the prefix and to beat a pick of it |
//! | considered | was in the set when the picks of the prefix were made |
//! | tainted | said of a pick that another set of candidates would not have made |
//! | sound | said of a batch that leaves the prefix alone also as part of a set that is pulled |
//! | clean | sound, with all of its ancestors |
//! | hopeless | said of a batch that is never admitted before the base, and none of its ancestors is |
//! | offending | said of a batch that may cut into the prefix, so that the engine has to go back |
//!
//! The letters of the theorem: `P` is the prefix, `p1 .. pk` its picks, `s_i` the state before `p_i`, `T` any set.
//!
//! Source: the rule of spec/autobee.md 8.8, and what follows from it. The prefix `P` is made of the picks `p1 .. pk` of
//! the top level with all that they pulled; `s_i` is the state before `p_i`; `S` is the set of ready batches. Weight and
//! admission of a candidate are functions of the state and its own ancestors alone, so each pick depends on the others
//! only by being the best of them.
//!
//! # When a set keeps the prefix
//!
//! Theorem. Let `T` be a set of batches, closed under ancestors but for what is settled in `s_i`, with all of `P` that
//! is unsettled there. The emission of `T` from `s_i`, pulled or not, begins with that rest of `P` as it was, when each
//! other batch `x` of `T`
//!
//! * (a) has all of `P` in its past; or
//! * (b) is worse than every pick of `P`, with the highest weight that it could have; or
//! * (c) was part of the set when those picks were made, and in each `s_i` where it was not admitted it is, with weight
//!   zero, worse than `p_i`;
//!
//! and the batches of `P` itself are as in (c) up to where they are settled: `P` is then *untainted*.
//!
//! Proof, by induction on the size of `T`. Let `b` be the best candidate. If it is `p_i`, its unsettled ancestors and it
//! are emitted as they were, and the next pick is the same case. Else it is better than `p_i`. It is not of `P` and not
//! of kind (c): what was admitted lost to `p_i` then, with the same weight, and what was not has weight zero (no record
//! of its writer in its trial) and is worse. It is not (b). So it is (a), and what is emitted first is its past: a
//! smaller set of the same kind, with all of `P` in it. That begins with `P`, by induction.
//!
//! A tainted prefix still stands before a batch of kind (a) that is worse than all picks up to the last one that is
//! tainted: the set is pulled only behind those.
//!
//! # What comes behind a prefix that was spanned
//!
//! When a batch of kind (a) beats `p_i`, the emission that began in `s_i` with its past is still going on at the base: it
//! is not the same as beginning anew there, where others may have become better, or been admitted, by what `P` did.
//! But it can be taken up there. Batches of kind (a) have the same weight and admission in every `s_i` as at the base,
//! because all of `P` is in their trials; all others lost to the picks of `P`. So what was picked in `s_i` is the best
//! one of kind (a), if that beats some pick of `P`; in its past, which was emitted first, again the best of kind
//! (a), and so on. A frame of the emission that begins at the base therefore first looks at those alone
//! (`EmissionFrame::spanning`), and at all others when none of them is left that beats a pick. From then on the picks of `P`
//! behind `s_i` are none: the worst pick of the longer prefix is the one that spanned them, as those before it are
//! better.
//!
//! # When to go back
//!
//! So a new batch needs to go below the base only if it could beat a pick *and* has not seen all of the prefix (or comes
//! after such a batch of a stranger, or before a tainted pick). Writers who are caught up link every head, so what cuts
//! is what was truly concurrent to more than a window of entries.
//!
//! # Bounds
//!
//! The weight of a batch at any `s_i` is at most what its writer stands with at the base (that only rises) or the highest
//! valid claim of its chain, also of the forgotten part of it. A batch that is not tried, whose writer has no record at
//! the base and that links nothing but other such batches is never admitted at any `s_i`, whatever its priority: records
//! never go.
//!
//! # Refused batches
//!
//! What was refused as an ancestor of somebody is settled without a record, so the settled length of a writer can be
//! more than its record says; [`Prefix::settled`] carries these. What was never settled stays in the set, outside
//! of the order, and is looked at after every pick behind the base like before; picks before it are decided.

use std::collections::{BTreeMap, BTreeSet};

use crate::crypto::CoreKey;
use crate::engine::dag::{Batch, BatchId, Dag, Renumbered};
use crate::env::{Planted, Slip};
use crate::wire::{Length, Link, Timestamp, Weight};

use super::claims::WeightClaims;
use super::leave::Left;
use super::picks::Priority;
use super::prefix::Prefix;
use super::{Replay, Rules, Start};

/// Dates that are noted. Others have to be found out again after a restart, from further back.
const DATES_MAX: usize = 256;

/// The forgotten start, and what is known of the batches behind it.
#[derive(Debug, Clone, Default)]
pub(super) struct Base {
    pub(super) prefix: Prefix,
    /// Shorter prefixes of it to go back to, the shortest first.
    pub(super) ladder: Vec<Prefix>,
    /// Batches up to these lengths were in the set when the picks of the prefix were made.
    pub(super) considered: BTreeMap<CoreKey, Length>,
    /// By id.
    judged: Vec<Judged>,
    /// Those that may cut into the prefix.
    offending: Vec<BatchId>,
    /// Those of them of which more has to be known than the prefix tells.
    unclear: BTreeSet<BatchId>,
    /// The best of those that may span a part of it, since [`Base::take_spanning`].
    spanning: Option<Priority>,
    /// Batches that count as written later than they say.
    pub(super) redated: u64,
    pub(super) planted: Planted,
}

#[derive(Debug, Clone)]
struct Judged {
    cover: Cover,
    /// It leaves the prefix alone also as part of a set that is pulled.
    sound: bool,
    /// So do all of its ancestors.
    clean: bool,
    /// Neither it nor any of its ancestors was ever admitted, or can be at a pick of the prefix.
    hopeless: bool,
    /// As when it counts as written.
    date: Date,
}

/// The timestamp that a batch is ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Date {
    at: Timestamp,
    /// Else it is later, perhaps: it depends on forgotten batches of which not enough is known.
    is_told: bool,
}

/// How much of the prefix a batch has in its past: a bit for each of the tops.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Cover {
    Nothing,
    Part(Box<[u64]>),
    All,
}

impl Cover {
    fn join(&mut self, other: &Self) {
        match (&mut *self, other) {
            (_, Self::Nothing) | (Self::All, _) => {}
            (_, Self::All) => *self = Self::All,
            (Self::Nothing, Self::Part(_)) => *self = other.clone(),
            (Self::Part(bits), Self::Part(others)) => {
                for (bits, others) in bits.iter_mut().zip(others) {
                    *bits |= others;
                }
            }
        }
    }

    fn add(&mut self, at: usize, tops: usize) {
        if matches!(self, Self::Nothing) {
            *self = Self::Part(vec![0; tops.div_ceil(64)].into());
        }
        if let Self::Part(bits) = self {
            bits[at / 64] |= 1 << (at % 64);
        }
    }

    fn complete(&mut self, tops: usize) {
        if let Self::Part(bits) = self {
            let seen: u32 = bits.iter().map(|bits| bits.count_ones()).sum();
            if seen as usize == tops {
                *self = Self::All;
            }
        }
    }
}

impl Base {
    pub(super) fn new(start: Start) -> Self {
        let Start {
            prefix,
            ladder,
            considered,
        } = start;
        Self {
            prefix,
            ladder,
            considered,
            ..Self::default()
        }
    }

    pub(super) fn start(&self) -> Start {
        Start {
            prefix: self.prefix.clone(),
            ladder: self.ladder.clone(),
            considered: BTreeMap::new(),
        }
    }

    /// The start at this place of the ladder; the empty one for none.
    pub(super) fn start_at(&self, at: Option<usize>) -> Start {
        at.map_or_else(Start::default, |at| Start {
            prefix: self.ladder[at].clone(),
            ladder: self.ladder[..at].to_vec(),
            considered: BTreeMap::new(),
        })
    }

    pub(super) const fn is_behind(&self) -> bool {
        !self.offending.is_empty()
    }

    /// True when this is better than some pick of the prefix.
    pub(super) fn spans(&self, priority: &Priority) -> bool {
        beats(priority, self.prefix.worst.as_ref())
    }

    /// True when the batch has all of the prefix in its past.
    pub(super) fn covers(&self, id: BatchId) -> bool {
        self.judged
            .get(id.index())
            .is_some_and(|judged| judged.cover == Cover::All)
    }

    /// The priority of a batch with this weight; not worse than the true one, if that cannot be told.
    pub(super) fn priority(&self, dag: &Dag, id: BatchId, weight: Weight) -> Priority {
        Priority::new(dag.batch(id), self.date_of(dag, id), weight)
    }

    /// The timestamp that a batch is ordered by; not later than the true one, if that cannot be told.
    pub(super) fn date_of(&self, dag: &Dag, id: BatchId) -> Timestamp {
        let judged = self.judged.get(id.index());
        judged.map_or(dag.batch(id).timestamp, |judged| judged.date.at)
    }

    /// True when the priority of a batch is known but for its weight.
    pub(super) fn is_told(&self, id: BatchId) -> bool {
        self.judged
            .get(id.index())
            .is_none_or(|judged| judged.date.is_told)
    }

    /// These cannot be placed with what is known of the prefix.
    pub(super) fn offend(&mut self, unclear: &BTreeSet<BatchId>) {
        self.offending.extend(unclear);
        self.unclear.extend(unclear);
    }

    /// The best that a new batch could be that has the prefix in its past and beats a pick of it.
    pub(super) const fn take_spanning(&mut self) -> Option<Priority> {
        self.spanning.take()
    }

    /// Looks at the batches that became ready since; `root` is the state at the base.
    pub(super) fn judge<R: Replay>(
        &mut self,
        dag: &Dag,
        replay: &R,
        rules: &Rules,
        (claims, left): (&mut WeightClaims, &BTreeMap<CoreKey, Left>),
        root: &R::State,
    ) {
        let tops = Tops::new(&self.prefix);
        for (id, batch) in dag.ready_since(self.judged.len()) {
            claims.add(dag, rules, id);
            if self.prefix.is_empty() {
                // Nothing is settled for good yet.
                self.judged.push(Judged {
                    cover: Cover::Nothing,
                    sound: true,
                    clean: true,
                    hopeless: false,
                    date: self.date(batch, rules, &Cover::Nothing),
                });
                self.note_date(batch);
                continue;
            }
            let cover = self.cover(batch, &tops);
            let date = self.date(batch, rules, &cover);
            let clean = batch
                .parents
                .iter()
                .all(|parent| self.judged[parent.index()].clean);
            let hopeless = self.is_hopeless(batch, replay, rules, root);
            let was_there = self
                .considered
                .get(&batch.writer)
                .is_some_and(|length| batch.last <= *length);
            let bound = Priority::new(batch, date.at, self.bound(batch, replay, claims, root));
            let unadmitted = Priority::new(batch, date.at, Weight::ZERO);
            let in_past = cover == Cover::All && clean;
            // It was in the set when the picks of the prefix were made, left, and is back.
            let is_back = left.get(&batch.writer).filter(|left| left.includes(batch.last));
            let is_spanned = is_back.is_some_and(|left| left.picks > 0);
            if cover == Cover::All
                && !is_spanned
                && self.spans(&bound)
                && self.spanning.is_none_or(|best| bound < best)
            {
                self.spanning = Some(bound);
            }
            let sound = if was_there {
                !self.prefix.unsound.has(batch.writer, batch.first)
            } else if in_past && !beats(&bound, self.prefix.tainted.as_ref()) {
                true
            } else if is_back.is_some() {
                !beats(&unadmitted, self.prefix.worst.as_ref())
            } else if !self.spans(&bound) {
                // A shorter prefix can have had worse picks, which a later one pulled.
                for prefix in &mut self.ladder {
                    if beats(&bound, prefix.worst.as_ref()) {
                        prefix.unsound.add(batch.writer, batch.first);
                    }
                }
                true
            } else if hopeless {
                !beats(&unadmitted, self.prefix.worst.as_ref())
            } else {
                self.offending.push(id);
                true
            };
            if !sound {
                for prefix in self.ladder.iter_mut().chain([&mut self.prefix]) {
                    prefix.unsound.add(batch.writer, batch.first);
                }
            }
            self.judged.push(Judged {
                cover,
                sound,
                clean: sound && clean,
                hopeless,
                date,
            });
            self.note_date(batch);
        }
    }

    /// The newest prefix that all batches leave as it is, by its place in the ladder. None when there is none but the
    /// empty one.
    pub(super) fn way_back<R: Replay>(
        &self,
        dag: &Dag,
        replay: &R,
        claims: &WeightClaims,
        root: &R::State,
    ) -> Option<usize> {
        // Of each batch the longest prefix of the ladder that it is known to have in its past, counted from 1.
        let mut reach: Vec<usize> = Vec::with_capacity(self.judged.len());
        for ((_, batch), judged) in dag.ready().zip(&self.judged) {
            let of_link = |link: &Link| {
                let covers = |prefix: &Prefix| {
                    prefix
                        .covering
                        .get(&link.key)
                        .is_some_and(|length| *length <= link.length)
                };
                self.ladder.iter().rposition(covers).map_or(0, |at| at + 1)
            };
            let parents = batch.parents.iter().map(|parent| reach[parent.index()]);
            let found = parents.chain(batch.behind.iter().map(of_link)).max();
            reach.push(if judged.cover == Cover::All {
                self.ladder.len()
            } else {
                found.unwrap_or(0)
            });
        }
        let stands = |at: usize, prefix: &Prefix| {
            self.offending.iter().all(|id| {
                let batch = dag.batch(*id);
                let judged = &self.judged[id.index()];
                let date = judged.date;
                let covers = reach[id.index()] > at;
                let is_told = covers
                    || (date.is_told || date.at >= prefix.latest) && !self.unclear.contains(id)
                    || date.at >= prefix.latest && batch.claim.is_none();
                let bound = Priority::new(batch, date.at, self.bound(batch, replay, claims, root));
                let stands = !beats(&bound, prefix.worst.as_ref())
                    || (covers
                        && judged.clean
                        && prefix.unsound.is_empty()
                        && !beats(&bound, prefix.tainted.as_ref()));
                is_told && stands
            })
        };
        (0..self.ladder.len())
            .rev()
            .find(|at| stands(*at, &self.ladder[*at]))
    }

    /// What the prefix is with these picks behind it: of each its priority, and the batches that it settled. When the
    /// first one spanned picks of the prefix, those were none after all. Call before the set forgets them.
    pub(super) fn extended<'a, R: Replay>(
        &self,
        dag: &Dag,
        replay: &R,
        rules: &Rules,
        root: &R::State,
        picks: impl IntoIterator<Item = (Priority, &'a [BatchId])>,
        spanned: Option<Priority>,
    ) -> Extended {
        let mut after = Prefix {
            entries: self.prefix.entries,
            worst: self.prefix.worst,
            tainted: self.prefix.tainted,
            tops: self.prefix.tops.clone(),
            latest: self.prefix.latest,
            ..Prefix::default()
        };
        let is_late =
            |batch: &Batch| batch.writer != rules.bootstrap && replay.standing(root, &batch.writer).is_none();
        let mut worst: Option<Priority> = None;
        let mut goes = vec![false; dag.len()];
        for (priority, batches) in picks {
            for id in batches {
                let batch = dag.batch(*id);
                let unadmitted = self.priority(dag, *id, Weight::ZERO);
                if rules.set.is_safe() {
                    after.latest = after.latest.max(self.judged[id.index()].date.at);
                }
                if !self.judged[id.index()].sound || (is_late(batch) && beats(&unadmitted, worst.as_ref())) {
                    after.tainted = after.worst;
                }
                goes[id.index()] = true;
                for parent in &batch.parents {
                    let parent = dag.batch(*parent);
                    let is_any = self.planted.has(Slip::NewerTopGone);
                    if is_any || after.tops.get(&parent.writer) == Some(&parent.first) {
                        after.tops.remove(&parent.writer);
                    }
                }
                for link in &batch.behind {
                    if after
                        .tops
                        .get(&link.key)
                        .is_some_and(|first| *first <= link.length)
                    {
                        after.tops.remove(&link.key);
                    }
                }
                after.tops.insert(batch.writer, batch.first);
            }
            // All that are left before one that spanned others are better.
            if spanned == Some(priority) && worst.is_none() {
                after.worst = None;
            }
            worst = worst.max(Some(priority));
            after.worst = match self.planted.has(Slip::WorstIsLast) {
                true => Some(priority),
                false => after.worst.max(Some(priority)),
            };
        }
        let mut stays = Vec::new();
        for ((id, batch), judged) in dag.ready().zip(&self.judged) {
            if !goes[id.index()] {
                let unadmitted = self.priority(dag, id, Weight::ZERO);
                let sound = judged.sound && !(is_late(batch) && beats(&unadmitted, worst.as_ref()));
                if !sound {
                    after.unsound.add(batch.writer, batch.first);
                }
                stays.push((sound, judged.date));
            }
        }
        Extended {
            prefix: after,
            goes,
            stays,
        }
    }

    /// Moves on to a longer prefix, once the set is renumbered. `claimed` is the highest forgotten claim of writers;
    /// `keep` is how many entries are kept behind the prefix.
    pub(super) fn advance<R: Replay>(
        &mut self,
        extended: Extended,
        claimed: &BTreeMap<CoreKey, Weight>,
        dag: &Dag,
        replay: &R,
        rules: &Rules,
        (root, entries, keep): (&R::State, u64, u64),
    ) {
        let Extended {
            mut prefix, stays, ..
        } = extended;
        prefix.entries = entries;
        let weight = |writer| {
            replay
                .standing(root, writer)
                .map_or(Weight::ZERO, |now| now.weight)
        };
        for (writer, claim) in self.prefix.claims.iter().chain(claimed) {
            if *claim > weight(writer) {
                let highest = prefix.claims.entry(*writer).or_default();
                *highest = (*highest).max(*claim);
            }
        }
        for (writer, length) in dag.base_lengths() {
            let recorded = replay
                .standing(root, &writer)
                .map_or(Length::ZERO, |now| now.length);
            if length != recorded {
                prefix.settled.insert(writer, length);
            }
        }
        let before = std::mem::replace(&mut self.prefix, prefix);
        if !before.is_empty() {
            self.ladder.push(before);
        }
        self.thin(keep);
        self.considered.clear();
        self.judged.clear();
        let tops = Tops::new(&self.prefix);
        for ((_, batch), (sound, date)) in dag.ready().zip(stays) {
            let cover = self.cover(batch, &tops);
            // Whoever begins here again has to come to the same.
            let again = self.date(batch, rules, &cover);
            if date.is_told && !again.is_told && self.prefix.dates.len() < DATES_MAX {
                self.prefix.dates.insert((batch.writer, batch.first), date.at);
            }
            let judged = Judged {
                cover,
                date,
                sound,
                clean: sound
                    && batch
                        .parents
                        .iter()
                        .all(|parent| self.judged[parent.index()].clean),
                hopeless: self.is_hopeless(batch, replay, rules, root),
            };
            self.judged.push(judged);
        }
    }

    /// A batch is about to leave the set.
    pub(super) fn leaves(&mut self, batch: &Batch) {
        for prefix in self.ladder.iter_mut().chain([&mut self.prefix]) {
            prefix.unsound.remove(batch.writer, batch.first);
        }
    }

    /// After batches left the set.
    pub(super) fn remove(&mut self, ids: &Renumbered) {
        let mut kept: Vec<Judged> = Vec::new();
        let moved = ids.moved().map(|(before, _)| before.index());
        let mut moved = moved.peekable();
        let behind = self.judged.split_off(ids.from().min(self.judged.len()));
        for (at, judged) in (ids.from()..).zip(behind) {
            if moved.next_if_eq(&at).is_some() {
                kept.push(judged);
            }
        }
        self.judged.append(&mut kept);
    }

    /// Writes down who has the prefix in its past. Call before the set forgets anything, or to store the prefix.
    pub(super) fn note_covering(&mut self, dag: &Dag) {
        let mut covering = std::mem::take(&mut self.prefix.covering);
        if let (1, Some((writer, first))) = (self.prefix.tops.len(), self.prefix.tops.first_key_value()) {
            covering.insert(*writer, *first);
        }
        for ((_, batch), judged) in dag.ready().zip(&self.judged) {
            if judged.cover == Cover::All {
                covering.entry(batch.writer).or_insert(batch.first);
            }
        }
        self.prefix.covering = covering;
    }

    // ---- private

    /// Keeps about one prefix for each doubling of the way back.
    fn thin(&mut self, keep: u64) {
        let end = self.prefix.entries.saturating_add(keep);
        let way = |prefix: &Prefix| end - prefix.entries;
        let mut kept: Vec<Prefix> = Vec::new();
        for mut prefix in std::mem::take(&mut self.ladder).into_iter().rev() {
            // Newest first: the last one kept is not needed when this one is at most twice as far as the one before it.
            while let [.., newer, last] = kept.as_slice() {
                if way(&prefix) > way(newer).saturating_mul(2) {
                    break;
                }
                // Whoever has the longer one in the past has this one, too.
                for (writer, first) in &last.covering {
                    prefix.covering.entry(*writer).or_insert(*first);
                }
                kept.pop();
            }
            kept.push(prefix);
        }
        kept.reverse();
        self.ladder = kept;
    }

    /// Counts the batch that was judged last, if it says that it is older than it counts.
    fn note_date(&mut self, batch: &Batch) {
        let date = self.judged.last().map(|judged| judged.date.at);
        self.redated += u64::from(date > Some(batch.timestamp));
    }

    /// When a batch counts as written, whose parents are judged. Under safe rules not before what it links: the maximum of
    /// its own timestamp and of all that come before it. Of those that are forgotten the latest is known, which is the
    /// one that counts when all of them come before it, and none that counts when they are not later.
    fn date(&self, batch: &Batch, rules: &Rules, cover: &Cover) -> Date {
        let mut date = Date {
            at: batch.timestamp,
            is_told: true,
        };
        if !rules.set.is_safe() || self.planted.has(Slip::OwnTimestamp) {
            return date;
        }
        if let Some(noted) = self.prefix.dates.get(&(batch.writer, batch.first)) {
            date.at = *noted;
            return date;
        }
        date.is_told = batch.behind.is_empty();
        for parent in &batch.parents {
            let parent = &self.judged[parent.index()].date;
            date.at = date.at.max(parent.at);
            date.is_told &= parent.is_told;
        }
        if *cover == Cover::All {
            date.at = date.at.max(self.prefix.latest);
        }
        date.is_told |= date.at >= self.prefix.latest;
        date
    }

    fn cover(&self, batch: &Batch, tops: &Tops) -> Cover {
        let mut cover = Cover::Nothing;
        for parent in &batch.parents {
            cover.join(&self.judged[parent.index()].cover);
        }
        if cover == Cover::All {
            return cover;
        }
        for link in &batch.behind {
            if let Some((at, first)) = tops.of.get(&link.key)
                && *first <= link.length
            {
                cover.add(*at, tops.of.len());
            }
        }
        cover.complete(tops.of.len());
        cover
    }

    fn is_hopeless<R: Replay>(&self, batch: &Batch, replay: &R, rules: &Rules, root: &R::State) -> bool {
        batch.behind.is_empty()
            && batch.writer != rules.bootstrap
            && (rules.set.is_safe() || !rules.tries(batch))
            && replay.standing(root, &batch.writer).is_none()
            && batch
                .parents
                .iter()
                .all(|parent| self.judged[parent.index()].hopeless)
    }

    fn bound<R: Replay>(&self, batch: &Batch, replay: &R, claims: &WeightClaims, root: &R::State) -> Weight {
        let standing = replay.standing(root, &batch.writer);
        let forgotten = self.prefix.claims.get(&batch.writer).copied().unwrap_or_default();
        standing
            .map_or(Weight::ZERO, |standing| standing.weight)
            .max(claims.highest(batch, 0))
            .max(forgotten)
    }
}

/// A longer prefix, and what becomes of the batches.
pub(super) struct Extended {
    pub(super) prefix: Prefix,
    /// By id: it is part of the prefix.
    pub(super) goes: Vec<bool>,
    /// Of those that stay, in order of their ids: it is sound, and its date.
    stays: Vec<(bool, Date)>,
}

/// The tops of a prefix, with a number each.
struct Tops {
    of: BTreeMap<CoreKey, (usize, Length)>,
}

impl Tops {
    fn new(prefix: &Prefix) -> Self {
        let numbered = prefix.tops.iter().enumerate();
        Self {
            of: numbered.map(|(at, (key, first))| (*key, (at, *first))).collect(),
        }
    }
}

fn beats(priority: &Priority, other: Option<&Priority>) -> bool {
    other.is_some_and(|other| priority < other)
}
