//! The apply function that replicas run while an app is tested: the app's, tried twice, with the kit's membership around.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use autobee::apply::{Apply, ApplyError, ApplyFn, ApplyView, Entry, Host, HostError, WriterOptions};
use autobee::bee::Range;
use autobee::crypto::{CoreKey, DiscoveryKey, hash_128};
use autobee::wire::{Length, Link};

use super::attempt::{AttemptEnd, AttemptResult, Shadow, ShadowTree, attempt, repeat};
use super::record::{Again, Recorder, TriedBatch};
use crate::executor::lock;
use crate::run::Now;

/// Makes an apply function as each start of each replica gets it.
pub(super) type Maker = Arc<dyn Fn() -> ApplyFn + Send + Sync>;

/// First byte of the values that the kit wraps: an operation of the app, or one of the kit's own.
pub(super) const APP: u8 = 0;
pub(super) const MEMBER: u8 = 1;

/// How often a view is read that a failing disk kept from being read.
const READS_MAX: usize = 64;

/// How often a batch is tried again that two instances made different things of.
const AGAIN: usize = 8;

/// A hash over the contents of a view: each key with its value, in no order.
pub(super) type Contents = [u8; 16];

/// How batches are tried besides by the instance in use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tries {
    /// By how many fresh instances.
    pub(super) fresh: usize,
    /// Before anything else on an empty view, as if the batch were the first of all. What that comes to is of no interest:
    /// an apply that remembers nothing does the same afterwards as without.
    pub(super) is_primed: bool,
}

/// See the module.
pub(super) struct Tested {
    pub(super) replica: usize,
    /// That of this start, which saw whatever it saw.
    pub(super) own: ApplyFn,
    pub(super) make: Maker,
    pub(super) recorder: Arc<Recorder>,
    pub(super) now: Now,
    /// Values say whose they are; otherwise all are the app's.
    pub(super) is_wrapped: bool,
    /// Batches of the kit's own before the first one of the app.
    pub(super) hidden: u64,
    pub(super) tries: Tries,
    pub(super) shadow: Mutex<ShadowTree>,
    pub(super) contents: Mutex<BTreeMap<Link, Contents>>,
}

impl Apply for Tested {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        host: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        let handed = if self.is_wrapped {
            let handed = self.unwrap(entries, host);
            if handed.is_empty() {
                return Ok(());
            }
            handed
        } else {
            entries.to_vec()
        };
        let mut judged = self.judge(&handed, view, host);
        for _ in 0..READS_MAX {
            if judged.is_some() {
                break;
            }
            // Whatever cannot be read, reading everything ends this call, and the engine sees why. Unless it can be read
            // now: disks fail at random.
            view.entries(Range::all()).await;
            judged = self.judge(&handed, view, host);
        }
        let Some(outcome) = judged else {
            return Err(ApplyError::fatal("the view cannot be read"));
        };
        match &outcome.end {
            AttemptEnd::Accepted => {}
            AttemptEnd::Refused(why) => return Err(ApplyError::reject(why)),
            AttemptEnd::Interrupted(why) => {
                host.interrupt(why);
                return Ok(());
            }
            AttemptEnd::Fatal(why) | AttemptEnd::Panicked(why) => return Err(ApplyError::fatal(why)),
            AttemptEnd::Waits => {
                return Err(ApplyError::fatal(
                    "apply waits for something that is not its view",
                ));
            }
        }
        repeat(&outcome.calls, host);
        if outcome.changes.is_empty() {
            return Ok(());
        }
        let before = view.snapshot().head();
        let mut write = view.write();
        for change in &outcome.changes {
            match &change.new {
                Some(value) => write.put(&change.key, value),
                None => write.delete(&change.key),
            }
        }
        write.flush().await?;
        self.remember(before, view.snapshot().head(), &outcome);
        Ok(())
    }
}

impl Tested {
    /// Carries out the kit's own operations, and gives the app's as its writer appended them.
    fn unwrap(&self, entries: &[Entry], host: &mut dyn Host) -> Vec<Entry> {
        let mut handed = Vec::new();
        for entry in entries {
            match entry.value.split_first() {
                Some((&APP, value)) if !value.is_empty() => {
                    let mut entry = entry.clone();
                    entry.value = entry.value.slice(1..);
                    handed.push(entry);
                }
                Some((&MEMBER, op)) => {
                    if let Some((key, weight)) = member(op) {
                        host.add_writer(key, WriterOptions { weight });
                    }
                }
                _ => {}
            }
        }
        handed
    }

    /// Tries a batch with two instances, and compares it with what other replicas made of it. None when the view cannot be
    /// read.
    fn judge(&self, entries: &[Entry], view: &ApplyView, host: &mut dyn Host) -> Option<Arc<AttemptResult>> {
        let real = view.snapshot();
        let shadow = lock(&self.shadow).at(real)?;
        if self.tries.is_primed {
            let empty = lock(&self.shadow).empty(real)?;
            let mut host = Veiled {
                hidden: u64::MAX,
                is_heard: false,
                real: &mut *host,
            };
            attempt(&(self.make)(), entries, &empty, &mut host);
        }
        let mut host = Veiled {
            hidden: self.hidden,
            is_heard: true,
            real: host,
        };
        let own = attempt(&self.own, entries, &shadow, &mut host)?;
        let batch = TriedBatch {
            replica: self.replica,
            at: (self.now)(),
            entries: entries.iter().map(|entry| (entry.key, entry.length)).collect(),
        };
        for _ in 0..self.tries.fresh {
            let fresh = attempt(&(self.make)(), entries, &shadow, &mut host)?;
            if !own.agrees(&fresh) {
                let again = self.try_again(entries, &shadow, &mut host, &fresh);
                self.recorder
                    .instances_differ(&batch, entries, &own, &fresh, again);
                break;
            }
        }
        let contents = self.contents(view)?;
        let input = input(&contents, host.clock(), entries);
        Some(self.recorder.applied(batch, entries, input, own))
    }

