//! The cores of a store that are open, and how they are found, made and loaded.
//!
//! All of it lives under one lock, so that a change of many cores is one step for everybody.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{ControlFlow, Range};

use bytes::Bytes;
use tokio::sync::broadcast;

use super::error::CoreError;
use super::event::CoreEvent;
use super::line::Line;
use super::manifest::Manifest;
use super::offered_heads::OfferedHeads;
use super::record::{AuthRecord, LinesRecord, RecordError, StoreRecord};
use crate::crypto::{self, CoreKey, DiscoveryKey};
use crate::env::{Planted, Slip, watch};
use crate::store::{CorePointer, Key, Read, Seq};
use crate::wire::compact::Decode as _;
use crate::wire::{Index, Length};

/// All open cores.
#[derive(Debug)]
pub(super) struct OpenCores {
    pub(super) store: StoreRecord,
    pub(super) open: BTreeMap<CorePointer, OpenCore>,
    pub(super) next_session: u64,
    pub(super) limits: CoreLimits,
    /// Counts cores that got their first session, were let go, or are wanted again after a peer left their channel.
    pub(super) openings: watch::Sender<u64>,
    /// Counts cores that were let go.
    pub(super) let_go: u64,
    /// Some peer left the channel of some core.
    pub(super) is_parted: bool,
    pub(super) is_closed: bool,
    /// After a failed commit memory and store may differ.
    pub(super) is_fenced: bool,
    pub(super) planted: Planted,
}

/// What is held for each open core, at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct CoreLimits {
    /// Events that a listener may have before it.
    pub(super) backlog: usize,
    /// Own heads that wait for a sync.
    pub(super) heads_waiting: usize,
}

/// One open core.
#[derive(Debug)]
pub(super) struct OpenCore {
    pub(super) discovery_key: DiscoveryKey,
    pub(super) auth: AuthRecord,
    pub(super) lines: LinesRecord,
    pub(super) main: Line,
    /// Named lines that a session uses.
    pub(super) named: BTreeMap<String, Line>,
    pub(super) offer: OfferedHeads,
    pub(super) sessions: BTreeSet<u64>,
    /// Those that only serve peers.
    pub(super) serving: BTreeSet<u64>,
    /// How often the last session went that used the core, while peers were served.
    pub(super) let_go: u64,
    /// Exclusive sessions, the one in front holds the core.
    pub(super) exclusive: VecDeque<u64>,
    pub(super) demand: Demand,
    /// Counts changes; whoever waits for a block looks again.
    pub(super) changes: watch::Sender<u64>,
    /// Counts changes of what is wanted; whoever fetches looks again.
    pub(super) wishes: watch::Sender<u64>,
    /// For each snapshot how many leading blocks the main line still shares with it.
    pub(super) compatible: BTreeMap<u64, u64>,
    pub(super) events: broadcast::Sender<CoreEvent>,
    /// Two signatures of the owner contradict each other, as a peer showed since the core was opened.
    pub(super) conflict: Option<Conflict>,
    /// An own core that peers may have more of, see [`super::Core::follow_own`].
    pub(super) is_followed: bool,
}

/// A contradiction of a core's owner that a peer showed, and whom it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Conflict {
    /// The length at which two signatures contradict each other.
    pub(super) length: Length,
    /// The fork at which they do.
    pub(super) fork: u64,
    /// Sessions with numbers below this one ended with it. Later ones know what they open, as it is kept with the core, and
    /// go on.
    pub(super) sessions: u64,
}

/// The demand of a core: the blocks and ranges that its sessions wait for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demand {
    /// Blocks, and how many wait for each.
    pub blocks: BTreeMap<u64, usize>,
    /// Ranges to download, by the number of the download. Those with no end grow with the core.
    pub ranges: BTreeMap<u64, DownloadRange>,
    /// The most bytes of a block of some of these ranges; larger ones are not fetched. Of the others any is.
    pub block_bytes_max: BTreeMap<u64, u64>,
}

/// Blocks to download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownloadRange {
    /// First block.
    pub start: Index,
    /// First block after; none for whatever the core will have.
    pub end: Option<Index>,
    /// True when blocks shall come in order.
    pub is_linear: bool,
}

impl DownloadRange {
    /// All blocks that the core has or will have, whichever comes first.
    pub const ALL: Self = Self {
        start: Index(0),
        end: None,
        is_linear: false,
    };

    /// The first block, and the first one behind the range.
    pub(crate) fn bounds(&self) -> (u64, Option<u64>) {
        (self.start.0, self.end.map(|end| end.0))
    }

    /// The same blocks, in order.
    #[must_use]
    pub const fn in_order(self) -> Self {
        Self {
            is_linear: true,
            ..self
        }
    }
}

impl From<Range<Index>> for DownloadRange {
    fn from(blocks: Range<Index>) -> Self {
        Self {
            start: blocks.start,
            end: Some(blocks.end),
            is_linear: false,
        }
    }
}

impl OpenCores {
    /// The core that is called `name` in public, loaded if it is stored.
    pub(super) fn find(
        &mut self,
        name: &DiscoveryKey,
        read: &dyn Read,
        seq: Seq,
    ) -> Result<Option<CorePointer>, CoreError> {
        let Some(bytes) = read.get(&Key::CoreByDiscovery(*name))? else {
            return Ok(None);
        };
        let pointer = CorePointer(u64::from_bytes(&bytes)?);
        if let Entry::Vacant(place) = self.open.entry(pointer) {
            place.insert(OpenCore::load(pointer, read, seq, self.limits)?);
        }
        Ok(Some(pointer))
    }

