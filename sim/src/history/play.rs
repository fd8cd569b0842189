//! Plays a history on machines, and holds what they make of it against the model.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use autobee::Error;
use autobee::crypto::CoreKey;
use autobee::db::OrderedEntry;
use autobee::hypercore::manifest::Manifest;
use autobee::wire::{Length, Link, Weight};
use bytes::Bytes;

use super::{HistoryFailure, HistoryReport, HistoryStep, ModelAnswers, PeerHistory};
use crate::lane0::{HistoryBlock, Peer, Reading, reader_keys, writer_keys};
use crate::model::{ModelRecord, ModelState};
use crate::sweep::panic_message;
use crate::workload::Op;

/// Rounds at the end, in each of which every member writes and everybody hears everything: a grant is attested in one,
/// claimed in the next, and one more may be due to what was acknowledged.
const ROUNDS: u64 = 4;

/// In each of them everybody is asked so often whether there is more to hear, at most.
const EXCHANGES_MAX: usize = 12;

/// Time goes on by so much in each round, in milliseconds: longer than any clock is ahead.
const ROUND_MS: u64 = 4 * 3_600_000;

/// Strangers have so many turns each time, so many milliseconds from one another.
const TURNS: u64 = 4;
const TURN_MS: u64 = 2_000;

/// Who reads the whole history at the end, block by block.
const READERS: [Reading; 2] = [
    Reading::usual(),
    Reading {
        applies_max: 1,
        window_batches: 1,
        ..Reading::usual()
    },
];

impl PeerHistory {
    /// Plays it.
    ///
    /// # Errors
    ///
    /// With the first thing that does not hold.
    ///
    /// # Panics
    ///
    /// When the library does.
    pub fn play(&self) -> Result<HistoryReport, HistoryFailure> {
        let mut play = HistoryPlay::new(self);
        for (number, step) in self.steps.iter().enumerate() {
            play.at = Some(number);
            play.step(step)?;
        }
        play.at = None;
        play.end()?;
        Ok(play.report)
    }

    /// Plays it. A panic is a failure of the invariant `no failure`.
    ///
    /// # Errors
    ///
    /// With the first thing that does not hold.
    pub fn play_caught(&self) -> Result<HistoryReport, HistoryFailure> {
        // Everything that it touches is its own, and dropped with it.
        let played = catch_unwind(AssertUnwindSafe(|| self.play()));
        played.unwrap_or_else(|panic| {
            Err(HistoryFailure {
                step: None,
                invariant: "no failure",
                what: format!("panicked: {}", panic_message(&*panic)),
            })
        })
    }
}

/// What a peer holds.
#[derive(Clone)]
struct PeerLook {
    order: Vec<OrderedEntry>,
    state: ModelState,
    /// Per log, up to where its batches are in the set.
    known: BTreeMap<CoreKey, Length>,
}

impl PeerLook {
    /// None while the peer makes an order.
    fn at(peer: &Peer) -> Option<Self> {
        Some(Self {
            order: peer.order(),
            state: peer.state(),
            known: peer.machine().engine().covered()?.known,
        })
    }

    /// True when the sets differ only in logs of those who are no members at the creator. What apply refuses of these leaves
    /// the set, with what stands on it, and comes back in its turn or when a member needs it: until then one peer may have what
    /// another one has not, and whose own log it is has it for good.
    fn is_apart(&self, creator: &Self) -> bool {
        let is_member = |key: &CoreKey| {
            let record = creator.state.records.get(key);
            record.is_some_and(|record| !record.is_guest)
        };
        let mut keys = self.known.keys().chain(creator.known.keys());
        self.known != creator.known
            && keys.all(|key| self.known.get(key) == creator.known.get(key) || !is_member(key))
    }
}

/// Has a peer told again of all logs, and lets it do what waits for a time, strangers in their turns.
fn patient(peer: &mut Peer, keys: &[CoreKey], now: u64) {
    for turn in 0..TURNS {
        peer.set_time(now + turn * TURN_MS);
        for key in keys {
            peer.announce(key);
        }
        peer.look_at_clock();
    }
}

pub(super) struct HistoryPlay<'a> {
    history: &'a PeerHistory,
    pub(super) keys: Vec<CoreKey>,
    pub(super) peers: Vec<Peer>,
    /// Of each peer, what it said to be settled: how many entries, and the version of the records behind them.
    settled: Vec<Option<(u64, Link)>>,
    answers: ModelAnswers,
    report: HistoryReport,
    /// Milliseconds since the start.
    now: u64,
    pub(super) at: Option<usize>,
}

