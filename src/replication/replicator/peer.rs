//! What is known of one peer of a core.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use super::demand::RangeId;
use super::wants::Wants;
use crate::env::Mono;
use crate::replication::have::Have;
use crate::replication::message::{self, Message, RequestMessage, Sync, Want};
use crate::replication::settings::ReplicatorSettings;

/// One channel of a core to a peer.
#[derive(Debug)]
pub(super) struct Peer {
    /// It understands seeks.
    pub(super) seeks: bool,
    /// Its last sync; before it, what is assumed.
    pub(super) sync: Sync,
    /// Whether there was one.
    pub(super) synced: bool,
    /// It had something that was to be here and was not, when that was asked last.
    pub(super) is_behind: bool,
    pub(super) have: Have,
    pub(super) wants: Wants,

    // What is to be sent.
    pub(super) sync_due: bool,
    /// It was told that its length cannot be upgraded: too few tree nodes are here.
    pub(super) lacks_roots: bool,
    /// Announce the contiguous length.
    pub(super) contiguous_due: bool,
    pub(super) dropped: Vec<Range<u64>>,
    pub(super) added: Vec<Range<u64>>,
    pub(super) wants_due: VecDeque<Want>,
    pub(super) outbox: VecDeque<Message>,
    pub(super) requests_due: VecDeque<RequestMessage>,

    // What we ask.
    pub(super) in_flight: usize,
    /// When it last began to have something to answer.
    pub(super) asked_since: Mono,
    pub(super) our_wants: VecDeque<u64>,
    /// Per range, from where to look for a block to ask.
    pub(super) hints: BTreeMap<RangeId, u64>,
    pub(super) speed: Speed,
    /// It sent something wrong: it is asked nothing more.
    pub(super) paused: bool,
    /// It does not answer, or suspects us: it is asked nothing until then.
    pub(super) resting_until: Mono,
    pub(super) rests: u32,
    pub(super) misfits: u32,
    /// Answers that a move of its own to another fork excuses, since the last one that was stored.
    pub(super) void: u32,
    pub(super) no_data: [u32; 2],
    /// Requests of it that could not be proven.
    pub(super) invalid: u32,
    pub(super) compared: Compared,
    /// So many sides of what it took for a contradiction of the owner it showed, unasked.
    pub(super) sides_shown: u8,
    /// It has not been shown the contradiction that is known of the owner.
    pub(super) evidence_due: bool,
    pub(super) allowance: Allowance,
}

/// Whether a peer has the same own log as its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compared {
    /// It was not asked.
    Due,
    /// It was, with this request.
    Asked(u64),
    /// It answered.
    Done,
}

/// How much more work the announcements of a peer may cause.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Allowance {
    used: u64,
    since: Mono,
}

impl Allowance {
    /// Takes so much of it. False when that is too much. A burst is forgotten within 32 seconds.
    pub(super) fn take(&mut self, cost: u64, burst: u64, now: Mono) -> bool {
        let back = now.since(self.since).as_millis() * u128::from(burst) / 32_000;
        if back > 0 {
            self.used = self.used.saturating_sub(u64::try_from(back).unwrap_or(u64::MAX));
            self.since = now;
        }
        self.used = self.used.saturating_add(cost);
        self.used <= burst
    }
}

/// How fast a peer answers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Speed {
    /// Smoothed time for one answer when it has work.
    pub(super) service: Option<Duration>,
    pub(super) last_answer: Mono,
}

impl Peer {
    pub(super) fn new(seeks: bool, settings: &ReplicatorSettings) -> Self {
        Self {
            seeks,
            sync: Sync {
                uploading: true,
                downloading: true,
                ..Sync::default()
            },
            synced: false,
            is_behind: true,
            have: Have::new(settings.announced_pages),
            wants: Wants::default(),
            sync_due: true,
            lacks_roots: false,
            contiguous_due: true,
            dropped: Vec::new(),
            added: Vec::new(),
            wants_due: VecDeque::new(),
            outbox: VecDeque::new(),
            requests_due: VecDeque::new(),
            in_flight: 0,
            asked_since: Mono(0),
            our_wants: VecDeque::new(),
            hints: BTreeMap::new(),
            speed: Speed::default(),
            paused: false,
            resting_until: Mono(0),
            rests: 0,
            misfits: 0,
            void: 0,
            no_data: [0; 2],
            invalid: 0,
            compared: Compared::Due,
            sides_shown: 0,
            evidence_due: false,
            allowance: Allowance::default(),
        }
    }

    /// True when it may be asked something now.
    pub(super) fn is_askable(&self, now: Mono) -> bool {
        self.sync.uploading && !self.paused && self.resting_until <= now
    }

    /// True when a block of this fork can be asked for.
    pub(super) fn offers(&self, index: u64, fork: u64) -> bool {
        self.sync.fork == fork && index < self.sync.length && self.have.contains(index)
    }

    /// True when it has not said, since it was asked, that it dropped the block or went to another fork.
    pub(super) fn claims(&self, asked: &RequestMessage) -> bool {
        match asked.request.block {
            Some(block) => self.offers(block.index, asked.fork),
            None => self.sync.fork == asked.fork,
        }
    }

    /// Blocks were announced from `start` on: look there again.
    pub(super) fn look_from(&mut self, start: u64) {
        for hint in self.hints.values_mut() {
            *hint = start.min(*hint);
        }
    }

    /// Adds a run of blocks to announce, joined with the last one if it can be.
    pub(super) fn announce(&mut self, run: Range<u64>, limit: usize) {
        if let Some(last) = self.added.last_mut()
            && run.start <= last.end
            && last.start <= run.end
        {
            *last = last.start.min(run.start)..last.end.max(run.end);
        } else if self.added.len() < limit {
            self.added.push(run);
        } else {
            // It will want what it needs.
            self.contiguous_due = true;
        }
    }

    /// Adds a run of blocks that are there no longer.
    pub(super) fn withdraw(&mut self, run: Range<u64>, limit: usize) {
        self.added
            .retain(|added| added.end <= run.start || run.end <= added.start);
        if self.dropped.len() < limit {
            self.dropped.push(run);
        } else if let Some(last) = self.dropped.last_mut() {
            // More than is true. What is left is announced again, or wanted.
            *last = last.start.min(run.start)..last.end.max(run.end);
        }
        self.contiguous_due = true;
    }

    /// When it last answered, or was first asked after that.
    pub(super) fn last_sign(&self) -> Mono {
        self.asked_since.max(self.speed.last_answer)
    }

    /// The next run of blocks to announce.
    pub(super) fn take_announcement(&mut self) -> Option<message::RangeMessage> {
        let (drop, run) = match self.dropped.pop() {
            Some(run) => (true, run),
            None => (false, self.added.pop()?),
        };
        Some(message::RangeMessage {
            drop,
            start: run.start,
            length: run.end.saturating_sub(run.start),
        })
    }
}

impl Speed {
    /// Counts an answer to a request.
    pub(super) fn answered(&mut self, sent: Mono, now: Mono) {
        let sample = now.since(sent.max(self.last_answer));
        self.service = Some(
            self.service
                .map_or(sample, |smoothed| (smoothed * 7 + sample) / 8),
        );
        self.last_answer = now;
    }

    /// When the last of `requests` requests would be answered.
    pub(super) fn estimate(&self, requests: usize) -> Duration {
        let service = self.service.unwrap_or(Duration::from_millis(1));
        service.saturating_mul(u32::try_from(requests).unwrap_or(u32::MAX))
    }
}
