//! What a client of one database saw: the view as its changes told it, and the events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use autobee::crypto::CoreKey;
use autobee::db::{Appended, Event, Outcome, Update, ViewEvent, WriterStatus};
use autobee::wire::{Length, Link};
use bytes::Bytes;

/// What was told since a replica was started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The view that follows from the first one and all changes that a watch told, and its version.
    pub view: Option<(Link, Arc<BTreeMap<Bytes, Bytes>>)>,
    /// The version of the view that the events told last; none when some events were missed.
    pub head: Option<Link>,
    /// The version of the view that the update hook was told last; none before it was told of any.
    pub updated: Option<Link>,
    /// Whether the events say that the local writer may write.
    pub is_writable: Option<bool>,
    /// Members at the beginning, and whoever was told to have become one; none when some events were missed.
    pub members: Option<BTreeSet<CoreKey>>,
    /// How often it was told of each that it became a member.
    pub admitted: BTreeMap<CoreKey, u64>,
    /// Own entries of which the events said last that they wait, by the length of the log with them.
    pub waiting: BTreeSet<Length>,
    /// What was told last of each own entry, by the log and its length with the entry: by the append, then by the events;
    /// none when some events were missed.
    pub outcomes: Option<BTreeMap<(CoreKey, Length), Outcome>>,
    /// The log of which events tell outcomes.
    pub local: Option<CoreKey>,
    /// Writers of whom it was told that their view is another one behind a batch, with the key.
    pub diverged: Vec<(CoreKey, Length, Bytes)>,
    /// How much was told last that it can no longer change, and the version behind it; none when some events were missed.
    pub settled: Option<(u64, Option<Link>)>,
    /// It was told that apply stopped the replica.
    pub is_interrupted: bool,
    /// What was told and cannot be.
    pub contradictions: Vec<String>,
}

impl Seen {
    /// Listening begins.
    pub fn begin(&mut self, local: CoreKey, head: Link, is_writable: bool, writers: &[WriterStatus]) {
        self.head = Some(head);
        (self.local, self.outcomes) = (Some(local), Some(BTreeMap::new()));
        let members = writers.iter().filter(|writer| is_member(writer));
        self.members = Some(members.map(|writer| writer.key).collect());
        self.is_writable = Some(is_writable);
    }

    /// The update hook was told this, with the view at this version.
    pub fn updated(&mut self, update: &Update, view: Link) {
        let (from, to) = update.view;
        if let Some(last) = self.updated.filter(|last| *last != from) {
            self.contradictions.push(format!(
                "the update hook was told of a change from {from:?}, and had been told of {last:?}"
            ));
        }
        if view != to {
            self.contradictions
                .push(format!("the update hook was told of {to:?}, and shown {view:?}"));
        }
        self.updated = Some(to);
    }

    /// A watch told these changes.
    pub fn watched(&mut self, event: &ViewEvent) {
        let Some((head, view)) = &mut self.view else {
            return;
        };
        // Copied only while somebody looks at it.
        let view = Arc::make_mut(view);
        for change in &event.changes {
            let known = view.get(&change.key);
            if known != change.old.as_ref() {
                self.contradictions.push(format!(
                    "a watch told that {:?} was {:?}, and had told {known:?}",
                    change.key, change.old
                ));
            }
            match &change.new {
                Some(value) => view.insert(change.key.clone(), value.clone()),
                None => view.remove(&change.key),
            };
        }
        *head = event.to;
    }

    /// An append was answered.
    pub fn answered(&mut self, appended: &Appended) {
        // What events say of it is newer, also when it was heard before.
        if let Some(outcomes) = &mut self.outcomes {
            let entry = outcomes.entry((appended.core, appended.length));
            entry.or_insert_with(|| appended.outcome.clone());
        }
    }

    /// An event was told.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Update { from, to } => {
                if let Some(head) = self.head
                    && head != *from
                {
                    self.contradictions.push(format!(
                        "an update began at {}, the one before ended at {}",
                        from.length, head.length
                    ));
                }
                self.head = Some(*to);
            }
            Event::Writable | Event::Unwritable => {
                let is_writable = *event == Event::Writable;
                if self.is_writable == Some(is_writable) {
                    self.contradictions
                        .push(format!("{event:?} was told twice in a row"));
                }
                self.is_writable = Some(is_writable);
            }
            // Outcomes are told of the log of now.
            Event::Rotated { to, .. } => {
                self.waiting.clear();
                self.local = Some(*to);
            }
            Event::Writer(writer) => {
                if let Some(members) = &mut self.members {
                    members.insert(*writer);
                }
                *self.admitted.entry(*writer).or_default() += 1;
            }
            Event::Outcome { length, outcome } => {
                match outcome {
                    Outcome::Waiting { .. } => _ = self.waiting.insert(*length),
                    Outcome::Applied | Outcome::Rejected(_) => _ = self.waiting.remove(length),
                }
                if let (Some(outcomes), Some(local)) = (&mut self.outcomes, self.local) {
                    outcomes.insert((local, *length), outcome.clone());
                }
            }
            Event::Interrupt { .. } => self.is_interrupted = true,
            Event::Settled { entries, head } => self.settled = Some((*entries, *head)),
            Event::Diverged { writer, length, key } => {
                self.diverged.push((*writer, *length, key.clone()));
            }
            Event::Missed(_) => {
                (self.head, self.is_writable, self.members) = (None, None, None);
                (self.outcomes, self.settled) = (None, None);
                self.waiting.clear();
            }
            _ => {}
        }
    }
}

/// True when a writer may write, going by its record.
pub(super) const fn is_member(writer: &WriterStatus) -> bool {
    !writer.is_removed && !writer.is_anchor && !writer.is_guest
}
