//! An explanation as people read it. It fits a screen.

use std::fmt::{self, Write as _};

use super::data::{Explanation, Fork, Happening, Side, Since, Stage};

/// Columns of a line.
const WIDTH: usize = 150;

/// Letters of a violation.
const VIOLATION_MAX: usize = 420;

/// Width of the name of a part.
const PART: usize = 8;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(failure) = &self.failure else {
            return write!(f, "{} seed {}: nothing fails", self.scenario, self.seed);
        };
        let mut text = String::new();
        let first = self.violations.first().map_or("", |text| text.as_str());
        let _ = writeln!(
            text,
            "{} seed {}: `{failure}` does not hold",
            self.scenario, self.seed
        );
        part(&mut text, "what", &shortened(first, VIOLATION_MAX));
        if self.violations.len() > 1 {
            part(
                &mut text,
                "",
                &format!("and {} more violations", self.violations.len() - 1),
            );
        }
        part(&mut text, "found", &self.found());
        if !self.who.is_empty() || !self.entries.is_empty() {
            let entries = some(&self.entries, 6);
            let about = if entries.is_empty() {
                String::new()
            } else {
                format!("; entries {entries}")
            };
            part(&mut text, "who", &format!("{}{about}", self.who.join(", ")));
        }
        self.write_verdicts(&mut text);
        if let Some(since) = &self.since {
            part(&mut text, "since", &since_text(since));
        }
        if let Some(fork) = &self.fork {
            write_fork(&mut text, fork);
        }
        self.write_lacking(&mut text);
        if let Some(record) = &self.record {
            let line = format!(
                "of {}: {} at {}, {} in {}",
                record.writer, record.our_record, record.ours, record.their_record, record.theirs
            );
            part(&mut text, "record", &line);
        }
        self.write_value(&mut text);
        self.write_gaps(&mut text);
        for (number, place) in self.places.iter().enumerate() {
            let line = format!(
                "{} {}: stored at {}; in order at {}{}",
                place.entry,
                place.op,
                or_nobody(&place.stored),
                or_nobody(&place.ordered),
                if place.acknowledged { "; acknowledged" } else { "" }
            );
            part(&mut text, if number == 0 { "entry" } else { "" }, &line);
        }
        for (number, fact) in self.facts.iter().enumerate() {
            part(
                &mut text,
                if number == 0 { "facts" } else { "" },
                &shortened(fact, VIOLATION_MAX),
            );
        }
        write_happenings(&mut text, "faults", &self.faults);
        write_happenings(&mut text, "undos", &self.undos);
        write_happenings(&mut text, "engine", &self.deeds);
        if let Some(layer) = &self.layer {
            part(&mut text, "layer", &format!("{}: {}", layer.layer, layer.because));
        }
        f.write_str(text.trim_end())
    }
}

impl Explanation {
    /// What replicas differ in and what happened before, without the head: for a text that has its own.
    #[must_use]
    pub fn in_short(&self) -> Vec<String> {
        let mut text = String::new();
        if let Some(since) = &self.since {
            part(&mut text, "since", &since_text(since));
        }
        if let Some(fork) = &self.fork {
            write_fork(&mut text, fork);
        }
        self.write_lacking(&mut text);
        self.write_value(&mut text);
        self.write_gaps(&mut text);
        write_happenings(&mut text, "undos", &self.undos);
        text.lines().map(ToOwned::to_owned).collect()
    }

    /// What failures are grouped by: what failed, in which part of the state, and what the engine did then.
    #[must_use]
    pub fn cause(&self) -> String {
        let failure = self.failure.as_deref().unwrap_or("nothing");
        let state = match (&self.fork, &self.record, &self.value, self.gaps.first()) {
            (_, _, _, Some(gap)) => stage(gap.stage),
            (Some(fork), ..) => fork.rule.as_ref().map_or("order", |rule| rule.part),
            (None, Some(_), ..) => "record",
            (None, None, Some(_), _) => "view",
            _ => self
                .layer
                .as_ref()
                .map_or("unknown", |layer| layer.layer.as_str()),
        };
        let deeds = || self.deeds.iter().rev().flat_map(|deed| deed.what.split("; "));
        let telling = [
            "undone",
            "went back",
            "recovered",
            "crash",
            "interrupted",
            "stalled",
            "blamed",
        ];
        let event = telling
            .into_iter()
            .find(|word| deeds().any(|deed| deed.starts_with(word)))
            .unwrap_or("drained");
        format!("{failure} / {state} / {event}")
    }

    fn write_lacking(&self, text: &mut String) {
        for (number, lacking) in self.lacking.iter().enumerate() {
            let name = if number == 0 { "lacking" } else { "" };
            let line = format!(
                "{} has {} in order that {} lacks: {}",
                lacking.has,
                count(lacking.count, "entry", "entries"),
                lacking.lacks,
                lacking.entries.join(", ")
            );
            part(text, name, &line);
        }
    }

    fn write_gaps(&self, text: &mut String) {
        for (number, gap) in self.gaps.iter().enumerate() {
            let at = if gap.at.is_empty() {
                String::new()
            } else {
                format!("; at {}", gap.at.join(", "))
            };
            let stage = stage(gap.stage);
            let line = format!("{} lacks {} ({stage}): {}{at}", gap.replica, gap.blocks, gap.why);
            part(text, if number == 0 { "blocks" } else { "" }, &line);
        }
    }

