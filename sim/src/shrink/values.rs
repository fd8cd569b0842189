//! Shorter keys and values.

use super::Search;
use crate::scenario::Scenario;
use crate::workload::Op;

/// Bytes of a text that need not get shorter.
const SHORT: usize = 8;

impl<F: FnMut(&Scenario) -> bool, B: FnMut(u64) -> bool> Search<F, B> {
    /// First what workloads pad texts with, then halves of what is long in each value.
    pub(super) fn values(&mut self) {
        let mut candidate = self.best.clone();
        for op in ops(&mut candidate) {
            for text in texts(op) {
                text.truncate(text.trim_end_matches('.').len());
            }
        }
        self.attempt(candidate);
        for position in 0..self.best.operations() {
            loop {
                let mut candidate = self.best.clone();
                for text in ops(&mut candidate).nth(position).into_iter().flat_map(texts) {
                    if text.len() > SHORT {
                        let half = text.floor_char_boundary(text.len() / 2);
                        text.truncate(half);
                    }
                }
                if !self.attempt(candidate) {
                    break;
                }
            }
        }
    }
}

fn ops(scenario: &mut Scenario) -> impl Iterator<Item = &mut Op> {
    scenario.append.iter_mut().flat_map(|append| &mut append.ops)
}

/// The texts of a value that name nobody.
fn texts(op: &mut Op) -> impl Iterator<Item = &mut String> {
    let put = op.put.as_mut().map(|(key, value)| [key, value]);
    put.into_iter().flatten().chain(op.del.as_mut())
}
