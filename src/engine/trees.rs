//! The two trees that an engine writes: the user's view, and the membership as other peers read it.
//!
//! Source: spec/autobee.md 3.1, 7.1. Each flush of apply is one batch of the view; each applied batch is one batch of
//! the system tree, whose info record names the head of the view behind it.

use super::system::{System, read_record};
use crate::apply::{LocalTree, TreeSnapshot};
use crate::bee::{BeeError, BeeSettings, BlockFault, Blocks, MemoryBlocks, Range};
use crate::crypto::{CoreKey, hash};
use crate::env::{Env, knob};
use crate::wire::system::{InfoRecord, SystemKey};
use crate::wire::{Decode as _, Index, Link};

/// Memory for blocks and nodes of the system tree, in bytes each. The engine reads records from memory of its own: all
/// that this serves is the path that the next write takes.
const SYSTEM_CACHE_BYTES_MAX: usize = 1 << 20;

/// What the keys of all writers' records begin with.
const WRITER_PREFIX: [u8; 2] = [1, 0];

/// The trees that an engine writes.
#[derive(Debug, Clone)]
pub struct Trees {
    /// The user's view.
    pub view: LocalTree,
    /// The records of writers, and the info record.
    pub system: LocalTree,
}

impl Trees {
    /// Trees in memory, whose cores have these keys. The caches of the view take up to `cache_bytes_max` together.
    ///
    /// # Errors
    ///
    /// None: the settings are those of the original.
    pub fn new(view: CoreKey, system: CoreKey, cache_bytes_max: usize) -> Result<Self, BeeError> {
        Ok(Self {
            view: LocalTree::new(view, view_settings(cache_bytes_max), MemoryBlocks::new())?,
            system: LocalTree::new(system, system_settings(), MemoryBlocks::new())?,
        })
    }

    /// Trees in memory, in cores that nobody else sees, so that any keys will do: they are derived from the local
    /// writer's.
    ///
    /// # Errors
    ///
    /// As [`Trees::new`].
    pub fn unshared(local: &CoreKey, cache_bytes_max: usize) -> Result<Self, BeeError> {
        let key = |name: &[u8]| CoreKey::new(*hash(&[name, local.as_bytes()]).as_bytes());
        Self::new(key(b"view"), key(b"system"), cache_bytes_max)
    }

