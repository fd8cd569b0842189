//! Logs of which nothing more is taken, and blocks that were dropped: what is noted, and who is told.

use super::log::StoredLog;
use super::{Effect, Event, Machine, Stalled};
use crate::crypto::CoreKey;
use crate::env::{Crypto, Point, TraceEvent};
use crate::wire::Length;

impl<C: Crypto, L: StoredLog> Machine<C, L> {
    /// Says which blocks of a log were dropped, as the disk gave other bytes of them than were written.
    pub(super) fn note_rotten(&mut self, key: &CoreKey) {
        let rotten = self
            .logs
            .get(key)
            .map(|log| log.take_rotten())
            .unwrap_or_default();
        for index in rotten {
            let what = format!("block {index} of {key} is damaged here, and is fetched from peers again");
            self.trace(|| TraceEvent::Failed {
                what: "reading a block".into(),
                why: what.clone(),
            });
            self.sights.note(Point::RotDropped);
            self.effects.push(Effect::Tell(Event::Error { what }));
        }
    }

    /// Why nothing more of a log is taken.
    pub(super) fn note_stalled(&mut self, key: &CoreKey) {
        self.check_key(key);
        let frozen = self.engine.frozen(key).cloned().map(Stalled::Frozen);
        match frozen.or_else(|| self.logs.stalled(key).cloned()) {
            _ if self.mismatch.is_some() && *key == self.engine.key() => {}
            Some(stalled) => {
                let is_conflict = |why: &Stalled| matches!(why, Stalled::Conflict { .. });
                let was_conflict = self.stalled.get(key).is_some_and(is_conflict);
                if let Stalled::Conflict { length, .. } = stalled
                    && *key == self.logs.local()
                    && !was_conflict
                {
                    let length = Length(length);
                    self.sights.note(Point::OwnLogContradicted);
                    self.effects.push(Effect::Tell(Event::Contradicted { length }));
                }
                self.stalled.insert(*key, stalled);
            }
            // A persistent map that readers share is copied to be changed, also where nothing is.
            None if self.stalled.contains_key(key) => _ = self.stalled.remove(key),
            None => {}
        }
    }

    /// Looks whether the creator's log is encrypted as the key says. Nobody else's log tells: strangers write what they like.
    pub(super) fn check_key(&mut self, key: &CoreKey) {
        if *key != self.engine.key() || self.mismatch.is_some() || self.engine.batches() > 0 {
            return;
        }
        let Some(mismatch) = self.logs.get(key).and_then(|log| log.key_mismatch()) else {
            return;
        };
        self.mismatch = Some(mismatch);
        self.stalled.insert(*key, Stalled::Encryption(mismatch));
        let what = mismatch.to_string();
        self.sights.note(Point::KeyContradicted);
        self.effects.push(Effect::Tell(Event::Error { what }));
    }
}
