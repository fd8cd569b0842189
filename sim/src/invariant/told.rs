//! What a database tells its user is so: `status()`, a watch over the whole view, and the events.
//!
//! Source: the documentation of `db::Status`, `db::ViewWatch` and `db::Event`.

use std::collections::BTreeMap;

use autobee::crypto::CoreKey;
use autobee::db::WriterStatus;
use autobee::wire::Link;
use bytes::Bytes;

use super::seen::is_member;
use super::{Invariant, Look, Moment, ReplicaLook};

/// See the module.
#[derive(Debug, Default)]
pub struct StatusTruth {
    views: u64,
    looked: BTreeMap<usize, (u32, u64)>,
    removed: BTreeMap<usize, Removed>,
}

/// The writers that were removed when a replica was looked at, and how often it had been told that each became a member.
#[derive(Debug, Default)]
struct Removed {
    life: u32,
    told: BTreeMap<CoreKey, u64>,
}

impl Invariant for StatusTruth {
    fn name(&self) -> &'static str {
        "told"
    }

    fn tick(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for (replica, look) in moment.open() {
            let fail = |what: String| Err(format!("{}: {what}", replica.name));
            if let Some(what) = look.seen.contradictions.first() {
                return fail(what.clone());
            }
            if let Some(what) = status(moment, look) {
                return fail(what);
            }
            let blamed = look
                .seen
                .diverged
                .iter()
                .find(|(writer, ..)| is_honest(moment, writer));
            if let Some((writer, length, key)) = blamed {
                return fail(format!(
                    "it was told that the view of {} is another one at {key:?}, behind its block {}",
                    moment.name_of(writer),
                    length.0
                ));
            }
            if let Some(what) = self.returned(moment, replica, look) {
                return fail(what);
            }
            if let Some((head, told)) = &look.seen.view
                && *head == look.view_head
            {
                let seen = (replica.life, head.length.0);
                if self.looked.insert(replica.replica, seen) != Some(seen) {
                    if let Some(what) = other_view(look, told) {
                        return fail(what);
                    }
                    self.views += 1;
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        self.looked.clear();
        self.tick(moment)?;
        for (replica, look) in moment.open() {
            let fail = |what: String| Err(format!("{}: {what}", replica.name));
            match &look.seen.view {
                None => return fail("a watch told nothing".into()),
                // A watch does not tell of versions with equal contents.
                Some((_, told)) => {
                    if let Some(what) = other_view(look, told) {
                        return fail(what);
                    }
                }
            }
            if let Some(head) = look.seen.head
                && head != look.view_head
            {
                return fail(format!(
                    "the last event told of version {} of the view, which is at {}",
                    head.length, look.view_head.length
                ));
            }
            if let Some(head) = look.seen.updated
                && head != look.view_head
            {
                return fail(format!(
                    "the update hook was last told of version {} of the view, which is at {}",
                    head.length, look.view_head.length
                ));
            }
            if look.seen.is_writable.is_some_and(|told| told != look.is_writable) {
                return fail("the events say otherwise whether it may write".into());
            }
            let is_untold = |writer: &&WriterStatus| {
                let told = look.seen.members.as_ref();
                is_member(writer) && told.is_some_and(|told| !told.contains(&writer.key))
            };
            if let Some(writer) = look.writers.iter().find(is_untold) {
                let name = moment.name_of(&writer.key);
                return fail(format!("no event told that {name} became a writer"));
            }
            let own = look.writers.iter().find(|writer| writer.key == look.local);
            let applied = own.map(|writer| writer.length).unwrap_or_default();
            if let Some(length) = look.seen.waiting.first().filter(|length| **length <= applied) {
                return fail(format!(
                    "the events say that its entry {length} waits, and {applied} are applied"
                ));
            }
            if moment.claims.may_disagree || !moment.claims.is_whole() {
                continue;
            }
            // What a lost directory alone had will not come.
            let is_there = |key| {
                let mut open = moment.open();
                open.any(|(owner, other)| {
                    other.writes(&key) && !moment.claims.forged.contains(&owner.replica)
                })
            };
            let waiting = look.progress.iter().find(|progress| {
                // What apply refuses of a guest waits for another order, as what it refuses of anybody unknown.
                let is_member = progress.record.as_ref().is_some_and(|record| !record.is_guest);
                let is_known = is_member && is_there(progress.key);
                // What everybody who has it refused is refused for good; the reference says whether that is right.
                let is_agreed = moment.open().all(|(_, other)| {
                    let mut logs = other.progress.iter();
                    let log = logs.find(|log| log.key == progress.key);
                    log.is_none_or(|log| (log.have, log.applied) == (progress.have, progress.applied))
                });
                progress.pending.is_some() && is_known && !progress.is_stalled && !is_agreed
            });
            // Where a peer took over a length of which nobody has all blocks any more, shorter proofs do not fit it.
            let is_gone = |link: &Link| {
                let log = |look: &Look| look.progress.iter().find(|log| log.key == link.key).cloned();
                let length = log(look).map(|log| log.length).unwrap_or_default();
                let mut open = moment.open();
                !is_there(link.key) && open.all(|(_, other)| log(other).is_none_or(|log| log.have < length))
            };
            let is_lost = !moment.claims.lost.is_empty() || look.missing.iter().any(is_gone);
            if let Some(progress) = waiting.filter(|_| !is_lost) {
                let missing: Vec<_> = look
                    .missing
                    .iter()
                    .map(|link| moment.block(&link.key, link.length))
                    .collect();
                return fail(format!(
                    "at rest, {} of {} blocks of {} are applied, {} are here, and it waits for {:?}; missing is {:?}",
                    progress.applied,
                    progress.length,
                    moment.name_of(&progress.key),
                    progress.have,
                    progress.pending,
                    missing
                ));
            }
        }
        Ok(())
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![("watched views", self.views)]
    }
}

impl StatusTruth {
    /// A writer that was removed and is a member again, of which no event told.
    fn returned(&mut self, moment: &Moment<'_>, replica: &ReplicaLook, look: &Look) -> Option<String> {
        let removed = self.removed.entry(replica.replica).or_default();
        // What is shown now is what the events told last: a portion of a drain shows more than they tell.
        let is_told = look.seen.head == Some(look.view_head) && look.seen.members.is_some();
        if removed.life != replica.life || look.seen.members.is_none() {
            *removed = Removed {
                life: replica.life,
                ..Removed::default()
            };
        }
        if !is_told {
            return None;
        }
        for writer in &look.writers {
            let told = look.seen.admitted.get(&writer.key).copied().unwrap_or_default();
            if writer.is_removed {
                removed.told.insert(writer.key, told);
            } else if is_member(writer)
                && let Some(before) = removed.told.remove(&writer.key)
                && told <= before
            {
                let name = moment.name_of(&writer.key);
                return Some(format!("no event told that {name} became a writer again"));
            }
        }
        None
    }
}

/// True when what a writer says of its view is what its program found: all replicas have the same apply.
fn is_honest(moment: &Moment<'_>, writer: &CoreKey) -> bool {
    let claims = &moment.claims;
    let mut open = moment.open();
    let owner = open.find(|(_, look)| look.writes(writer));
    let is_known = claims.hostile == 0 && claims.forged.is_empty();
    !claims.may_disagree && owner.map_or(is_known, |(owner, _)| !claims.has_other_blocks(owner.replica))
}

/// What `status()` says and other calls say otherwise.
fn status(moment: &Moment<'_>, look: &Look) -> Option<String> {
    if !look.is_shown {
        return Some("readers are shown another state than the database has".into());
    }
    if look.status_writable != look.is_writable {
        return Some("status() and writable() differ".into());
    }
    if look.seen.is_interrupted && look.stopped.is_none() {
        return Some("the events say that apply stopped it, and status() does not".into());
    }
    // What is in the set waits for no clock.
    let taken = look.held_back.iter().find(|(link, _)| {
        let known = look.known.as_ref().and_then(|known| known.get(&link.key));
        known.is_some_and(|known| *known >= link.length)
    });
    if let Some((link, until)) = taken {
        return Some(format!(
            "status() says that {} waits until {}, and it is in the set",
            moment.block(&link.key, link.length),
            until.0
        ));
    }
    for progress in &look.progress {
        let name = moment.name_of(&progress.key);
        let record = look.writers.iter().find(|writer| writer.key == progress.key);
        if progress.record.as_ref() != record {
            return Some(format!("status() has another record of {name} than writers()"));
        }
        if progress.applied != record.map(|record| record.length).unwrap_or_default() {
            return Some(format!(
                "status() has another applied length of {name} than its record"
            ));
        }
        if progress.have > progress.length {
            return Some(format!(
                "status() says that {} of {} blocks of {name} are here",
                progress.have, progress.length
            ));
        }
    }
    None
}

fn other_view(look: &Look, told: &BTreeMap<Bytes, Bytes>) -> Option<String> {
    let is_equal = told.len() == look.view.len()
        && told
            .iter()
            .zip(look.view.iter())
            .all(|((key, value), (other_key, other_value))| key == other_key && value == other_value);
    if is_equal {
        return None;
    }
    let told: Vec<(Bytes, Bytes)> = told
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let difference = super::first_difference(&look.view, &told);
    Some(format!(
        "the changes of a watch do not lead to the view {difference}"
    ))
}