impl<'a> HistoryPlay<'a> {
    fn new(history: &'a PeerHistory) -> Self {
        let pairs = writer_keys(history.peers.len());
        let keys: Vec<CoreKey> = pairs
            .iter()
            .map(|pair| Manifest::single(pair.public).key())
            .collect();
        let rules = history.rules();
        let planted = history.planted();
        let peers = pairs.into_iter().zip(&history.peers).map(|(pair, as_drawn)| {
            let mut peer = Peer::writer(keys[0], pair, rules, &as_drawn.reading(planted));
            peer.set_skew(as_drawn.skew_ms);
            peer
        });
        Self {
            history,
            peers: peers.collect(),
            settled: vec![None; keys.len()],
            answers: ModelAnswers::new(keys[0], rules),
            keys,
            report: HistoryReport::default(),
            now: 0,
            at: Some(0),
        }
    }

    fn step(&mut self, step: &HistoryStep) -> Result<(), HistoryFailure> {
        // A moment goes by with each step, or no two entries would have another time.
        self.now += 10;
        match step {
            HistoryStep::Append {
                peer,
                optimistic,
                meanwhile,
                refused,
                ops,
            } => {
                if *refused {
                    self.peers[*peer].refuse_commit();
                }
                self.append(*peer, ops, *optimistic, *meanwhile)?;
                self.peers[*peer].allow_commits();
                self.judge(*peer)
            }
            HistoryStep::Receive {
                peer,
                log,
                blocks,
                backwards,
            } => {
                let most = if *blocks == 0 { usize::MAX } else { *blocks };
                self.receive(*peer, *log, &self.keys[*log].clone(), most, *backwards);
                self.judge(*peer)
            }
            HistoryStep::Sync { peer, with } => {
                self.sync(*peer, *with);
                self.judge(*peer)
            }
            HistoryStep::Reopen { peer } => {
                if let Err(why) = self.peers[*peer].reopen() {
                    return self.fails("no failure", *peer, &format!("it cannot be opened again: {why}"));
                }
                self.judge(*peer)
            }
            HistoryStep::Pass { ms } => {
                self.now += ms;
                for peer in 0..self.peers.len() {
                    self.peers[peer].set_time(self.now);
                    self.peers[peer].look_at_clock();
                    self.judge(peer)?;
                }
                Ok(())
            }
        }
    }

    /// A peer appends, if it may, while it hears of somebody.
    fn append(
        &mut self,
        peer: usize,
        ops: &[Op],
        optimistic: bool,
        meanwhile: Option<usize>,
    ) -> Result<(), HistoryFailure> {
        let values = ops.iter().map(|op| self.resolved(op).to_value().into());
        let values: Vec<Bytes> = values.collect();
        let comes = meanwhile.map_or_else(Vec::new, |log| {
            self.next_blocks(peer, log, &self.keys[log], usize::MAX)
        });
        let own = self.keys[peer];
        let writer = &mut self.peers[peer];
        writer.set_time(self.now);
        let before = writer.log_length(&own);
        let appended = writer.append_while(values, optimistic, |writer| {
            for block in &comes {
                writer.hand_over(block);
            }
        });
        let behind = writer.log_length(&own);
        match appended {
            // An acknowledgement may be written first.
            Ok(length) if length.0 >= before + ops.len() as u64 && behind >= length.0 => {
                self.report.appends += 1;
            }
            Err(Error::NotWritable { .. } | Error::NoRoom { .. }) => self.report.refused += 1,
            Err(Error::Unconfirmed { .. }) => {
                // What is made anew has other versions behind it.
                self.settled[peer] = None;
                self.report.withdrawn += 1;
            }
            outcome => {
                let what = format!("an append came to {outcome:?}");
                return self.fails("no failure", peer, &what);
            }
        }
        Ok(())
    }

    /// With the keys of those whom it names.
    fn resolved(&self, op: &Op) -> Op {
        let key = |name: &Option<String>| {
            let name = name.as_ref()?;
            let key = self
                .history
                .number_of(name)
                .map(|number| self.keys[number].to_hex());
            Some(key.unwrap_or_else(|| name.clone()))
        };
        Op {
            add_writer: key(&op.add_writer),
            remove_writer: key(&op.remove_writer),
            ack: key(&op.ack),
            ..op.clone()
        }
    }

    /// The blocks of a log that one peer lacks and another one has, so many at most.
    fn next_blocks(&self, peer: usize, from: usize, log: &CoreKey, most: usize) -> Vec<HistoryBlock> {
        let lacks = self.peers[peer].log_length(log);
        if peer == from || self.peers[from].log_length(log) <= lacks || self.keys[peer] == *log {
            return Vec::new();
        }
        let blocks = (0..).zip(self.peers[from].log(log));
        let blocks = blocks
            .skip(usize::try_from(lacks).unwrap_or(usize::MAX))
            .take(most);
        blocks
            .map(|(index, bytes)| HistoryBlock {
                core: *log,
                index,
                bytes,
            })
            .collect()
    }

