//! One portion of a drain: order, apply, write what came of it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::log::StoredLog;
use super::own::UnwrittenBatch;
use super::record::{ApplyChange, PASSED_OVER, TreeCommit, TreeLengths};
use super::{Effect, Event, Machine, Now};
use crate::crypto::CoreKey;
use crate::engine::{Drained, ResumeError, Stop};
use crate::env::{Crypto, Point, Slip, TraceEvent};
use crate::error::Error;
use crate::store::Seq;
use crate::wire::Length;

/// What goes on once a commit is made.
pub(super) enum Writing {
    /// Of an own batch.
    Own {
        is_awaited: bool,
        values: usize,
        drained: Drained,
    },
    /// Of the trees alone.
    Trees { drained: Drained },
}

impl<C: Crypto, L: StoredLog> Machine<C, L> {
    /// Orders and applies. The own batch that was applied is written; when there is none and one is owed, which
    /// acknowledges a stranger's, that is begun, and there is more to drain.
    ///
    /// When the portion ends with an error, the state of the engine is not stored: it may hold an own batch that the log
    /// has not.
    pub(super) fn drain(&mut self, applies_max: usize, now: Now) {
        if let Some(mismatch) = self.mismatch {
            return self
                .effects
                .push(Effect::Drained(Err(Error::EncryptionKey { mismatch })));
        }
        let mut drained = match self.engine.drain(now.wall, applies_max) {
            Ok(drained) => drained,
            Err(stop) => {
                if let Some(UnwrittenBatch { is_awaited: true, .. }) = self.own.pending.take() {
                    let reason = stop.reason.clone();
                    self.own.outcome = Some(Err(Error::Interrupted { reason }));
                }
                return self.stopped(stop);
            }
        };
        if drained.is_behind && self.waits_for_all() {
            // The order stays as it is; an own batch goes to its log all the same.
        } else if drained.is_behind {
            if let Err(error) = self.go_back(now) {
                return self.effects.push(Effect::Drained(Err(error)));
            }
            drained.more = true;
        } else {
            self.let_go();
            drained.more |= self.take_back(now);
        }
        if drained.more {
            return self.save(drained, now);
        }
        let Some(UnwrittenBatch { batch, is_awaited }) = self.own.pending.take() else {
            drained.more = drained.missing.is_none() && self.begin_ack(now);
            return self.save(drained, now);
        };
        match self.stamp(batch) {
            Ok(write) => {
                self.writing = Some(Writing::Own {
                    is_awaited,
                    values: write.own.len(),
                    drained,
                });
                self.effects.push(Effect::Write(write));
            }
            Err(error) => self.own_settled(Err(error), is_awaited, drained, now),
        }
    }

    /// What became of a commit.
    pub(super) fn written(&mut self, written: Result<TreeLengths, Error>, now: Now) {
        if let Ok(written) = &written {
            let rebuild = self.record.rebuild();
            self.record.saved(written);
            if let Some(change) = rebuild.filter(|_| self.record.rebuild().is_none()) {
                let ApplyChange { from, to } = change;
                self.effects.push(Effect::Tell(Event::Rebuilt { from, to }));
            }
        }
        match self.writing.take() {
            Some(Writing::Own {
                is_awaited,
                values,
                drained,
            }) => {
                let outcome = written.and_then(|written| {
                    let length = written.own.unwrap_or_default();
                    Ok((self.appended(length, values, now)?, written.seq))
                });
                self.own_settled(outcome, is_awaited, drained, now);
            }
            Some(Writing::Trees { drained }) => match written {
                Ok(_) => self.over(drained, now),
                Err(error) => self.effects.push(Effect::Drained(Err(error))),
            },
            None => {}
        }
    }

    /// What became of the own batch.
    fn own_settled(
        &mut self,
        outcome: Result<(Length, Seq), Error>,
        is_awaited: bool,
        drained: Drained,
        now: Now,
    ) {
        let failed = outcome.as_ref().err().map(|error| {
            let reason = format!("an entry could not be written to the local log: {error}");
            (reason, is_of_the_log(error))
        });
        match outcome {
            outcome if is_awaited => self.own.outcome = Some(outcome),
            Ok((_, seq)) if !self.planted.has(Slip::AckUnsynced) => self.effects.push(Effect::Sync(seq)),
            Err(error) if is_of_the_log(&error) => self.failed("an own entry that nobody waits for", &error),
            // The engine stops, and says so.
            Ok(_) | Err(_) => {}
        }
        let Some((reason, is_of_log)) = failed else {
            return self.save(drained, now);
        };
        if is_of_log && !self.planted.has(Slip::RefusedOwnStops) && self.withdraw(now) {
            let drained = Drained {
                more: true,
                missing: None,
                wanted: None,
                ..drained
            };
            return self.save(drained, now);
        }
        self.engine.give_up(&*reason);
        self.stopped(Stop { reason });
    }

    /// The own log does not take the own batch: the order is made anew without it. False when that cannot be done.
    fn withdraw(&mut self, now: Now) -> bool {
        let from_the_start = self.engine.withdraws_from_the_start();
        if from_the_start && self.record.passes_over() {
            // The starts of logs are not here.
            return false;
        }
        let from = match from_the_start {
            true => BTreeMap::new(),
            false => self.engine.forgotten_lengths().collect(),
        };
        let Ok(read) = self.logs.read_again(&from) else {
            return false;
        };
        self.finality.reset();
        if self.engine.withdraw().is_err() {
            return false;
        }
        self.feed_again(read, now);
        true
    }

