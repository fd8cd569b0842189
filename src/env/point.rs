//! States worth reaching: rare, and where faults hide. A simulator counts in which runs they were reached.

use super::Env;

/// Defines the points, each once.
macro_rules! points {
    ($($point:ident: $name:literal, $meaning:literal;)*) => {
        /// A state worth reaching.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Point {
            $(#[doc = $meaning] $point,)*
        }

        impl Point {
            /// All points.
            pub const ALL: &[Self] = &[$(Self::$point),*];

            /// What it is called in reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }

            /// Why no simulated run can come here yet; none for all that some run has to reach.
            #[must_use]
            pub const fn out_of_reach(self) -> Option<&'static str> {
                match self {
                    Self::StartedOver | Self::LogRewritten => {
                        Some("no program truncates the log of a writer")
                    }
                    Self::ViewDiverged => Some("all peers of a simulated database have the same apply"),
                    Self::KeyContradicted => Some("all peers of a simulated database have its key"),
                    Self::SizeAsked => Some("no simulated stranger writes a mebibyte"),
                    Self::AnchorFound => Some("nothing but a fast-forward links anchors"),
                    _ => None,
                }
            }

            /// What happened there, in one line.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$point => $meaning,)*
                }
            }
        }
    };
}

points! {
    IndexWritten: "index_written", "The store wrote a checkpoint of its index.";
    IndexRead: "index_read", "The store was opened from a checkpoint of its index.";
    SegmentRolled: "segment_rolled", "A segment of the log was full, and the next one begun.";
    SegmentRemoved: "segment_removed", "A segment of which nothing was wanted any more was removed.";
    CompactionRan: "compaction_ran", "What was wanted of a segment was moved to the end of the log.";
    TornTailCut: "torn_tail_cut", "The opening of the store cut off what a crash tore.";
    SyncFenced: "sync_fenced", "A sync failed, and the store takes nothing more.";
    CommitDuringSync: "commit_during_sync", "Something was committed while a sync was under way.";
    LeafSplit: "leaf_split", "A leaf of a tree was split.";
    InnerSplit: "inner_split", "An inner node of a tree was split.";
    LeafMerged: "leaf_merged", "Two leaves of a tree were merged.";
    InnerMerged: "inner_merged", "Two inner nodes of a tree were merged.";
    RootReplaced: "root_replaced", "A root without keys gave way to its only child.";
    KeyBorrowed: "key_borrowed", "A node of a tree took a key from its sibling.";
    ValueApart: "value_apart", "A value was too large to stand beside its key.";
    DrainSuspended: "drain_suspended", "Applying stopped at a block that is at a peer.";
    DrainResumed: "drain_resumed", "The block for which applying had stopped came.";
    DrainInPortions: "drain_in_portions", "A drain did not come to its end at once.";
    OrderUndone: "order_undone", "Applied batches were undone.";
    ReorderDeep: "reorder_deep", "More than 20 applied batches were undone at once.";
    WentBack: "went_back", "A batch belonged before the window: the engine went back to a checkpoint.";
    FastForwarded: "fast_forwarded", "The engine went on from the trees of another writer.";
    FastForwardCutOff: "fast_forward_cut_off", "After a fast-forward a batch belonged before it: all logs are fetched whole.";
    OrderSettled: "order_settled", "A start of the order could no longer change.";
    StartedOver: "started_over", "A log was rewritten: the engine began anew.";
    OrderForgotten: "order_forgotten", "The engine forgot the start of the order.";
    AheadOfClock: "ahead_of_clock", "An entry from the future waits for the clock.";
    OutcomeChanged: "outcome_changed", "What became of an own batch changed later.";
    AheadApplied: "ahead_applied", "The clock reached an entry from the future.";
    LocalRotated: "local_rotated", "Another log took the place of the local writer's.";
    OwnLogConfirmed: "own_log_confirmed", "A peer was met that sent what it had of the own log, of which an older copy was here.";
    AckBegun: "ack_begun", "A member acknowledged the batch of a stranger.";
    AttestationWritten: "attestation_written", "A member attested the weight of another.";
    AttestationKept: "attestation_kept", "What a member owes to others was taken over a restart.";
    WitnessUsed: "witness_used", "An own batch claimed a weight with an attestation.";
    ManyValues: "many_values", "An own batch had more than one value.";
    StampMissing: "stamp_missing", "An own batch was written before it could be applied.";
    ManyHeads: "many_heads", "The order ended in more than 28 heads.";
    AnchorAwaited: "anchor_awaited", "A batch waited for a first block, which may be an anchor's.";
    RulesLearned: "rules_learned", "A peer that joins learned the rules of the database.";
    AnchorFound: "anchor_found", "A link was found to be to the anchor of a forgotten entry.";
    GatherTimedOut: "gather_timed_out", "Blocks were gathered for as long as they may wait.";
    GatherQuiet: "gather_quiet", "Gathering ended because nothing more came.";
    GatherFull: "gather_full", "Gathering ended because enough was there.";
    CheckpointUsed: "checkpoint_used", "The engine went on from the newest checkpoint at the opening.";
    CheckpointOlder: "checkpoint_older", "The engine went on from an older checkpoint at the opening.";
    CheckpointsRefused: "checkpoints_refused", "No checkpoint was good at the opening.";
    TreesRebuilt: "trees_rebuilt", "The stored trees could not be gone on from.";
    TreesDamaged: "trees_damaged", "Blocks of the stored trees were damaged, and the trees are made anew.";
    ViewRebuilt: "view_rebuilt", "Another version of apply had the view made anew from the logs.";
    StrangerAdmitted: "stranger_admitted", "A stranger's core got a slot.";
    StrangerEvicted: "stranger_evicted", "A stranger's core gave up its slot to another.";
    DoubtKept: "doubt_kept", "A writer was opened that had to ask peers before it appends, and still has to.";
    PeerDialledAgain: "peer_dialled_again", "A database that keeps a peer connected lost the connection, and dials again.";
    PeerLetGo: "peer_let_go", "A peer that was kept connected was let go.";
    OwnLogContradicted: "own_log_contradicted", "A peer proved to a writer that its key pair signed two logs.";
    RotDropped: "rot_dropped", "A block of a log that the disk gave other bytes of was dropped, to be fetched again.";
    SizeAsked: "size_asked", "A peer was asked how large a block is, to ask for it only if it is small enough.";
    StrangerLetGo: "stranger_let_go", "Batches of a stranger that apply refused left the set.";
    StrangerTurn: "stranger_turn", "What had left the set came back in its turn.";
    DateRaised: "date_raised", "A batch was ordered by a later time than its own, as what it links is later.";
    ClearRefused: "clear_refused", "A clear block ended what is taken of a log of an encrypted database.";
    SafeOpened: "safe_opened", "A database with safe rules was opened.";
    StrangerVouched: "stranger_vouched", "A member tried a stranger's batch outside of the order, and apply accepted it.";
    StrangerWaits: "stranger_waits", "A stranger's core waits for a slot.";
    MemberAdded: "member_added", "There is another member.";
    MemberRemoved: "member_removed", "A member was removed.";
    MemberReturned: "member_returned", "A removed member was added again.";
    RemovedWrote: "removed_wrote", "There are batches of a removed member that the order does not have.";
    LogRewritten: "log_rewritten", "The owner of a log took blocks back that were applied.";
    LogContradicted: "log_contradicted", "The owner of a log signed two histories.";
    EvidenceRecalled: "evidence_recalled", "A contradiction of a log's owner was shown to a peer that came later.";
    ContradictedReopened: "contradicted_reopened", "A log whose owner signed two histories was opened again, to be fetched and served on.";
    ContradictionKept: "contradiction_kept", "A log was opened of which it is known that its owner signed two histories.";
    ReadWaited: "read_waited", "A read waited for a block that is at a peer.";
    EncryptedOpened: "encrypted_opened", "An encrypted database was opened.";
    KeyContradicted: "key_contradicted", "The log of the creator is encrypted with another key than the one here.";
    ForkFollowed: "fork_followed", "A core moved to another fork of its owner.";
    AnswerVoid: "answer_void", "A source had gone on to another fork, or dropped a block, before it answered.";
    AskedAgain: "asked_again", "A block was asked of a second peer, because the first is slow.";
    TakenFromOther: "taken_from_other", "A block came that another peer was asked for, too.";
    PeerPaused: "peer_paused", "A peer is asked nothing more about a core.";
    PeerBlamed: "peer_blamed", "A session ended by a fault of the peer.";
    OutboxFull: "outbox_full", "A peer reads more slowly than there is to send.";
    DataTogether: "data_together", "Several answers of a peer were stored in one step.";
    OfferRejected: "offer_rejected", "A peer offered a core that is not here.";
    PeerSilent: "peer_silent", "A peer was given up because nothing came from it.";
    StreamBroke: "stream_broke", "A stream ended in the middle.";
    ChannelLetGo: "channel_let_go", "The channel of a core was closed that nobody uses here any more.";
    ChannelAskedAgain: "channel_asked_again", "A channel that a peer left was opened again, because something is wanted here.";
    Announced: "announced", "A peer announced cores of writers.";
    ViewCompared: "view_compared", "The own view was compared with that of another writer.";
    ViewDiverged: "view_diverged", "Another writer's view is another one behind the same entries.";
    EventsMissed: "events_missed", "A slow listener of a core missed events.";
    AnswerMisfit: "answer_misfit", "A peer answered something else than it was asked.";
    ProofRefused: "proof_refused", "A peer sent a wrong proof.";
    NonsenseAsked: "nonsense_asked", "A peer asked for what nobody can prove.";
}