    /// A peer gets blocks of a log that another one has.
    fn receive(&mut self, peer: usize, from: usize, log: &CoreKey, most: usize, backwards: bool) {
        let mut blocks = self.next_blocks(peer, from, log, most);
        if backwards {
            blocks.reverse();
        }
        let peer = &mut self.peers[peer];
        peer.set_time(self.now);
        for block in &blocks {
            peer.hand_over(block);
        }
    }

    fn sync(&mut self, peer: usize, with: usize) {
        for log in self.keys.clone() {
            self.receive(peer, with, &log, usize::MAX, false);
        }
    }

    // Judging.

    /// Holds a peer against the model, and against what it said before.
    fn judge(&mut self, number: usize) -> Result<(), HistoryFailure> {
        let peer = &mut self.peers[number];
        if let Some(why) = peer.stopped() {
            let what = format!("nothing is applied any more: {why}");
            return self.fails("no failure", number, &what);
        }
        let engine = peer.machine().engine();
        let Some(covered) = engine.covered() else {
            let what = "its drain did not come to an end";
            return match engine.is_settled() {
                false => self.fails("no failure", number, what),
                true => Ok(()),
            };
        };
        self.settled_stays(number)?;
        let peer = &mut self.peers[number];
        let answer = self.answers.of(&covered.known, |log| peer.log(log));
        let (order, state) = (peer.order(), peer.state());
        let as_read = peer.published_order();
        self.report.comparisons += 1;
        if order != answer.0 {
            let what = format!(
                "its order differs from the model: {}",
                self.orders(&order, &answer.0)
            );
            return self.fails("order", number, &what);
        }
        if as_read != order {
            let what = format!("its order as it is read: {}", self.orders(&as_read, &order));
            return self.fails("order", number, &what);
        }
        if state != answer.1 {
            let what = self.states(&state, &answer.1);
            return self.fails("state", number, &what);
        }
        self.takes_all(number, &covered.known, &state)
    }

    /// Whatever is here of those who may write is in the set, but what is from the future.
    fn takes_all(
        &self,
        number: usize,
        known: &BTreeMap<CoreKey, Length>,
        state: &ModelState,
    ) -> Result<(), HistoryFailure> {
        let peer = &self.peers[number];
        let engine = peer.machine().engine();
        if engine.waits_until().is_some() || engine.unready_blocks() > 0 {
            return Ok(());
        }
        for (key, record) in &state.records {
            if record.is_anchor || record.is_guest || !self.keys.contains(key) {
                continue;
            }
            let taken = known.get(key).copied().unwrap_or_default();
            let here = peer.log_length(key);
            if taken.0 != here {
                let name = self.name(key);
                let what = format!("it has {here} blocks of {name}, and orders {}", taken.0);
                return self.fails("nothing left out", number, &what);
            }
        }
        Ok(())
    }

    /// What was settled has the same version of the records behind it as long as that can be told.
    fn settled_stays(&mut self, number: usize) -> Result<(), HistoryFailure> {
        let engine = self.peers[number].machine().engine();
        if let Some((entries, head)) = self.settled[number]
            && let Some(now) = engine.head_behind(entries)
            && now != head
        {
            let what = format!("it said that {entries} entries can no longer change, and they did");
            return self.fails("settled stays", number, &what);
        }
        let settled = engine.settled(|_| false);
        if let Some(head) = settled.head
            && !settled.rests_on_strangers
            && self.settled[number].is_none_or(|(entries, _)| entries < settled.entries)
        {
            self.settled[number] = Some((settled.entries, head));
        }
        Ok(())
    }

    // The end.

    /// Everybody hears everything and writes, a few times; then all agree, and so does who reads it all at once.
    fn end(&mut self) -> Result<(), HistoryFailure> {
        for round in 0..=ROUNDS {
            self.exchange();
            self.now += ROUND_MS;
            for peer in 0..self.peers.len() {
                self.go_on(peer);
            }
            self.exchange();
            for peer in 0..self.peers.len() {
                if round < ROUNDS && self.is_writer(peer) {
                    let op = Op::put("end", format!("{peer} {round}"));
                    self.append(peer, &[op], false, None)?;
                }
                self.judge(peer)?;
            }
        }
        for peer in 0..self.peers.len() {
            self.step(&HistoryStep::Reopen { peer })?;
            self.go_on(peer);
            self.judge(peer)?;
        }
        // Who goes on from another place may acknowledge what it could not tell the date of before.
        self.exchange();
        let mut first = None;
        for number in 0..self.peers.len() {
            let Some(one) = PeerLook::at(&self.peers[number]) else {
                return self.fails("no failure", number, "it still waits for something");
            };
            let first = first.get_or_insert_with(|| one.clone());
            if one.is_apart(first) {
                self.report.apart += 1;
            } else {
                self.agrees(number, &one, first)?;
            }
            let settled = self.settled[number].map_or(0, |settled| settled.0);
            self.report.settled = self.report.settled.max(settled);
        }
        let Some(first) = first else { return Ok(()) };
        self.report.entries = first.order.len() as u64;
        self.weights_reached(&first.state)?;
        self.read_at_once(&first)
    }

