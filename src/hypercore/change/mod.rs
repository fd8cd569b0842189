//! Changes of any number of cores that take effect together or not at all.
//!
//! A [`StoreChange`] works under the lock of the store: it checks and signs, changes the lines in memory, collects the
//! records of one [`StoreBatch`], and puts everything back when a later step of it is refused. Only after the commit do
//! others hear of it.
//!
//! Source: spec/hypercore.md 9.

mod named;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;

use super::authority::{Authority, check_prologue, sealed, sign};
use super::cores::{Conflict, OpenCore, OpenCores};
use super::encryption::BlockCipher;
use super::error::CoreError;
use super::event::{Contradiction, CoreEvent};
use super::line::Line;
use super::log::BLOCK_SIZE_MAX;
use super::merkle::MerkleTree;
use super::proof::{Accepted, Head, Rewound};
use super::record::{AuthRecord, GroupRecord, LinesRecord};
use super::staged::Staged;
use crate::crypto::{DiscoveryKey, Sign};
use crate::env::Slip;
use crate::store::{CorePointer, DataPointer, Key, Read as _, Seq, Snapshot, StoreBatch};
use crate::wire::compact::{Encode as _, UINT_MAX};
use crate::wire::{Index, Length};

/// The choice of a line of a core: the main one, or a named one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LineSelector {
    Main,
    Named(String),
}

/// Length and size after an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LengthAndSize {
    /// Number of blocks.
    pub length: Length,
    /// Bytes of all blocks as stored, padding included.
    pub byte_length: u64,
}

/// A notice that goes out after the commit.
#[derive(Debug)]
enum CommitEffect {
    Signed,
    Received,
    Happened(CoreEvent),
}

/// Changes that are being made.
pub(super) struct StoreChange<'a, C> {
    pub(super) cores: &'a mut OpenCores,
    crypto: &'a C,
    snapshot: Box<dyn Snapshot>,
    batch: StoreBatch,
    wall_ms: u64,
    saved: BTreeMap<CorePointer, Option<Saved>>,
    saved_store: (u64, u64),
    effects: Vec<(CorePointer, CommitEffect)>,
    /// Cores that were looked up, and may have been loaded for it.
    found: BTreeSet<CorePointer>,
}

/// A core before the change; none when there was none.
struct Saved {
    auth: AuthRecord,
    lines: LinesRecord,
    main: Line,
    named: BTreeMap<String, Line>,
}

impl<'a, C: Sign> StoreChange<'a, C> {
    pub(super) fn new(
        cores: &'a mut OpenCores,
        crypto: &'a C,
        snapshot: Box<dyn Snapshot>,
        wall_ms: u64,
    ) -> Self {
        Self {
            saved_store: (cores.store.next_core, cores.store.next_data),
            cores,
            crypto,
            snapshot,
            batch: StoreBatch::default(),
            wall_ms,
            saved: BTreeMap::new(),
            effects: Vec::new(),
            found: BTreeSet::new(),
        }
    }

    // Cores and lines.

    /// The core that is called `name` in public.
    pub(super) fn find(&mut self, name: &DiscoveryKey, seq: Seq) -> Result<Option<CorePointer>, CoreError> {
        // What this change made is not in the store yet.
        let made = self.saved.iter().find(|(pointer, saved)| {
            saved.is_none()
                && self
                    .cores
                    .open
                    .get(pointer)
                    .is_some_and(|core| core.discovery_key == *name)
        });
        if let Some((pointer, _)) = made {
            return Ok(Some(*pointer));
        }
        let found = self.cores.find(name, &*self.snapshot, seq)?;
        self.found.extend(found);
        Ok(found)
    }

    /// Makes a core.
    pub(super) fn create(&mut self, auth: AuthRecord) -> Result<CorePointer, CoreError> {
        let pointer = CorePointer(self.cores.store.next_core);
        self.cores.store.next_core += 1;
        let lines = LinesRecord {
            main: self.next_data(),
            named: Vec::new(),
        };
        let mut core = OpenCore::new(auth, lines, self.cores.limits);
        self.batch
            .put(Key::CoreByDiscovery(core.discovery_key), pointer.0.to_bytes()?)
            .put(Key::Auth(pointer), core.auth.to_bytes()?)
            .put(Key::Sessions(pointer), core.lines.to_bytes()?);
        if !self.cores.planted.has(Slip::PointerReused) {
            self.batch.put(Key::StoreHead, self.cores.store.to_bytes()?);
        }
        core.main.write_head(&mut self.batch)?;
        self.saved.insert(pointer, None);
        self.cores.open.insert(pointer, core);
        Ok(pointer)
    }

