//! What differs between two states: orders around their fork, entries, records, views.

use std::collections::BTreeSet;

use autobee::crypto::CoreKey;
use autobee::db::OrderedEntry;
use autobee::wire::{Length, Timestamp};
use bytes::Bytes;

use super::case::{Case, Subject, ms};
use super::data::{
    EntryShown, Explanation, Fork, Lacking, RecordDifference, RuleSaid, Side, ValueDifference,
};
use super::judge::{ModelVerdict, fork, other_key};
use crate::kit::bytes_text;
use crate::model::{Decision, Rule};
use crate::replica::WALL_EPOCH_MS;
use crate::workload::Op;

/// Entries of each side that are shown from the fork on.
const SHOWN_MAX: usize = 4;

/// Runs of entries that are shown.
const RUNS_MAX: usize = 6;

/// Entries that wrote to a key which are shown.
const WRITERS_MAX: usize = 5;

/// Fills in all differences of the subject.
pub(super) fn compare(case: &Case<'_>, subject: &Subject<'_>, told: &mut Explanation) {
    let ours = subject.replica.name.clone();
    told.who.push(ours.clone());
    if let Some((_, judged)) = &subject.wrong {
        let theirs = "the model".to_owned();
        orders(case, subject, (&ours, &theirs), &judged.order, told);
        records_of_model(case, subject, judged, told);
        let state = &judged.canonical.state;
        let view: Vec<(Bytes, Bytes)> = state
            .view
            .iter()
            .map(|(key, value)| (key.clone().into(), value.clone().into()))
            .collect();
        views(case, subject, (&ours, &theirs), &view, told);
        return;
    }
    let Some((other, look, at)) = subject.other else {
        return;
    };
    let theirs = match at {
        Some(at) => format!("{} at {} ms", other.name, ms(at)),
        None => other.name.clone(),
    };
    if !told.who.contains(&other.name) {
        told.who.push(other.name.clone());
    }
    orders(case, subject, (&ours, &theirs), &look.order, told);
    if let Some(writer) = subject
        .look
        .writers
        .iter()
        .find(|writer| !look.writers.contains(writer))
    {
        let record = look.writers.iter().find(|other| other.key == writer.key);
        mention(case, writer.key, writer.length, told);
        told.record = Some(RecordDifference {
            writer: case.names.writer(&writer.key),
            ours: ours.clone(),
            our_record: record_text(writer),
            theirs: theirs.clone(),
            their_record: record.map_or_else(|| "none".into(), record_text),
        });
    }
    if told.fork.is_none() {
        views(case, subject, (&ours, &theirs), &look.view, told);
    }
}

fn orders(
    case: &Case<'_>,
    subject: &Subject<'_>,
    (ours, theirs): (&str, &str),
    other: &[OrderedEntry],
    told: &mut Explanation,
) {
    let own = &subject.look.order;
    let Some(at) = fork(own, other) else { return };
    let side = |who: &str, order: &[OrderedEntry]| Side {
        who: who.to_owned(),
        entries: order
            .iter()
            .skip(at)
            .take(SHOWN_MAX)
            .map(|entry| entry_shown(case, entry))
            .collect(),
    };
    let last = at.checked_sub(1).and_then(|last| own.get(last));
    told.fork = Some(Fork {
        common: at,
        last_common: last.map(|entry| case.names.entry(&entry.key, entry.length)),
        ours: side(ours, own),
        theirs: side(theirs, other),
        rule: rule(case, subject, own.get(at), other.get(at)),
    });
    for entry in [own.get(at), other.get(at)].into_iter().flatten() {
        let name = case.names.entry(&entry.key, entry.length);
        if !told.entries.contains(&name) {
            told.entries.push(name);
        }
    }
    lacking(case, (ours, own), (theirs, other), told);
    lacking(case, (theirs, other), (ours, own), told);
}

fn entry_shown(case: &Case<'_>, entry: &OrderedEntry) -> EntryShown {
    let (op, stamp_ms, links) = case.op(&entry.key, entry.length).unwrap_or_default();
    EntryShown {
        name: case.names.entry(&entry.key, entry.length),
        weight: entry.weight.0,
        stamp_ms,
        links,
        op,
    }
}

fn lacking(
    case: &Case<'_>,
    (has, own): (&str, &[OrderedEntry]),
    (lacks, other): (&str, &[OrderedEntry]),
    told: &mut Explanation,
) {
    let there: BTreeSet<(CoreKey, Length)> = other.iter().map(|entry| (entry.key, entry.length)).collect();
    let mut missing: Vec<(CoreKey, Length)> = own
        .iter()
        .map(|entry| (entry.key, entry.length))
        .filter(|entry| !there.contains(entry))
        .collect();
    if missing.is_empty() {
        return;
    }
    missing.sort_unstable();
    let mut runs: Vec<(CoreKey, Length, Length)> = Vec::new();
    for (key, length) in &missing {
        match runs.last_mut() {
            Some((last, _, end)) if last == key && end.0 + 1 == length.0 => *end = *length,
            _ => runs.push((*key, *length, *length)),
        }
    }
    let mut entries: Vec<String> = runs
        .iter()
        .take(RUNS_MAX)
        .map(|(key, from, to)| case.names.range(key, *from, *to))
        .collect();
    if runs.len() > RUNS_MAX {
        entries.push(format!("and {} more runs", runs.len() - RUNS_MAX));
    }
    told.lacking.push(Lacking {
        has: has.to_owned(),
        lacks: lacks.to_owned(),
        entries,
        count: missing.len(),
    });
}

