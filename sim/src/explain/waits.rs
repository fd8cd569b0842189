//! What somebody waits for at rest, what left a set, who connects, and the entry that was handled last.

use std::collections::BTreeMap;

use autobee::crypto::CoreKey;
use autobee::wire::Length;

use super::case::{Case, ms};
use super::data::{Explanation, Since};
use super::differ::stamp_ms;
use crate::invariant::{Look, ReplicaLook};

/// How long before the end connections are counted, in milliseconds.
const RECENT_MS: u64 = 20_000;

/// Pairs whose connections are told.
const PAIRS_MAX: usize = 4;

/// Fills in what the name of the failure asks for.
pub(super) fn find(case: &Case<'_>, named: &[String], told: &mut Explanation) {
    match told.failure.as_deref() {
        Some("promptness") => promptness(case, named, told),
        Some("growing sets") => left(case, named, told),
        Some("quiet" | "connected") => connections(case, told),
        _ => {}
    }
}

fn mention(told: &mut Explanation, name: String) {
    if !told.entries.contains(&name) {
        told.entries.push(name);
    }
}

fn promptness(case: &Case<'_>, named: &[String], told: &mut Explanation) {
    let text = told.violations.first().cloned().unwrap_or_default();
    for (replica, look) in case.open().filter(|(replica, _)| named.contains(&replica.name)) {
        let name = &replica.name;
        if text.contains("`status()`") {
            unopened(case, name, look, told);
        }
        if text.contains("clock") {
            for (key, from, to) in waiting(look) {
                let range = case.names.range(&key, from, to);
                let until = look.overdue.map_or(0, stamp_ms);
                told.facts
                    .push(format!("{range} wait at {name}, until {until} ms"));
                mention(told, range);
            }
        }
        if text.contains("durable") {
            undurable(case, replica, look, told);
        }
    }
}

/// Writers whose log is not open though they have a record.
fn unopened(case: &Case<'_>, name: &str, look: &Look, told: &mut Explanation) {
    for writer in &look.writers {
        let is_told = look.progress.iter().any(|progress| progress.key == writer.key);
        if is_told || writer.is_anchor {
            continue;
        }
        let log = case.names.log(&writer.key);
        let removed = if writer.is_removed { ", removed" } else { "" };
        told.facts.push(format!(
            "{name} has a record of {} (length {}{removed}), and {log} is not open there",
            case.names.writer(&writer.key),
            writer.length
        ));
        mention(
            told,
            case.names.entry(&writer.key, Length(writer.length.0.max(1))),
        );
    }
}

/// Own blocks that no sync made durable.
fn undurable(case: &Case<'_>, replica: &ReplicaLook, look: &Look, told: &mut Explanation) {
    let name = &replica.name;
    let length = look.logs.get(&look.local).map(|log| log.length());
    let range = case
        .names
        .range(&look.local, Length(look.shown.0 + 1), length.unwrap_or_default());
    let own = || case.lines.iter().filter(|line| line.replica() == Some(name));
    let written = own()
        .rev()
        .find(|line| line.deed() == Some("appended") && line.text("core") == Some(name));
    let written = written.map_or(0, |line| line.at);
    let syncs = own().filter(|line| line.text("op") == Some("sync") && line.at >= written);
    told.facts.push(format!(
        "{range} are written and not durable at {name}: written last at {} ms, {} syncs of its disk since",
        written / 1_000_000,
        syncs.count()
    ));
    mention(told, range);
}

/// Entries that are here, and are not in order.
fn waiting(look: &Look) -> Vec<(CoreKey, Length, Length)> {
    let logs = look.logs.iter().filter_map(|(key, log)| {
        let ordered = look.order.iter().filter(|entry| entry.key == *key);
        let applied = ordered.map(|entry| entry.length).max().unwrap_or_default();
        (applied < log.length()).then_some((*key, Length(applied.0 + 1), log.length()))
    });
    logs.collect()
}

/// What left the set of a replica between two looks.
fn left(case: &Case<'_>, named: &[String], told: &mut Explanation) {
    for name in named {
        let mut before: Option<(u64, &Look)> = None;
        for look in &case.recording.looks {
            let replica = look.replicas.iter().find(|replica| replica.name == *name);
            let Some(now) = replica.and_then(|replica| replica.look.as_ref()) else {
                before = None;
                continue;
            };
            let Some(known) = &now.known else { continue };
            if let Some((at, then)) = before {
                for (key, length) in then.known.iter().flatten() {
                    let left = known.get(key).copied().unwrap_or_default();
                    if left < *length {
                        let range = case.names.range(key, Length(left.0 + 1), *length);
                        told.facts.push(format!(
                            "{range} took part at {name} at {at} ms, and not at {} ms",
                            ms(look.at)
                        ));
                        told.since = Some(Since {
                            replica: name.clone(),
                            good_ms: Some(at),
                            bad_ms: ms(look.at),
                            what: format!("has {range} in its set"),
                        });
                        mention(told, range);
                    }
                }
            }
            before = Some((ms(look.at), now));
        }
    }
}

/// Who connected to whom in the end.
fn connections(case: &Case<'_>, told: &mut Explanation) {
    let from = told.found_ms.saturating_sub(RECENT_MS);
    let mut pairs: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut closed: BTreeMap<String, u64> = BTreeMap::new();
    for line in case.lines.iter().filter(|line| line.at / 1_000_000 >= from) {
        let Some(name) = line.replica() else { continue };
        if line.event == "open"
            && let Some(to) = line.text("to")
        {
            *pairs.entry((name.to_owned(), to.to_owned())).or_default() += 1;
        }
        if line.deed() == Some("closed") {
            let why = line.text("why").unwrap_or_default();
            *closed.entry(case.names.clean(why)).or_default() += 1;
        }
    }
    for ((from, to), count) in pairs.iter().take(PAIRS_MAX) {
        told.facts.push(format!(
            "{from} connected to {to} {count} times in the last {} s",
            RECENT_MS / 1_000
        ));
        for who in [from, to] {
            if !told.who.contains(who) {
                told.who.push(who.clone());
            }
        }
    }
    for (why, count) in closed.iter().take(PAIRS_MAX) {
        told.facts
            .push(format!("{count} sessions ended meanwhile: {why}"));
    }
}

/// Where nothing names an entry: the last one that the replica handled.
pub(super) fn last_entry(case: &Case<'_>, told: &mut Explanation) {
    if !told.entries.is_empty() {
        return;
    }
    let Some(name) = told.who.first().cloned() else {
        return;
    };
    let mut lines = case.lines.iter().rev();
    let last = lines.find(|line| {
        line.replica() == Some(&name)
            && matches!(line.deed(), Some("taken" | "appended"))
            && line.at / 1_000_000 <= told.found_ms
    });
    if let Some((line, log, length)) =
        last.and_then(|line| Some((line, line.text("core")?, line.count("length")?)))
    {
        let entry = format!("{log}@{length}");
        told.facts.push(format!(
            "the last entry that {name} handled was {entry}, at {} ms",
            line.at / 1_000_000
        ));
        told.entries.push(entry);
    }
}