    /// Records who a core is, after `edit`.
    pub(super) fn edit_auth(
        &mut self,
        pointer: CorePointer,
        edit: impl FnOnce(&mut AuthRecord) -> Result<(), CoreError>,
    ) -> Result<(), CoreError> {
        self.save(pointer)?;
        let core = self.cores.get_mut(pointer)?;
        let knew_manifest = core.auth.manifest.is_some();
        edit(&mut core.auth)?;
        let is_learnt = !knew_manifest && core.auth.manifest.is_some();
        self.batch.put(Key::Auth(pointer), core.auth.to_bytes()?);
        if is_learnt {
            self.happened(pointer, CoreEvent::Manifest);
        }
        Ok(())
    }

    /// Ends all sessions of a core: its owner signed two logs of one length at one fork. The first time is kept.
    pub(super) fn contradicted(
        &mut self,
        pointer: CorePointer,
        length: Length,
        fork: u64,
        other: Option<Bytes>,
    ) -> Result<(), CoreError> {
        // Whatever is stored up to this length belongs to the log that is here, also behind holes.
        let blocks = Length(self.cores.get(pointer)?.main.head.tree.length());
        let forgets = self.cores.planted.has(Slip::ContradictionForgotten);
        self.edit_auth(pointer, |auth| {
            if forgets {
                return Ok(());
            }
            auth.contradiction
                .get_or_insert(Contradiction { length, fork, blocks });
            auth.other_history = auth.other_history.take().or(other);
            Ok(())
        })?;
        self.happened(pointer, CoreEvent::Conflict { length, fork });
        Ok(())
    }

    // Blocks.

    /// Appends blocks, encrypted if there is a cipher. No blocks: nothing happens.
    pub(super) fn append(
        &mut self,
        pointer: CorePointer,
        place: &LineSelector,
        blocks: Vec<Bytes>,
        cipher: Option<&dyn BlockCipher>,
        authority: &Authority,
    ) -> Result<LengthAndSize, CoreError> {
        self.save(pointer)?;
        let fork = self.cores.get(pointer)?.main.head.tree.fork();
        let planted = self.cores.planted;
        let line = self.line(pointer, place)?;
        if blocks.is_empty() {
            return Ok(LengthAndSize::of(&line.head.tree));
        }
        let start = line.head.tree.length();
        let blocks = match cipher {
            Some(cipher) if planted.has(Slip::BatchNonce) => {
                let one = |block| sealed(cipher, start, fork, std::slice::from_ref(block));
                blocks.iter().map(one).collect::<Result<Vec<_>, _>>()?.concat()
            }
            Some(cipher) => sealed(cipher, start, fork, &blocks)?,
            None => blocks,
        };
        if let Some(block) = blocks.iter().find(|block| block.len() > BLOCK_SIZE_MAX) {
            return Err(CoreError::BlockTooLarge(block.len()));
        }
        let (tree, added) = line.grown(&blocks);
        let signature = match place {
            LineSelector::Named(_) => None,
            LineSelector::Main => {
                let core = self.cores.get(pointer)?;
                check_prologue(core, &blocks, &tree)?;
                let signs = core
                    .manifest()
                    .is_none_or(|manifest| !manifest.signers().is_empty());
                if authority.is_deferred && signs {
                    None
                } else {
                    sign(self.crypto, core, &tree, authority)?
                }
            }
        };
        let head = Head { tree, signature };
        let appended = LengthAndSize::of(&head.tree);
        let line = line_mut(self.cores, pointer, place)?;
        let kept = line.hint().filter(|_| planted.has(Slip::HintOutlives));
        line.grow(blocks, &added, head, &mut self.batch)?;
        if let Some(kept) = kept {
            self.batch.put(Key::Hints(line.data), kept.to_bytes()?);
        }
        self.changed(
            pointer,
            place,
            CoreEvent::Append {
                length: appended.length,
            },
        )?;
        Ok(appended)
    }

