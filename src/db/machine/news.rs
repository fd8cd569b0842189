//! What listeners are told, and what the trace is told of members.

use std::collections::BTreeSet;

use super::Published;
use super::log::StoredLog;
use crate::crypto::{CoreKey, Verify};
use crate::db::Event;
use crate::engine::Engine;
use crate::engine::system::System;
use crate::env::{Planted, Point, Sights, Slip, TraceEvent};
use crate::wire::Link;

/// What listeners were told, to see what is news.
pub(super) struct News {
    told: ListenerState,
    is_stopped: bool,
    /// Members of now, and of before: for the trace.
    members: BTreeSet<CoreKey>,
    former: BTreeSet<CoreKey>,
    /// Records of the membership at the last look at members.
    records: usize,
}

/// Up to so many records each portion looks at all members. With more that would cost more than the portion does, and it is
/// done when there are more or fewer records.
const RECORDS_FEW: usize = 64;

/// What a listener knows.
#[derive(Debug, Clone)]
pub struct ListenerState {
    order: Link,
    view: Link,
    is_writable: bool,
    system: System,
}

impl ListenerState {
    /// What is so now is no news.
    pub(in crate::db) fn of<L: StoredLog>(published: &Published<L>) -> Self {
        Self {
            order: published.records,
            view: published.view.head(),
            is_writable: published.is_writer(&published.local),
            system: published.system.clone(),
        }
    }
}

impl News {
    pub(super) fn new(order: Link, view: Link) -> Self {
        Self {
            told: ListenerState {
                order,
                view,
                is_writable: false,
                system: System::default(),
            },
            is_stopped: false,
            members: BTreeSet::new(),
            former: BTreeSet::new(),
            records: 0,
        }
    }

    /// A first listener comes, who knows this.
    pub(super) fn listen(&mut self, heard: ListenerState) {
        self.told = heard;
    }

    /// The local writer is another one, who may write or not.
    pub(super) fn rotated(&mut self, is_writable: bool) -> Option<Event> {
        let was_writable = std::mem::replace(&mut self.told.is_writable, is_writable);
        (was_writable != is_writable).then_some(if is_writable {
            Event::Writable
        } else {
            Event::Unwritable
        })
    }

    /// What a drain changed, and how it failed, if it did.
    pub(super) fn tell<V: Verify>(
        &mut self,
        engine: &Engine<V>,
        local: &CoreKey,
        failure: Option<Event>,
        planted: Planted,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        let order = engine.records().head();
        if order != self.told.order {
            self.told.order = order;
            let known = members(&self.told.system);
            let now = members(engine.system());
            // The creator was the first one; of others the record says what was applied before it was written.
            let creator = engine.key();
            let added_at = |key: &CoreKey| engine.system().record(key).map(|record| record.clock);
            let mut added: Vec<CoreKey> = now.difference(&known).copied().collect();
            added.sort_by_key(|key| (*key != creator, added_at(key), *key));
            if planted.has(Slip::WriterUntold) {
                added.truncate(1);
            }
            let is_kept = added.is_empty() && planted.has(Slip::ReturnedUntold);
            events.extend(added.into_iter().map(Event::Writer));
            if !is_kept {
                self.told.system = engine.system().clone();
            }
            let is_writable = engine.is_writer(local);
            let is_untold = !is_writable && planted.has(Slip::UnwritableUntold);
            if std::mem::replace(&mut self.told.is_writable, is_writable) != is_writable && !is_untold {
                events.push(if is_writable {
                    Event::Writable
                } else {
                    Event::Unwritable
                });
            }
            let to = engine.view().head();
            let from = std::mem::replace(&mut self.told.view, to);
            events.push(Event::Update { from, to });
        }
        match failure {
            Some(Event::Interrupt { .. }) if std::mem::replace(&mut self.is_stopped, true) => {}
            failure => events.extend(failure),
        }
        events
    }

    /// What became of members since the last call.
    pub(super) fn notice_members<V: Verify>(
        &mut self,
        engine: &Engine<V>,
        sights: &mut Sights,
    ) -> Vec<TraceEvent> {
        let mut events = Vec::new();
        let before = std::mem::replace(&mut self.records, engine.system().writers());
        if self.records > RECORDS_FEW && self.records == before {
            return events;
        }
        let now = members(engine.system());
        for key in now.difference(&self.members) {
            sights.note(Point::MemberAdded);
            sights.note_if(Point::MemberReturned, self.former.remove(key));
            events.push(TraceEvent::WriterAdded { core: *key });
        }
        for key in self.members.difference(&now) {
            sights.note(Point::MemberRemoved);
            self.former.insert(*key);
            events.push(TraceEvent::WriterRemoved { core: *key });
        }
        self.members = now;
        let wrote = |key: &CoreKey| engine.system().length(key) < engine.fed_from(key);
        sights.note_if(Point::RemovedWrote, self.former.iter().any(wrote));
        events
    }
}

fn members(system: &System) -> BTreeSet<CoreKey> {
    let records = system.records();
    let members = records.filter(|(_, record)| !record.is_removed && !record.is_anchor && !record.is_guest);
    members.map(|(key, _)| *key).collect()
}
