//! Single entries, single logs, and replicas that are not open.

use std::collections::BTreeMap;

use autobee::crypto::CoreKey;
use autobee::wire::oplog::OplogBlock;
use autobee::wire::{Decode as _, Length};
use bytes::Bytes;

use super::case::{Case, ms};
use super::data::{Explanation, Place, Since};
use super::differ::stamp_ms;
use super::names::Names;
use crate::events::{Topic, said};
use crate::invariant::{LogCopy, ReplicaLook};
use crate::kit::{bytes_text, shorten};
use crate::workload::{Op, SELF};

/// Entries whose places are shown.
const PLACES_MAX: usize = 3;

/// The operation of a block.
pub(super) fn op_of(block: &Bytes) -> Option<Op> {
    let block = OplogBlock::from_bytes(block).ok()?;
    serde_json::from_slice(&block.value?).ok()
}

/// What a block says, its timestamp, and what it links.
pub(super) fn shown(names: &Names, block: &Bytes) -> (String, Option<i64>, Vec<String>) {
    let Ok(read) = OplogBlock::from_bytes(block) else {
        return ("cannot be read".into(), None, Vec::new());
    };
    let links = read.links.iter().map(|link| names.link(link)).collect();
    let op = match &read.value {
        None => "no value".to_owned(),
        Some(value) if names.value(value).is_some() => names.value(value).map(shorten).unwrap_or_default(),
        Some(value) => match serde_json::from_slice::<Op>(value) {
            Ok(op) => op_text(names, &op),
            Err(_) => names.clean(&bytes_text(value)),
        },
    };
    let claim = read.witness.as_ref().map_or_else(String::new, |claim| {
        let backer = names.entry(&claim.backer.key, claim.backer.length);
        format!(" claiming weight {} backed by {backer}", claim.weight.0)
    });
    let stranger = if read.optimistic { " as a stranger" } else { "" };
    (
        format!("{op}{stranger}{claim}"),
        Some(stamp_ms(read.timestamp)),
        links,
    )
}

/// An operation in words.
pub(super) fn op_text(names: &Names, op: &Op) -> String {
    let mut words = Vec::new();
    let who = |key: &String| match key.parse::<CoreKey>() {
        Ok(key) => names.writer(&key),
        Err(_) if key == SELF => "itself".into(),
        Err(_) => shorten(key),
    };
    if let Some(key) = &op.add_writer {
        words.push(format!(
            "adds {} with weight {}",
            who(key),
            op.weight.unwrap_or(2)
        ));
    }
    if let Some(key) = &op.remove_writer {
        words.push(format!("removes {}", who(key)));
    }
    if let Some(key) = &op.ack {
        words.push(format!("acknowledges {}", who(key)));
    }
    if op.anchor {
        words.push("makes an anchor".into());
    }
    if let Some((key, value)) = &op.put {
        words.push(short(&format!(
            "puts {}={}",
            key.trim_end_matches('.'),
            value.trim_end_matches('.')
        )));
    }
    if let Some(key) = &op.del {
        words.push(format!("deletes {}", key.trim_end_matches('.')));
    }
    if op.reject {
        words.push("is refused of a stranger".into());
    }
    if let Some(key) = &op.reject_if {
        let key = key.trim_end_matches('.');
        words.push(format!("is refused of a stranger if there is {key}"));
    }
    if let Some(app) = &op.app {
        words.push(shorten(&app.shown));
    }
    if words.is_empty() {
        "does nothing".into()
    } else {
        words.join(" and ")
    }
}

fn short(text: &str) -> String {
    let clean = shorten(text);
    if clean.chars().count() <= 40 {
        clean
    } else {
        clean.chars().take(37).chain("...".chars()).collect()
    }
}

/// Where the entries are that a violation names, and what their blocks were at other times.
pub(super) fn entries(case: &Case<'_>, mentioned: &[(CoreKey, Length)], told: &mut Explanation) {
    for (key, length) in mentioned {
        let name = case.names.entry(key, *length);
        if !told.entries.contains(&name) {
            told.entries.insert(0, name);
        }
    }
    let named: Vec<(CoreKey, Length)> = told
        .entries
        .iter()
        .filter_map(|entry| case.names.find(entry))
        .collect();
    for (key, length) in named.iter().take(PLACES_MAX) {
        told.places.push(place(case, key, *length));
        variants(case, key, *length, told);
    }
}