    /// Trees in a store, each written behind the end of its core, and read from a source of blocks. The caches of the
    /// view take up to `cache_bytes_max` together.
    ///
    /// # Errors
    ///
    /// As [`Trees::new`].
    pub fn stored(
        view: (Link, impl Blocks + Send + Sync + 'static),
        system: (Link, impl Blocks + Send + Sync + 'static),
        cache_bytes_max: usize,
    ) -> Result<Self, BeeError> {
        Self::shaped(view, system, &TreeSettings::new(cache_bytes_max))
    }

    /// As [`Trees::stored`], with settings for each tree.
    ///
    /// # Errors
    ///
    /// When the settings contradict the format.
    pub fn shaped(
        view: (Link, impl Blocks + Send + Sync + 'static),
        system: (Link, impl Blocks + Send + Sync + 'static),
        settings: &TreeSettings,
    ) -> Result<Self, BeeError> {
        Ok(Self {
            view: LocalTree::stored(view.0, settings.view.clone(), view.1)?,
            system: LocalTree::stored(system.0, settings.system.clone(), system.1)?,
        })
    }
}

/// Settings of the two trees. They shape what the local peer writes, and are no part of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeSettings {
    /// Of the user's view.
    pub view: BeeSettings,
    /// Of the system tree.
    pub system: BeeSettings,
}

impl TreeSettings {
    /// Those of the original. The caches of the view take up to `cache_bytes_max` together.
    #[must_use]
    pub fn new(cache_bytes_max: usize) -> Self {
        Self {
            view: view_settings(cache_bytes_max),
            system: system_settings(),
        }
    }

    /// The numbers that a simulator chose for this run; elsewhere they stay as they are.
    #[must_use]
    pub fn tuned<E: Env>(mut self, env: &E) -> Self {
        if E::SIM {
            let degree =
                |knob: knob::Knob, usual: u8| u8::try_from(knob.of(env, usual.into())).unwrap_or(usual);
            let Self { view, system } = &mut self;
            view.degree = degree(knob::VIEW_DEGREE, view.degree);
            view.value_inline_bytes_max =
                knob::VIEW_VALUE_INLINE_BYTES.size(env, view.value_inline_bytes_max);
            view.block_bytes_preferred = knob::VIEW_BLOCK_BYTES.size(env, view.block_bytes_preferred);
            system.degree = degree(knob::SYSTEM_DEGREE, system.degree);
            system.block_bytes_preferred = knob::SYSTEM_BLOCK_BYTES.size(env, system.block_bytes_preferred);
            let cache = knob::SYSTEM_CACHE_BYTES.size(env, system.block_cache_bytes_max);
            system.block_cache_bytes_max = cache;
            system.node_cache_bytes_max = cache;
        }
        self
    }
}

/// A version of the system tree, read: all that the engine goes on from.
#[derive(Debug, Clone)]
pub struct Restored {
    /// The membership.
    pub system: System,
    /// The same, as the tree.
    pub records: TreeSnapshot,
    /// The view behind it.
    pub view: TreeSnapshot,
}

impl Trees {
    /// Forgets what the caches hold. Changes no result.
    pub fn drop_caches(&self) {
        self.view.drop_caches();
        self.system.drop_caches();
    }

    /// The view that an info record names.
    ///
    /// # Errors
    ///
    /// `Corrupt`, with the version of the system tree that has the record, when it is beyond the end of the own core:
    /// what is written next would be taken for it.
    pub(super) fn view_of(view: &LocalTree, info: &InfoRecord, head: Link) -> Result<TreeSnapshot, BeeError> {
        match info.view {
            Some(found) if view.reaches(found) => Ok(TreeSnapshot::at(view, found)),
            Some(found) => Err(BeeError::Corrupt {
                core: head.key,
                seq: head.length.last().unwrap_or_default(),
                what: BlockFault::Beyond(found.length.0),
            }),
            None => Ok(TreeSnapshot::empty(view)),
        }
    }

    /// The state behind the flush that made this version of the system tree, which may be in a core of another peer.
    /// Costs as much as there are writers.
    ///
    /// # Errors
    ///
    /// `Unavailable` when a block is not here: run it again once it is. Else when the tree is corrupt, or was written
    /// by newer software.
    pub fn restore(&self, head: Link) -> Result<Restored, BeeError> {
        let records = TreeSnapshot::at(&self.system, head);
        let Some(last) = head.length.last() else {
            return Ok(Restored {
                system: System::default(),
                view: TreeSnapshot::empty(&self.view),
                records,
            });
        };
        let corrupt = |error| BeeError::Corrupt {
            core: head.key,
            seq: last,
            what: BlockFault::Encoding(error),
        };
        let info = match records.get(&SystemKey::Info.to_bytes())? {
            Some(info) => info,
            // Of Autobase, until the first flush of Autobee.
            None => records
                .get(&SystemKey::LegacyInfo.to_bytes())?
                .unwrap_or_default(),
        };
        let info = InfoRecord::from_bytes(&info).map_err(corrupt)?;
        let (mut writers, mut granted) = (Vec::new(), Vec::new());
        for (key, value) in records.range(Range::prefix(WRITER_PREFIX))? {
            if let Some(SystemKey::Writer(key)) = SystemKey::from_bytes(&key) {
                let (record, grants) = read_record(&value).map_err(corrupt)?;
                writers.push((key, record));
                granted.push((key, grants));
            }
        }
        Ok(Restored {
            system: System::from_records(&info, writers).granting(granted),
            view: Self::view_of(&self.view, &info, head)?,
            records,
        })
    }
}

fn view_settings(cache_bytes_max: usize) -> BeeSettings {
    cached(cache_bytes_max / 2)
}

fn system_settings() -> BeeSettings {
    cached(SYSTEM_CACHE_BYTES_MAX)
}

fn cached(bytes_max: usize) -> BeeSettings {
    BeeSettings {
        block_cache_bytes_max: bytes_max,
        node_cache_bytes_max: bytes_max,
        ..BeeSettings::default()
    }
}

/// A block that apply needs and that is not on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MissingBlock {
    /// The core.
    pub core: CoreKey,
    /// The block.
    pub index: Index,
}