    /// Signs the head of the main line if that was put off.
    pub(super) fn sign_main(&mut self, pointer: CorePointer, authority: &Authority) -> Result<(), CoreError> {
        if !self.cores.get(pointer)?.is_unsigned() {
            return Ok(());
        }
        self.save(pointer)?;
        let core = self.cores.get_mut(pointer)?;
        let signature = sign(self.crypto, core, &core.main.head.tree, authority)?;
        core.main.head.signature = signature;
        core.main.write_head(&mut self.batch)?;
        self.effects.push((pointer, CommitEffect::Signed));
        Ok(())
    }

    /// Cuts a line to `length` blocks.
    pub(super) fn truncate(
        &mut self,
        pointer: CorePointer,
        place: &LineSelector,
        length: u64,
        fork: Option<u64>,
        authority: &Authority,
    ) -> Result<(), CoreError> {
        self.save(pointer)?;
        self.line(pointer, place)?;
        let view = Staged::new(&self.snapshot, &self.batch);
        let core = self.cores.get_mut(pointer)?;
        let line = match place {
            LineSelector::Main => &core.main,
            LineSelector::Named(name) => core.named.get(name).ok_or(CoreError::Unknown)?,
        };
        let fork = fork.unwrap_or_else(|| line.head.tree.fork().saturating_add(1));
        let tree = line.head.tree.truncated(length, fork, &line.nodes(&view))?;
        let mut batch = StoreBatch::default();
        let signature = match place {
            LineSelector::Named(_) => None,
            LineSelector::Main => {
                if length < core.prologue_length() {
                    return Err(CoreError::Prologue(core.prologue_length()));
                }
                let signature = sign(self.crypto, core, &tree, authority)?;
                // Sessions that share what is cut off take it over first.
                for (name, _) in core.lines.named.clone() {
                    let main = core.main.clone();
                    if let Some(line) = core.named_line(&name, &view)? {
                        line.detach(&main, length, &view, &mut batch)?;
                    }
                }
                signature
            }
        };
        let line = line_mut(self.cores, pointer, place)?;
        line.shrink(Head { tree, signature }, &mut batch)?;
        self.batch.append(batch);
        self.changed(
            pointer,
            place,
            CoreEvent::Truncate {
                ancestors: Length(length),
                fork,
            },
        )
    }

    /// Drops blocks of a line.
    pub(super) fn clear(
        &mut self,
        pointer: CorePointer,
        place: &LineSelector,
        range: Range<u64>,
    ) -> Result<(), CoreError> {
        self.save(pointer)?;
        self.line(pointer, place)?;
        let line = line_mut(self.cores, pointer, place)?;
        let cleared = line.clear(range, &mut self.batch)?;
        let is_told = !self.cores.planted.has(Slip::DropUntold);
        if *place == LineSelector::Main && !cleared.is_empty() && is_told {
            self.happened(
                pointer,
                CoreEvent::Clear {
                    start: Index(cleared.start),
                    end: Index(cleared.end),
                },
            );
        }
        Ok(())
    }

    // From peers. Everything was checked before, so nothing here is refused.

    /// Stores what a checked proof brings.
    pub(super) fn accept(&mut self, pointer: CorePointer, mut accepted: Accepted) -> Result<(), CoreError> {
        self.save(pointer)?;
        if self.cores.planted.has(Slip::ManifestUnwritten)
            && let Some(manifest) = accepted.manifest.take()
        {
            self.cores.get_mut(pointer)?.auth.manifest = Some(manifest);
            self.happened(pointer, CoreEvent::Manifest);
        }
        if let Some(manifest) = accepted.manifest.take() {
            self.edit_auth(pointer, |auth| {
                auth.manifest = Some(manifest);
                Ok(())
            })?;
        }
        let block = accepted.block.as_ref().map(|(index, _)| *index);
        let length = accepted.head.as_ref().map(|head| head.tree.length());
        let planted = self.cores.planted;
        let is_hole_counted = planted.has(Slip::HoleCounted);
        let core = self.cores.get_mut(pointer)?;
        let hole = core.main.blocks.contiguous_length();
        if is_hole_counted && block == Some(hole + 1) {
            core.main.blocks.set(hole..hole + 1);
        }
        core.main.accept(accepted, &mut self.batch, planted)?;
        if let Some(index) = block {
            self.happened(pointer, CoreEvent::Download { index: Index(index) });
        }
        if let Some(length) = length {
            if !self.cores.planted.has(Slip::ReceivedUnoffered) {
                self.effects.push((pointer, CommitEffect::Received));
            }
            self.happened(
                pointer,
                CoreEvent::Append {
                    length: Length(length),
                },
            );
            self.note_group(pointer)?;
        }
        Ok(())
    }

