//! The trees of a database in cores of its store.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::Settings;
use super::machine::{KEPT_WITH_LOCAL, TreeRecord};
use super::shell::store::{MANIFEST_VERSION, Opened};
use super::view::{Fetch, PAGE, RemoteBlocks};
use crate::apply::TreeSnapshot;
use crate::bee::{BeeError, BlockFault, StoredBlocks};
use crate::crypto::CoreKey;
use crate::engine::encryption::SYSTEM_NAME;
use crate::engine::{Checkpoint, TreeSettings, Trees, ViewClaim};
use crate::env::{Env, Point, Slip, TraceEvent, knob};
use crate::error::Error;
use crate::hypercore::{Core, CoreError, CoreOptions, Download, Encryption, Transaction, Wait};
use crate::wire::{DecodeError, Index, Length, Link};

/// The name of both cores, each in a namespace of its own.
const CORE: &str = "bee";
const SYSTEM: &str = "system";
const VIEW: &str = "view";

/// Most blocks of another writer's trees that are fetched to compare one batch.
const COMPARED_BLOCKS_MAX: usize = 64;

/// The length of a core, and how much of it is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoreLength {
    /// The core.
    pub key: CoreKey,
    /// Number of its blocks.
    pub length: Length,
    /// How many of them its owner has signed. Those behind are signed when a peer wants them, or when the database is
    /// closed.
    pub signed_length: Length,
}

/// The trees of an open database.
pub(super) struct DatabaseTrees<E: Env> {
    pub(super) system: Arc<Core<E>>,
    pub(super) view: Arc<Core<E>>,
    peers: Arc<Peers<E>>,
    trees: Trees,
}

impl<E: Env> DatabaseTrees<E> {
    /// Opens both cores, which are made if need be, and reads where they stand, and from where an engine can go on whose
    /// apply has this version.
    pub(super) async fn open(
        opened: &Opened<E>,
        settings: &Settings,
        apply_version: u64,
    ) -> Result<(Self, TreeRecord, Vec<Checkpoint>), Error> {
        let store = &opened.store;
        let open = async |namespace, encryption_name| -> Result<_, Error> {
            let keys = opened.keys.as_ref();
            let encryption = keys.map(|keys| Encryption::Cipher(Arc::new(keys.tree(encryption_name))));
            let mut options = CoreOptions::name(CORE);
            options.manifest_version = MANIFEST_VERSION;
            options.session.encryption.clone_from(&encryption);
            let core = Arc::new(store.namespace(namespace).get(options).await?);
            let blocks = StoredBlocks::new(store.clone(), encryption).own_are_whole();
            blocks.add(Arc::clone(&core));
            Ok((core, Arc::new(blocks)))
        };
        let (system, system_blocks) = open(SYSTEM, SYSTEM_NAME).await?;
        let (view, view_blocks) = open(VIEW, VIEW).await?;
        let trees = Trees::shaped(
            (end(&view)?, Arc::clone(&view_blocks)),
            (end(&system)?, Arc::clone(&system_blocks)),
            &TreeSettings::new(settings.view_cache_bytes_max).tuned(store.env()),
        );
        let trees = trees.map_err(|error| Error::Internal {
            what: error.to_string(),
        })?;
        for tree in [&trees.system, &trees.view] {
            tree.plant(store.planted());
        }
        let local = opened.local.core();
        let [boot, forks, checkpoints, version, passed_over, trees_from] =
            KEPT_WITH_LOCAL.map(|name| local.user_data(name));
        let record = TreeRecord::new(trees.clone(), boot?, forks?);
        let mut record = record.map_err(|(name, error)| corrupt(local, name, &error))?;
        record.set_apply_version(apply_version, version?.as_ref());
        let passed_over = record.set_passed_over(passed_over?.as_ref());
        passed_over.map_err(|(name, error)| corrupt(local, name, &error))?;
        let trees_from = record.set_trees_from(trees_from?.as_ref());
        trees_from.map_err(|(name, error)| corrupt(local, name, &error))?;
        let is_kept = store.planted().has(Slip::DamagedTreesKept);
        if !is_kept && is_damaged([&system, &view], &trees, &record)? {
            record.distrust_trees();
        } else if store.env().buggify("apply_changed") {
            record.distrust_apply();
        }
        let checkpoints = record.checkpoints(checkpoints?, opened.logs.forks());
        let checkpoints = checkpoints.unwrap_or_else(|| {
            store.env().trace(|| TraceEvent::Failed {
                what: "reading the stored checkpoints".into(),
                why: "they are damaged, or of another version".into(),
            });
            Vec::new()
        });
        // Versions in cores of other peers can only be read once these are open.
        let heads = checkpoints.iter().map(|checkpoint| checkpoint.head);
        let mut heads: Vec<Link> = heads.chain(record.boot()).collect();
        heads.retain(|_| record.passes_over());
        for head in heads {
            let mut last = None;
            while let Err(BeeError::Unavailable { core, index }) = trees.restore(head)
                && last.replace((core, index)) != Some((core, index))
            {
                let fetched = system_blocks.fetch(&core, index, Wait::Local).await;
                if fetched.is_err() || view_blocks.open_core(&core).await.is_err() {
                    break;
                }
            }
            // Older entries and keys are in cores further down, which the order is read from without opening any.
            let Ok(restored) = trees.restore(head) else {
                continue;
            };
            for tree in [&restored.records, &restored.view] {
                for core in cores_of(tree) {
                    if view_blocks.open_core(&core).await.is_err()
                        || system_blocks.open_core(&core).await.is_err()
                    {
                        break;
                    }
                }
            }
        }
        let trees = Self {
            system,
            view,
            peers: Arc::new(Peers {
                env: store.env().clone(),
                view: view_blocks,
                system: system_blocks,
                wait: Wait::For(settings.read_wait()),
                kept: Mutex::default(),
            }),
            trees,
        };
        Ok((trees, record, checkpoints))
    }

