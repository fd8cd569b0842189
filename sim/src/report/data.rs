//! What the page shows of a run, as JSON: short names, times in microseconds.

use std::collections::BTreeMap;

use autobee::wire::Decode as _;
use autobee::wire::oplog::OplogBlock;
use serde_json::{Value, json};

use crate::events::{Topic, TraceLine, said};
use crate::explain::{EntryNames, Explanation, Observed};
use crate::invariant::Look;
use crate::kit::{action, bytes_text};
use crate::scenario::Scenario;

/// Events that are shown. Of a longer run deliveries and calls to disks are left out first.
const EVENTS_MAX: usize = 20_000;

/// Keys that differ between views which are shown.
const KEYS_MAX: usize = 200;

/// Letters of one event.
const TEXT_MAX: usize = 160;

/// Everything that the page shows.
pub(super) fn of(observed: &Observed<'_>, told: &Explanation, shrunk: Option<&str>) -> Value {
    let lines = observed.lines();
    let mut replicas: Vec<String> = lines
        .iter()
        .filter_map(TraceLine::replica)
        .map(ToOwned::to_owned)
        .collect();
    replicas.sort_unstable_by_key(|name| (name.len(), name.clone()));
    replicas.dedup();
    let (events, left_out) = events(lines, &replicas);
    let names = EntryNames::new(observed);
    let scenario = observed.scenario();
    let (entries, orders) = orders(observed, &names);
    json!({
        "title": format!("{} seed {}", told.scenario, told.seed),
        "about": scenario.about,
        "failure": told.failure,
        "text": told.to_string(),
        "told": told,
        "replicas": replicas,
        "end": lines.last().map_or(0, |line| line.at / 1_000),
        "plan": told.phases.plan_ms.map(|ms| ms * 1_000),
        "healed": told.phases.healed_ms.map(|ms| ms * 1_000),
        "events": events,
        "leftOut": left_out,
        "total": lines.len(),
        "splits": splits(lines),
        "downs": spans(lines, &replicas, "crash", "restart"),
        "pauses": spans(lines, &replicas, "pause", "resume"),
        "undos": undos(lines, &replicas),
        "entries": entries,
        "orders": orders,
        "views": views(observed, &names),
        "history": history(&scenario.explicit(told.seed), &names),
        "toml": scenario.to_toml(),
        "shrunk": shrunk,
    })
}

fn number(replicas: &[String], name: Option<&str>) -> i64 {
    let position = replicas.iter().position(|known| Some(known.as_str()) == name);
    position.map_or(-1, |position| i64::try_from(position).unwrap_or(-1))
}

/// What a line is drawn as.
fn kind(line: &TraceLine) -> &'static str {
    match line.topic() {
        Topic::Engine => match line.deed() {
            Some("appended") => "append",
            Some("undone" | "went_back") => "undo",
            Some("drained") => "drain",
            Some("taken") => "take",
            Some("stalled" | "blamed" | "failed" | "fenced" | "interrupted") => "bad",
            Some("recovered") => "open",
            _ => "engine",
        },
        Topic::Network if line.event == "deliver" => "deliver",
        Topic::Network => "net",
        Topic::Disk if line.get("fault").is_some() => "bad",
        Topic::Disk if line.text("op").is_some_and(|op| op.starts_with("sync")) => "sync",
        Topic::Disk => "disk",
        Topic::Faults if line.event == "point" => "engine",
        Topic::Faults | Topic::Scheduler => "fault",
    }
}

/// Each event as `[line, time, replica, kind, words, from]`, and how many are left out.
fn events(lines: &[TraceLine], replicas: &[String]) -> (Vec<Value>, usize) {
    let told = |line: &&TraceLine| line.topic() != Topic::Scheduler;
    let all: Vec<&TraceLine> = lines.iter().filter(told).collect();
    let mut kept: Vec<&TraceLine> = all.clone();
    for least in ["disk", "deliver", "sync", "net"] {
        if kept.len() > EVENTS_MAX {
            kept.retain(|line| kind(line) != least);
        }
    }
    let skipped = kept.len().saturating_sub(EVENTS_MAX);
    let kept = kept.split_off(skipped);
    let left_out = all.len() - kept.len();
    let event = |line: &&TraceLine| {
        let mut words = said(line);
        if words.len() > TEXT_MAX {
            words = words.chars().take(TEXT_MAX).chain("...".chars()).collect();
        }
        let from = number(replicas, line.text("from").or_else(|| line.text("to")));
        json!([
            line.number,
            line.at / 1_000,
            number(replicas, line.replica()),
            kind(line),
            words,
            from
        ])
    };
    (kept.iter().map(event).collect(), left_out)
}

