//! Whether one batch comes before another, for claims under safe rules: what they rest on must come before them.

use std::collections::BTreeMap;

use crate::crypto::CoreKey;
use crate::engine::dag::{BatchId, Dag};
use crate::wire::{Length, Link};

use super::base::Base;
use super::emission::Marks;

/// Answers are kept: a claim is resolved at each of its trials.
#[derive(Debug, Clone, Default)]
pub(super) struct Ancestry {
    known: BTreeMap<(BatchId, CoreKey, Length), bool>,
    marks: Marks,
}

impl Ancestry {
    /// After ids of the set changed.
    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.marks = Marks::default();
    }

    /// True when the batch with this block comes before `id`. None when that depends on forgotten batches of which not
    /// enough is known.
    pub(super) fn is_before(&mut self, dag: &Dag, base: &Base, link: Link, id: BatchId) -> Option<bool> {
        let question = (id, link.key, link.length);
        if let Some(known) = self.known.get(&question) {
            return Some(*known);
        }
        let found = self.search(dag, base, link, id)?;
        self.known.insert(question, found);
        Some(found)
    }

    fn search(&mut self, dag: &Dag, base: &Base, link: Link, id: BatchId) -> Option<bool> {
        let is_forgotten = link.length <= dag.base_length(&link.key);
        if is_forgotten && base.covers(id) {
            return Some(true);
        }
        let target = dag.find(link);
        if target.is_none() && !is_forgotten {
            return Some(false);
        }
        self.marks.start(dag);
        let mut touches_forgotten = false;
        let mut next = vec![id];
        while let Some(at) = next.pop() {
            let batch = dag.batch(at);
            for behind in &batch.behind {
                if is_forgotten && behind.key == link.key && behind.length >= link.length {
                    return Some(true);
                }
                touches_forgotten = true;
            }
            for &parent in &batch.parents {
                if target == Some(parent) {
                    return Some(true);
                }
                // Parents have smaller ids than children.
                if target.is_none_or(|target| parent > target) && self.marks.see(parent) {
                    next.push(parent);
                }
            }
        }
        (!(is_forgotten && touches_forgotten)).then_some(false)
    }
}
