//! Blocks that do not get further: which, where, and who has them.

use std::collections::{BTreeMap, BTreeSet};

use autobee::crypto::CoreKey;
use autobee::wire::Length;

use super::case::Case;
use super::data::{Explanation, Gap, Stage};
use crate::invariant::{Claims, Look, ReplicaLook};

/// Gaps that are shown.
const GAPS_MAX: usize = 8;

/// How far one log is at one replica.
#[derive(Debug, Clone, Copy, Default)]
struct Extent {
    /// It is open, or has a record.
    is_known: bool,
    /// How long it is known to be.
    length: Length,
    /// Blocks up to the first gap.
    have: Length,
    /// What the engine took of it.
    taken: Length,
    /// What takes part in the order, or waits for what it names.
    known: Length,
    /// What takes part in the order.
    ready: Length,
    /// What is in order.
    applied: Length,
}

/// Finds them, once everything is healed or somebody waits for something.
pub(super) fn find(case: &Case<'_>, told: &mut Explanation) {
    let is_about = matches!(
        told.failure.as_deref(),
        Some(
            "convergence"
                | "told"
                | "promptness"
                | "answered"
                | "weights reached"
                | "connected"
                | "quiet"
                | "reads"
        )
    );
    let is_settled = case.recording.healed.is_some() || told.failure.as_deref() == Some("promptness");
    if !is_about || !is_settled {
        return;
    }
    let open: Vec<(&ReplicaLook, &Look)> = case.open().collect();
    let mut keys: BTreeSet<CoreKey> = open
        .iter()
        .flat_map(|(_, look)| look.logs.keys().copied())
        .collect();
    for (_, look) in &open {
        keys.extend(look.progress.iter().map(|progress| progress.key));
    }
    let groups = Claims::new(case.scenario).groups;
    let mut gaps = Vec::new();
    for key in keys {
        let extents: BTreeMap<&str, Extent> = open
            .iter()
            .map(|(replica, look)| (&*replica.name, extent(look, &key)))
            .collect();
        for (replica, look) in &open {
            let reach = groups.iter().find(|group| group.contains(&replica.replica));
            let in_reach =
                |other: &&(&ReplicaLook, &Look)| reach.is_none_or(|group| group.contains(&other.0.replica));
            let others: Vec<(&str, Extent)> = open
                .iter()
                .filter(in_reach)
                .filter(|(other, _)| other.replica != replica.replica)
                .filter_map(|(other, _)| Some((&*other.name, *extents.get(&*other.name)?)))
                .collect();
            let owner = open.iter().find(|(_, look)| look.writes(&key));
            let shown = owner.map(|(owner, look)| (&*owner.name, look.shown, look.local == key));
            gaps.extend(gap(case, replica, look, &key, &others, shown));
        }
    }
    gaps.sort_by(|a, b| (a.stage, &a.replica).cmp(&(b.stage, &b.replica)));
    let is_order = |gap: &Gap| matches!(gap.stage, Stage::Unordered | Stage::Waiting);
    // That something is not in order follows from blocks that are not there.
    if gaps.iter().any(|gap| !is_order(gap)) {
        gaps.retain(|gap| !is_order(gap));
    }
    if gaps.len() > GAPS_MAX {
        told.facts
            .push(format!("{} more gaps of this kind", gaps.len() - GAPS_MAX));
        gaps.truncate(GAPS_MAX);
    }
    for gap in &gaps {
        if !told.who.contains(&gap.replica) {
            told.who.push(gap.replica.clone());
        }
        if !told.entries.contains(&gap.blocks) {
            told.entries.push(gap.blocks.clone());
        }
    }
    told.gaps = gaps;
}

fn extent(look: &Look, key: &CoreKey) -> Extent {
    let progress = look.progress.iter().find(|progress| progress.key == *key);
    let of = |set: &Option<BTreeMap<CoreKey, Length>>| {
        set.as_ref()
            .and_then(|set| set.get(key))
            .copied()
            .unwrap_or_default()
    };
    let taken = look.logs.get(key).map(|log| log.length()).unwrap_or_default();
    let ordered = look.order.iter().filter(|entry| entry.key == *key);
    let applied = ordered.map(|entry| entry.length).max();
    Extent {
        is_known: progress.is_some() || look.logs.contains_key(key),
        length: progress.map_or(taken, |progress| progress.length).max(taken),
        have: progress.map_or(taken, |progress| progress.have).max(taken),
        taken,
        known: of(&look.known),
        ready: of(&look.set),
        applied: applied.unwrap_or_default(),
    }
}