    // What there is.

    /// The trees, to be written to.
    pub(super) const fn trees(&self) -> &Trees {
        &self.trees
    }

    /// The system core, the view core, and the head of the system tree, which is `head`.
    pub(super) fn lengths(&self, head: Link) -> Result<[CoreLength; 3], CoreError> {
        let [system, view] = [(&self.system, &self.trees.system), (&self.view, &self.trees.view)].map(
            |(core, tree)| -> Result<CoreLength, CoreError> {
                Ok(CoreLength {
                    key: core.key(),
                    length: tree.length(),
                    signed_length: core.signed_length()?,
                })
            },
        );
        let (system, view) = (system?, view?);
        let current = CoreLength {
            key: head.key,
            length: head.length,
            signed_length: if head.key == system.key {
                system.signed_length.min(head.length)
            } else {
                head.length
            },
        };
        Ok([system, view, current])
    }

    /// Signs the heads of both cores, so that the next opening can show them at once.
    pub(super) fn sign(&self, change: &mut Transaction<'_, '_, E>) -> Result<(), CoreError> {
        change.sign_head(&self.system)?;
        change.sign_head(&self.view)
    }

    // Reading.

    /// Where blocks come from that are still at peers.
    pub(super) fn peers(&self) -> Arc<Peers<E>> {
        Arc::clone(&self.peers)
    }
}

/// Brings blocks of trees that are in cores of other peers.
pub(super) struct Peers<E: Env> {
    env: E,
    view: Arc<StoredBlocks<E>>,
    system: Arc<StoredBlocks<E>>,
    wait: Wait,
    /// Cores that the own trees may stand on.
    kept: Mutex<BTreeSet<CoreKey>>,
}

impl<E: Env> Peers<E> {
    /// Opens a core of another writer's tree.
    pub(super) async fn open(&self, core: &CoreKey) -> Result<(), Error> {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(*core);
        self.view.open_core(core).await?;
        Ok(self.system.open_core(core).await?)
    }

