//! Whether the key by which a database was joined is that of a database.
//!
//! Each writer's log has a key, and one that is mistaken for the key of the database opens, and shows a part of it: the
//! log is taken for its creator's. What tells the two apart is what the first block of that log builds on. A database begins with
//! its creator's first block, so from the first block of any other member links lead, over first blocks of others, to that of the
//! creator; and the manifest of the creator says the rules, as no other manifest of a log of the database does.
//!
//! Under the rules of the original nothing is recorded, and nothing is said: there the creator's first block may have links,
//! too, to a stranger who wrote before it.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::log::StoredLog;
use super::{Effect, Machine};
use crate::crypto::CoreKey;
use crate::db::Event;
use crate::env::Crypto;
use crate::hypercore::manifest::Manifest;
use crate::wire::oplog::OplogBlock;
use crate::wire::rules::RecordedRules;
use crate::wire::{Decode as _, Index, Rules};

/// Logs that are looked at. A first block may have any number of links.
const TRACED_MAX: usize = 1024;

/// What is known of the log whose key the database has.
#[derive(Debug, Default)]
pub(super) enum KeyKind {
    /// Its first block was not seen.
    #[default]
    Unread,
    /// It builds on nothing: that is a creator's.
    Creator,
    /// It builds on these logs, and on those that their first blocks build on.
    Behind(BTreeSet<CoreKey>),
    /// It is the log of a writer of this database.
    Writer(CoreKey),
}

impl<C: Crypto, L: StoredLog> Machine<C, L> {
    /// Looks at the first block of a log, if these blocks begin with it.
    pub(super) fn learn_key_kind(&mut self, key: &CoreKey, (from, blocks): (Index, &[Bytes])) {
        let (true, Some(block)) = (from == Index(0), blocks.first()) else {
            return;
        };
        let links = || {
            let block = OplogBlock::from_bytes(block);
            block.map_or_else(|_| Vec::new(), |block| block.links)
        };
        match &mut self.key_kind {
            KeyKind::Unread if *key == self.engine.key() => {
                let links: BTreeSet<CoreKey> = links().iter().map(|link| link.key).take(TRACED_MAX).collect();
                self.key_kind = match links.is_empty() {
                    true => KeyKind::Creator,
                    false => KeyKind::Behind(links),
                };
            }
            KeyKind::Behind(traced) if traced.contains(key) => {
                let links = links();
                let room = TRACED_MAX.saturating_sub(traced.len());
                traced.extend(links.iter().map(|link| link.key).take(room));
                if links.is_empty()
                    && self.engine.rules() == Some(Rules::interop())
                    && self.records_rules(key)
                {
                    self.key_kind = KeyKind::Writer(*key);
                    self.effects
                        .push(Effect::Tell(Event::WritersKey { database: *key }));
                }
            }
            _ => {}
        }
    }

    fn records_rules(&self, key: &CoreKey) -> bool {
        let manifest = self.logs.get(key).and_then(|log| log.manifest().ok()?);
        let manifest = manifest.and_then(|manifest| Manifest::decode(&manifest).ok());
        let recorded = manifest.map(|manifest| RecordedRules::of_manifest_data(manifest.user_data()));
        matches!(recorded, Some(Ok(Some(_))))
    }
}