fn place(case: &Case<'_>, key: &CoreKey, length: Length) -> Place {
    let has = |replica: &ReplicaLook| {
        let log = replica.look.as_ref().and_then(|look| look.logs.get(key));
        log.is_some_and(|log| log.length() >= length)
    };
    let orders = |replica: &ReplicaLook| {
        let order = replica.look.as_ref().map(|look| &look.order);
        let mut order = order.into_iter().flatten();
        order.any(|entry| (entry.key, entry.length) == (*key, length))
    };
    let names = |is: &dyn Fn(&ReplicaLook) -> bool| -> Vec<String> {
        let replicas = case.latest().iter().filter(|replica| is(replica));
        replicas.map(|replica| replica.name.clone()).collect()
    };
    Place {
        entry: case.names.entry(key, length),
        op: case.op(key, length).map(|(op, ..)| op).unwrap_or_default(),
        stored: names(&has),
        ordered: names(&orders),
        acknowledged: acknowledged(case, key, length).next().is_some(),
    }
}

/// The values with which an entry was acknowledged.
fn acknowledged<'a>(case: &'a Case<'_>, key: &'a CoreKey, length: Length) -> impl Iterator<Item = &'a Bytes> {
    let all = case
        .recording
        .acknowledged
        .iter()
        .filter(move |entry| entry.key == *key);
    all.filter_map(move |entry| {
        let behind = entry.length.0.checked_sub(length.0)?;
        let at = (entry.values.len() as u64).checked_sub(behind + 1)?;
        entry.values.get(usize::try_from(at).ok()?)
    })
}

/// One place of a log had other blocks at other replicas or times.
fn variants(case: &Case<'_>, key: &CoreKey, length: Length, told: &mut Explanation) {
    let mut seen: Vec<(&Bytes, String, u32, u64)> = Vec::new();
    for look in &case.recording.looks {
        for replica in &look.replicas {
            let log = replica.look.as_ref().and_then(|open| open.logs.get(key));
            let Some(block) = log.and_then(|log| log.block(length)) else {
                continue;
            };
            if !seen.iter().any(|(known, ..)| *known == block) {
                seen.push((block, replica.name.clone(), replica.life, ms(look.at)));
            }
        }
    }
    let entry = case.names.entry(key, length);
    if seen.len() > 1 {
        for (block, who, life, at) in seen.iter().take(3) {
            let (op, stamp, links) = shown(&case.names, block);
            let stamp = stamp.map_or_else(String::new, |stamp| format!(", of {stamp} ms"));
            let links = if links.is_empty() {
                String::new()
            } else {
                format!(", links {}", links.join(" "))
            };
            told.facts.push(format!(
                "{entry} was first seen at {who} (start {life}) at {at} ms as: {op}{stamp}{links}"
            ));
        }
        if let Some((_, who, life, at)) = seen.get(1)
            && told.since.is_none()
        {
            told.since = Some(Since {
                replica: who.clone(),
                good_ms: seen.first().map(|(_, _, _, at)| *at),
                bad_ms: *at,
                what: format!("{entry} has another block at {who} in its start {life}"),
            });
        }
    }
    let values: Vec<&Bytes> = acknowledged(case, key, length).collect();
    if let [first, .., last] = values[..]
        && first != last
    {
        let text = |value: &Bytes| match serde_json::from_slice::<Op>(value) {
            Ok(op) => op_text(&case.names, &op),
            Err(_) => bytes_text(value),
        };
        told.facts.push(format!(
            "appends of {entry} returned twice: with \"{}\", then with \"{}\"",
            text(first),
            text(last)
        ));
    }
}

