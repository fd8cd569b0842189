//! What happened, as typed events. In a simulation they are lines of its trace.

use crate::crypto::CoreKey;

/// Defines the events: each with its name in traces, and typed fields.
macro_rules! events {
    ($($(#[doc = $meaning:literal])* $event:ident: $name:literal { $($(#[doc = $what:literal])* $field:ident: $kind:ident,)* };)*) => {
        /// Something that happened in an engine.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum TraceEvent {
            $($(#[doc = $meaning])* $event { $($(#[doc = $what])* $field: $kind,)* },)*
        }

        impl TraceEvent {
            /// What it is called in traces.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$event { .. } => $name,)*
                }
            }

            /// Its fields with their names, in a fixed order.
            #[must_use]
            pub fn fields(&self) -> Vec<(&'static str, Field<'_>)> {
                match self {
                    $(Self::$event { $($field),* } => vec![$((stringify!($field), Field::from($field))),*],)*
                }
            }
        }
    };
}

/// One field of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// A log. Traces call it by the name of its owner.
    Core(&'a CoreKey),
    /// A number.
    Number(u64),
    /// Words, which are the same on every run.
    Text(&'a str),
}

impl<'a> From<&'a CoreKey> for Field<'a> {
    fn from(core: &'a CoreKey) -> Self {
        Self::Core(core)
    }
}

impl From<&u64> for Field<'_> {
    fn from(number: &u64) -> Self {
        Self::Number(*number)
    }
}

impl<'a> From<&'a String> for Field<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text)
    }
}

events! {
    /// An own batch was written.
    Appended: "appended" {
        /// The log.
        core: CoreKey,
        /// Its length behind the batch.
        length: u64,
        /// Blocks of the batch.
        values: u64,
    };
    /// An append returned.
    Acknowledged: "acknowledged" {
        /// The log.
        core: CoreKey,
        /// Its length behind the batch.
        length: u64,
    };
    /// A portion of a drain came to its end.
    Drained: "drained" {
        /// Batches in the order.
        batches: u64,
        /// Calls of apply since the opening.
        applies: u64,
    };
    /// Applied batches were taken back.
    Undone: "undone" {
        /// How many.
        batches: u64,
    };
    /// Applying waits for a block.
    Suspended: "suspended" {
        /// Where it is.
        core: CoreKey,
        /// Which.
        index: u64,
    };
    /// The engine goes back to a checkpoint, or begins anew.
    WentBack: "went_back" {
        /// Batches in the order from there on.
        batches: u64,
    };
    /// The database goes on from the trees of another writer.
    MovedOnto: "moved_onto" {
        /// The core of that system tree.
        core: CoreKey,
        /// Batches in the order there.
        batches: u64,
    };
    /// Applying was stopped for good.
    Interrupted: "interrupted" {
        /// Why.
        reason: String,
    };
    /// Blocks of a log went to the engine.
    Taken: "taken" {
        /// The log.
        core: CoreKey,
        /// How much of it.
        length: u64,
    };
    /// Nothing more is taken of a log.
    Stalled: "stalled" {
        /// The log.
        core: CoreKey,
        /// Why.
        why: String,
    };
    /// A stranger's log is fetched from now on.
    StrangerAdmitted: "stranger_admitted" {
        /// The log.
        core: CoreKey,
    };
    /// A stranger's log is fetched no more.
    StrangerEvicted: "stranger_evicted" {
        /// The log.
        core: CoreKey,
    };
    /// What apply refused of a stranger left the set.
    StrangerLetGo: "stranger_let_go" {
        /// The log.
        core: CoreKey,
        /// How much of it is still in the set.
        kept: u64,
    };
    /// What a stranger wrote is tried in its turn.
    StrangerTurn: "stranger_turn" {
        /// The log.
        core: CoreKey,
    };
    /// The database goes on from what is stored.
    Recovered: "recovered" {
        /// The own log. Traces call it by the name of the replica from now on.
        local: CoreKey,
        /// Batches that were applied before.
        batches: u64,
        /// Checkpoints that were not good.
        refused: u64,
    };
    /// What became of an own batch is known, or another thing than before.
    Outcome: "outcome" {
        /// The length of the own log with its last block.
        length: u64,
        /// `applied`, `rejected` or `waiting`.
        outcome: String,
    };
    /// Somebody may write from now on.
    WriterAdded: "writer_added" {
        /// The log.
        core: CoreKey,
    };
    /// Somebody may write no longer.
    WriterRemoved: "writer_removed" {
        /// The log.
        core: CoreKey,
    };
    /// The database was closed.
    DatabaseClosed: "database_closed" {
        /// The own log.
        local: CoreKey,
    };
    /// The store wrote a checkpoint of its index.
    Checkpoint: "checkpoint" {
        /// How many since its opening.
        count: u64,
    };
    /// What was wanted of a segment of the store was moved to its end.
    Compaction: "compaction" {
        /// How many since its opening.
        count: u64,
    };
    /// The store takes nothing more.
    Fenced: "fenced" {
        /// Why.
        why: String,
    };
    /// Something failed for which nobody waits.
    Failed: "failed" {
        /// What was being done.
        what: String,
        /// How it failed.
        why: String,
    };
    /// A session and its peer agreed on keys.
    Connected: "connected" {
        /// Counts sessions of this replica.
        session: u64,
    };
    /// A core is replicated with a peer.
    ChannelOpened: "channel_opened" {
        /// Which session.
        session: u64,
        /// The core.
        core: CoreKey,
    };
    /// A core is replicated no more with a peer that is at fault.
    Blamed: "blamed" {
        /// Which session.
        session: u64,
        /// The core.
        core: CoreKey,
        /// What it did.
        why: String,
    };
    /// A session ended.
    Closed: "closed" {
        /// Which.
        session: u64,
        /// Why.
        why: String,
    };
    /// What a program of its own says.
    Note: "note" {
        /// The words.
        text: String,
    };
}

/// A stretch of work to which the events belong that happen in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceSpan {
    /// A session, from its start to its end.
    Session {
        /// Counts sessions of this replica.
        session: u64,
    },
    /// Ordering and applying all that is here.
    Drain,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_names_its_fields_in_order() {
        let core = CoreKey::new([1; 32]);
        let event = TraceEvent::Appended {
            core,
            length: 7,
            values: 2,
        };
        assert_eq!(event.name(), "appended");
        let expected = [
            ("core", Field::Core(&core)),
            ("length", Field::Number(7)),
            ("values", Field::Number(2)),
        ];
        assert_eq!(event.fields(), expected);
    }
}
