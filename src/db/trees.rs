//! The trees of a database in cores of its store, and the record that says where they stand.
//!
//! What was applied is written in one commit: the new blocks of both trees, and the head of the system tree, from which
//! all the rest can be read. It is derived from the logs of the writers and comes after them, so a crash leaves a
//! state that these logs lead to, and what was lost is applied again. Nothing waits for its sync.
//!
//! Source: spec/autobee.md 3.1, 3.2, 3.6.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::Settings;
use super::cores::{DatabaseCores, MANIFEST_VERSION};
use super::view::{Fetch, Source};
use crate::bee::StoredBlocks;
use crate::crypto::{CoreKey, Verify, hash};
use crate::engine::encryption::SYSTEM_NAME;
use crate::engine::{Checkpoint, Engine, TreeSettings, Trees};
use crate::env::{Env, Point, Slip};
use crate::error::Error;
use crate::hypercore::{Core, CoreError, CoreOptions, Encryption, Transaction, Wait};
use crate::wire::{Decode as _, DecodeError, Decoder, Encode, EncodeError, Encoder, Index, Length, Link};

/// Where the head of the system tree is kept: with the core of the local writer.
const BOOT: &str = "autobee/head";

/// Which forks of the writers' cores led there, kept in the same place: a name of our own. What was applied is taken up
/// again only if nobody rewrote his log since.
const FORKS: &str = "autobee/forks";

/// From where the order can be taken up without what came before, newest first, behind a hash of it all, kept in the
/// same place: a name of our own.
const CHECKPOINTS: &str = "autobee/checkpoints";

/// The name of both cores, each in a namespace of its own.
const CORE: &str = "bee";
const SYSTEM: &str = "system";
const VIEW: &str = "view";

/// Where a core stands.
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
    system: Arc<Core<E>>,
    view: Arc<Core<E>>,
    peers: Arc<Peers<E>>,
    trees: Trees,
    /// What the store says about where they stand.
    record: Record,
    /// It says something that cannot be so: to be erased before anything is written that could be taken for it.
    is_void: bool,
    /// The length of the view at the last commit; for [`Slip::SystemBeforeView`].
    viewed: Length,
}

/// Where the trees stand, and what that rests on.
#[derive(Debug, Clone, Default)]
struct Record {
    /// The head of the system tree.
    boot: Option<Link>,
    /// The forks of the logs that led there.
    forks: BTreeMap<CoreKey, u64>,
    /// Which checkpoints there are, by [`Engine::moves`]; none when they are of an earlier opening.
    moves: Option<u64>,
}

/// What one commit stores.
#[derive(Debug)]
pub(super) struct Saved {
    system: u64,
    view: u64,
    record: Option<Record>,
}