/// Times at which the network was split, and how.
fn splits(lines: &[TraceLine]) -> Vec<Value> {
    let mut all = Vec::new();
    let mut since: Option<(u64, String)> = None;
    let mut groups = String::new();
    for line in lines {
        if line.event == "note"
            && let Some(text) = line.text("what").filter(|text| text.starts_with("Partition"))
        {
            groups = text.to_owned();
        }
        if matches!(&*line.event, "partition" | "heal") {
            if let Some((from, what)) = since.take() {
                all.push(json!({ "from": from, "to": line.at / 1_000, "what": what }));
            }
            if line.event == "partition" {
                let what = groups
                    .trim_start_matches("Partition { groups: ")
                    .trim_end_matches(" }");
                since = Some((line.at / 1_000, format!("split {what}")));
            }
        }
    }
    if let (Some((from, what)), Some(last)) = (since, lines.last()) {
        all.push(json!({ "from": from, "to": last.at / 1_000, "what": what }));
    }
    all.extend(cuts(lines));
    all
}

/// Times at which one way was cut.
fn cuts(lines: &[TraceLine]) -> Vec<Value> {
    let mut open: BTreeMap<&str, u64> = BTreeMap::new();
    let mut all = Vec::new();
    let cut = |way: &str, from: u64, to: u64| {
        let what = format!("cut {}", way.replace(',', " to "));
        json!({ "from": from, "to": to, "what": what })
    };
    for line in lines {
        let (way, at) = (line.text("who").unwrap_or_default(), line.at / 1_000);
        match &*line.event {
            "cut" => {
                open.entry(way).or_insert(at);
            }
            "uncut" => all.extend(open.remove(way).map(|from| cut(way, from, at))),
            "heal" => {
                let ended = std::mem::take(&mut open).into_iter();
                all.extend(ended.map(|(way, from)| cut(way, from, at)));
            }
            _ => {}
        }
    }
    let last = lines.last().map_or(0, |line| line.at / 1_000);
    all.extend(open.into_iter().map(|(way, from)| cut(way, from, last)));
    all
}

/// Times from one event of a replica to another one.
fn spans(lines: &[TraceLine], replicas: &[String], begin: &str, end: &str) -> Vec<Value> {
    let mut open: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let mut all = Vec::new();
    let mut close = |name: &str, (from, what): (u64, String), to: u64| {
        all.push(json!({ "r": number(replicas, Some(name)), "from": from, "to": to, "what": what }));
    };
    for line in lines {
        let who = line.replica().or_else(|| line.text("who")).unwrap_or_default();
        for name in who.split(',').filter(|name| !name.is_empty()) {
            if line.event == begin {
                let how = line.text("how").unwrap_or(begin).to_owned();
                open.insert(name.to_owned(), (line.at / 1_000, how));
            } else if line.event == end
                && let Some(span) = open.remove(name)
            {
                close(name, span, line.at / 1_000);
            }
        }
    }
    let last = lines.last().map_or(0, |line| line.at / 1_000);
    for (name, span) in open {
        close(&name, span, last);
    }
    all
}

/// Each undo, with the time at which the first of what it took back was put in order.
fn undos(lines: &[TraceLine], replicas: &[String]) -> Vec<Value> {
    let mut placed: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    let mut all = Vec::new();
    for line in lines {
        let (Some(name), Some(deed), at) = (line.replica(), line.deed(), line.at / 1_000) else {
            continue;
        };
        let placed = placed.entry(name).or_default();
        let count = usize::try_from(line.count("batches").unwrap_or(0)).unwrap_or(0);
        match deed {
            "drained" | "recovered" | "went_back" => placed.resize(count, at),
            "undone" => {
                let left = placed.len().saturating_sub(count);
                let to = placed.get(left).copied().unwrap_or(at);
                all.push(json!({ "r": number(replicas, Some(name)), "at": at, "to": to, "n": count }));
                placed.truncate(left);
            }
            _ => {}
        }
    }
    all
}