    /// Moves a core to another fork. False, and nothing done, when it changed meanwhile.
    pub(super) fn rewind(&mut self, pointer: CorePointer, mut rewound: Rewound) -> Result<bool, CoreError> {
        self.save(pointer)?;
        let core = self.cores.get(pointer)?;
        let tree = &core.main.head.tree;
        if tree.length() != rewound.old_length || tree.fork() != rewound.old_fork {
            return Ok(false);
        }
        if let Some(manifest) = rewound.manifest.take() {
            self.edit_auth(pointer, |auth| {
                auth.manifest = Some(manifest);
                Ok(())
            })?;
        }
        let event = CoreEvent::Truncate {
            ancestors: Length(rewound.ancestors),
            fork: rewound.head.tree.fork(),
        };
        let view = Staged::new(&self.snapshot, &self.batch);
        let mut batch = StoreBatch::default();
        let planted = self.cores.planted;
        let core = self.cores.get_mut(pointer)?;
        for (name, _) in core.lines.named.clone() {
            let main = core.main.clone();
            if let Some(line) = core.named_line(&name, &view)? {
                line.detach(&main, rewound.ancestors, &view, &mut batch)?;
            }
        }
        let old = core.main.head.tree.length();
        let ancestors = rewound.ancestors;
        core.main.rewind(rewound, &view, &mut batch, planted)?;
        if self.cores.planted.has(Slip::MovedBitsKept)
            && let Some(core) = self.cores.open.get_mut(&pointer)
        {
            core.main.blocks.set(ancestors..old);
        }
        self.batch.append(batch);
        self.effects.push((pointer, CommitEffect::Received));
        self.happened(pointer, event);
        self.note_group(pointer)?;
        Ok(true)
    }

    // Values.

    /// Keeps a value with a line; none removes it.
    pub(super) fn set_user_data(
        &mut self,
        pointer: CorePointer,
        place: &LineSelector,
        key: Bytes,
        value: Option<Bytes>,
    ) -> Result<(), CoreError> {
        let data = self.line(pointer, place)?.data;
        let key = Key::UserData(data, key);
        let view = Staged::new(&self.snapshot, &self.batch);
        if view.get(&key)? == value {
            return Ok(());
        }
        match value {
            Some(value) => self.batch.put(key, value),
            None => self.batch.delete(key),
        };
        Ok(())
    }

    /// Any other record.
    pub(super) fn put(&mut self, key: Key, value: impl Into<Bytes>) {
        self.batch.put(key, value);
    }

    // The end.