/// Points that a machine without I/O passed. Whoever drives it takes them and reports them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sights(u128);

impl Sights {
    /// Notes a point.
    pub const fn note(&mut self, point: Point) {
        self.0 |= 1 << point as u8;
    }

    /// Notes a point, if that is so.
    pub const fn note_if(&mut self, point: Point, is_so: bool) {
        self.0 |= (is_so as u128) << point as u8;
    }

    /// Adds those of another machine.
    pub const fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Gives what was noted, and begins anew.
    #[must_use]
    pub const fn take(&mut self) -> Self {
        let taken = *self;
        self.0 = 0;
        taken
    }

    /// True when a point was noted.
    #[must_use]
    pub const fn has(self, point: Point) -> bool {
        self.0 & (1 << point as u8) != 0
    }

    /// True when none was.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Tells the simulator of them, if there is one.
    #[inline(always)]
    pub fn report<E: Env>(self, env: &E) {
        if E::SIM && !self.is_empty() {
            for point in Point::ALL {
                if self.has(*point) {
                    env.sometimes(*point, true);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_point_has_a_name_and_a_bit_of_its_own() {
        let names: BTreeSet<&str> = Point::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), Point::ALL.len());
        assert!(Point::ALL.len() <= 128, "one bit each");
        let mut sights = Sights::default();
        for (at, point) in Point::ALL.iter().enumerate() {
            assert!(!sights.has(*point) && !point.meaning().is_empty());
            sights.note(*point);
            assert_eq!(sights.0.count_ones() as usize, at + 1);
        }
        assert!(!sights.take().is_empty() && sights.is_empty());
    }

    #[test]
    fn sights_of_two_machines_add_up() {
        let (mut one, mut other) = (Sights::default(), Sights::default());
        one.note(Point::IndexRead);
        one.note_if(Point::LeafSplit, false);
        other.note_if(Point::InnerSplit, true);
        one.add(other);
        assert!(one.has(Point::IndexRead) && one.has(Point::InnerSplit) && !one.has(Point::LeafSplit));
    }
}