/// All entries that are in some order in the end, and of each replica their positions.
fn orders(observed: &Observed<'_>, names: &EntryNames) -> (Vec<Value>, Vec<Value>) {
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut entries: Vec<Value> = Vec::new();
    let mut orders = Vec::new();
    for (name, look) in looks(observed) {
        let mut places = Vec::new();
        for entry in &look.order {
            let shown = names.entry(&entry.key, entry.length);
            let position = *numbers.entry(shown.clone()).or_insert_with(|| {
                let block = look.logs.get(&entry.key).and_then(|log| log.block(entry.length));
                let (op, stamp, _) = block.map_or_else(Default::default, |block| names.shown(block));
                let read = block.and_then(|block| OplogBlock::from_bytes(block).ok());
                let links = read.map(|read| read.links).unwrap_or_default();
                let links: Vec<String> = links.iter().map(|link| names.link(link)).collect();
                entries.push(json!([shown, names.writer(&entry.key), stamp, links, op]));
                entries.len() - 1
            });
            places.push(json!([position, entry.weight.0]));
        }
        orders.push(json!({ "replica": name, "entries": places }));
    }
    (entries, orders)
}

fn looks<'a>(observed: &'a Observed<'_>) -> Vec<(&'a str, &'a Look)> {
    let latest = observed.recorded().0.looks.last();
    let replicas = latest.into_iter().flat_map(|look| &look.replicas);
    replicas
        .filter_map(|replica| Some((replica.name.as_str(), replica.look.as_ref()?)))
        .collect()
}

/// Keys at which not all views are the same in the end.
fn views(observed: &Observed<'_>, names: &EntryNames) -> Value {
    let looks = looks(observed);
    let mut keys: BTreeMap<&[u8], Vec<Option<&[u8]>>> = BTreeMap::new();
    for (number, (_, look)) in looks.iter().enumerate() {
        for (key, value) in look.view.iter() {
            let values = keys.entry(key).or_insert_with(|| vec![None; looks.len()]);
            values[number] = Some(value);
        }
    }
    let total = keys.len();
    let differing = keys
        .iter()
        .filter(|(_, values)| values.windows(2).any(|pair| pair[0] != pair[1]));
    let differing: Vec<Value> = differing
        .map(|(key, values)| {
            let shown = values
                .iter()
                .map(|value| value.map(|value| names.clean(&bytes_text(value))));
            json!([bytes_text(key), shown.collect::<Vec<_>>()])
        })
        .collect();
    json!({
        "replicas": looks.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        "keys": total,
        "differ": differing.len(),
        "rows": differing.into_iter().take(KEYS_MAX).collect::<Vec<_>>(),
    })
}

/// What the scenario says, in the order of its times.
fn history(scenario: &Scenario, names: &EntryNames) -> Vec<String> {
    let mut steps: Vec<(u64, String)> = scenario
        .event
        .iter()
        .map(|event| (event.at_ms, action(&event.action)))
        .collect();
    steps.extend(scenario.append.iter().map(|append| {
        let ops: Vec<String> = append.ops.iter().map(|op| names.op(op)).collect();
        (
            append.at_ms,
            format!("r{} appends: {}", append.replica, ops.join("; ")),
        )
    }));
    for (number, hostile) in scenario.hostile.iter().enumerate() {
        steps.push((hostile.from_ms, format!("h{number} connects: {:?}", hostile.kind)));
    }
    steps.push((scenario.heal_ms(), "all faults end".into()));
    steps.sort_by_key(|(at, _)| *at);
    let line = |(at, what): (u64, String)| format!("{at:>7} ms  {what}");
    steps.into_iter().map(line).collect()
}
