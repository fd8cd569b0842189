//! Groups of cores: which of them changed, told by topic and kept in the store.

use crate::crypto::{self, CoreKey};
use crate::env::Env;
use crate::hypercore::change::{StoreChange, group_key};
use crate::hypercore::cores::scan;
use crate::hypercore::corestore::Corestore;
use crate::hypercore::error::CoreError;
use crate::hypercore::event::{GroupEvent, GroupEvents};
use crate::hypercore::record::GroupRecord;
use crate::store::{CorePointer, Key};
use crate::wire::Length;
use crate::wire::compact::Decode as _;

impl<E: Env> Corestore<E> {
    /// Listens to the cores of a group, or of all groups.
    #[must_use]
    pub fn notify_group(&self, topic: Option<[u8; 32]>) -> GroupEvents {
        GroupEvents {
            topic,
            receiver: self.shared.groups.subscribe(),
        }
    }

    /// The last change of each core of a group at or after `since` (milliseconds), newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub fn group_updates(&self, topic: [u8; 32], since: u64) -> Result<Vec<(u64, GroupEvent)>, CoreError> {
        let snapshot = self.shared.store.snapshot()?;
        let mut updates = Vec::new();
        // Keys of cores have 32 bytes: 33 of the largest come after all of them.
        for (key, value) in scan(
            &*snapshot,
            &group_key(&topic, &[]),
            &group_key(&topic, &[0xff; 33]),
        )? {
            let Key::Ext(name) = key else { continue };
            let record = GroupRecord::from_bytes(&value)?;
            let key = name
                .get(name.len().saturating_sub(CoreKey::SIZE)..)
                .unwrap_or_default();
            if let Ok(key) = CoreKey::try_from(key)
                && record.timestamp >= since
            {
                updates.push((
                    record.timestamp,
                    GroupEvent {
                        topic,
                        key,
                        length: Length(record.length),
                        fork: record.fork,
                    },
                ));
            }
        }
        updates.sort_by_key(|(timestamp, update)| (std::cmp::Reverse(*timestamp), update.key));
        Ok(updates)
    }
}

/// A core has one group for good.
pub(super) fn join_group<C: crypto::Sign>(
    change: &mut StoreChange<'_, C>,
    pointer: CorePointer,
    topic: [u8; 32],
) -> Result<(), CoreError> {
    match change.cores.get(pointer)?.auth.group {
        Some(group) if group == topic => Ok(()),
        Some(_) => Err(CoreError::Conflict("group")),
        None => change.edit_auth(pointer, |auth| {
            auth.group = Some(topic);
            Ok(())
        }),
    }
}

/// The number after a number of 32 bytes.
pub(super) fn successor(mut bytes: [u8; 32]) -> Option<[u8; 32]> {
    for byte in bytes.iter_mut().rev() {
        match byte.checked_add(1) {
            Some(next) => {
                *byte = next;
                return Some(bytes);
            }
            None => *byte = 0,
        }
    }
    None
}
