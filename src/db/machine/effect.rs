//! What happens to a machine, and what follows from it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

#[cfg(doc)]
use super::Machine;
use super::news::ListenerState;
use super::record::{TreeCommit, TreeLengths};
use crate::crypto::CoreKey;
use crate::db::Event;
use crate::engine::{MissingBlock, Survey, ViewClaim};
use crate::env::{Mono, TraceEvent};
use crate::error::Error;
use crate::hypercore::CoreError;
use crate::replication::wakeup::TopicPeer;
use crate::store::Seq;
use crate::wire::{Link, Timestamp};

/// The time at which something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since some start: deadlines.
    pub mono: Mono,
    /// The time of day, as this peer believes: it stamps own entries, and holds those back that are too far ahead.
    pub wall: Timestamp,
}

/// Something that happened.
pub enum Input<L> {
    /// A log that was open from the start was listened to: what is stored of it is handed to the engine.
    Loaded(CoreKey),
    /// All of them were loaded.
    Started,
    /// What is stored was ordered: logs are fetched from now on. These were open from the start.
    Begun(Vec<CoreKey>),
    /// A log got more blocks, or other ones.
    Changed {
        /// Which.
        core: CoreKey,
        /// Whether they may wait for others that are on their way.
        gathers: bool,
    },
    /// A log that was asked for with [`Effect::Fetch`] is open.
    Opened(Arc<L>),
    /// A log that was asked for with [`Effect::Reopen`] is open in another session.
    Reopened(Arc<L>),
    /// It could not be opened.
    Unopened {
        /// Which.
        core: CoreKey,
        /// Why.
        error: CoreError,
    },
    /// Peers, or somebody here, named logs.
    Announced(Vec<(Option<TopicPeer>, CoreKey)>),
    /// It is time to look what to fetch and what to tell peers. These peers are gone.
    ChooseLogs {
        /// Of [`Machine::announcers`].
        gone: BTreeSet<TopicPeer>,
    },
    /// A peer connected.
    PeerConnected {
        /// A number that no other one has.
        peer: u64,
        /// When.
        at: Mono,
    },
    /// A peer that connected sent all that it has, or is gone.
    PeerSynced(u64),
    /// The time came that was asked for with [`Effect::Wake`].
    Wake {
        /// What waits for others is to be ordered now in any case.
        is_early: bool,
    },
    /// A batch of the local writer. It is refused, or taken in and written by the drain that comes next: see
    /// [`Machine::take_outcome`].
    Append {
        /// Its values.
        values: Vec<Bytes>,
        /// Whether it may be written without being a member.
        optimistic: bool,
        /// The end of the log of somebody whom it calls trusted.
        named: Option<Link>,
    },
    /// A peer sent all that it has of the own log, or it is known that none has more.
    Confirmed,
    /// This log is the local writer's from now on. What was kept with the one of before is kept with this one.
    SetLocal {
        /// Open, and not followed yet, if it was not here before.
        log: Arc<L>,
        /// Whether peers may have more of it.
        is_unconfirmed: bool,
    },
    /// Who appended went away.
    Abandoned,
    /// Order and apply what is here.
    Drain {
        /// Calls of apply before others get their turn.
        applies_max: usize,
    },
    /// What became of [`Effect::Write`]. Nothing else may come in between.
    Written(Result<TreeLengths, Error>),
    /// A drain came to its end, or failed.
    DrainOver {
        /// How.
        failure: Option<Event>,
        /// Whether anybody listens to events.
        is_heard: bool,
    },
    /// A block of a tree that was asked for is here.
    Found(MissingBlock),
    /// It cannot be had: nobody asks for it any more, until the next drain.
    Unfindable {
        /// Which.
        block: MissingBlock,
        /// Why.
        error: Error,
    },
    /// A claim was compared, as [`Effect::Compare`] asked.
    Compared {
        /// The batch with the claim, by its last block.
        batch: Link,
        /// A key of which the views have another value; none when there is none, or nothing can be said.
        key: Option<Bytes>,
    },
    /// Go on from the trees of another writer, which were surveyed: see [`Machine::take_moved`].
    MoveOnto {
        /// What was found there.
        survey: Box<Survey>,
        /// Also if they are hardly ahead.
        is_forced: bool,
    },
    /// Whether it is looked for trees of other writers that are far ahead, and until when nothing is ordered, as it is to begin
    /// from a head that was given.
    Forward {
        /// Whether.
        is_on: bool,
        /// Until when; none when there is no such head.
        until: Option<Mono>,
    },
    /// A look at another writer's trees is over, as [`Effect::LookAhead`] asked for.
    LookedAhead,
    /// A first listener comes, who knows this.
    Listen(ListenerState),
    /// Something failed for which nobody waits.
    Failed {
        /// What was being done.
        what: &'static str,
        /// How it failed.
        error: Error,
    },
    /// Code of the user's panicked: nothing more is applied.
    Broken(String),
    /// The database is closed.
    Close,
}

/// Something that is to be done.
pub enum Effect<L> {
    /// Open a log, and hand it in with [`Input::Opened`] or [`Input::Unopened`]. There is at most one at a time.
    Fetch(CoreKey),
    /// Open a log again whose owner was found to contradict itself, which ended its session, and hand it in with
    /// [`Input::Reopened`].
    Reopen(CoreKey),
    /// Listen to a log that was taken in, and say at once that it changed, and whenever it does.
    Follow(CoreKey),
    /// A log is fetched from peers up to this block from now on; as a whole without one.
    Download {
        /// Which.
        core: CoreKey,
        /// The first block that is not fetched.
        end: Option<u64>,
        /// The most bytes of a block that is; none when it may have any.
        block_bytes_max: Option<u64>,
    },
    /// A log is none of this database's any more: its blocks are to be forgotten.
    Release(Arc<L>),
    /// A log cannot be read: it is followed no more.
    Unreadable {
        /// Which.
        core: CoreKey,
        /// Why.
        error: CoreError,
    },
    /// Ask peers for a block of a tree until it is here: [`Input::Found`], and drain.
    Ask(MissingBlock),
    /// Compare what another writer says of its view with the own one, and say [`Input::Compared`].
    Compare(Box<ViewClaim>),
    /// Look where the writer of this log says that its trees stand, and hand in [`Input::MoveOnto`] if they are to be moved
    /// onto; then [`Input::LookedAhead`].
    LookAhead(Link),
    /// Write these bytes in one commit, and say [`Input::Written`] before anything else.
    Write(TreeCommit),
    /// Make a commit durable for which nobody waits.
    Sync(Seq),
    /// It is time to order and apply: [`Input::Drain`] until there is no more.
    Drain,
    /// A portion of a drain is over: true when there is more to do.
    Drained(Result<bool, Error>),
    /// It is time to look what to fetch: [`Input::ChooseLogs`].
    ChooseLogs,
    /// Tell peers that a log is here up to a length.
    Announce(Link),
    /// Say [`Input::Wake`] at this time, or earlier if that was asked for before.
    Wake(Mono),
    /// Wake those who wait for changes.
    Notify,
    /// Tell listeners.
    Tell(Event),
    /// Tell a simulator.
    Trace(TraceEvent),
}