    /// Asks for blocks in front of one of a tree, and for that one, as long as what is given lives.
    pub(super) fn ask_before(
        &self,
        core: &CoreKey,
        Index(index): Index,
        blocks: u64,
    ) -> Result<Option<Download<E>>, Error> {
        let range = Index(index.saturating_sub(blocks))..Index(index + 1);
        Ok(self.view.download(core, range.into())?)
    }

    /// A key of which another writer's view has another value than the own one; none when there is none, or nothing can
    /// be said. Blocks are fetched for it, a bounded number, and not kept.
    pub(super) async fn compare(&self, claim: &ViewClaim) -> Option<Bytes> {
        // Peers are asked for nothing of these cores afterwards, and progress does not count them.
        let is_open = |key: &CoreKey| self.view.has(key) || self.system.has(key);
        let opened: Vec<CoreKey> = claim.cores().into_iter().filter(|key| !is_open(key)).collect();
        let mut fetched = BTreeSet::new();
        let found = loop {
            match claim.compare(Arc::clone(&self.system), Arc::clone(&self.view)) {
                Ok(found) => break found,
                Err(BeeError::Unavailable { core, index })
                    if claim.cores().contains(&core)
                        && fetched.len() < COMPARED_BLOCKS_MAX
                        && fetched.insert((core, index)) =>
                {
                    let is_here = self.view.fetch(&core, index, self.wait).await.is_ok()
                        && self.system.fetch(&core, index, Wait::Local).await.is_ok();
                    if !is_here {
                        break None;
                    }
                }
                Err(_) => break None,
            }
        };
        // A survey may have come to need them.
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (core, index) in fetched.into_iter().filter(|(core, _)| !kept.contains(core)) {
            self.view.forget(&core, index);
        }
        for core in opened.into_iter().filter(|core| !kept.contains(core)) {
            self.view.close(&core);
            self.system.close(&core);
        }
        found
    }
}

impl<E: Env> RemoteBlocks for Peers<E> {
    fn fetch(&self, core: CoreKey, index: Index) -> Fetch<'_> {
        Box::pin(async move {
            self.env.sometimes(Point::ReadWaited, true);
            match self.view.fetch(&core, index, self.wait).await {
                Err(CoreError::Timeout(_) | CoreError::Unavailable(_)) => {
                    return Err(Error::Unavailable { core, index });
                }
                fetched => fetched?,
            }
            // Nobody says which of the two trees is waiting. It is here now.
            Ok(self.system.fetch(&core, index, Wait::Local).await?)
        })
    }

    fn page(&self) -> u64 {
        knob::VIEW_PAGE.of(&self.env, PAGE)
    }
}

impl<E: Env> fmt::Debug for Peers<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view.fmt(f)
    }
}

/// The cores that a version of a tree stands on, as far as the block is here that lists them.
fn cores_of(tree: &TreeSnapshot) -> Vec<CoreKey> {
    let cores = tree.cursor().cores(tree.tree(), tree.head().length);
    cores.unwrap_or_default()
}

fn end<E: Env>(core: &Core<E>) -> Result<Link, CoreError> {
    Ok(Link {
        key: core.key(),
        length: core.length()?,
    })
}

fn corrupt<E: Env>(local: &Core<E>, name: &str, error: &DecodeError) -> Error {
    Error::Corrupt {
        file: "store".into(),
        what: format!("{name} of {}: {error}", local.key()),
    }
}

/// True when a block of the own cores of the trees is damaged: one that the newest version needs is found now, others were
/// dropped when somebody read them.
fn is_damaged<E: Env>(cores: [&Arc<Core<E>>; 2], trees: &Trees, record: &TreeRecord) -> Result<bool, Error> {
    if let Some(boot) = record.boot()
        && let Err(BeeError::Corrupt {
            what: BlockFault::Damaged(_),
            ..
        }) = trees.restore(boot)
    {
        return Ok(true);
    }
    for (core, from) in cores.into_iter().zip(record.trees_from()) {
        let length = core.length()?;
        if from < length && core.peer_access().next_missing(from.0)? < length.0 {
            return Ok(true);
        }
    }
    Ok(false)
}
