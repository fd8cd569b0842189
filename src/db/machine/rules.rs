//! Learning the rules of a database that is joined.

use super::log::StoredLog;
use super::{Machine, Now};
use crate::crypto::CoreKey;
use crate::env::{Crypto, Point};
use crate::hypercore::CoreError;
use crate::hypercore::manifest::Manifest;
use crate::wire::rules::RecordedRules;

impl<C: Crypto, L: StoredLog> Machine<C, L> {
    /// Looks what the creator's manifest says about rules, once it is here: before any block of its log is taken, and so
    /// before anything is applied. What was taken of other logs is taken anew when the rules are not those of before.
    pub(super) fn learn_rules(&mut self, key: &CoreKey, now: Now) -> Result<(), CoreError> {
        if self.engine.rules().is_some() || *key != self.engine.key() {
            return Ok(());
        }
        let manifest = self.logs.get(key).map(|log| log.manifest()).transpose()?;
        let Some(manifest) = manifest.flatten() else {
            return Ok(());
        };
        // What is no manifest cannot verify a block.
        let manifest = Manifest::decode(&manifest).ok();
        let data = manifest.as_ref().and_then(Manifest::user_data);
        let recorded = match RecordedRules::of_manifest_data(data) {
            Ok(recorded) => recorded,
            Err(error) => {
                self.engine.give_up(format!(
                    "the rules of this database are of a later version: {error}"
                ));
                return Ok(());
            }
        };
        let begins_anew = self.engine.set_rules(recorded);
        self.sights.note(Point::RulesLearned);
        if begins_anew != Ok(true) {
            return Ok(());
        }
        let Self { engine, logs, .. } = self;
        for other in logs.feed_from(|key| engine.fed_from(key)) {
            if other != *key {
                let kept = self.turns.kept(&other).map(|kept| kept.0);
                if let Err(error) = self.feed_up_to(&other, kept, now) {
                    self.logs.give_up(&other, &error);
                    self.note_stalled(&other);
                }
            }
        }
        self.expect_stored();
        // The first block of the creator may be long in coming, and nothing else has what was taken anew looked at.
        self.order_if(true, now);
        Ok(())
    }
}