fn gap(
    case: &Case<'_>,
    replica: &ReplicaLook,
    look: &Look,
    key: &CoreKey,
    others: &[(&str, Extent)],
    shown: Option<(&str, Length, bool)>,
) -> Option<Gap> {
    let here = extent(look, key);
    let most = others
        .iter()
        .map(|(_, other)| other.have)
        .max()
        .unwrap_or_default();
    let make = |stage, from: Length, to: Length, at: Vec<String>, why: String| {
        Some(Gap {
            replica: replica.name.clone(),
            blocks: case.names.range(key, Length(from.0 + 1), to),
            stage,
            at,
            why,
        })
    };
    let who_has = |length: Length| -> Vec<String> {
        let have = others.iter().filter(|(_, other)| other.have >= length);
        have.map(|(name, _)| (*name).to_owned()).collect()
    };
    let log = case.names.log(key);
    if let Some((owner, length, true)) = shown
        && owner == replica.name
        && length < here.taken
    {
        return make(
            Stage::Unshown,
            length,
            here.taken,
            Vec::new(),
            format!("{owner} shows peers the first {length} only: the rest is not durable there"),
        );
    }
    // What nobody is shown cannot come.
    let most = match shown {
        Some((owner, length, true)) if owner != replica.name => most.min(
            length.max(Length(
                others
                    .iter()
                    .filter(|(name, _)| *name != owner)
                    .map(|(_, other)| other.have.0)
                    .max()
                    .unwrap_or(0),
            )),
        ),
        _ => most,
    };
    if here.have < most {
        let at = who_has(most);
        return if !here.is_known {
            make(
                Stage::Unknown,
                here.have,
                most,
                at,
                format!("{} does not know {log}", replica.name),
            )
        } else if here.length < most {
            make(
                Stage::Unheard,
                here.have,
                most,
                at,
                format!(
                    "{} knows {} of {most} blocks of {log} by its proofs, has {}{}",
                    replica.name,
                    here.length,
                    here.have,
                    channel(case, replica, key)
                ),
            )
        } else {
            make(
                Stage::Missing,
                here.have,
                most,
                at,
                format!(
                    "{} has the proof of {} blocks of {log}, and {} of them{}",
                    replica.name,
                    here.length,
                    here.have,
                    channel(case, replica, key)
                ),
            )
        };
    }
    let handed = handed(case, replica, key);
    let waits_here = look.missing.iter().find(|link| {
        let log = look.logs.get(&link.key);
        log.is_some_and(|log| log.length() >= link.length)
    });
    if let Some(handed) = handed.filter(|handed| *handed < here.taken && here.known < here.taken) {
        return make(
            Stage::Untaken,
            handed.max(here.known),
            here.taken,
            vec![replica.name.clone()],
            format!(
                "{} stores {} blocks of {log}, and its engine was handed {handed}",
                replica.name, here.taken
            ),
        );
    }
    if let Some(link) = waits_here
        && link.key == *key
    {
        return make(
            Stage::Untaken,
            Length(link.length.0.saturating_sub(1)),
            here.taken,
            vec![replica.name.clone()],
            format!(
                "others wait for {} at {}, which stores it",
                case.names.link(link),
                replica.name
            ),
        );
    }
    if here.taken < here.have {
        let at = vec![replica.name.clone()];
        return make(
            Stage::Untaken,
            here.taken,
            here.have,
            at,
            format!(
                "{} stores {} blocks of {log}, and its engine took {}",
                replica.name, here.have, here.taken
            ),
        );
    }
    look.set.as_ref()?;
    let is_needed = others.iter().any(|(_, other)| other.applied > here.applied);
    if !is_needed {
        return None;
    }
    let at: Vec<String> = others
        .iter()
        .filter(|(_, other)| other.applied > here.applied)
        .map(|(name, _)| (*name).to_owned())
        .collect();
    let ordered = others
        .iter()
        .map(|(_, other)| other.applied)
        .max()
        .unwrap_or_default();
    if here.ready < here.taken.min(ordered) {
        let missing: Vec<String> = look
            .missing
            .iter()
            .take(3)
            .map(|link| case.names.link(link))
            .collect();
        let waits = if missing.is_empty() {
            "status() names nothing that it waits for".to_owned()
        } else {
            format!("it waits for {}", missing.join(", "))
        };
        let noted = if here.known < here.taken {
            format!(", {} of them known to the order", here.known)
        } else {
            String::new()
        };
        return make(
            Stage::Waiting,
            here.ready,
            here.taken.min(ordered),
            at,
            format!(
                "all {} blocks of {log} are at {}{noted}; {waits}",
                here.taken, replica.name
            ),
        );
    }
    make(
        Stage::Unordered,
        here.applied,
        ordered,
        at,
        format!(
            "all {} blocks of {log} take part at {}, and are not in order",
            here.ready, replica.name
        ),
    )
}

/// How much of a log went to the engine since the last start, as the trace says; none where several logs have one name.
fn handed(case: &Case<'_>, replica: &ReplicaLook, key: &CoreKey) -> Option<Length> {
    let (name, _) = case.recording.logs.get(key)?;
    let of_owner = case.recording.logs.values().filter(|(owner, _)| owner == name);
    if of_owner.count() > 1 {
        return None;
    }
    let mut most = None;
    for line in case
        .lines
        .iter()
        .filter(|line| line.replica() == Some(&replica.name))
    {
        match line.deed() {
            Some("recovered") => most = Some(Length::ZERO),
            Some("taken") if line.text("core") == Some(name) => {
                most = most.max(line.count("length").map(Length));
            }
            _ => {}
        }
    }
    most
}

/// Whether the log was ever replicated with a peer since the last start.
fn channel(case: &Case<'_>, replica: &ReplicaLook, key: &CoreKey) -> String {
    let name = case.recording.logs.get(key).map(|(owner, _)| owner.as_str());
    let Some(name) = name else { return String::new() };
    let mut opened = 0;
    let mut blamed = None;
    for line in case.lines {
        let is_own = line.replica() == Some(&replica.name);
        if line.event == "crash" && is_own {
            (opened, blamed) = (0, None);
        }
        if is_own && line.text("core") == Some(name) {
            match line.deed() {
                Some("channel_opened") => opened += 1,
                Some("blamed") => blamed = line.text("why"),
                _ => {}
            }
        }
    }
    let blamed = blamed.map_or_else(String::new, |why| format!(", a peer was given up: {why}"));
    match opened {
        0 => format!("; it never replicated it with anybody since its start{blamed}"),
        1 => format!("; it replicates it over one channel{blamed}"),
        opened => format!("; it opened {opened} channels for it{blamed}"),
    }
}
