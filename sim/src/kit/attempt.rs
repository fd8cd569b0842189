//! One try of an apply function on one batch, beside the database: what it wrote and asked for, and how it ended.
//!
//! It reads the view through a tree in memory that stands on the real one, and writes to that tree alone. So a batch can
//! be tried as often as one likes, and nothing of a try is left behind.

use std::task::{Context, Poll, Waker};

use autobee::apply::{
    ApplyError, ApplyFn, ApplyView, Entry, Host, HostError, LocalTree, TreeSnapshot, WriterOptions,
};
use autobee::bee::{BeeSettings, Range};
use autobee::crypto::{CoreKey, DiscoveryKey, hash_128};
use autobee::wire::{Length, Link};
use bytes::Bytes;

use super::outside::{Panicked, quietly};

/// Bytes of a long value that are kept: more than is ever shown of one.
const BRIEF: usize = 1_024;

/// The core of trees that exist for tries only.
const SHADOW: CoreKey = CoreKey::new([0x5a; 32]);

/// How a try ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AttemptEnd {
    Accepted,
    Refused(String),
    Fatal(String),
    Interrupted(String),
    /// It waits for something that is not its view.
    Waits,
    Panicked(String),
}

/// A key whose value the batch changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ValueChange {
    pub(super) key: Bytes,
    pub(super) old: Option<Bytes>,
    pub(super) new: Option<Bytes>,
}

/// What apply asked of its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HostCall {
    AddWriter(CoreKey, u64),
    RemoveWriter(CoreKey),
    AckWriter(CoreKey),
    CreateAnchor(CoreKey, Length),
}

/// What a try came to. Of one that was not accepted nothing counts but that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AttemptResult {
    pub(super) end: AttemptEnd,
    pub(super) changes: Vec<ValueChange>,
    pub(super) calls: Vec<HostCall>,
}

impl AttemptResult {
    /// True when two tries have the same effects. Why a batch was refused is for people, and may differ.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        let same_end = std::mem::discriminant(&self.end) == std::mem::discriminant(&other.end);
        same_end && self.changes == other.changes && self.calls == other.calls
    }

    /// The same with the starts of long values, each with a hash over the whole of it: two of them agree when what they are
    /// of does.
    pub(super) fn brief(&self) -> Self {
        let change = |change: &ValueChange| ValueChange {
            key: change.key.clone(),
            old: change.old.as_ref().map(brief),
            new: change.new.as_ref().map(brief),
        };
        Self {
            end: self.end.clone(),
            changes: self.changes.iter().map(change).collect(),
            calls: self.calls.clone(),
        }
    }
}

fn brief(value: &Bytes) -> Bytes {
    match value.split_at_checked(BRIEF) {
        Some((start, rest)) if rest.len() > BRIEF => [start, &hash_128(&[value])].concat().into(),
        _ => value.clone(),
    }
}

/// A version of the view to try batches on.
pub(super) struct Shadow(TreeSnapshot);

/// The tree that tries write to.
#[derive(Default)]
pub(super) struct ShadowTree(Option<(LocalTree, LocalTree)>);

impl ShadowTree {
    /// A version of the real view, to try batches on. None when no tree can be made.
    pub(super) fn at(&mut self, real: &TreeSnapshot) -> Option<Shadow> {
        let tree = self.on(real)?;
        let is_empty = real.head().length == Length::ZERO;
        Some(Shadow(if is_empty {
            TreeSnapshot::empty(tree)
        } else {
            TreeSnapshot::at(tree, real.head())
        }))
    }

    /// The version of the view in which nothing is yet.
    pub(super) fn empty(&mut self, real: &TreeSnapshot) -> Option<Shadow> {
        Some(Shadow(TreeSnapshot::empty(self.on(real)?)))
    }

    /// The tree that stands on that of the real view.
    fn on(&mut self, real: &TreeSnapshot) -> Option<&LocalTree> {
        if self.0.as_ref().is_none_or(|(on, _)| !on.is(real.tree())) {
            let on = real.tree().clone();
            let tree = LocalTree::new(SHADOW, BeeSettings::default(), on.clone()).ok()?;
            self.0 = Some((on, tree));
        }
        self.0.as_ref().map(|(_, tree)| tree)
    }
}

