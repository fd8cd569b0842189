//! What could have been known of what: vector clocks, and the causal past of an event.
//!
//! A trace says when bytes arrive, and not when they were sent. So the past of an arrival holds everything that its sender
//! did until then, less the least time that the path takes: never too little, at times a little too much.

use std::collections::{BTreeMap, BTreeSet};

use super::{Topic, TraceLine};

/// Vector clocks of the events of a trace.
#[derive(Debug, Clone, Default)]
pub struct Clocks {
    names: Vec<String>,
    /// Of each line that has a replica, by position: the replica, and its clock.
    clocks: BTreeMap<usize, (usize, Vec<u64>)>,
}

impl Clocks {
    /// Computes them. `latency` is the least time of a path, in nanoseconds.
    #[must_use]
    pub fn new(lines: &[TraceLine], latency: u64) -> Self {
        let mut clocks = Self::default();
        let mut latest: Vec<Vec<u64>> = Vec::new();
        // Of each replica: when it did what, and its clock then.
        let mut past: Vec<Vec<(u64, Vec<u64>)>> = Vec::new();
        for (position, line) in lines.iter().enumerate() {
            let Some(name) = line.replica() else { continue };
            if line.topic() == Topic::Scheduler {
                continue;
            }
            let replica = clocks.number(name);
            latest.resize_with(clocks.names.len(), Vec::new);
            past.resize_with(clocks.names.len(), Vec::new);
            if let Some(sender) = sender(line) {
                let sender = clocks.number(sender);
                latest.resize_with(clocks.names.len(), Vec::new);
                past.resize_with(clocks.names.len(), Vec::new);
                let sent = line.at.saturating_sub(latency);
                let known = past[sender].partition_point(|(at, _)| *at <= sent);
                if let Some((_, clock)) = known.checked_sub(1).and_then(|last| past[sender].get(last)) {
                    let clock = clock.clone();
                    merge(&mut latest[replica], &clock);
                }
            }
            let own = &mut latest[replica];
            if own.len() <= replica {
                own.resize(replica + 1, 0);
            }
            own[replica] += 1;
            past[replica].push((line.at, own.clone()));
            clocks.clocks.insert(position, (replica, own.clone()));
        }
        clocks
    }

    /// The clock of a line, with the names of the replicas: only those of whom it knows something.
    #[must_use]
    pub fn of(&self, position: usize) -> Option<Vec<(&str, u64)>> {
        let (_, clock) = self.clocks.get(&position)?;
        let named = self.names.iter().map(String::as_str).zip(clock.iter().copied());
        Some(named.filter(|(_, count)| *count > 0).collect())
    }

    /// True when what happened at `earlier` could be known at `later`.
    #[must_use]
    pub fn precedes(&self, earlier: usize, later: usize) -> bool {
        let (Some((replica, clock)), Some((_, known))) = (self.clocks.get(&earlier), self.clocks.get(&later))
        else {
            return false;
        };
        known.get(*replica) >= clock.get(*replica)
    }

    fn number(&mut self, name: &str) -> usize {
        let known = self.names.iter().position(|known| known == name);
        known.unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        })
    }
}

fn merge(into: &mut Vec<u64>, from: &[u64]) {
    if into.len() < from.len() {
        into.resize(from.len(), 0);
    }
    for (mine, theirs) in into.iter_mut().zip(from) {
        *mine = (*mine).max(*theirs);
    }
}

/// Whose bytes arrive with a line.
fn sender(line: &TraceLine) -> Option<&str> {
    line.text("from")
        .filter(|_| matches!(&*line.event, "deliver" | "fin"))
}

/// The causal past of the line with this number, itself included: what its replica did before it, and what the replicas did
/// from which bytes came that could have mattered. What concerns nobody alone (partitions, notes) is in it up to its time.
#[must_use]
pub fn cone(lines: &[TraceLine], number: u64, latency: u64) -> Vec<&TraceLine> {
    let Some(last) = lines.iter().position(|line| line.number == number) else {
        return Vec::new();
    };
    let clocks = Clocks::new(&lines[..=last], latency);
    let whole = match lines[last].replica() {
        Some(_) => None,
        None => Some(()),
    };
    let involved: BTreeSet<&str> = clocks
        .of(last)
        .unwrap_or_default()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let lines = lines[..=last].iter().enumerate().filter(|(position, line)| {
        if whole.is_some() || *position == last {
            return line.topic() != Topic::Scheduler;
        }
        match (line.replica(), line.topic()) {
            (_, Topic::Scheduler) => false,
            (Some(_), _) => clocks.precedes(*position, last),
            (None, _) => line
                .text("who")
                .is_none_or(|who| who.is_empty() || who.split(',').any(|name| involved.contains(name))),
        }
    });
    lines.map(|(_, line)| line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Vec<TraceLine> {
        let text = "{\"t\":0,\"e\":\"engine\",\"r\":\"a\",\"what\":\"appended\"}
{\"t\":5,\"e\":\"engine\",\"r\":\"b\",\"what\":\"appended\"}
{\"t\":9,\"e\":\"engine\",\"r\":\"a\",\"what\":\"appended\"}
{\"t\":10,\"e\":\"deliver\",\"r\":\"c\",\"from\":\"a\",\"conn\":1,\"bytes\":2,\"hash\":3}
{\"t\":11,\"e\":\"timer\",\"r\":\"c\"}
{\"t\":12,\"e\":\"engine\",\"r\":\"c\",\"what\":\"taken\"}
{\"t\":13,\"e\":\"engine\",\"r\":\"c\",\"what\":\"drained\"}
";
        super::super::read(text).unwrap()
    }

    #[test]
    fn the_past_of_an_event_is_what_could_have_been_known() {
        let lines = lines();
        let numbers = |latency| -> Vec<u64> {
            let past = cone(&lines, 6, latency);
            past.into_iter().map(|line| line.number).collect()
        };
        assert_eq!(numbers(0), [1, 3, 4, 6]);
        // What takes five nanoseconds was not sent at the ninth.
        assert_eq!(numbers(5), [1, 4, 6]);
        assert_eq!(cone(&lines, 99, 0).len(), 0);
    }

    #[test]
    fn clocks_count_what_each_knows() {
        let lines = lines();
        let clocks = Clocks::new(&lines, 0);
        assert_eq!(clocks.of(5).unwrap(), [("a", 2), ("c", 2)]);
        assert!(clocks.precedes(0, 5) && !clocks.precedes(1, 5) && !clocks.precedes(6, 5));
        assert_eq!(clocks.of(4), None);
    }
}