/// What the rule says of the two entries of a fork, by the blocks of whoever has both.
fn rule(
    case: &Case<'_>,
    subject: &Subject<'_>,
    ours: Option<&OrderedEntry>,
    theirs: Option<&OrderedEntry>,
) -> Option<RuleSaid> {
    let (ours, theirs) = (ours?, theirs?);
    let (a, b) = ((ours.key, ours.length), (theirs.key, theirs.length));
    let judge = case.judge()?;
    let sets = subject.other.map(|(_, look, _)| look);
    for look in std::iter::once(subject.look).chain(sets) {
        let Some(judged) = case.judged(look) else { continue };
        if let Some(decision) = judge.decide(&judged, a, b) {
            let is_a = judged.batch(a) == Some(decision.first);
            let (first, second) = if is_a { (a, b) } else { (b, a) };
            return Some(said(case, &judged, &decision, first, second));
        }
    }
    None
}

fn said(
    case: &Case<'_>,
    judged: &ModelVerdict,
    decision: &Decision,
    first: (CoreKey, Length),
    second: (CoreKey, Length),
) -> RuleSaid {
    let name = |(key, length): (CoreKey, Length)| case.names.entry(&key, length);
    let (earlier, later) = (name(first), name(second));
    // The batch that was picked, and that pulled the first one forward if it is another one.
    let batch = &judged.batches[decision.picked];
    let picked = if decision.picked == decision.first {
        earlier.clone()
    } else {
        name((batch.writer, batch.first))
    };
    let stamp = |stamp: Timestamp| stamp_ms(stamp);
    let (part, why) = match decision.rule {
        Rule::Causal => (
            "causal",
            format!("{later} stands on {earlier}: it links it, directly or not"),
        ),
        Rule::Weight { picked: won, lost } => (
            "weight",
            format!("{picked} weighs {won} there and {later} {lost}: the heavier comes first"),
        ),
        Rule::Timestamp {
            weight,
            picked: won,
            lost,
        } => (
            "timestamp",
            format!(
                "both weigh {weight}; {picked} is of {} ms and {later} of {} ms: the older comes first",
                stamp(won),
                stamp(lost)
            ),
        ),
        Rule::Key { weight } => (
            "key",
            format!("both weigh {weight} and have one timestamp: {picked} has the lower key"),
        ),
        Rule::Length => ("length", format!("{earlier} is before {later} in one log")),
        Rule::NotAdmitted => (
            "not admitted",
            format!(
                "{later} is no candidate at that place: its writer has no record there, and apply refuses it as a stranger's"
            ),
        ),
        Rule::Waits => (
            "waits",
            format!("{later} waits for something that it names and that is not here"),
        ),
    };
    let pulled = if decision.picked == decision.first || part == "causal" {
        String::new()
    } else {
        format!("; {picked} stands on {earlier} and pulls it forward")
    };
    RuleSaid {
        first: earlier,
        second: later,
        part,
        why: why + &pulled,
    }
}

/// A timestamp in milliseconds since the world began.
pub(super) fn stamp_ms(stamp: Timestamp) -> i64 {
    i64::try_from(stamp.0)
        .unwrap_or(i64::MAX)
        .saturating_sub(WALL_EPOCH_MS)
}

fn records_of_model(case: &Case<'_>, subject: &Subject<'_>, judged: &ModelVerdict, told: &mut Explanation) {
    let records = &judged.canonical.state.records;
    let keys: BTreeSet<CoreKey> = records
        .keys()
        .copied()
        .chain(subject.look.writers.iter().map(|writer| writer.key))
        .collect();
    for key in keys {
        let ours = subject.look.writers.iter().find(|writer| writer.key == key);
        let ours = ours.map_or_else(|| "none".into(), record_text);
        let theirs = records.get(&key).map_or_else(
            || "none".into(),
            |record| {
                text_of(
                    record.length,
                    record.weight.0,
                    record.max_weight.0,
                    record.is_removed,
                    record.is_anchor,
                )
            },
        );
        if ours != theirs {
            let length = records.get(&key).map_or(Length(1), |record| record.length);
            mention(case, key, length, told);
            told.record = Some(RecordDifference {
                writer: case.names.writer(&key),
                ours: subject.replica.name.clone(),
                our_record: ours,
                theirs: "the model".into(),
                their_record: theirs,
            });
            return;
        }
    }
}

/// The last entry of a writer whose record differs.
fn mention(case: &Case<'_>, key: CoreKey, length: Length, told: &mut Explanation) {
    let name = case.names.entry(&key, length.max(Length(1)));
    if !told.entries.contains(&name) {
        told.entries.push(name);
    }
}

