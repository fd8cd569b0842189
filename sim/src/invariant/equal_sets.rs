//! Equal sets of batches make equal orders, weights, records and views: at any two replicas, at any two times.
//!
//! Source: ARCHITECTURE.md, invariant 2. Sets are compared by the bytes of their blocks, so the claim
//! also holds where a log has two continuations.

use std::collections::BTreeMap;

use autobee::crypto::{Hash, hash};

use super::{Invariant, Look, Moment, ReplicaLook, first_difference};

/// States that are kept whole, to say where another one differs.
const KEPT_MAX: usize = 48;

/// See the module.
#[derive(Debug, Default)]
pub struct EqualSets {
    known: BTreeMap<Hash, Known>,
    kept: usize,
    /// What each replica had when it was looked at last.
    last: BTreeMap<usize, (u32, Hash)>,
    comparisons: u64,
}

#[derive(Debug)]
struct Known {
    state: Hash,
    who: String,
    at_ms: u128,
    look: Option<Box<Look>>,
}

impl Invariant for EqualSets {
    fn name(&self) -> &'static str {
        "equal sets"
    }

    fn tick(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for (replica, look) in moment.open() {
            let Some(set) = look.set_digest() else { continue };
            let state = state_digest(look);
            match self.known.get(&set) {
                Some(known) if known.state == state => {
                    // The same replica that looks the same again is no evidence.
                    if self.last.insert(replica.replica, (replica.life, set)) != Some((replica.life, set)) {
                        self.comparisons += 1;
                    }
                }
                Some(known) => return Err(difference(moment, known, replica, look)),
                None => {
                    let keep = self.kept < KEPT_MAX;
                    self.kept += usize::from(keep);
                    let known = Known {
                        state,
                        who: replica.name.clone(),
                        at_ms: moment.now.as_millis(),
                        look: keep.then(|| Box::new(look.clone())),
                    };
                    self.known.insert(set, known);
                    self.last.insert(replica.replica, (replica.life, set));
                }
            }
        }
        Ok(())
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![("equal sets", self.comparisons)]
    }
}

/// A hash over order, weights, records and view. The flushes that made them differ from replica to replica.
fn state_digest(look: &Look) -> Hash {
    let mut bytes = Vec::with_capacity(look.order.len() * 48);
    for entry in &look.order {
        bytes.extend_from_slice(entry.key.as_bytes());
        bytes.extend_from_slice(&entry.length.0.to_le_bytes());
        bytes.extend_from_slice(&entry.weight.0.to_le_bytes());
    }
    for writer in &look.writers {
        bytes.extend_from_slice(writer.key.as_bytes());
        for number in [writer.length.0, writer.weight.0, writer.max_weight.0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&[
            u8::from(writer.is_removed),
            u8::from(writer.is_anchor),
            u8::from(writer.is_guest),
        ]);
    }
    for part in look.view.iter().flat_map(|(key, value)| [key, value]) {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    hash(&[&bytes])
}

fn difference(moment: &Moment<'_>, known: &Known, replica: &ReplicaLook, look: &Look) -> String {
    let head = format!(
        "{} and {} (at {} ms) hold the same blocks",
        replica.name, known.who, known.at_ms
    );
    let Some(other) = &known.look else {
        return format!("{head}, and have other states");
    };
    let named = |look: &Look| -> Vec<String> {
        let entries = look.order.iter();
        entries
            .map(|entry| {
                format!(
                    "{} (weight {})",
                    moment.block(&entry.key, entry.length),
                    entry.weight.0
                )
            })
            .collect()
    };
    let (ours, theirs) = (named(look), named(other));
    if ours != theirs {
        return format!(
            "{head}, and order them otherwise {}",
            first_difference(&ours, &theirs)
        );
    }
    if look.writers != other.writers {
        let difference = first_difference(&look.writers, &other.writers);
        return format!("{head}, and have other records {difference}");
    }
    format!(
        "{head}, and have other views {}",
        first_difference(&look.view, &other.view)
    )
}