    /// Tries a batch again, for where a difference comes from.
    fn try_again(
        &self,
        entries: &[Entry],
        shadow: &Shadow,
        host: &mut dyn Host,
        fresh: &AttemptResult,
    ) -> Again {
        let mut again = Again::InUseDiffers;
        for _ in 0..AGAIN {
            match attempt(&(self.make)(), entries, shadow, host) {
                Some(other) if !other.agrees(fresh) => return Again::FreshDiffer,
                _ => {}
            }
            match attempt(&self.own, entries, shadow, host) {
                Some(own) if own.agrees(fresh) => again = Again::InUseAgrees,
                _ => {}
            }
        }
        again
    }

    fn contents(&self, view: &ApplyView) -> Option<Contents> {
        let real = view.snapshot();
        if let Some(known) = lock(&self.contents).get(&real.head()) {
            return Some(*known);
        }
        let mut contents = Contents::default();
        for (key, value) in real.range(Range::all()).ok()? {
            toggle(&mut contents, &key, &value);
        }
        lock(&self.contents).insert(real.head(), contents);
        Some(contents)
    }

    /// What the view holds behind a batch.
    fn remember(&self, before: Link, after: Link, outcome: &AttemptResult) {
        let mut known = lock(&self.contents);
        let Some(mut contents) = known.get(&before).copied() else {
            return;
        };
        for change in &outcome.changes {
            for value in [&change.old, &change.new].into_iter().flatten() {
                toggle(&mut contents, &change.key, value);
            }
        }
        known.insert(after, contents);
    }
}

/// Adds a key with its value, or takes it away again.
fn toggle(contents: &mut Contents, key: &[u8], value: &[u8]) {
    let length = (key.len() as u64).to_le_bytes();
    for (byte, other) in contents.iter_mut().zip(hash_128(&[&length, key, value])) {
        *byte ^= other;
    }
}

/// A hash over everything that apply is handed.
fn input(contents: &Contents, clock: u64, entries: &[Entry]) -> [u8; 16] {
    let mut bytes = Vec::with_capacity(128);
    bytes.extend_from_slice(contents);
    bytes.extend_from_slice(&clock.to_le_bytes());
    for entry in entries {
        bytes.extend_from_slice(entry.key.as_bytes());
        let (before, after) = entry.batch;
        let links = entry.links.len() as u64;
        for number in [
            entry.length.0,
            entry.timestamp.0,
            entry.weight.0,
            before,
            after,
            links,
        ] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for link in &entry.links {
            bytes.extend_from_slice(link.key.as_bytes());
            bytes.extend_from_slice(&link.length.0.to_le_bytes());
        }
        bytes.push(u8::from(entry.optimistic));
        bytes.extend_from_slice(&(entry.value.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&entry.value);
    }
    hash_128(&[&bytes])
}

/// The writer of an operation of the kit's own, and its weight.
fn member(op: &[u8]) -> Option<(CoreKey, u64)> {
    let (key, weight) = op.split_first_chunk::<32>()?;
    Some((CoreKey::new(*key), u64::from_le_bytes(weight.try_into().ok()?)))
}

/// An operation that makes a writer, as [`member`] reads it.
pub(super) fn member_op(key: CoreKey, weight: u64) -> Vec<u8> {
    let mut op = vec![MEMBER];
    op.extend_from_slice(key.as_bytes());
    op.extend_from_slice(&weight.to_le_bytes());
    op
}

/// The host without the batches that the app does not see: the one in which the kit makes the first writers.
struct Veiled<'a> {
    real: &'a mut dyn Host,
    hidden: u64,
    /// The real one makes the anchors that are asked for.
    is_heard: bool,
}

impl Host for Veiled<'_> {
    fn add_writer(&mut self, key: CoreKey, options: WriterOptions) {
        self.real.add_writer(key, options);
    }

    fn remove_writer(&mut self, key: CoreKey) {
        self.real.remove_writer(key);
    }

    fn ack_writer(&mut self, key: CoreKey) {
        self.real.ack_writer(key);
    }

    fn create_anchor(&mut self, key: CoreKey, length: Length) -> Result<Link, HostError> {
        if !self.is_heard {
            return Err(HostError::AnchorOutsideBatch { key, length });
        }
        self.real.create_anchor(key, length)
    }

    fn interrupt(&mut self, reason: &str) {
        self.real.interrupt(reason);
    }

    fn genesis(&self) -> bool {
        self.clock() == 0
    }

    fn key(&self) -> CoreKey {
        self.real.key()
    }

    fn discovery_key(&self) -> DiscoveryKey {
        self.real.discovery_key()
    }

    fn id(&self) -> String {
        self.real.id()
    }

    fn name(&self) -> &str {
        self.real.name()
    }

    fn clock(&self) -> u64 {
        self.real.clock().saturating_sub(self.hidden)
    }
}
