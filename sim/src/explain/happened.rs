//! What happened before: faults, undos, and what the engine did meanwhile.

use super::case::{Case, ms};
use super::data::{Explanation, Happening};
use crate::events::{Topic, TraceLine, said};
use crate::kit::action;

/// How many of each are told.
const FAULTS_MAX: usize = 6;
const UNDOS_MAX: usize = 4;
const DEEDS_MAX: usize = 10;

/// Times at which one fault is told twice: by the scenario and by the world.
const SAME_MS: u64 = 2;

/// Fills in what happened before the failure was seen first.
pub(super) fn before(case: &Case<'_>, told: &mut Explanation) {
    let (from, until) = match &told.since {
        Some(since) => (since.good_ms, since.bad_ms),
        None => (None, told.found_ms),
    };
    told.faults = faults(case, until);
    let concerned = |line: &TraceLine| {
        let name = line.replica().unwrap_or_default();
        told.who.is_empty() || told.who.iter().any(|who| who == name)
    };
    let undone = case.lines.iter().filter(|line| {
        matches!(
            line.deed(),
            Some("undone" | "went_back" | "recovered" | "interrupted" | "stalled")
        ) && line.at / 1_000_000 <= until
            && line.count("batches") != Some(0)
            && concerned(line)
    });
    told.undos = last(undone.map(|line| happening(case, line)).collect(), UNDOS_MAX);
    let at = told.since.as_ref().map(|since| since.replica.clone());
    if let Some(replica) = at.or_else(|| told.who.first().cloned()) {
        let deeds = case.lines.iter().filter(|line| {
            let at = line.at / 1_000_000;
            line.replica() == Some(&replica)
                && at <= until
                && from.is_none_or(|from| at >= from)
                && is_told(line)
        });
        told.deeds = last(
            compressed(deeds.map(|line| happening(case, line)).collect()),
            DEEDS_MAX,
        );
    }
}

/// What the engine does, but for what concerns connections; and disks that fail.
fn is_told(line: &TraceLine) -> bool {
    match line.topic() {
        Topic::Engine => !matches!(
            line.deed(),
            Some("connected" | "channel_opened" | "closed" | "checkpoint" | "acknowledged")
        ),
        Topic::Disk => line.get("fault").is_some(),
        Topic::Faults => matches!(&*line.event, "crash" | "restart"),
        Topic::Network | Topic::Scheduler => false,
    }
}

fn happening(case: &Case<'_>, line: &TraceLine) -> Happening {
    Happening {
        at_ms: line.at / 1_000_000,
        replica: line.replica().map(ToOwned::to_owned),
        what: case.names.clean(&said(line)),
    }
}

/// Several of one kind in one millisecond are one.
fn compressed(all: Vec<Happening>) -> Vec<Happening> {
    let mut out: Vec<Happening> = Vec::new();
    for one in all {
        match out.last_mut() {
            Some(last) if last.at_ms == one.at_ms && last.what.len() + one.what.len() < 100 => {
                last.what = format!("{}; {}", last.what, one.what);
            }
            _ => out.push(one),
        }
    }
    out
}

fn last(mut all: Vec<Happening>, most: usize) -> Vec<Happening> {
    let skipped = all.len().saturating_sub(most);
    all.split_off(skipped)
}

/// The last faults: those of the scenario in words, and crashes and restarts that it does not name.
fn faults(case: &Case<'_>, until: u64) -> Vec<Happening> {
    let mut all = Vec::new();
    if let Some(began) = case.recording.began.map(ms) {
        all.extend(case.scenario.event.iter().map(|event| Happening {
            at_ms: began + event.at_ms,
            replica: None,
            what: action(&event.action),
        }));
        for (number, hostile) in case.scenario.hostile.iter().enumerate() {
            all.push(Happening {
                at_ms: began + hostile.from_ms,
                replica: None,
                what: format!("h{number} connects, which is hostile: {:?}", hostile.kind),
            });
        }
    }
    let planned = all.len();
    for line in case.lines {
        let at = line.at / 1_000_000;
        let what = match &*line.event {
            "crash" => format!("{} {}", line.replica().unwrap_or("?"), crash(line)),
            "restart" => format!("{} starts again", line.text("who").unwrap_or("?")),
            _ => continue,
        };
        let is_planned = all[..planned]
            .iter()
            .any(|fault| fault.at_ms.abs_diff(at) <= SAME_MS && fault.what == what);
        if !is_planned {
            all.push(Happening {
                at_ms: at,
                replica: None,
                what,
            });
        }
    }
    if let Some(healed) = case.recording.healed.map(ms) {
        all.push(Happening {
            at_ms: healed,
            replica: None,
            what: "all faults end".into(),
        });
    }
    all.retain(|fault| fault.at_ms <= until);
    all.sort_by_key(|fault| fault.at_ms);
    last(all, FAULTS_MAX)
}

fn crash(line: &TraceLine) -> &'static str {
    match line.text("how") {
        Some("kill") => "is killed",
        _ => "loses power",
    }
}