impl<E: Env> DatabaseTrees<E> {
    /// Opens both cores, which are made if need be.
    pub(super) async fn open(cores: &DatabaseCores<E>, settings: &Settings) -> Result<Self, Error> {
        let store = cores.store();
        let open = async |namespace, encryption_name| -> Result<_, Error> {
            let keys = cores.encryption();
            let encryption = keys.map(|keys| Encryption::Cipher(Arc::new(keys.view(encryption_name))));
            let mut options = CoreOptions::name(CORE);
            options.manifest_version = MANIFEST_VERSION;
            options.session.encryption.clone_from(&encryption);
            let core = Arc::new(store.namespace(namespace).get(options).await?);
            let blocks = StoredBlocks::new(store.clone(), encryption);
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
        Ok(Self {
            record: Record {
                boot: boot_of(cores.local_core()?)?,
                forks: forks_of(cores.local_core()?)?,
                moves: None,
            },
            is_void: false,
            viewed: end(&view)?.length,
            system,
            view,
            peers: Arc::new(Peers {
                env: store.env().clone(),
                view: view_blocks,
                system: system_blocks,
                wait: Wait::For(settings.read_wait()),
            }),
            trees,
        })
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
                    signed_length: Length(core.signed_length()?),
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

    /// From where an engine can go on, newest first. Nowhere when a log was rewritten since.
    pub(super) fn checkpoints(&self, cores: &DatabaseCores<E>) -> Result<Vec<Checkpoint>, Error> {
        if self.record.forks != *cores.forks() {
            return Ok(Vec::new());
        }
        let Some(bytes) = cores.local_core()?.user_data(CHECKPOINTS)? else {
            return Ok(Vec::new());
        };
        // Of another version of this software, or damaged: then everything is ordered from the start.
        Ok(decode_checkpoints(&bytes).unwrap_or_default())
    }

    /// Tells an engine what was applied before. What cannot be read is applied anew, and written behind the end.
    /// `is_as_stored` when it goes on from the newest checkpoint that the store has.
    pub(super) fn take_up<V: Verify>(
        &mut self,
        engine: &mut Engine<V>,
        cores: &DatabaseCores<E>,
        is_as_stored: bool,
    ) {
        if self.record.forks == *cores.forks() {
            if let Some(boot) = self.record.boot {
                self.is_void = engine.take_up(boot).is_err();
            }
            self.record.moves = is_as_stored.then(|| engine.moves());
        }
        self.is_void |= !is_as_stored;
        if self.is_void {
            self.record.boot = None;
        }
    }

    /// True when what the store says of them cannot be gone on from.
    pub(super) const fn is_void(&self) -> bool {
        self.is_void
    }

    // Storing.

    /// True when the store does not have all blocks, or has another head than this.
    pub(super) fn has_news<V: Verify>(&self, cores: &DatabaseCores<E>, engine: &Engine<V>) -> bool {
        let has_blocks = self.trees.system.kept() > 0 || self.trees.view.kept() > 0;
        has_blocks || (engine.is_settled() && self.is_elsewhere(cores, engine))
    }

    fn is_elsewhere<V: Verify>(&self, cores: &DatabaseCores<E>, engine: &Engine<V>) -> bool {
        let head = engine.records().head();
        let has_moved = match self.record.boot {
            Some(boot) => boot != head,
            None => head.length > Length::ZERO,
        };
        has_moved || self.record.forks != *cores.forks() || self.record.moves != Some(engine.moves())
    }

    /// Writes what is new, and where the system tree stands. Give the result to [`DatabaseTrees::saved`] once the change
    /// is committed.
    ///
    /// The logs that led there must be in the store already, or come with the same change. While the engine is on its way
    /// from an earlier place, what the store says stays: it leads to the same end, and is not behind it.
    pub(super) fn save<V: Verify>(
        &self,
        change: &mut Transaction<'_, '_, E>,
        cores: &DatabaseCores<E>,
        engine: &mut Engine<V>,
    ) -> Result<Saved, CoreError> {
        let local = cores.local_core()?;
        let mut saved = Saved {
            system: change.append_unsigned(&self.system, self.trees.system.unsaved())?,
            view: change.append_unsigned(&self.view, self.unsaved_view(cores))?,
            record: None,
        };
        if self.is_void {
            for name in [BOOT, CHECKPOINTS] {
                change.set_user_data(local, name, None)?;
            }
            saved.record = Some(Record {
                moves: None,
                ..self.record.clone()
            });
        }
        if !engine.is_settled() {
            return Ok(saved);
        }
        let record = Record {
            boot: Some(engine.records().head()),
            forks: cores.forks().clone(),
            moves: Some(engine.moves()),
        };
        if record.forks != self.record.forks {
            change.set_user_data(local, FORKS, Some(encode_forks(&record.forks)?))?;
        }
        if record.moves != self.record.moves {
            let checkpoints = encode_checkpoints(engine.checkpoints())?;
            change.set_user_data(local, CHECKPOINTS, checkpoints)?;
        }
        if record.boot != self.record.boot {
            let boot = engine.records().head().to_bytes().map_err(unwritable)?;
            change.set_user_data(local, BOOT, Some(boot.into()))?;
        }
        saved.record = Some(record);
        Ok(saved)
    }

    fn unsaved_view(&self, cores: &DatabaseCores<E>) -> Vec<Bytes> {
        let mut blocks = self.trees.view.unsaved();
        if cores.store().planted().has(Slip::SystemBeforeView) {
            let new = self.trees.view.length().0.saturating_sub(self.viewed.0);
            let due = blocks.len() as u64 - new.min(blocks.len() as u64);
            blocks.truncate(usize::try_from(due).unwrap_or(usize::MAX));
        }
        blocks
    }

    /// Takes note of a commit.
    pub(super) fn saved(&mut self, saved: Saved) {
        let Saved { system, view, record } = saved;
        self.trees.system.saved(Length(system));
        self.trees.view.saved(Length(view));
        self.viewed = self.trees.view.length();
        if let Some(record) = record {
            self.record = record;
            self.is_void = false;
        }
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
}

impl<E: Env> Source for Peers<E> {
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
}

impl<E: Env> fmt::Debug for Peers<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view.fmt(f)
    }
}

fn end<E: Env>(core: &Core<E>) -> Result<Link, CoreError> {
    Ok(Link {
        key: core.key(),
        length: Length(core.length()?),
    })
}

/// The head of the system tree that the store has.
fn boot_of<E: Env>(local: &Core<E>) -> Result<Option<Link>, Error> {
    let boot = local.user_data(BOOT)?;
    boot.map(|bytes| Link::from_bytes(&bytes).map_err(|error| corrupt(local, BOOT, &error)))
        .transpose()
}

/// The forks that the store has.
fn forks_of<E: Env>(local: &Core<E>) -> Result<BTreeMap<CoreKey, u64>, Error> {
    let Some(bytes) = local.user_data(FORKS)? else {
        return Ok(BTreeMap::new());
    };
    let mut from = Decoder::new(&bytes);
    let forks = from.array(|from| Ok((CoreKey::decode(from)?, from.uint()?)));
    let forks = forks.map_err(|error| corrupt(local, FORKS, &error))?;
    Ok(forks.into_iter().collect())
}

fn encode_forks(forks: &BTreeMap<CoreKey, u64>) -> Result<Bytes, CoreError> {
    struct Forks(Vec<(CoreKey, u64)>);
    impl Encode for Forks {
        fn encode(&self, to: &mut Encoder) {
            to.array(&self.0, |(key, fork), to| {
                key.encode(to);
                to.uint(*fork);
            });
        }
    }
    let forks = Forks(forks.iter().map(|(key, fork)| (*key, *fork)).collect());
    Ok(forks.to_bytes().map_err(unwritable)?.into())
}

/// None when there are none.
fn encode_checkpoints(checkpoints: Vec<Checkpoint>) -> Result<Option<Bytes>, CoreError> {
    struct Checkpoints(Vec<Checkpoint>);
    impl Encode for Checkpoints {
        fn encode(&self, to: &mut Encoder) {
            to.array(&self.0, |checkpoint, to| checkpoint.encode(to));
        }
    }
    if checkpoints.is_empty() {
        return Ok(None);
    }
    let bytes = Checkpoints(checkpoints).to_bytes().map_err(unwritable)?;
    let sum = *hash(&[&bytes]).as_bytes();
    Ok(Some([&sum, bytes.as_slice()].concat().into()))
}

/// None when they are not what was written: a place that is a little wrong could not be told from one that is right.
fn decode_checkpoints(bytes: &[u8]) -> Option<Vec<Checkpoint>> {
    let (sum, bytes) = bytes.split_first_chunk()?;
    if hash(&[bytes]).as_bytes() != sum {
        return None;
    }
    Decoder::new(bytes).array(Checkpoint::decode).ok()
}

fn unwritable(error: EncodeError) -> CoreError {
    CoreError::Record(error.into())
}

fn corrupt<E: Env>(local: &Core<E>, name: &str, error: &DecodeError) -> Error {
    Error::Corrupt {
        file: "store".into(),
        what: format!("{name} of {}: {error}", local.key()),
    }
}
