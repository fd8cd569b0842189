//! Slips that the simulator has the library make, to prove that its checks find them.
//!
//! Each is one wrong step at the place where it would be made. In production nobody asks for any, and neither names nor
//! meanings are in the program: they are reached only where [`Env::SIM`] is true.

use super::Env;

/// Defines the slips, layer by layer: what the code calls it, what a scenario calls it, what it means.
macro_rules! slips {
    ($($layer:ident { $($slip:ident $name:literal $meaning:literal)* })*) => {
        /// One wrong step that can be planted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Slip {
            $($(
                #[doc = $meaning]
                $slip,
            )*)*
        }

        impl Slip {
            /// All slips, from the lowest layer to the highest.
            pub const ALL: &'static [Self] = &[$($(Self::$slip),*),*];

            /// What a scenario calls it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $($(Self::$slip => $name,)*)*
                }
            }

            /// What goes wrong, in one sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $($(Self::$slip => $meaning,)*)*
                }
            }

            /// Where it is made.
            #[must_use]
            pub const fn layer(self) -> Layer {
                match self {
                    $($(Self::$slip => Layer::$layer,)*)*
                }
            }
        }
    };
}

/// A part of the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// The storage engine, and who syncs it.
    Store,
    /// Cores, their trees and proofs.
    Hypercore,
    /// What peers say to each other.
    Replication,
    /// Order, membership and weights.
    Engine,
    /// The tree of keys.
    Bee,
    /// What an application sees.
    Db,
}

slips! {
    Store {
        AckBeforeSync "acknowledged_before_sync"
            "Who waits for a sync is told that it is over when it was asked for."
        SyncCoversLater "sync_covers_later_commits"
            "A sync that ends counts for commits that came while it was under way, too."
        SyncRequestLost "sync_request_lost"
            "A sync that is asked for while another one is under way is never made."
        FailedSyncRetried "failed_sync_retried"
            "A sync that failed is tried again, and the second attempt counts for what the first one lost."
        SealedUnsynced "sealed_segment_unsynced"
            "A segment that is full counts as durable without a sync."
        SegmentNameUnsynced "segment_name_unsynced"
            "The directory is not synced when a segment is created in it."
        StaleSegmentIndexed "index_of_the_segment_before"
            "The first frame of a segment is indexed as if it stood in the segment before."
        CheckpointUnsynced "checkpoint_before_sync"
            "The index is written before the end of the log that it points into is durable."
        OlderCopyWins "compaction_restores_older_value"
            "Compaction copies a value that was overwritten since, and the copy becomes the value."
        LiveSegmentRemoved "segment_removed_while_wanted"
            "A segment is removed while one record of it is still wanted."
        LastFrameDropped "recovery_stops_one_frame_early"
            "Opening cuts the last frame of the log as if a crash had torn it."
        RecoveryUnsynced "recovery_trusts_the_cache"
            "What opening finds counts as durable without being written again and synced."
        LastFrameUnchecked "torn_tail_accepted"
            "Opening takes a last frame whose checksum is wrong."
    }
    Hypercore {
        UnsyncedOffer "unsynced_offer"
            "Peers are shown an own head before it is durable."
    }
    Engine {
        TieBreak "wrong_tie_break"
            "A batch that ties with one that is in order already comes behind it."
        UnfollowedBacker "unfollowed_backer"
            "The backer of a claim does not order the batch that claims."
        SkippedUndo "skipped_undo"
            "What must go before entries of the order is put behind them."
        LiveWeight "live_weight"
            "The weight of a batch is what its writer stands with now, not at the place of the batch."
        DroppedRemoved "dropped_removed"
            "Batches that come while their writer is removed are thrown away."
        EarlyDrain "early_drain"
            "Batches take part before what they name is here."
        ViewBeforeSystem "view_before_system"
            "What apply wrote to the view stays when the system takes nothing of the batch."
    }
    Db {
        SystemBeforeView "system_before_view"
            "Where the system tree stands is stored one commit before the view that it names."
    }
}

/// Which slips are made. None by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Planted(u128);

impl Planted {
    /// Those that the simulator of a world asks for; in production none.
    #[must_use]
    pub fn of<E: Env>(env: &E) -> Self {
        if E::SIM {
            Self::new(|slip| env.planted(slip.name()))
        } else {
            Self::default()
        }
    }

    /// Those of which `is_planted` says so.
    pub fn new(is_planted: impl Fn(Slip) -> bool) -> Self {
        let planted = Slip::ALL.iter().filter(|slip| is_planted(**slip));
        Self(planted.fold(0, |all, slip| all | 1 << *slip as u8))
    }

    /// True when the slip is to be made.
    #[inline]
    #[must_use]
    pub const fn has(self, slip: Slip) -> bool {
        self.0 & (1 << slip as u8) != 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::env::memory::MemoryEnv;

    #[test]
    fn each_slip_is_planted_alone_and_nothing_by_default() {
        assert_eq!(Planted::new(|_| false), Planted::default());
        assert_eq!(Planted::of(&MemoryEnv::new(1)), Planted::default());
        for planted in Slip::ALL {
            let one = Planted::new(|slip| slip == *planted);
            assert!(Slip::ALL.iter().all(|slip| one.has(*slip) == (slip == planted)));
        }
        assert!(Slip::ALL.len() <= u128::BITS as usize);
    }

    #[test]
    fn names_and_meanings_tell_slips_apart() {
        let names: BTreeSet<&str> = Slip::ALL.iter().map(|slip| slip.name()).collect();
        let meanings: BTreeSet<&str> = Slip::ALL.iter().map(|slip| slip.meaning()).collect();
        assert_eq!((names.len(), meanings.len()), (Slip::ALL.len(), Slip::ALL.len()));
        for slip in Slip::ALL {
            let is_word = |letter: u8| letter.is_ascii_lowercase() || letter == b'_';
            assert!(slip.name().bytes().all(is_word), "{}", slip.name());
            assert!(slip.meaning().ends_with('.'), "{}", slip.name());
        }
        let is_sorted = Slip::ALL.is_sorted_by_key(|slip| slip.layer());
        assert!(is_sorted, "from the lowest layer to the highest");
    }
}