/// Own logs of replicas that got shorter, or other.
pub(super) fn own_logs(case: &Case<'_>, named: &[String], told: &mut Explanation) {
    let is_about = matches!(
        told.failure.as_deref(),
        Some("own log" | "acknowledged" | "equal logs" | "reopened" | "growing sets")
    );
    if !is_about {
        return;
    }
    for name in named {
        // Of each own log: the longest that was seen, when, and in which start.
        let mut known: BTreeMap<CoreKey, (Length, u64, u32, std::sync::Arc<LogCopy>)> = BTreeMap::new();
        for look in &case.recording.looks {
            let Some(replica) = look.replicas.iter().find(|replica| replica.name == *name) else {
                continue;
            };
            let Some(open) = &replica.look else { continue };
            for (key, log) in open.logs.iter().filter(|(key, _)| open.writes(key)) {
                let now = (
                    log.length(),
                    ms(look.at),
                    replica.life,
                    std::sync::Arc::clone(log),
                );
                let Some((length, at, life, before)) = known.get(key) else {
                    known.insert(*key, now);
                    continue;
                };
                let common = (*length).min(log.length());
                let is_other = before.digest(common) != log.digest(common);
                if log.length() < *length || is_other {
                    let gone = if is_other {
                        "has other blocks than before".to_owned()
                    } else {
                        let from = Length(log.length().0 + 1);
                        let range = case.names.range(key, from, *length);
                        if !told.entries.contains(&range) {
                            told.entries.push(range.clone());
                        }
                        format!("lacks {range}, which it had")
                    };
                    let again = if *life == replica.life {
                        "without a restart between".to_owned()
                    } else {
                        format!("start {} instead of {life}", replica.life)
                    };
                    told.facts.push(format!(
                        "{} of {name} {gone}: {length} blocks at {at} ms, {} at {} ms ({again})",
                        case.names.log(key),
                        log.length(),
                        ms(look.at)
                    ));
                    told.since.get_or_insert(Since {
                        replica: name.clone(),
                        good_ms: Some(*at),
                        bad_ms: ms(look.at),
                        what: format!("{} is whole", case.names.log(key)),
                    });
                    known.insert(*key, now);
                } else if log.length() > *length {
                    known.insert(*key, now);
                }
            }
        }
    }
}

/// Replicas that are not open: what their engine and their disk did last.
pub(super) fn not_open(case: &Case<'_>, told: &mut Explanation) {
    let claims = crate::invariant::Claims::new(case.scenario);
    for replica in case.latest() {
        let is_down = replica.look.is_none() && !claims.lost.contains(&replica.replica);
        if !is_down || case.recording.healed.is_none() && told.failure.as_deref() != Some("no failure") {
            continue;
        }
        let of = |topic: Topic| {
            let lines = case.lines.iter().rev();
            lines
                .filter(move |line| line.replica() == Some(&replica.name) && line.topic() == topic)
                .filter(move |line| topic != Topic::Engine || line.deed() != Some("closed"))
        };
        let last = of(Topic::Engine).next();
        let last = last.map_or_else(
            || "its engine never did anything".to_owned(),
            |line| {
                format!(
                    "the last that its engine did was \"{}\" at {} ms",
                    said(line),
                    line.at / 1_000_000
                )
            },
        );
        let why = replica.unseen.as_deref().map_or_else(
            || "is not open: opening did not return".to_owned(),
            |why| format!("is up and shows nothing: {}", case.names.clean(why)),
        );
        told.facts
            .push(format!("{} {why} (start {}); {last}", replica.name, replica.life));
        let wrong = of(Topic::Engine).find(|line| {
            matches!(
                line.deed(),
                Some("failed" | "fenced" | "interrupted" | "stalled" | "suspended")
            )
        });
        if let Some(line) = wrong {
            told.facts.push(format!(
                "{} said at {} ms: {}",
                replica.name,
                line.at / 1_000_000,
                case.names.clean(&said(line))
            ));
        }
        if !told.who.contains(&replica.name) {
            told.who.push(replica.name.clone());
        }
    }
    unopened(case, told);
    stopped(case, told);
}

/// Replicas that were started last, and of which no database opened.
fn unopened(case: &Case<'_>, told: &mut Explanation) {
    if told.failure.as_deref() != Some("start") {
        return;
    }
    for replica in case.latest() {
        let mut started = None;
        for line in case.lines {
            let is_own = line.replica() == Some(&replica.name);
            if line.event == "crash" && is_own {
                started = Some(line.at / 1_000_000);
            } else if line.deed() == Some("recovered") && is_own {
                started = None;
            }
        }
        if let Some(at) = started {
            told.facts.push(format!(
                "{} was ended at {at} ms, and its database did not open after that",
                replica.name
            ));
            if !told.who.contains(&replica.name) {
                told.who.insert(0, replica.name.clone());
            }
        }
    }
}

/// Replicas that apply nothing any more.
fn stopped(case: &Case<'_>, told: &mut Explanation) {
    for (replica, look) in case.open() {
        if let Some(why) = &look.stopped {
            told.facts.push(format!(
                "{} applies nothing any more: {}",
                replica.name,
                case.names.clean(why)
            ));
        }
    }
}
