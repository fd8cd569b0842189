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
        LaterServed "later_waiters_served"
            "A sync that ends answers all who wait, also for what was committed after it began."
        FailedCounts "failed_sync_counts"
            "A sync that failed counts as made."
        TopNodeLeft "moved_block_loses_its_top_node"
            "Compaction moves a block without the highest of the nodes that stand with it."
        StraysUnindexed "checkpoint_without_stray_nodes"
            "The index that is written lacks the nodes that do not stand with their block."
        AheadOfOther "read_ahead_of_another_segment"
            "A block is looked for in what was read ahead, also when that is of another segment."
        HeadBehindDurable "segment_head_counts_durable_commits"
            "The head of a segment says that it goes on after the last durable commit, also when more were made."
        NodesReplaced "block_that_comes_again_loses_its_nodes"
            "A block that is written again without the nodes that stand with it takes their place."
        IndexNameUnsynced "index_name_unsynced"
            "The directory is not synced when the index took the place of the one before it."
        FirstWaiterTold "first_waiter_told_alone"
            "Of those who wait for a sync that fails the first one is told alone."
        LastFrameAgain "last_frame_written_again_alone"
            "Opening writes the last frame again alone, whatever else may be in the cache only."
        MarkAheadOfSync "mark_ahead_of_sync"
            "The mark of what is durable counts commits that came during the sync."
        DeletedValueCounts "deleted_value_still_counts"
            "A value that is deleted counts as wanted of its segment."
        DeletedNodesMoved "compaction_revives_deleted_nodes"
            "Compaction copies the nodes of a block that were deleted since, and they are there again."
        TornEndLeft "torn_end_stays"
            "The torn end of a segment stays in the file, also behind what is written over its beginning."
        MarkWithIndex "mark_written_with_the_index_alone"
            "The mark of what is durable is written with the index, and not after each sync."
        SealedShort "sealed_segment_counts_its_head"
            "A segment that is full counts as long as its head, so that there never seems to be much to win in it."
    }
    Hypercore {
        UnsyncedOffer "unsynced_offer"
            "Peers are shown an own head before it is durable."
        HoleCounted "block_behind_a_hole_fills_it"
            "When the block behind the first missing one comes, the missing one counts as stored, too."
        BatchNonce "nonce_of_the_first_block"
            "All blocks of an append are encrypted with the nonce of the first one."
        PointerReused "core_number_given_twice"
            "The counter of cores is not stored with a core that is made, so that after a restart another one takes its place."
        DownloadUntold "download_wakes_nobody"
            "Who waits for changes of a core does not hear of blocks that come from peers."
        ReceivedUnoffered "received_head_unoffered"
            "What comes of another's log is not offered to further peers before the core is opened anew."
        ManifestUnwritten "manifest_unwritten"
            "A manifest that a peer sends is held in memory, and not stored."
        HintOutlives "hint_outlives_its_head"
            "When a head is stored, the number of leading blocks that was stored apart before stays, and counts."
        OfferedLate "offered_one_commit_late"
            "An own head is offered once the commit behind it is durable, too."
        WantedUntold "wanted_after_parting_untold"
            "Nobody looks for peers again that left the channel of a core, when something of it is wanted."
        WrongEndsRow "one_wrong_block_ends_the_row"
            "Of blocks that come together those behind a wrong one are thrown away."
        LoneBitUnstored "lone_block_not_marked_stored"
            "That a block is here is stored with the next head only."
        AdditionalLeft "proof_without_additional_nodes"
            "A proof of a length that is not the newest lacks the nodes up to the newest."
        MovedBitsKept "moved_log_keeps_its_bits"
            "Who moves to another fork of a log counts the blocks that the fork does not have as stored."
        ContradictionForgotten "contradiction_not_kept"
            "That the owner of a log signed two is forgotten at the next opening."
        OneReaderGone "one_reader_gone_block_unwanted"
            "When one of several readers of a block goes away, the block is wanted by nobody."
        DownloadStays "download_outlives_its_handle"
            "A range to download stays wanted when its handle is dropped."
        HoldKept "hold_never_released"
            "What a database holds in its store is not given back when it is closed."
        OwnHeadWaits "own_head_waits_for_any_sync"
            "An own log that is opened again is shown once somebody asks for a sync for another reason."
        ContradictionUnsynced "contradiction_unsynced"
            "Nobody asks for a sync when a contradiction is found."
        ConflictEndsLater "conflict_ends_later_sessions"
            "Sessions that are opened after a contradiction was found end with it, too."
        ContradictedUnserved "contradicted_log_is_not_served"
            "Sessions that only serve peers end with a contradiction of the owner also when they are opened later."
        DeadlineMoves "deadline_moves_with_the_core"
            "Who waits for a block waits as long again whenever the core changes."
        LimitStays "limit_outlives_its_download"
            "When a download of small blocks ends, its limit stays among what is wanted."
        ParentsStay "parents_across_the_fork_stay"
            "Who moves to another fork of a log keeps the nodes that stand for blocks on both sides of the place where it begins."
        DropUntold "dropped_block_untold"
            "Whoever replicates a core does not hear of a block that is dropped here."
        ShorterUncompared "shorter_log_not_compared"
            "Two logs that their owner signed are compared only when they have the same length."
        NewestHeadDropped "newest_waiting_head_dropped"
            "When as many own heads wait for a sync as may, the one that comes is never shown."
        NewestHeadEarly "newest_waiting_head_early"
            "When as many own heads wait for a sync as may, the one that comes is shown with the last of them."
    }
    Replication {
        LetGoStaysOffered "let_go_core_stays_offered"
            "A core that was let go counts as offered on the streams of then."
        LeftAnnouncerStays "left_announcer_stays"
            "A peer whose wakeup channel closed counts as there."
        SilenceUnforgiven "silence_never_forgiven"
            "A peer that was silent and answers again rests longer each further time for ever."
        GivenUpForgotten "given_up_block_not_asked_again"
            "A block that was asked for in vain is not asked for again."
        ClosedKeepsRequests "closed_channel_keeps_requests"
            "What was asked on a channel that closed counts as under way for ever."
        LostUpgradeCounts "lost_upgrade_blocks_others"
            "A request for a longer length that was given up counts as under way."
        BehindUnacknowledged "behind_not_acknowledged"
            "A peer that is behind gets no answer to its length, and so does not ask for ours."
        SilentForEver "silent_once_never_asked"
            "A peer that did not answer in time is never asked again on that stream."
        DurableUntold "durable_length_untold"
            "Peers are not told of an own head when it becomes durable, but with the next change."
        OpeningsUnseen "openings_unseen"
            "Cores that are opened while a stream is there are not offered on it."
        KeepAliveForgotten "keep_alive_forgotten"
            "A stream without traffic sends no keep alive."
        SilenceUnnoticed "silence_unnoticed"
            "A stream whose peer is gone without a word stays open."
        PendingUnannounced "pending_core_never_announced"
            "A core whose channel was not decided yet when it should have been announced is not announced later."
        AnnouncementReplaces "announcement_replaces_earlier"
            "An announcement replaces the one before it, also when nobody has looked at that."
        NeverUncorked "batch_never_uncorked"
            "Answers to several messages that came as one batch are collected, and never sent."
        NoDataForgotten "refused_request_not_given_back"
            "What a peer says it does not have stays asked for."
        RangeOfOne "announced_range_counts_for_one_block"
            "Of a run of blocks that a peer says it has the first counts alone."
        DownloadedUntold "downloaded_block_untold"
            "A block that comes from one peer is not announced to the others."
        KnownUnannounced "known_cores_unannounced"
            "A peer that becomes ready is told only of cores that come later."
        GivenBackUnwoken "given_back_wakes_nobody"
            "When a request is given up, no peer is looked at for what is to be asked again."
        HintKept "announced_below_the_hint_unseen"
            "Blocks that a peer announces are not looked for before the place where the last search ended."
        RootsUntold "roots_that_came_untold"
            "A peer that could not be proven its upgrade is not told when it can be."
        NumberReused "cancelled_number_given_again_at_once"
            "The number of a request that was given up goes to the next one, though an answer may be on its way."
        BoundDrains "bound_counts_as_drained"
            "A peer for which there is more to send than one look takes is not looked at again by itself."
        DeniedTail "denied_block_denies_the_rest"
            "A peer that does not have a block counts as having none behind it."
        CoupledUntold "later_writer_unannounced"
            "A writer that comes while a peer is ready is not announced to it."
        VoidBlamed "void_answer_counts"
            "A source that goes on to another fork before it answers is held to be at fault."
        SizeForgotten "size_given_up_not_asked_again"
            "A block whose size was asked for in vain is passed over by the other peers."
        PartedStands "parted_channel_still_stands"
            "A channel that was left still counts where it is asked how far a session is."
        DropEndsUpgrades "dropped_block_ends_upgrades"
            "A peer that dropped the block that it was asked for is not asked for a longer length any more."
        EvidenceForgotten "contradiction_shown_to_nobody"
            "Who finds that the owner of a log contradicted itself keeps nothing to show it."
        OneSideShown "own_side_shown_alone"
            "Of a contradiction a peer is shown the history alone that is here, which may be the one that it has."
        EvidenceNotRecalled "contradiction_not_shown_to_later_peers"
            "Peers that come after a contradiction was found are not shown it."
        MoveOutlives "move_outlives_its_request"
            "A move to another fork stays under way when the request for it is given up."
        EndedCounts "ended_session_counts"
            "A session that is over counts as one of those that may run at a time."
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
        HeadsCapped "append_links_four_heads"
            "An append links four heads at most, whatever else it stands on."
        ClockGoesBack "timestamp_of_the_clock"
            "The timestamp of an append is that of the clock, also when that is before what the append stands on."
        ClockClamps "timestamp_clamped_to_the_clock"
            "A batch whose timestamp is ahead of the local clock is ordered as if it was made now."
        RemovedApplies "removed_writer_applies"
            "Batches of a writer that was removed are applied."
        AckForgotten "acknowledgement_forgotten"
            "A stranger whom apply acknowledges gets no record."
        OwedForgotten "attestations_owed_are_forgotten"
            "Attestations that are owed when the engine is opened anew are never made."
        UndoOneShort "undo_one_batch_short"
            "Of what must go before a late batch the first is left where it is."
        CheckpointAhead "checkpoint_one_entry_ahead"
            "The state of a checkpoint has one entry more than the checkpoint says."
        RemovedStartsOver "removed_writer_starts_over"
            "Going back forgets how much of a removed writer lies before the checkpoint."
        RefusedMember "refused_batch_unrecorded"
            "A batch of a member that apply refuses is not recorded."
        RefusedStranger "refused_stranger_recorded"
            "A batch of a stranger that apply refuses is recorded like that of a member."
        RefusedOnce "refused_stranger_not_retried"
            "A batch of a stranger that was refused at one place of the order is not tried at the later ones."
        AnchorMisplaced "anchor_of_the_first_entry"
            "All anchors of a batch are those of its first entry."
        RecordedAnywhere "recorded_batch_taken_anywhere"
            "After a restart what was applied before comes back in its old order, whatever stands there now."
        RaiseUnseen "raise_unseen"
            "A set in which a batch raises its writer is sorted as if no weight changed in it."
        LateClaim "late_claim_undoes_nothing"
            "A late batch that claims a higher weight takes back only what loses to the weight from before."
        BaseLinkWaits "link_to_the_start_waits"
            "A batch that links the last forgotten block of a writer waits for that block."
        ReAddIgnored "removed_writer_not_added_again"
            "A removed writer that is added again stays removed."
        ClaimUnchecked "claim_unchecked"
            "A claim counts whether its signature is good or not."
        OldestHeadMissed "append_misses_oldest_head"
            "An append does not link the oldest head."
        HeardForgotten "attestations_heard_are_forgotten"
            "Attestations about the local writer are forgotten when the engine is opened anew."
        StrangerCandidate "safe_stranger_is_candidate"
            "Under safe rules a stranger's batch that apply accepts takes part without a member that links it."
        OwnTimestamp "own_timestamp_counts"
            "Under safe rules a batch is ordered by its own timestamp, also when what it links is later."
        ClaimUngranted "claim_without_its_grant"
            "Under safe rules a claim counts whose grant does not come before it."
        GuestMember "acceptance_is_membership"
            "Under safe rules a stranger whose batch apply accepts is a member."
        ClearTaken "clear_block_taken"
            "Under safe rules who joins an encrypted database takes a block that says that it is clear."
        RulesUnheard "rules_unheard"
            "Who joins takes the rules of the original for those of the database, whatever its creator recorded."
        AckNotBegun "acknowledgement_not_begun"
            "No member acknowledges the batch of a stranger that apply lets in."
        ComparedBefore "compared_with_the_view_before"
            "The view of another writer behind a batch is compared with the own one before it."
        ComparedUnequal "compared_behind_other_entries"
            "The view of another writer is compared with the own one whatever entries each stands behind."
        TrialsKept "trials_outlive_their_states"
            "What trials found is remembered when the states are thrown away in which they were made."
        GroupKept "weight_of_a_group_kept"
            "Candidates of one writer keep their weight as long as none of them is taken, whatever became of the records."
        WorstIsFirst "worst_of_many_picks_is_the_first"
            "The worst of a run of picks is the first one of it."
        DecidedEarly "claim_decided_one_pick_early"
            "A late batch is compared without its claim from one pick too early on."
        OneWaiterWoken "first_waiter_goes_on_alone"
            "Of the writers that wait for one block the first one goes on alone."
        NewerTopGone "newer_top_removed_by_an_older_link"
            "The last batch of a writer in the forgotten start counts as linked when an earlier one of it is."
        WorstIsLast "worst_forgotten_pick_is_the_last"
            "Of the picks that are forgotten the last one counts as the worst."
        CeilingKept "removal_keeps_the_ceiling"
            "A writer that is removed keeps its ceiling."
        LastAlarm "wakes_for_the_last_that_waits"
            "Of the entries that wait for the clock the last one is woken for."
        SettledFirstGrant "settled_by_the_first_grant"
            "Of who let a member in that never wrote, the first alone is looked at when it is asked what is settled."
        SettledLong "settled_one_pick_too_long"
            "The start of the order that is said to be settled has one pick too many."
        ClockBehind "clock_of_the_host_behind"
            "Apply is told of one batch less than were applied before."
        MissingListed "missing_still_listed"
            "The very block that was missing is listed as missing when it came."
        ClaimAboveCeiling "claim_above_ceiling"
            "A writer claims the highest weight that was attested, also when its ceiling is lower now."
        StampOfTheEnd "stamp_of_the_end"
            "The stamp of an own batch names the view behind the whole order."
        HeldBackListed "held_back_stays_listed"
            "A batch that waited for the clock is listed as waiting for ever."
        RejectionUnread "rejection_forgotten_at_reopen"
            "An own batch that was rejected before an opening counts as applied behind it."
        RejectionForgotten "rejection_forgotten_with_the_order"
            "What became of an own batch is forgotten with the start of the order, also when it was rejected."
        StatesPile "states_of_old_checkpoints_stay"
            "States of checkpoints that are no longer needed are kept in memory."
        ReasonLost "reason_of_a_refusal_lost"
            "Why apply refused an own batch that left no trace is not remembered."
        RoomUnchecked "stranger_room_unchecked"
            "An own batch of who is no member is written, also when no peer looks at so long a log."
        SettledRemoved "settled_without_removed_writers"
            "What removed writers may still have written is not waited for when it is asked what is settled."
        ElsewhereTaken "versions_elsewhere_taken_up"
            "Who begins with the first entry again takes up versions of trees that are another writer's."
        SecondGrantUnattested "second_grant_unattested"
            "Of two grants to one writer that wait for the next own batch the first is attested alone."
        ParkedTogether "parked_wait_for_each_other"
            "Batches of strangers are looked at again when all of those strangers have a record."
        LeftKeepsPicks "left_batch_keeps_its_picks"
            "A batch that left the set and comes back is not compared with picks that were made anew since."
    }
    Bee {
        MedianTwice "split_keeps_median"
            "The key between the two halves of a split stays in the upper half, too."
        MergeLosesKey "merge_loses_last_key"
            "A node that is merged into its neighbour loses its last key."
        WrongNeighbour "delete_takes_wrong_neighbour"
            "A deleted key of an inner node is replaced by the last key of a leaf, also when the first is the neighbour."
        DiffEndsEarly "changes_end_with_the_later_view"
            "Changes between two views leave out keys of the earlier that lie behind the last of the later."
        EqualLengthSkipped "put_of_equal_length_skipped"
            "A value that is as long as the one before it is not written."
        FirstValueRead "value_apart_is_the_first"
            "Of the values that a block keeps apart from their keys the first is read for each."
        ReverseBoundOut "reverse_leaves_out_its_bound"
            "A walk from the last key to the first leaves out the key of its inclusive bound."
        ReverseDiffForward "changes_in_reverse_compare_forwards"
            "Changes from the last key to the first pair keys as if they came from the first to the last."
        SeparatorKept "borrow_keeps_separator"
            "A key that is borrowed from the right leaves the key between the nodes where it is."
        DiffSameBlock "changes_skip_nodes_of_one_block"
            "Changes pass over two subtrees whose nodes are in one block, as if they were the same."
        BorrowedFirstChild "borrowed_child_from_the_wrong_end"
            "An inner node that borrows from the left takes the first child from there."
        FarBoundIn "range_takes_its_excluded_end"
            "A range has the key of the bound that it goes to, also when that is excluded."
        DeletionUntold "deletion_between_others_untold"
            "Changes between two views leave out keys that are gone and have others behind them."
        LastBlockChanges "changes_of_the_last_block_alone"
            "Of a batch of several blocks the keys of the last one are read alone."
        FirstPutWins "first_write_of_a_flush_wins"
            "Of several writes to one key in a flush the first one counts."
        HeadsCompared "keys_compared_by_their_first_bytes"
            "Keys whose first eight bytes are equal count as equal."
        EmptyRootStays "empty_root_stays"
            "A root that lost its last key to a merge stays the root."
        LastCoreListed "list_of_cores_has_the_last_alone"
            "When a tree comes to stand on another core, the list of those that it stands on has that one alone."
        DeletionsAlone "flush_of_deletions_unwritten"
            "A flush that does nothing but delete keys is not written."
        PutAfterDelete "put_after_delete_lost"
            "A key that is deleted and then put in one flush is gone."
        ListInFirstBlock "core_list_sought_in_the_first_block"
            "The list of cores that a batch of several blocks writes is looked for in the first of them."
    }
    Db {
        StatusStored "status_counts_stored_blocks"
            "The status says that all blocks of a writer are applied that are here."
        WatchRestLost "watch_forgets_the_rest"
            "Changes that are more than one event of a watch may have are not told."
        WriterUntold "second_writer_untold"
            "Of the writers that one drain makes members the first one is told of alone."
        AlarmOnce "alarm_rings_once"
            "Only the first entry from the future is looked at again when its time comes."
        GatherOnce "gather_timer_runs_once"
            "Blocks that are gathered after the first time are not applied when their time is over."
        FollowerLate "follower_starts_late"
            "Blocks that come between the opening of a core and the start of its task are not handed on."
        AckUnsynced "acknowledging_batch_never_synced"
            "An own batch that nobody waits for is written without a sync, so that peers do not see it."
        RemovedUnfetched "removed_writer_not_fetched"
            "What is left of a removed writer's log is not fetched."
        BackFeedsMembers "going_back_feeds_members_only"
            "After going back only the cores of those who are members there are handed to the engine again."
        PortionEndsDrain "drain_ends_with_a_portion"
            "A drain that is to go on after a portion ends there."
        GatherResetLate "gathered_during_a_drain_is_forgotten"
            "What comes in while gathered blocks are ordered counts as ordered with them."
        AwaitedUnopened "awaited_cores_unopened"
            "Cores for which batches wait are not opened unless they are those of members."
        LetGoForgotten "let_go_batch_never_tried_again"
            "Batches that left the set have no further turn."
        LinkedUnfetched "linked_strangers_unfetched"
            "Cores of strangers that batches link are not fetched."
        UnwritableUntold "unwritable_untold"
            "Nobody is told that the local writer may write no longer."
        OutcomeUntold "outcome_untold"
            "Nobody is told that an own batch is applied which waited, or the like."
        RotationUnstored "rotation_not_stored"
            "That another log is the local writer's is not stored."
        CutIsFinal "fast_forward_cut_is_final"
            "What belongs before the place from which a fast-forward went on is ordered behind it."
        ClosedPublished "closed_log_stays_published"
            "Readers keep a log that was let go of."
        MeanwhileTried "what_came_meanwhile_counts_as_tried"
            "What came of a stranger while its earlier batches were tried counts as tried with them."
        UnopenedForgotten "unopened_log_not_tried_again"
            "A log that could not be opened is not tried again."
        PassedUnstored "passed_over_not_stored"
            "How much of each log a fast-forward passed over is not stored."
        ReturnedUntold "returned_writer_untold"
            "Nobody is told of a writer that is added again after its removal."
        ArmedForGood "armed_timer_not_reset"
            "A timer that ran counts as set for the time that it ran at."
        HookFromNow "hook_told_from_now"
            "The update hook is told that a change began where it ended."
        WaitGivenUp "wait_for_a_tree_block_given_up"
            "A block of a tree that no peer gives in time is not waited for any longer."
        LetGoRunsOn "let_go_connection_runs_on"
            "The connection of a peer that is let go is not closed."
        DialledOnce "kept_peer_dialled_once"
            "A peer that is kept connected is not dialled again when its connection ended."
        AppendUnfinished "given_up_append_unfinished"
            "Nobody sees to it that an append is written whose caller went away."
        SupposedKept "settled_if_silent_is_kept"
            "What would be settled if some writers were silent counts as settled from then on."
        FlushAwaitsStalled "flush_waits_for_stalled_logs"
            "A flush waits for the rest of a log of which nothing more is taken."
        DoubtUnstored "doubt_of_the_own_log_unstored"
            "That peers may have more of the own log is not stored, so that after the next opening nobody is asked."
        RefusedOwnStops "refused_own_batch_stops_the_peer"
            "An own batch that the log does not take any more, as it is contradicted, stops the peer."
        DamagedTreesKept "damaged_trees_kept"
            "An opening goes on with trees of which blocks were damaged."
    }
}

/// Slips that one number of [`Planted`] has room for.
const BITS: usize = u128::BITS as usize;

/// Which slips are made. None by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Planted([u128; 2]);

impl Planted {
    /// No slip.
    #[must_use]
    pub const fn none() -> Self {
        Self([0; 2])
    }

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
        let mut all = [0; 2];
        for slip in planted {
            all[*slip as usize / BITS] |= 1 << (*slip as usize % BITS);
        }
        Self(all)
    }

    /// True when the slip is to be made.
    #[inline]
    #[must_use]
    pub const fn has(self, slip: Slip) -> bool {
        self.0[slip as usize / BITS] & (1 << (slip as usize % BITS)) != 0
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
        assert!(Slip::ALL.len() <= 2 * BITS);
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
