//! Since when: the last look at which something was well, and the first at which it was not.

use std::sync::Arc;
use std::time::Duration;

use super::case::{Case, Subject, ms};
use super::data::{Explanation, Since, Stage};
use crate::invariant::ReplicaLook;

/// States that are judged in search of the first bad one.
const JUDGED_MAX: usize = 48;

/// Since when the subject differs from the model; of two replicas, since when they are not the same.
pub(super) fn of_state(case: &Case<'_>, subject: &Subject<'_>) -> Option<Since> {
    let name = &subject.replica.name;
    if subject.wrong.is_none() {
        let (other, ..) = subject.other?;
        return apart(case, subject.replica.replica, other.replica);
    }
    let mut states: Vec<(Duration, &Arc<ReplicaLook>)> = Vec::new();
    for look in &case.recording.looks {
        let Some(replica) = look.replicas.get(subject.replica.replica) else {
            continue;
        };
        let is_settled = replica.look.as_ref().is_some_and(|look| look.known.is_some());
        let is_other = states.last().is_none_or(|(_, last)| !Arc::ptr_eq(last, replica));
        if is_settled && is_other {
            states.push((look.at, replica));
        }
        if std::ptr::eq(&raw const **replica, subject.replica) {
            break;
        }
    }
    let is_wrong = |at: usize| {
        let look = states.get(at).and_then(|(_, replica)| replica.look.as_ref());
        look.is_some_and(|look| case.wrong(look).is_some())
    };
    // The last is bad; go back in growing steps to a good one, then halve.
    let mut bad = states.len().checked_sub(1)?;
    let mut good = None;
    let mut step = 1;
    let mut judged = 0;
    while bad > 0 && judged < JUDGED_MAX {
        judged += 1;
        let at = bad.saturating_sub(step);
        if is_wrong(at) {
            bad = at;
            step *= 2;
        } else {
            good = Some(at);
            break;
        }
    }
    while let Some(low) = good.filter(|low| bad - low > 1 && judged < JUDGED_MAX) {
        judged += 1;
        let middle = low.midpoint(bad);
        if is_wrong(middle) {
            bad = middle;
        } else {
            good = Some(middle);
        }
    }
    Some(Since {
        replica: name.clone(),
        good_ms: good.and_then(|at| states.get(at)).map(|(at, _)| ms(*at)),
        bad_ms: states.get(bad).map(|(at, _)| ms(*at))?,
        what: "agrees with the model".into(),
    })
}

/// Since when two replicas are not the same.
fn apart(case: &Case<'_>, a: usize, b: usize) -> Option<Since> {
    let mut good = None;
    let mut bad = None;
    for look in &case.recording.looks {
        let (Some(a), Some(b)) = (look.replicas.get(a), look.replicas.get(b)) else {
            continue;
        };
        let is_same = match (&a.look, &b.look) {
            (Some(a), Some(b)) => a.order == b.order && a.writers == b.writers && a.view == b.view,
            _ => false,
        };
        if is_same {
            (good, bad) = (Some(look.at), None);
        } else {
            bad = bad.or(Some(look.at));
        }
    }
    let names = [a, b].map(|of| case.latest().get(of).map_or("?", |replica| &*replica.name));
    Some(Since {
        replica: names[1].to_owned(),
        good_ms: good.map(ms),
        bad_ms: ms(bad?),
        what: format!("is the same as {}", names[0]),
    })
}

/// Since when the first gap is one: after the last time that its replica took blocks of that log, the first look at which
/// somebody had more.
pub(super) fn of_gap(case: &Case<'_>, told: &Explanation) -> Option<Since> {
    let gap = told.gaps.iter().find(|gap| gap.stage >= Stage::Unshown)?;
    let first = gap.blocks.split("..").next()?;
    let (key, length) = case.names.find(first)?;
    let has = |replica: &ReplicaLook| {
        let log = replica.look.as_ref().and_then(|look| look.logs.get(&key));
        log.is_some_and(|log| log.length() >= length)
    };
    let name = case.recording.logs.get(&key).map(|(owner, _)| owner.as_str());
    let mut lines = case.lines.iter().rev();
    let taken = lines.find(|line| {
        line.replica() == Some(&gap.replica) && line.deed() == Some("taken") && line.text("core") == name
    });
    let good = taken.map(|line| line.at / 1_000_000);
    let bad = case.recording.looks.iter().find(|look| {
        let is_there = look
            .replicas
            .iter()
            .any(|replica| replica.name != gap.replica && has(replica));
        ms(look.at) >= good.unwrap_or(0) && is_there
    });
    Some(Since {
        replica: gap.replica.clone(),
        good_ms: good,
        bad_ms: bad.map_or(told.found_ms, |look| ms(look.at)),
        what: format!(
            "takes blocks of {}, of which others have {first},",
            case.names.log(&key)
        ),
    })
}