    fn found(&self) -> String {
        let mut line = format!("at {} ms", self.found_ms);
        if let Some(plan) = self.phases.plan_ms {
            let _ = write!(line, "; the plan began at {plan} ms");
        }
        match self.phases.healed_ms {
            Some(healed) => {
                let _ = write!(line, ", all faults ended at {healed} ms");
            }
            None => line.push_str(", faults still went on"),
        }
        line
    }

    fn write_verdicts(&self, text: &mut String) {
        let wrong = self
            .verdicts
            .iter()
            .filter(|verdict| verdict.agrees == Some(false));
        let mut lines: Vec<String> = wrong
            .map(|verdict| {
                let what = verdict.what.as_deref().unwrap_or_default();
                format!(
                    "{} is wrong ({} entries): {what}",
                    verdict.replica, verdict.entries
                )
            })
            .collect();
        lines.truncate(4);
        let right: Vec<String> = self
            .verdicts
            .iter()
            .filter(|verdict| verdict.agrees == Some(true))
            .map(|verdict| format!("{} ({} entries)", verdict.replica, verdict.entries))
            .collect();
        if !right.is_empty() {
            lines.push(format!("right by its own blocks: {}", some(&right, 8)));
        }
        let unasked: Vec<String> = self
            .verdicts
            .iter()
            .filter(|verdict| verdict.agrees.is_none())
            .filter_map(|verdict| Some(format!("{} {}", verdict.replica, verdict.what.as_deref()?)))
            .collect();
        if !unasked.is_empty() {
            lines.push(some(&unasked, 4));
        }
        for (number, line) in lines.iter().enumerate() {
            part(text, if number == 0 { "model" } else { "" }, line);
        }
    }

    fn write_value(&self, text: &mut String) {
        let Some(value) = &self.value else { return };
        let or_nothing = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
        let line = format!(
            "key {}: {} has {}, {} has {} ({} differ)",
            value.key,
            value.ours,
            or_nothing(&value.our_value),
            value.theirs,
            or_nothing(&value.their_value),
            count(value.differing, "key", "keys")
        );
        part(text, "view", &line);
        if !value.written_by.is_empty() {
            part(
                text,
                "",
                &format!("written, in order, by {}", value.written_by.join("; ")),
            );
        }
    }
}

fn since_text(since: &Since) -> String {
    let good = since.good_ms.map_or_else(
        || "never at a look".to_owned(),
        |good| format!("last at {good} ms"),
    );
    format!(
        "{}: {} {good}, no longer at {} ms",
        since.replica, since.what, since.bad_ms
    )
}

const fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Unknown => "unknown log",
        Stage::Unshown => "not shown",
        Stage::Unheard => "unheard of",
        Stage::Missing => "never arrived",
        Stage::Untaken => "stored, not taken",
        Stage::Waiting => "taken, waiting",
        Stage::Unordered => "not in order",
    }
}

fn write_fork(text: &mut String, fork: &Fork) {
    let after = fork
        .last_common
        .as_ref()
        .map_or_else(String::new, |last| format!(", up to {last}"));
    part(
        text,
        "order",
        &format!(
            "{} in common{after}; from position {} on:",
            count(fork.common, "entry", "entries"),
            fork.common
        ),
    );
    let width = fork.ours.who.len().max(fork.theirs.who.len());
    for side in [&fork.ours, &fork.theirs] {
        write_side(text, side, width);
    }
    if let Some(rule) = &fork.rule {
        part(
            text,
            "rule",
            &format!(
                "{} before {} ({}): {}",
                rule.first, rule.second, rule.part, rule.why
            ),
        );
    }
}

fn write_side(text: &mut String, side: &Side, width: usize) {
    if side.entries.is_empty() {
        part(text, "", &format!("{:<width$}  nothing more", side.who));
    }
    for (number, entry) in side.entries.iter().enumerate() {
        let who = if number == 0 { &*side.who } else { "" };
        let links = if entry.links.is_empty() {
            "no links".to_owned()
        } else {
            format!("links {}", some(&entry.links, 4))
        };
        let stamp = entry
            .stamp_ms
            .map_or_else(String::new, |stamp| format!("  of {stamp} ms"));
        let line = format!(
            "{who:<width$}  {:<8} weight {}{stamp}  {links}  {}",
            entry.name, entry.weight, entry.op
        );
        part(text, "", &line);
    }
}

fn write_happenings(text: &mut String, name: &str, all: &[Happening]) {
    for (number, one) in all.iter().enumerate() {
        let who = one
            .replica
            .as_ref()
            .map_or_else(String::new, |who| format!("{who} "));
        let line = format!("{:>7} ms  {who}{}", one.at_ms, shortened(&one.what, 120));
        part(text, if number == 0 { name } else { "" }, &line);
    }
}

/// A part of the text: its name, and what there is, in lines of [`WIDTH`].
fn part(text: &mut String, name: &str, what: &str) {
    let mut line = format!("  {name:<PART$}");
    let indent = " ".repeat(PART + 2);
    for word in what.split_inclusive(' ') {
        if line.chars().count() + word.trim_end().chars().count() > WIDTH && line.trim() != name {
            let _ = writeln!(text, "{}", line.trim_end());
            line = format!("{indent}  ");
        }
        line.push_str(word);
    }
    let _ = writeln!(text, "{}", line.trim_end());
}

fn some(all: &[String], most: usize) -> String {
    let shown = all.iter().take(most).cloned().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn or_nobody(who: &[String]) -> String {
    if who.is_empty() {
        "nobody".into()
    } else {
        who.join(", ")
    }
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let start: String = text.chars().take(most - 3).collect();
    format!("{start}...")
}