    /// Lets go of cores that nobody uses; what is stored of them stays.
    pub(super) fn release_unused(&mut self, pointers: impl IntoIterator<Item = CorePointer>) {
        for pointer in pointers {
            if let Entry::Occupied(core) = self.open.entry(pointer)
                && core.get().sessions.is_empty()
            {
                core.remove();
            }
        }
    }

    /// Something is wanted of a core. Peers that left its channel have to be asked again.
    pub(super) fn want(
        &mut self,
        pointer: CorePointer,
        register: impl FnOnce(&mut Demand),
    ) -> Result<(), CoreError> {
        let core = self.get_mut(pointer)?;
        let is_first = core.demand == Demand::default();
        register(&mut core.demand);
        core.demand_changed();
        if is_first && self.is_parted && !self.planted.has(Slip::WantedUntold) {
            self.openings.send_modify(|count| *count = count.wrapping_add(1));
        }
        Ok(())
    }

    pub(super) fn get(&self, pointer: CorePointer) -> Result<&OpenCore, CoreError> {
        self.open.get(&pointer).ok_or(CoreError::Closed)
    }

    pub(super) fn get_mut(&mut self, pointer: CorePointer) -> Result<&mut OpenCore, CoreError> {
        self.open.get_mut(&pointer).ok_or(CoreError::Closed)
    }
}

impl OpenCore {
    /// A core that was just made.
    pub(super) fn new(auth: AuthRecord, lines: LinesRecord, limits: CoreLimits) -> Self {
        let main = Line::empty(lines.main);
        Self {
            discovery_key: crypto::discovery_key(&auth.key),
            auth,
            lines,
            main,
            named: BTreeMap::new(),
            offer: OfferedHeads::new(limits.heads_waiting),
            sessions: BTreeSet::new(),
            serving: BTreeSet::new(),
            let_go: 0,
            exclusive: VecDeque::new(),
            demand: Demand::default(),
            changes: watch::Sender::new(0),
            wishes: watch::Sender::new(0),
            compatible: BTreeMap::new(),
            events: broadcast::Sender::new(limits.backlog),
            conflict: None,
            is_followed: false,
        }
    }

    /// True when a session does more than serve peers.
    pub(super) fn is_used(&self) -> bool {
        self.sessions.len() > self.serving.len()
    }

    fn load(pointer: CorePointer, read: &dyn Read, seq: Seq, limits: CoreLimits) -> Result<Self, CoreError> {
        let required = |key| {
            read.get(&key)?.ok_or(CoreError::Record(RecordError::Inconsistent(
                "a core without its records",
            )))
        };
        let auth = AuthRecord::from_bytes(&required(Key::Auth(pointer))?)?;
        let lines = LinesRecord::from_bytes(&required(Key::Sessions(pointer))?)?;
        let main = lines.main;
        let mut core = Self::new(auth, lines, limits);
        core.main = Line::load(main, read)?.ok_or(RecordError::Inconsistent("a core without its head"))?;
        // What was read may not be durable yet: an own head is shown when everything up to this commit is.
        if core.is_unsigned() {
            // Nothing is shown of it before it is signed.
        } else if core.is_own() {
            core.offer.signed_here(core.main.head.clone(), seq);
        } else {
            core.offer.received(core.main.head.clone());
        }
        Ok(core)
    }

    /// True when heads of this core are signed here.
    pub(super) fn is_own(&self) -> bool {
        self.auth.key_pair.is_some()
            || self
                .manifest()
                .is_some_and(|manifest| manifest.signers().is_empty())
    }

    /// True when the head is still to be signed: it was appended so, and peers would not accept it.
    pub(super) fn is_unsigned(&self) -> bool {
        let head = &self.main.head;
        head.signature.is_none()
            && head.tree.length() > 0
            && self
                .manifest()
                .is_some_and(|manifest| !manifest.signers().is_empty())
    }

    pub(super) const fn key(&self) -> &CoreKey {
        &self.auth.key
    }

    pub(super) const fn manifest(&self) -> Option<&Manifest> {
        self.auth.manifest.as_ref()
    }

    pub(super) fn is_compat(&self) -> bool {
        self.manifest()
            .is_some_and(|manifest| manifest.is_compat(&self.auth.key))
    }

    pub(super) fn prologue_length(&self) -> u64 {
        let prologue = self.manifest().and_then(Manifest::prologue);
        prologue.map_or(0, |prologue| prologue.length)
    }

    /// Tells everybody who waits to look again.
    pub(super) fn bump(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Somebody less waits for a block.
    pub(super) fn unwant(&mut self, index: u64) {
        if let Some(count) = self.demand.blocks.get_mut(&index) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.demand.blocks.remove(&index);
            }
        }
        self.demand_changed();
    }

    /// Tells whoever fetches to look again.
    pub(super) fn demand_changed(&self) {
        self.wishes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The named line, loaded if it is stored.
    pub(super) fn named_line(&mut self, name: &str, read: &dyn Read) -> Result<Option<&mut Line>, CoreError> {
        let stored = self.lines.named.iter().find(|(other, _)| other == name);
        if let Some((_, data)) = stored
            && !self.named.contains_key(name)
        {
            let line = Line::load(*data, read)?
                .ok_or(RecordError::Inconsistent("a named session without its head"))?;
            self.named.insert(name.to_owned(), line);
        }
        Ok(self.named.get_mut(name))
    }
}

/// All values of a range of keys.
pub(super) fn scan(read: &dyn Read, from: &Key, to: &Key) -> Result<Vec<(Key, Bytes)>, CoreError> {
    let mut found = Vec::new();
    read.scan(from, to, false, &mut |key, value| {
        found.push((key, value));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}
