//! A database that is opened again, with no peer there to help, is what it was.
//!
//! Source: ARCHITECTURE.md, invariant 6: what was applied is on the disk, or follows from what is.

use autobee::WriterStatus;
use autobee::crypto::CoreKey;
use autobee::wire::Length;

use super::{Look, ReplicaLook, VIEW_WAITS, first_difference};

/// How a replica differs from what it was before it was killed; none when it does not, or shows no order now or then.
#[must_use]
pub fn reopened(before: &ReplicaLook, after: &ReplicaLook) -> Option<String> {
    let before = before.look.as_ref()?;
    let Some(after) = &after.look else {
        return Some("it is not open".into());
    };
    if before.local != after.local {
        return Some("another log is its writer's".into());
    }
    before.set.as_ref()?;
    if after.set.is_none() {
        return Some("it did not come to an order".into());
    }
    let here = || logs(before, after).or_else(|| progress(before, after));
    here().or_else(|| set(before, after)).or_else(|| {
        // What it has of strangers from whom it took nothing may have its turn now: then another set is ordered.
        (before.known == after.known)
            .then(|| state(before, after))
            .flatten()
    })
}

/// What a replica must know after a power loss that it knew for long before; none when it does.
#[must_use]
pub fn remembered(before: &ReplicaLook, after: &ReplicaLook) -> Option<String> {
    let before = before.look.as_ref()?;
    let Some(after) = &after.look else {
        // Blocks of others' trees that were not synced are fetched again, once somebody is there.
        let waits = after.unseen.as_deref() == Some(VIEW_WAITS);
        return (!waits).then(|| "it is not open".into());
    };
    if before.local != after.local {
        return Some("another log is its writer's".into());
    }
    let mut known = after.progress.iter().filter(|log| log.have > Length::ZERO);
    let forgotten =
        known.find(|log| before.contradicted.contains(&log.key) && !after.contradicted.contains(&log.key))?;
    Some(forgot_contradiction(forgotten.key))
}

fn forgot_contradiction(log: CoreKey) -> String {
    format!(
        "it knew that the owner of the log {} signed two",
        &log.to_hex()[..8]
    )
}

/// What was ordered takes part again.
fn set(before: &Look, after: &Look) -> Option<String> {
    let known = after.known.as_ref();
    before
        .writers
        .iter()
        .filter(|writer| !writer.is_anchor)
        .find_map(|writer| {
            let length = known
                .and_then(|known| known.get(&writer.key))
                .copied()
                .unwrap_or_default();
            let was = before.known.as_ref()?.get(&writer.key).copied()?;
            // What was not taken of a guest is that of a stranger.
            let was = if writer.is_guest {
                was.min(writer.length)
            } else {
                was
            };
            (length < was).then(|| {
                let key = writer.key.to_hex();
                format!(
                    "{length} blocks of the log {} are in its set, {was} before",
                    &key[..8]
                )
            })
        })
}

/// True for a guest of whom nothing was taken.
fn is_named(writer: &WriterStatus) -> bool {
    writer.is_guest && writer.length == Length::ZERO
}

fn logs(before: &Look, after: &Look) -> Option<String> {
    before.logs.iter().find_map(|(core, log)| {
        // The log of a stranger from whom nothing was taken is not opened again.
        let is_known = before
            .writers
            .iter()
            .any(|writer| writer.key == *core && !writer.is_anchor && !is_named(writer));
        let found = after.logs.get(core).map(|log| log.length()).unwrap_or_default();
        (is_known && found < log.length()).then(|| {
            format!(
                "{} blocks of the log {}, {} before",
                found,
                &core.to_hex()[..8],
                log.length()
            )
        })
    })
}

/// What need not be here of a log, as its start was passed over, need not be here now.
fn progress(before: &Look, after: &Look) -> Option<String> {
    let members = before.progress.iter().filter(|log| {
        let is_member = |record: WriterStatus| !record.is_anchor && !record.is_guest && !record.is_removed;
        log.record.is_some_and(is_member)
    });
    members.into_iter().find_map(|log| {
        if before.contradicted.contains(&log.key) && !after.contradicted.contains(&log.key) {
            return Some(forgot_contradiction(log.key));
        }
        let mut all = after.progress.iter();
        let have = all.find(|other| other.key == log.key).map(|other| other.have);
        let have = have.unwrap_or_default();
        (have < log.have).then(|| {
            format!(
                "by `status()` {have} blocks of the log {} are here or passed over, {} before",
                &log.key.to_hex()[..8],
                log.have
            )
        })
    })
}

fn state(before: &Look, after: &Look) -> Option<String> {
    if before.order != after.order {
        return Some(format!(
            "another order {}",
            first_difference(&after.order, &before.order)
        ));
    }
    if before.writers != after.writers {
        return Some(format!(
            "other records {}",
            first_difference(&after.writers, &before.writers)
        ));
    }
    if before.view != after.view {
        return Some(format!(
            "another view {}",
            first_difference(&after.view, &before.view)
        ));
    }
    if before.heads != after.heads {
        return Some(format!(
            "other heads {}",
            first_difference(&after.heads, &before.heads)
        ));
    }
    ((before.timestamp, before.flushes) != (after.timestamp, after.flushes)).then(|| {
        format!(
            "{} batches up to {}, before {} up to {}",
            after.flushes, after.timestamp.0, before.flushes, before.timestamp.0
        )
    })
}
