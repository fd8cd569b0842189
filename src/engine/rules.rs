//! The rules of the database, once they are known.
//!
//! The creator's first block cannot be verified without its manifest, which says what the rules are, and nothing is
//! ordered before that block: so whoever joins learns them before they matter. What came of other logs by then is ordered
//! by them, too: the engine begins anew.

use super::Engine;
use super::encryption::DatabaseKeys;
use super::forget::ResumeError;
use crate::crypto::Verify;
use crate::env::Slip;
use crate::wire::Rules;
use crate::wire::rules::RecordedRules;

impl<V: Verify> Engine<V> {
    /// The rules of the database; none as long as they are not known.
    #[must_use]
    pub fn rules(&self) -> Option<Rules> {
        self.knows_rules.then_some(self.rules.set)
    }

    /// Tells keys what the rules are.
    pub(super) fn set_rules_of(&self, keys: &DatabaseKeys) {
        keys.set_rules(self.rules.set);
    }

    /// Takes over what the creator's manifest says. True when every core has to be fed anew, from its start on.
    ///
    /// # Errors
    ///
    /// None: nothing was applied yet, and the empty state needs no tree.
    pub fn set_rules(&mut self, recorded: Option<RecordedRules>) -> Result<bool, ResumeError> {
        self.knows_rules = true;
        let before = self.rules;
        if self.planted.has(Slip::RulesUnheard) {
            return Ok(false);
        }
        if let Some(RecordedRules { rules, optimistic }) = recorded {
            self.rules.set = rules;
            self.rules.optimistic = optimistic;
        }
        if self.rules == before {
            return Ok(false);
        }
        if let Some(keys) = &self.keys {
            self.set_rules_of(keys);
            if self.planted.has(Slip::ClearTaken) {
                keys.take_clear();
            }
        }
        self.start_over()?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::apply::{ApplyFn, OrderOnly};
    use crate::crypto::{CoreKey, Ed25519};
    use crate::engine::{EngineOptions, Trees, WINDOW_BATCHES};
    use crate::wire::oplog::OplogBlock;
    use crate::wire::{Encode as _, Index, Length, Link, Timestamp};

    const CREATOR: CoreKey = CoreKey::new([1; 32]);
    const STRANGER: CoreKey = CoreKey::new([2; 32]);

    fn engine(rules: Option<Rules>) -> Engine<Ed25519> {
        Engine::new(EngineOptions {
            key: CREATOR,
            name: String::new(),
            apply: ApplyFn::new(OrderOnly),
            optimistic: true,
            rules,
            verify: Ed25519,
            trees: Trees::unshared(&CREATOR, 1 << 20).unwrap(),
            window_batches: WINDOW_BATCHES,
        })
    }

    fn block(optimistic: bool, links: Vec<Link>) -> Bytes {
        let block = OplogBlock {
            timestamp: Timestamp(5),
            links,
            optimistic,
            value: Some("x".into()),
            ..OplogBlock::default()
        };
        block.to_bytes().unwrap().into()
    }

    fn feed(engine: &mut Engine<Ed25519>, core: CoreKey) {
        let creator = Link {
            key: CREATOR,
            length: Length(1),
        };
        let blocks = match core {
            CREATOR => [block(false, Vec::new())],
            _ => [block(true, vec![creator])],
        };
        let from = engine.fed_from(&core);
        engine.ingest(
            core,
            Index(from.0),
            &blocks[usize::try_from(from.0).unwrap().min(1)..],
        );
    }

    #[test]
    fn what_came_before_the_rules_are_known_is_ordered_by_them() {
        let recorded = |rules| RecordedRules {
            rules,
            optimistic: true,
        };
        for (told, expected) in [(None, 2), (Some(recorded(Rules::safe())), 1)] {
            let mut engine = engine(None);
            assert_eq!(engine.rules(), None);
            feed(&mut engine, STRANGER);
            engine.drain(Timestamp(10), usize::MAX).unwrap();
            assert_eq!(engine.batches(), 0);
            let begins_anew = engine.set_rules(told).unwrap();
            assert_eq!(begins_anew, told.is_some());
            assert_eq!(engine.fed_from(&STRANGER), Length(u64::from(!begins_anew)));
            feed(&mut engine, STRANGER);
            feed(&mut engine, CREATOR);
            engine.drain(Timestamp(10), usize::MAX).unwrap();
            assert_eq!(engine.batches(), expected);
            let rules = told.map_or(Rules::interop(), |told| told.rules);
            assert_eq!(engine.rules(), Some(rules));
        }
    }

    #[test]
    fn recorded_rules_count_more_than_what_is_said_when_joining() {
        let mut engine = engine(None);
        let told = RecordedRules {
            rules: Rules::safe(),
            optimistic: false,
        };
        assert_eq!(engine.set_rules(Some(told)), Ok(true));
        assert!(!engine.takes_strangers());
    }
}
