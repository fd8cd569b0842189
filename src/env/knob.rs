//! Numbers that a simulator may choose differently in a run.
//!
//! They bound a queue, a portion or a file, or shape what only the local peer writes, so that any value in their range
//! gives the same result. Their usual values keep rare code rare; small ones make it run in each simulated run.

use super::Env;

/// One number that a simulator may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knob {
    /// What it is called in settings of a run.
    pub name: &'static str,
    /// The least value that makes sense.
    pub least: u64,
    /// The largest value that makes sense.
    pub most: u64,
    /// Its value outside of simulations, and wherever nobody chooses another.
    pub default: u64,
    /// What it decides.
    pub meaning: &'static str,
}

impl Knob {
    /// The value in this world: `usual` outside of simulations.
    #[inline(always)]
    pub fn of<E: Env>(&self, env: &E, usual: u64) -> u64 {
        if !E::SIM {
            return usual;
        }
        debug_assert_eq!(usual, self.default, "the default of {}", self.name);
        env.knob(self.name, usual).clamp(self.least, self.most)
    }

    /// As [`Knob::of`], for sizes in memory.
    #[inline(always)]
    pub fn size<E: Env>(&self, env: &E, usual: usize) -> usize {
        if !E::SIM {
            return usual;
        }
        let value = self.of(env, u64::try_from(usual).unwrap_or(u64::MAX));
        usize::try_from(value).unwrap_or(usize::MAX)
    }

    /// The knob that is called so.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        KNOBS.iter().find(|knob| knob.name == name)
    }
}

/// Defines the knobs, each once.
macro_rules! knobs {
    ($($constant:ident: $name:literal, $least:expr, $most:expr, default $default:expr, $meaning:literal;)*) => {
        $(
            #[doc = $meaning]
            pub const $constant: Knob = Knob {
                name: $name,
                least: $least,
                most: $most,
                default: $default,
                meaning: $meaning,
            };
        )*

        /// All knobs.
        pub const KNOBS: &[Knob] = &[$($constant),*];
    };
}

