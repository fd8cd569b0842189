//! Which layer the evidence points to, where it does.

use super::case::Case;
use super::data::{Explanation, LayerHint, Stage};
use crate::events::Topic;

/// Fills in the layer.
pub(super) fn give(case: &Case<'_>, text: &str, told: &mut Explanation) {
    let failure = told.failure.clone().unwrap_or_default();
    let given = panicked(text)
        .or_else(|| failed_call(case, &failure, text, told))
        .or_else(|| told_to_users(&failure, text, told))
        .or_else(|| by_name(&failure, text, told))
        .or_else(|| logs(&failure, text, told))
        .or_else(|| state(case, told))
        .or_else(|| gap(case, told));
    told.layer = given.map(|(layer, because)| LayerHint {
        layer: layer.to_owned(),
        because,
    });
}

type Given = Option<(&'static str, String)>;

/// A panic says where it was.
fn panicked(text: &str) -> Given {
    let place = text.strip_prefix("panicked: ")?;
    let layers = [
        "store",
        "hypercore",
        "replication",
        "engine",
        "bee",
        "db",
        "crypto",
        "wire",
        "apply",
    ];
    let layer = layers
        .into_iter()
        .find(|layer| place.contains(&format!("src/{layer}/")));
    Some((
        layer.unwrap_or("unknown"),
        "the panic names the file and the line".into(),
    ))
}

/// A call failed, or a database did not open.
fn failed_call(case: &Case<'_>, failure: &str, text: &str, told: &Explanation) -> Given {
    let all = format!("{text} {}", told.facts.join(" "));
    let proofs = case.lines.iter().filter(|line| line.deed() == Some("blamed"));
    let mut reasons = proofs.filter_map(|line| line.text("why"));
    let wrong = reasons.find(|why| why.contains("wrong proof"));
    let claims = crate::invariant::Claims::new(case.scenario);
    if let Some(why) = wrong.filter(|_| !claims.may_fork() && case.scenario.hostile.is_empty()) {
        return Some((
            "hypercore",
            format!("nobody is hostile and no log may have two continuations, and a peer is given up: {why}"),
        ));
    }
    let is_about = matches!(failure, "no failure" | "start")
        || told.facts.iter().any(|fact| {
            ["is not open", "shows nothing", "applies nothing"]
                .iter()
                .any(|word| fact.contains(word))
        });
    if !is_about {
        return None;
    }
    for (word, layer, because) in [
        (
            "segment",
            "store",
            "a file of the store is damaged, though no disk was asked to damage it",
        ),
        ("frame", "store", "a frame of the store does not check out"),
        ("superblock", "store", "a file of the store does not check out"),
        (
            "unknown block type",
            "hypercore",
            "a stored block cannot be read: what was written is not what is read, which is encryption or storage of blocks",
        ),
        (
            "is corrupt",
            "hypercore or bee",
            "a block of a log or a tree cannot be read",
        ),
        (
            "its view cannot be read",
            "bee",
            "the view of an open database cannot be listed",
        ),
        (
            "its view waits",
            "bee or hypercore",
            "the view of an open database waits for a block of its tree",
        ),
        ("Internal", "engine", "an internal contradiction was noticed"),
    ] {
        if all.contains(word) {
            return Some((layer, because.to_owned()));
        }
    }
    let crashed = case.lines.iter().any(|line| line.event == "crash");
    let faulty = case
        .lines
        .iter()
        .any(|line| line.topic() == Topic::Disk && line.get("fault").is_some());
    match (failure, crashed) {
        ("start", true) => Some((
            "store or hypercore",
            format!(
                "a database does not open again after it was ended{}",
                if faulty {
                    ", with faults of its disk before"
                } else {
                    ""
                }
            ),
        )),
        _ if text.contains("is not open") => Some((
            "bee or hypercore",
            "a database does not open, or its view cannot be read: no call failed by its disk".into(),
        )),
        _ => None,
    }
}

/// The state is right, and what is told of it is not.
fn told_to_users(failure: &str, text: &str, told: &Explanation) -> Given {
    let is_right = told.verdicts.iter().all(|verdict| verdict.agrees != Some(false));
    match failure {
        "told" if text.contains("is another one at") => Some((
            "engine or bee",
            format!(
                "two writers' views are compared behind one batch and said to differ{}: the comparison (engine), or the tree under one of them (bee)",
                if is_right { ", and both are right by the model" } else { "" }
            ),
        )),
        "told" if text.contains("watch") => Some((
            "bee or db",
            "the view itself is right: what a watch tells is made from changes between two versions of the tree (bee), and handed out by db".into(),
        )),
        "told" if text.contains("at rest") => None,
        "told" => Some(("db", "the state is right, and what status() or the events say of it is not".into())),
        "outcomes" => Some((
            "engine or db",
            "the order is right by the model, and what the writer of an entry was told became of it is not: which outcomes are known and are news (engine/outcome), or what an append answers and the events say (db)".into(),
        )),
        "changes of views" => Some((
            "bee",
            "the full listing is right, and what is said to have changed since an earlier version does not lead to it".into(),
        )),
        "trees" if text.contains("says that") => Some((
            "engine or db",
            "a stamp of an own entry names other versions of the trees than were behind it: it is made in engine/local, and where its blocks come to stand is known to db".into(),
        )),
        "trees" => Some(("bee", "a node of a tree has not the shape that batches leave: splits, merges, or the root".into())),
        "contradictions" => Some((
            "hypercore",
            "that a log was signed twice is kept with the log, and was not there after a start".into(),
        )),
        "reads" if text.contains("gets no block") => Some(("replication", "a reader asks for single blocks and gets none".into())),
        "reads" => Some((
            "bee",
            "the full listing is right, and a read with bounds, a direction or changes of it is not".into(),
        )),
        _ => None,
    }
}

/// Properties that belong to one layer.
fn by_name(failure: &str, text: &str, told: &Explanation) -> Given {
    let synced = told.deeds.iter().any(|deed| deed.what.contains("checkpoint"));
    Some(match failure {
        "promptness" if text.contains("durable") => (
            "store or db",
            format!(
                "own blocks are written and stay undurable: nobody asked for a sync (db), or one that was asked for was never made (store){}",
                if synced { "; the store goes on otherwise" } else { "" }
            ),
        ),
        "promptness" if text.contains("clock") => (
            "db",
            "what waits for a time, or for a drain to go on, is not looked at again: the timer or the drain of db".into(),
        ),
        "promptness" if text.contains("`status()`") => (
            "db",
            "a writer has a record and no log that is open: which logs are wanted is decided in db".into(),
        ),
        "promptness" => ("db", "the state changed and nobody was told in time".into()),
        "append links" => (
            "engine",
            "what an own batch links is chosen when it is made (engine/local)".into(),
        ),
        "causal order" if text.contains("timestamp") => (
            "engine",
            "the timestamp of an own batch is set when it is made (engine/local)".into(),
        ),
        "causal order" => (
            "engine",
            "something is ordered before what it links: it took part before that was here".into(),
        ),
        "weights reached" => (
            "engine",
            "a grant is not attested or not claimed (engine/attestations)".into(),
        ),
        "answered" => ("engine", "no member acknowledges a stranger that apply let in".into()),
        "quiet" if text.contains("goes on applying") => ("engine or db", "drains go on at rest".into()),
        "quiet" | "connected" => (
            "replication",
            "connections are closed, opened or kept at rest: keep-alives and silence".into(),
        ),
        "synced" => (
            "replication",
            "what a connection counts of its cores is not what is open on it, or here (replication/session/driver)".into(),
        ),
        "cores" => (
            "store or hypercore",
            "blocks and nodes of one core do not fit together: what a change leaves of a tree (hypercore/line), or what the store keeps of that when segments are moved (store)".into(),
        ),
        "gathering" => ("db", "gathered blocks are ordered more than once".into()),
        "growing sets" => (
            "db",
            "after the engine went back, logs that it had are not handed to it again".into(),
        ),
        "applied lengths" => ("engine", "something was undone and not counted".into()),
        _ => return None,
    })
}

/// Somebody's state is not what the rule makes of its blocks.
fn state(case: &Case<'_>, told: &Explanation) -> Given {
    let wrong = told.verdicts.iter().find(|verdict| verdict.agrees == Some(false));
    let name = wrong.map(|verdict| verdict.replica.clone()).or_else(|| {
        let is_compared = told.failure.as_deref() == Some("equal sets");
        told.who.first().filter(|_| is_compared).cloned()
    })?;
    let recovered = told.since.as_ref().is_some_and(|since| {
        case.lines.iter().any(|line| {
            let at = line.at / 1_000_000;
            line.replica() == Some(&since.replica)
                && matches!(line.deed(), Some("recovered" | "went_back"))
                && at <= since.bad_ms
                && since.good_ms.is_some_and(|good| at >= good)
        })
    });
    let opened = if recovered {
        "; it was opened again, or went back to a checkpoint, just before: look at what the engine goes on from"
    } else {
        ""
    };
    if let Some(fork) = &told.fork {
        let place = |side: &super::data::Side| side.entries.first().map(|entry| entry.name.clone());
        let (ours, theirs) = (place(&fork.ours), place(&fork.theirs));
        let undone = told.deeds.iter().any(|deed| deed.what.contains("undone"));
        let why = match &fork.rule {
            _ if ours == theirs => {
                "the same entries stand there with other weights: how weights are resolved".to_owned()
            }
            Some(rule) if rule.part == "key" => "entries that tie are ordered otherwise".to_owned(),
            Some(rule) if Some(&rule.first) == theirs.as_ref() && told.since.is_some() && !undone => format!(
                "{} belongs before {}, and nothing was undone when it came: what had to be taken back stayed",
                rule.first, rule.second
            ),
            Some(rule) => format!(
                "by its {} {} belongs before {}",
                rule.part, rule.first, rule.second
            ),
            None => "entries are in one order and not in the other: admission, or what takes part".to_owned(),
        };
        return Some((
            "engine",
            format!("the blocks of {name} make another order by the rule; {why}{opened}"),
        ));
    }
    if told.record.is_some() {
        return Some((
            "engine",
            format!("the order of {name} is right, and a record of a writer is not (membership){opened}"),
        ));
    }
    if told.value.is_some() {
        let said = |who: &str| {
            let start = format!("the view says that {who} applied");
            told.facts.iter().any(|fact| fact.starts_with(&start))
        };
        return Some(if said("the model") && !said(&name) {
            (
                "bee or engine",
                format!(
                    "order, weights and records of {name} are right, and its view lacks what entries wrote: the tree lost keys (bee), or entries were not applied (engine){opened}"
                ),
            )
        } else if said(&name) {
            (
                "engine or bee",
                format!(
                    "order, weights and records of {name} are right, and its view was made from other entries: some were applied that must not be, or what was refused or undone stayed (engine), or the tree lost keys (bee){opened}"
                ),
            )
        } else {
            (
                "bee",
                format!(
                    "order, weights and records of {name} are right and the same entries were applied, and the view is another one: the tree (bee), or apply{opened}"
                ),
            )
        });
    }
    wrong.map(|_| {
        (
            "engine",
            format!("what {name} keeps beside the order is not what the rule makes of it{opened}"),
        )
    })
}

/// A log is not what it was.
fn logs(failure: &str, text: &str, told: &Explanation) -> Given {
    if text.contains("another log is its writer's") {
        return Some(("db", "which log is the writer's own is kept by db".into()));
    }
    let crashed = |how: &str| told.faults.iter().any(|fault| fault.what.contains(how));
    let restarted = told
        .facts
        .iter()
        .any(|fact| fact.contains("instead of") || fact.contains("(start 2"));
    match failure {
        "acknowledged" | "own log" | "equal logs" | "reopened" if crashed("loses power") => Some((
            if failure == "equal logs" { "store or hypercore" } else { "store" },
            "blocks were acknowledged or shown to peers, and the disk did not have them after the power was lost: something counted as durable before it was (store), or was shown before it was durable (hypercore)".into(),
        )),
        "acknowledged" | "own log" | "reopened" if restarted || crashed("killed") || crashed("starts again") => Some((
            "store",
            "a restart without loss of power lost what was written: what opening makes of the files".into(),
        )),
        "acknowledged" if told.places.iter().any(|place| !place.stored.is_empty()) => {
            Some(("engine", "the block is stored, and not in order".into()))
        }
        "equal logs" | "own log" => Some((
            "hypercore",
            "two replicas read other bytes from the same place of a log: how blocks are stored, encrypted or proved".into(),
        )),
        "reopened" => Some(("store or db", "what was there before the restart is not there after it".into())),
        _ => None,
    }
}

/// Blocks do not get further.
fn gap(case: &Case<'_>, told: &Explanation) -> Given {
    let gap = told.gaps.first()?;
    let at = gap.at.join(", ");
    let (blocks, who) = (&gap.blocks, &gap.replica);
    Some(match gap.stage {
        Stage::Unshown => (
            "store or db",
            format!("{blocks} never became durable at {who}, so nobody is shown them"),
        ),
        Stage::Unknown => (
            "db or replication",
            format!(
                "{who} does not know the log of {blocks}: it is not wanted there (db), or was never announced (replication); {at} has it"
            ),
        ),
        Stage::Unheard | Stage::Missing if gap.why.contains("never replicated") => (
            "replication",
            format!(
                "{who} wants {blocks} and never replicated that log since its start, though {at} has it: opening and announcing of logs"
            ),
        ),
        Stage::Unheard => (
            "replication or hypercore",
            format!(
                "{who} never heard that the log has {blocks}, though {at} has them: what peers tell each other of lengths, or who wakes them (hypercore)"
            ),
        ),
        Stage::Missing => (
            "replication",
            format!(
                "{blocks} never arrived at {who} though {at} has them and the length is proved: asking for blocks"
            ),
        ),
        Stage::Untaken => (
            "hypercore or db",
            format!(
                "{blocks} are stored at {who} and were never handed to the engine: who is woken by blocks that come (hypercore), or what feeds the engine (db)"
            ),
        ),
        Stage::Waiting | Stage::Unordered if let_go(case, gap) => (
            "db or engine",
            format!(
                "{blocks} were let go at {who} after apply refused them as a stranger's, and are not tried again: turns (db), or what is retried (engine)"
            ),
        ),
        Stage::Waiting => (
            "engine",
            format!(
                "{blocks} are at the engine of {who} and take no part: they wait for what they name, or were let go"
            ),
        ),
        Stage::Unordered => (
            "engine",
            format!("{blocks} take part at {who} and are not in order: admission"),
        ),
    })
}

/// What a stranger wrote left the set of a replica.
fn let_go(case: &Case<'_>, gap: &super::data::Gap) -> bool {
    let first = gap
        .blocks
        .split("..")
        .next()
        .and_then(|first| case.names.find(first));
    let owner = first.and_then(|(key, _)| case.recording.logs.get(&key));
    case.lines.iter().any(|line| {
        line.replica() == Some(&gap.replica)
            && line.deed() == Some("stranger_let_go")
            && line.text("core") == owner.map(|(owner, _)| owner.as_str())
    })
}
