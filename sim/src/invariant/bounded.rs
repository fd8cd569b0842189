//! What is in memory stays within its bounds.
//!
//! Source: `Settings::window_batches` and `db::Held`: twice the window is held, and what waits is bounded by what is here.

use super::{Invariant, Moment};

/// Batches that may be held beyond twice the window: one portion of applying, and the own batch.
const SLACK: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub struct Bounds {
    looks: u64,
}

impl Invariant for Bounds {
    fn name(&self) -> &'static str {
        "bounds"
    }

    fn tick(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for (replica, look) in moment.open() {
            let blocks: u64 = look.logs.values().map(|log| log.length().0).sum();
            let held = look.held;
            if held.waiting as u64 > blocks {
                return Err(format!(
                    "{} has {} batches that wait, of {blocks} blocks",
                    replica.name, held.waiting
                ));
            }
            self.looks += 1;
        }
        Ok(())
    }

    fn end(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        self.tick(moment)?;
        for (replica, look) in moment.open() {
            let most = look.window_batches.saturating_mul(2).saturating_add(SLACK);
            if look.held.batches > most {
                return Err(format!(
                    "{} holds {} batches of the order in memory, with a window of {}",
                    replica.name, look.held.batches, look.window_batches
                ));
            }
        }
        Ok(())
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![("bounded memories", self.looks)]
    }
}