    fn exchange(&mut self) {
        for _ in 0..EXCHANGES_MAX {
            let before = self.blocks_held();
            for peer in 0..self.peers.len() {
                for with in 0..self.peers.len() {
                    self.sync(peer, with);
                }
            }
            if self.blocks_held() == before {
                return;
            }
        }
    }

    /// What a peer was told of is told again, and what waits for a time goes on: strangers have their turns.
    fn go_on(&mut self, peer: usize) {
        patient(&mut self.peers[peer], &self.keys, self.now);
    }

    fn blocks_held(&self) -> u64 {
        let held = self.peers.iter().map(|peer| {
            let logs = self.keys.iter();
            logs.map(|key| peer.log_length(key)).sum::<u64>()
        });
        held.sum()
    }

    fn is_writer(&self, peer: usize) -> bool {
        self.peers[peer].machine().engine().is_writer(&self.keys[peer])
    }

    /// A peer is as p0 in the end.
    fn agrees(&self, number: usize, one: &PeerLook, first: &PeerLook) -> Result<(), HistoryFailure> {
        if one.order != first.order {
            let what = format!(
                "its order is not that of p0: {}; it orders {}, p0 {}",
                self.orders(&one.order, &first.order),
                self.lengths(&one.known),
                self.lengths(&first.known)
            );
            return self.fails("convergence", number, &what);
        }
        if one.state != first.state {
            let what = format!("not as at p0: {}", self.states(&one.state, &first.state));
            return self.fails("convergence", number, &what);
        }
        Ok(())
    }

    /// What was granted is reached, where nobody was removed: whoever granted it was there to attest it. Nobody attests what
    /// a writer grants itself, or what a stranger does who is not let in.
    fn weights_reached(&mut self, state: &ModelState) -> Result<(), HistoryFailure> {
        let appended = self.history.steps.iter().flat_map(|step| match step {
            HistoryStep::Append {
                peer,
                optimistic,
                ops,
                ..
            } => ops.iter().map(|op| (*peer, *optimistic, op)).collect(),
            _ => Vec::new(),
        });
        let appended: Vec<(usize, bool, &Op)> = appended.collect();
        if appended.iter().any(|(_, _, op)| op.remove_writer.is_some()) {
            return Ok(());
        }
        for (number, key) in self.keys.iter().enumerate() {
            let is_member = |record: &&ModelRecord| !record.is_anchor && !record.is_guest;
            let Some(record) = state.records.get(key).filter(is_member) else {
                continue;
            };
            let name = Some(format!("p{number}"));
            let is_unattested = |(peer, is_stranger, op): &(usize, bool, &Op)| {
                (*peer == number || *is_stranger) && op.add_writer == name
            };
            if appended.iter().any(is_unattested) {
                continue;
            }
            if record.weight < record.max_weight {
                let Weight(weight) = record.weight;
                let what = format!(
                    "it stands with weight {weight}, and was granted {}",
                    record.max_weight.0
                );
                return self.fails("weights reached", number, &what);
            }
            self.report.weights += 1;
        }
        Ok(())
    }

    fn read_at_once(&mut self, first: &PeerLook) -> Result<(), HistoryFailure> {
        for reading in READERS {
            let reading = Reading {
                planted: self.history.planted(),
                ..reading
            };
            let mut reader = Peer::writer(self.keys[0], reader_keys(), self.history.rules(), &reading);
            reader.set_time(self.now);
            for key in self.keys.iter().rev() {
                for (index, bytes) in (0..).zip(self.peers[0].log(key)) {
                    reader.hand_over(&HistoryBlock {
                        core: *key,
                        index,
                        bytes,
                    });
                }
            }
            patient(&mut reader, &self.keys, self.now);
            if let Some(why) = reader.stopped() {
                let what = format!("who reads it all at once stopped: {why}");
                return self.fails("no failure", 0, &what);
            }
            let Some(one) = PeerLook::at(&reader) else {
                return self.fails("no failure", 0, "who reads it all at once waits for something");
            };
            if one.is_apart(first) {
                self.report.apart += 1;
                continue;
            }
            self.agrees(0, &one, first).map_err(|failure| {
                let what = format!("who reads it all at once: {}", failure.what);
                HistoryFailure { what, ..failure }
            })?;
        }
        Ok(())
    }
}