fn record_text(writer: &autobee::db::WriterStatus) -> String {
    text_of(
        writer.length,
        writer.weight.0,
        writer.max_weight.0,
        writer.is_removed,
        writer.is_anchor,
    )
}

fn text_of(length: Length, weight: u64, ceiling: u64, is_removed: bool, is_anchor: bool) -> String {
    let removed = if is_removed { ", removed" } else { "" };
    let anchor = if is_anchor { ", an anchor" } else { "" };
    format!("length {length}, weight {weight} of {ceiling}{removed}{anchor}")
}

fn views(
    case: &Case<'_>,
    subject: &Subject<'_>,
    (ours, theirs): (&str, &str),
    other: &[(Bytes, Bytes)],
    told: &mut Explanation,
) {
    let own = &subject.look.view;
    let Some(key) = preferred_key(own, other) else {
        return;
    };
    let value = |view: &[(Bytes, Bytes)]| {
        let at = view.iter().find(|(known, _)| *known == key);
        at.map(|(_, value)| case.names.clean(&bytes_text(value)))
    };
    let pairs: BTreeSet<&(Bytes, Bytes)> = own.iter().collect();
    let others: BTreeSet<&(Bytes, Bytes)> = other.iter().collect();
    let differing: BTreeSet<&Bytes> = pairs.symmetric_difference(&others).map(|(key, _)| key).collect();
    let written = written_by(case, subject, &key);
    for name in written.iter().rev().take(1) {
        let entry = name.split(' ').next().unwrap_or_default().to_owned();
        if !told.entries.contains(&entry) {
            told.entries.push(entry);
        }
    }
    let (only_ours, only_theirs) = applied(case, own, other);
    for (who, not, entries) in [(ours, theirs, only_ours), (theirs, ours, only_theirs)] {
        if let Some(first) = entries.first() {
            told.facts.push(format!(
                "the view says that {who} applied {}, and {not} did not",
                list(&entries)
            ));
            if !told.entries.contains(first) {
                told.entries.push(first.clone());
            }
        }
    }
    told.value = Some(ValueDifference {
        key: bytes_text(&key),
        ours: ours.to_owned(),
        our_value: value(own),
        theirs: theirs.to_owned(),
        their_value: value(other),
        differing: differing.len(),
        written_by: written,
    });
}

/// The key that tells most: one that entries write rather than one that counts them.
fn preferred_key(ours: &[(Bytes, Bytes)], theirs: &[(Bytes, Bytes)]) -> Option<Bytes> {
    let first = other_key(ours, theirs)?;
    let is_count = |key: &Bytes| key.first() == Some(&b'#') || &key[..] == b"n";
    let strip = |view: &[(Bytes, Bytes)]| -> Vec<(Bytes, Bytes)> {
        view.iter().filter(|(key, _)| !is_count(key)).cloned().collect()
    };
    Some(other_key(&strip(ours), &strip(theirs)).unwrap_or(first))
}

/// Entries that the apply function of the simulator noted in one view and not in the other.
fn applied(
    case: &Case<'_>,
    ours: &[(Bytes, Bytes)],
    theirs: &[(Bytes, Bytes)],
) -> (Vec<String>, Vec<String>) {
    let noted = |view: &[(Bytes, Bytes)]| -> BTreeSet<Bytes> {
        let counted = view.iter().filter(|(key, _)| key.first() == Some(&b'#'));
        counted.map(|(_, value)| value.clone()).collect()
    };
    let (ours, theirs) = (noted(ours), noted(theirs));
    let only = |of: &BTreeSet<Bytes>, not: &BTreeSet<Bytes>| {
        let texts = of
            .difference(not)
            .map(|value| String::from_utf8_lossy(value).into_owned());
        texts.map(|text| case.names.clean(&text)).collect()
    };
    (only(&ours, &theirs), only(&theirs, &ours))
}

fn list(entries: &[String]) -> String {
    let shown = entries.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>();
    let more = entries.len().saturating_sub(SHOWN_MAX);
    if more > 0 {
        format!("{} and {more} more", shown.join(", "))
    } else {
        shown.join(", ")
    }
}

/// The entries of the order that put or delete a key, the last ones.
fn written_by(case: &Case<'_>, subject: &Subject<'_>, key: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in &subject.look.order {
        let block = subject
            .look
            .logs
            .get(&entry.key)
            .and_then(|log| log.block(entry.length));
        let Some(op) = block.and_then(super::focus::op_of) else {
            continue;
        };
        let Op { put, del, .. } = &op;
        let puts = put.as_ref().is_some_and(|(known, _)| known.as_bytes() == key);
        let deletes = del.as_ref().is_some_and(|known| known.as_bytes() == key);
        if puts || deletes {
            found.push(format!(
                "{} {}",
                case.names.entry(&entry.key, entry.length),
                super::focus::op_text(&case.names, &op)
            ));
        }
    }
    let skipped = found.len().saturating_sub(WRITERS_MAX);
    found.split_off(skipped)
}