    /// Stores what was applied. It is durable with the next sync.
    fn save(&mut self, drained: Drained, now: Now) {
        if !self.record.has_news(self.logs.forks(), &self.engine) {
            return self.over(drained, now);
        }
        match self.record.write(self.logs.forks(), &mut self.engine) {
            Ok(mut write) => {
                self.slip_in(&mut write);
                self.writing = Some(Writing::Trees { drained });
                self.effects.push(Effect::Write(write));
            }
            Err(error) => self.effects.push(Effect::Drained(Err(error.into()))),
        }
    }

    /// Leaves out what a slip forgets.
    pub(super) fn slip_in(&self, write: &mut TreeCommit) {
        if self.planted.has(Slip::PassedUnstored) {
            write.values.retain(|(name, _)| *name != PASSED_OVER);
        }
    }

    /// The portion came to its end.
    fn over(&mut self, mut drained: Drained, now: Now) {
        if drained.undone > 0 {
            self.trace(|| TraceEvent::Undone {
                batches: drained.undone as u64,
            });
        }
        if let Some(missing) = drained.missing {
            self.trace(|| TraceEvent::Suspended {
                core: missing.core,
                index: missing.index.0,
            });
        }
        if !drained.more && self.planted.has(Slip::GatherResetLate) {
            self.gather.release();
        }
        let (batches, applies) = (self.engine.batches() as u64, self.engine.stats().applies);
        self.trace(|| TraceEvent::Drained { batches, applies });
        self.sights
            .note_if(Point::DrainSuspended, drained.missing.is_some());
        self.sights.note_if(Point::DrainInPortions, drained.more);
        self.look();
        if !drained.more && self.engine.is_settled() && self.turns.are_few() {
            drained.more = self.admit(now).is_some();
        }
        if let Some(at) = drained.wake_at {
            self.set_alarm(at);
        }
        if !drained.more && self.wanted.is_over() {
            self.effects.push(Effect::ChooseLogs);
        }
        // A portion that is not the last one says nothing of what strangers wait for.
        if !drained.more {
            let awaited = drained.missing.or(drained.wanted);
            let known = std::mem::replace(&mut self.awaited, awaited);
            let asked = awaited.filter(|_| known != awaited);
            self.effects.extend(asked.map(Effect::Ask));
        }
        self.effects.push(Effect::Drained(Ok(drained.more)));
    }

    /// Apply stopped this peer.
    fn stopped(&mut self, Stop { reason }: Stop) {
        self.trace(|| TraceEvent::Interrupted {
            reason: reason.clone(),
        });
        self.look();
        self.effects
            .push(Effect::Drained(Err(Error::Interrupted { reason })));
    }

    /// The points that the portion passed.
    fn look(&mut self) {
        self.sights.add(self.engine.take_sights());
        if self.is_traced {
            let events = self.news.notice_members(&self.engine, &mut self.sights);
            self.effects.extend(events.into_iter().map(Effect::Trace));
        }
    }

    /// What came belongs before everything that the engine holds: it begins anew from a checkpoint, with what is stored.
    /// From none, when that is not what was applied: as it would if it were opened now.
    fn go_back(&mut self, now: Now) -> Result<(), Error> {
        let internal = |error: ResumeError| Error::Internal {
            what: error.to_string(),
        };
        let is_rewritten = self.logs.are_rewritten();
        let from = match is_rewritten {
            true => BTreeMap::new(),
            false => self.engine.way_back().map_err(internal)?,
        };
        // Before anything is given up: what cannot be read now can be later, and the order stays until then.
        let read = self.logs.read_again(&from)?;
        match is_rewritten {
            true => {
                self.finality.reset();
                self.engine.start_over().map_err(internal)?;
            }
            false => self.engine.go_back().map_err(internal)?,
        }
        self.feed_again(read, now);
        Ok(())
    }

    /// The engine begins elsewhere: it gets what is stored, and what was read of it before.
    fn feed_again(&mut self, read: BTreeMap<CoreKey, (u64, Vec<Bytes>)>, now: Now) {
        let batches = self.engine.batches() as u64;
        self.trace(|| TraceEvent::WentBack { batches });
        self.stalled.clear();
        let Self { engine, logs, .. } = self;
        let members_only = self.planted.has(Slip::BackFeedsMembers);
        let keys = logs.feed_from(|key| engine.fed_from(key));
        logs.hold(read);
        for key in keys {
            if members_only && !self.engine.is_member(&key) {
                continue;
            }
            // What had left the set stays outside.
            let kept = self.turns.kept(&key).map(|kept| kept.0);
            if let Err(error) = self.feed_up_to(&key, kept, now) {
                self.unreadable(&key, error);
            }
        }
        self.logs.hold(BTreeMap::new());
        self.expect_stored();
    }
}

/// True for what keeps the own log from growing while nothing is wrong with the disk: its key pair is used elsewhere, too.
const fn is_of_the_log(error: &Error) -> bool {
    matches!(error, Error::Contradicted { .. } | Error::Unconfirmed { .. })
}