/// Tries a batch. None when the view has a block that is not here, or cannot be read.
pub(super) fn attempt(
    apply: &ApplyFn,
    entries: &[Entry],
    on: &Shadow,
    host: &mut dyn Host,
) -> Option<AttemptResult> {
    let mut view = ApplyView::new(on.0.clone());
    let mut recording = Recording::new(host);
    let polled = quietly(|| {
        let mut future = apply.apply(entries, &mut view, &mut recording);
        future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    });
    let Recording { calls, interrupt, .. } = recording;
    let end = match polled {
        Err(Panicked(text)) => AttemptEnd::Panicked(text),
        Ok(_) if view.stall().is_some() => return None,
        Ok(_) if interrupt.is_some() => AttemptEnd::Interrupted(interrupt.unwrap_or_default()),
        Ok(Poll::Pending) => AttemptEnd::Waits,
        Ok(Poll::Ready(Ok(()))) => AttemptEnd::Accepted,
        Ok(Poll::Ready(Err(ApplyError::Reject(why)))) => AttemptEnd::Refused(why),
        Ok(Poll::Ready(Err(error))) => AttemptEnd::Fatal(error.to_string()),
    };
    if end != AttemptEnd::Accepted {
        return Some(AttemptResult {
            end,
            changes: Vec::new(),
            calls: Vec::new(),
        });
    }
    let after = view.into_snapshot();
    let differences = on.0.diff(&after, Range::all()).ok()?;
    let changes = differences.into_iter().filter_map(|difference| {
        let key = difference
            .left
            .as_ref()
            .or(difference.right.as_ref())?
            .key
            .clone();
        Some(ValueChange {
            key,
            old: difference.left.and_then(|entry| entry.value),
            new: difference.right.and_then(|entry| entry.value),
        })
    });
    Some(AttemptResult {
        end,
        changes: changes.collect(),
        calls,
    })
}

/// Does on the real host what was asked for in a try.
pub(super) fn repeat(calls: &[HostCall], host: &mut dyn Host) {
    for call in calls {
        match call {
            HostCall::AddWriter(key, weight) => host.add_writer(*key, WriterOptions { weight: *weight }),
            HostCall::RemoveWriter(key) => host.remove_writer(*key),
            HostCall::AckWriter(key) => host.ack_writer(*key),
            // It was made for these entries a moment ago.
            HostCall::CreateAnchor(key, length) => drop(host.create_anchor(*key, *length)),
        }
    }
}

/// A host that notes what is asked, and answers as the real one.
struct Recording<'a> {
    real: &'a mut dyn Host,
    calls: Vec<HostCall>,
    interrupt: Option<String>,
}

impl<'a> Recording<'a> {
    fn new(real: &'a mut dyn Host) -> Self {
        Self {
            real,
            calls: Vec::new(),
            interrupt: None,
        }
    }
}

impl Host for Recording<'_> {
    fn add_writer(&mut self, key: CoreKey, options: WriterOptions) {
        self.calls.push(HostCall::AddWriter(key, options.weight));
    }

    fn remove_writer(&mut self, key: CoreKey) {
        self.calls.push(HostCall::RemoveWriter(key));
    }

    fn ack_writer(&mut self, key: CoreKey) {
        self.calls.push(HostCall::AckWriter(key));
    }

    fn create_anchor(&mut self, key: CoreKey, length: Length) -> Result<Link, HostError> {
        // Only the real one knows what it is called. A second one of the same entry is the same.
        let link = self.real.create_anchor(key, length)?;
        self.calls.push(HostCall::CreateAnchor(key, length));
        Ok(link)
    }

    fn interrupt(&mut self, reason: &str) {
        self.interrupt = Some(reason.to_owned());
    }

    fn genesis(&self) -> bool {
        self.real.genesis()
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
        self.real.clock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_long_values_tells_them_apart() {
        let of = |end: u8| {
            let mut value = vec![0; 1 << 20];
            value.push(end);
            let change = ValueChange {
                key: "key".into(),
                old: Some("short".into()),
                new: Some(value.into()),
            };
            let outcome = AttemptResult {
                end: AttemptEnd::Accepted,
                changes: vec![change],
                calls: Vec::new(),
            };
            outcome.brief()
        };
        assert!(of(1).agrees(&of(1)));
        assert!(!of(1).agrees(&of(2)));
        assert_eq!(of(1).changes[0].old.as_deref(), Some(&b"short"[..]));
        assert!(of(1).changes[0].new.as_ref().unwrap().len() < 2_000);
    }
}