    /// The state before the change, with what it did so far.
    pub(super) fn view(&self) -> Staged<'_> {
        Staged::new(&self.snapshot, &self.batch)
    }

    /// True when there is nothing to commit.
    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.effects.is_empty()
    }

    /// What to commit.
    pub(super) const fn batch(&self) -> &StoreBatch {
        &self.batch
    }

    /// The cores that this change looked up or made. Those that got no session need not stay in memory.
    pub(super) fn touched(&self) -> BTreeSet<CorePointer> {
        let made = self.saved.iter().filter(|(_, saved)| saved.is_none());
        made.map(|(pointer, _)| *pointer)
            .chain(self.found.iter().copied())
            .collect()
    }

    /// Tells everybody, after the commit. Gives the groups that moved.
    pub(super) fn publish(self, seq: Seq) -> Vec<(CorePointer, [u8; 32])> {
        let mut groups = Vec::new();
        let mut changed = BTreeSet::new();
        for (pointer, effect) in self.effects {
            let Some(core) = self.cores.open.get_mut(&pointer) else {
                continue;
            };
            match effect {
                CommitEffect::Signed
                    if core.offer.is_full() && self.cores.planted.has(Slip::NewestHeadDropped) => {}
                CommitEffect::Signed
                    if core.offer.is_full() && self.cores.planted.has(Slip::NewestHeadEarly) =>
                {
                    core.offer.replace_last(core.main.head.clone());
                }
                CommitEffect::Signed => core.offer.signed_here(core.main.head.clone(), seq),
                CommitEffect::Received => core.offer.received(core.main.head.clone()),
                CommitEffect::Happened(event) => {
                    if let CoreEvent::Conflict { length, fork } = event {
                        core.conflict = Some(Conflict {
                            length,
                            fork,
                            sessions: self.cores.next_session,
                        });
                    }
                    if let CoreEvent::Truncate { ancestors, .. } = event {
                        for length in core.compatible.values_mut() {
                            *length = ancestors.0.min(*length);
                        }
                    }
                    let is_untold = matches!(event, CoreEvent::Download { .. })
                        && self.cores.planted.has(Slip::DownloadUntold);
                    // Nobody listening is fine.
                    let _ = core.events.send(event);
                    if !is_untold {
                        changed.insert(pointer);
                    }
                    continue;
                }
            }
            groups.extend(core.auth.group.map(|topic| (pointer, topic)));
        }
        // Once for all events: who waits looks at the core itself.
        for pointer in changed {
            if let Some(core) = self.cores.open.get(&pointer) {
                core.bump();
            }
        }
        groups
    }

    /// Puts everything back.
    pub(super) fn undo(self) {
        (self.cores.store.next_core, self.cores.store.next_data) = self.saved_store;
        for (pointer, saved) in self.saved {
            match (saved, self.cores.open.get_mut(&pointer)) {
                (Some(saved), Some(core)) => {
                    core.auth = saved.auth;
                    core.lines = saved.lines;
                    core.main = saved.main;
                    core.named = saved.named;
                }
                (None, Some(_)) => {
                    self.cores.open.remove(&pointer);
                }
                (_, None) => {}
            }
        }
    }

    /// The line, loaded if it is a named one.
    fn line(&mut self, pointer: CorePointer, place: &LineSelector) -> Result<&Line, CoreError> {
        let core = self.cores.get_mut(pointer)?;
        match place {
            LineSelector::Main => Ok(&core.main),
            LineSelector::Named(name) => {
                let view = Staged::new(&self.snapshot, &self.batch);
                core.named_line(name, &view)?
                    .map(|line| &*line)
                    .ok_or(CoreError::Unknown)
            }
        }
    }

    fn save(&mut self, pointer: CorePointer) -> Result<(), CoreError> {
        if !self.saved.contains_key(&pointer) {
            let core = self.cores.get(pointer)?;
            let saved = Saved {
                auth: core.auth.clone(),
                lines: core.lines.clone(),
                main: core.main.clone(),
                named: core.named.clone(),
            };
            self.saved.insert(pointer, Some(saved));
        }
        Ok(())
    }

    fn next_data(&mut self) -> DataPointer {
        let data = DataPointer(self.cores.store.next_data);
        self.cores.store.next_data += 1;
        data
    }

    fn changed(
        &mut self,
        pointer: CorePointer,
        place: &LineSelector,
        event: CoreEvent,
    ) -> Result<(), CoreError> {
        if *place == LineSelector::Main {
            if !self.cores.get(pointer)?.is_unsigned() {
                self.effects.push((pointer, CommitEffect::Signed));
            }
            self.happened(pointer, event);
            self.note_group(pointer)?;
        }
        Ok(())
    }

    fn happened(&mut self, pointer: CorePointer, event: CoreEvent) {
        self.effects.push((pointer, CommitEffect::Happened(event)));
    }

    /// Whoever follows the group of the core finds it in front.
    fn note_group(&mut self, pointer: CorePointer) -> Result<(), CoreError> {
        let core = self.cores.get(pointer)?;
        if let Some(topic) = core.auth.group {
            let tree = &core.main.head.tree;
            let record = GroupRecord {
                timestamp: self.wall_ms.min(UINT_MAX),
                length: tree.length(),
                fork: tree.fork(),
            };
            self.batch
                .put(group_key(&topic, core.key().as_bytes()), record.to_bytes()?);
        }
        Ok(())
    }
}

impl LengthAndSize {
    fn of(tree: &MerkleTree) -> Self {
        Self {
            length: Length(tree.length()),
            byte_length: tree.byte_length(),
        }
    }
}

/// Where the last update of a core in a group stands.
pub(super) fn group_key(topic: &[u8; 32], core: &[u8]) -> Key {
    Key::Ext([b"group", &topic[..], core].concat().into())
}

fn line_mut<'a>(
    cores: &'a mut OpenCores,
    pointer: CorePointer,
    place: &LineSelector,
) -> Result<&'a mut Line, CoreError> {
    let core = cores.get_mut(pointer)?;
    match place {
        LineSelector::Main => Ok(&mut core.main),
        LineSelector::Named(name) => core.named.get_mut(name).ok_or(CoreError::Unknown),
    }
}