knobs! {
    STORE_SEGMENT_BYTES: "store_segment_bytes", 1 << 10, 1 << 26, default 1 << 26,
        "A segment of the log that is this long is followed by another.";
    STORE_CHECKPOINT_BYTES: "store_checkpoint_bytes", 1 << 9, 1 << 27, default 1 << 27,
        "After this much of the log the index of the store is written.";
    STORE_COMPACTION_FIFTHS: "store_compaction_fifths", 1, 3, default 2,
        "A segment of which fewer fifths than this are wanted is moved.";
    STORE_MAINTAIN_BYTES: "store_maintain_bytes", 1 << 8, 1 << 20, default 1 << 20,
        "Bytes of housekeeping of the store between two looks at what else is to be done.";
    STORE_UNSYNCED_BYTES: "store_unsynced_bytes", 1, 1 << 22, default 1 << 22,
        "This much that is only visible is synced without being asked for.";
    CORE_EVENTS: "core_events", 1, 1024, default 1024,
        "Events of a core that a slow listener may have before it, until it is told that it missed some.";
    VIEW_DEGREE: "view_degree", 2, 128, default 128,
        "Half of the most children of a node of the view, if the view is empty.";
    VIEW_VALUE_INLINE_BYTES: "view_value_inline_bytes", 0, 1024, default 1024,
        "Largest value that the view stores beside its key.";
    VIEW_BLOCK_BYTES: "view_block_bytes", 64, 4096, default 4096,
        "A block of the view is closed once it has about this many bytes.";
    SYSTEM_DEGREE: "system_degree", 2, 128, default 128,
        "Half of the most children of a node of the system tree, if that is empty.";
    SYSTEM_BLOCK_BYTES: "system_block_bytes", 64, 4096, default 4096,
        "A block of the system tree is closed once it has about this many bytes.";
    SYSTEM_CACHE_BYTES: "system_cache_bytes", 0, 1 << 20, default 1 << 20,
        "Memory for blocks of the system tree, and as much for its nodes.";
    ENGINE_BLOCKS_OF_A_BATCH: "engine_blocks_of_a_batch", 1, 4, default 4,
        "Fewer batches than the window has are held when they have more blocks than this on average.";
    ENGINE_ANCHOR_PATIENCE_MS: "engine_anchor_patience_ms", 0, 5_000, default 5_000,
        "How long a link to a first block waits before it is looked for among anchors of forgotten entries.";
    ENGINE_ANCHOR_PORTION: "engine_anchor_portion", 1, 1_000, default 1_000,
        "Forgotten entries that are looked at in one step of that search.";
    VIEWS_SEARCHED: "views_searched", 1, 64, default 64,
        "Blocks of a writer that are searched for the stamps of its views.";
    DB_EVENTS: "db_events", 1, 256, default 256,
        "Events of a database that a slow listener may have before it, until it is told that it missed some.";
    CORE_HEADS_WAITING: "core_heads_waiting", 1, 64, default 64,
        "Own heads that wait for a sync before they are merged into the last one.";
    VIEW_PAGE: "view_page", 1, 256, default 256,
        "Entries of a view that a stream reads at once.";
    STRANGERS_WAITING: "strangers_waiting", 16, 1024, default 1024,
        "Cores of strangers that may wait for a slot for each announcer.";
    FORWARD_GAP: "forward_gap", 1, 32, default 32,
        "How many entries trees of another writer are ahead, at least, for a fast-forward.";
    FORWARD_CUT: "forward_cut", 1, 16, default 16,
        "How many entries before the head of such trees the order begins, at least.";
    REPLICATOR_QUEUE_MS: "replicator_queue_ms", 1, 1_000, default 1_000,
        "How much work a slow peer may have in front of it, with several peers, in milliseconds.";
    REPLICATOR_PEERS_PER_BLOCK: "replicator_peers_per_block", 1, 3, default 3,
        "How many peers one block may be asked from at one time.";
    REPLICATOR_ANNOUNCEMENTS: "replicator_announcements", 1, 1024, default 1024,
        "Runs of blocks that may wait to be announced to one peer.";
    SESSION_PULL_MESSAGES: "session_pull_messages", 1, 32, default 32,
        "Messages about one core that are made for a peer before it is another core's turn.";
    SESSION_PULL_BYTES: "session_pull_bytes", 1, 1 << 16, default 1 << 16,
        "Bytes of blocks that are made for a peer before it is another core's turn.";
    SESSION_READ_BYTES: "session_read_bytes", 64, 1 << 16, default 1 << 16,
        "Bytes of a stream that are read at one time, while the peer sends no more than that.";
    SESSION_EVENTS: "session_events", 1, 4096, default 4096,
        "Messages of a peer that are taken before other tasks get their turn.";
    SESSION_DATA_HELD: "session_data_held", 1, 128, default 128,
        "Answers of a peer that are checked and stored together.";
    WAKEUP_ANNOUNCED: "wakeup_announced", 1, 10_000, default 10_000,
        "Cores in one announcement.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::env::memory::MemoryEnv;

    #[test]
    fn each_knob_has_a_name_of_its_own_and_a_default_in_its_range() {
        let names: BTreeSet<&str> = KNOBS.iter().map(|knob| knob.name).collect();
        assert_eq!(names.len(), KNOBS.len());
        for knob in KNOBS {
            assert!(knob.least < knob.most, "{}", knob.name);
            assert!((knob.least..=knob.most).contains(&knob.default), "{}", knob.name);
            assert_eq!(Knob::find(knob.name), Some(knob));
        }
        assert_eq!(Knob::find("nonsense"), None);
    }

    #[test]
    fn outside_of_simulations_every_value_is_the_usual_one() {
        let env = MemoryEnv::new(1);
        assert_eq!(VIEW_DEGREE.of(&env, 7), 7);
        assert_eq!(SYSTEM_CACHE_BYTES.size(&env, 9), 9);
    }
}
