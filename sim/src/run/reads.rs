//! Reading parts of views in every way that there is, and comparing them with what all of the view says.

use std::collections::BTreeMap;

use autobee::bee::Range;
use autobee::db::{View, ViewChange};
use autobee::env::Env;
use autobee::{Error, ErrorKind};
use bytes::Bytes;

use super::group::Group;
use super::look::at_once;
use super::trees::shapes;
use crate::invariant::{ReplicaLook, Violation, first_difference};
use crate::seed::Stream;

/// Of how many replicas the view is read at each look: looks are many.
const REPLICAS_SHARE: u64 = 3;

/// Reads of each kind.
const READS: usize = 3;

/// An earlier version is replaced by the present one once in so many reads, so that some differ much.
const EARLIER_SHARE: u64 = 6;

/// Of how many of them the shapes of the trees are looked at: that reads each node.
const SHAPES_SHARE: u64 = 4;

type KeyValue = (Bytes, Bytes);

/// What was read of some views, and is not what is in them.
pub(super) fn read_views<E: Env>(
    group: &Group<E>,
    looks: &[ReplicaLook],
    stream: &mut Stream,
) -> Option<Violation> {
    for replica in looks {
        let is_drawn = stream.below(REPLICAS_SHARE) == 0;
        let Some((look, db)) = replica
            .look
            .as_ref()
            .zip(group.db(replica.replica))
            .filter(|_| is_drawn)
        else {
            continue;
        };
        let view = db.view();
        if view.head() != look.view_head || group.is_disk_faulty(replica.replica) {
            continue;
        }
        if stream.below(SHAPES_SHARE) == 0
            && !group.has_moved(replica.replica)
            && let Some(what) = shapes(&db)
        {
            return Some(Violation {
                invariant: "trees",
                what: format!("{}: {what}", replica.name),
            });
        }
        let earlier = group.earlier(replica.replica);
        let reading = ViewReading {
            view: &view,
            listed: &look.view,
        };
        let read = reading.parts(stream).and_then(|()| match &earlier {
            Some((earlier, listed)) => reading.changes(
                &ViewReading {
                    view: earlier,
                    listed,
                },
                stream,
            ),
            None => Ok(()),
        });
        if earlier.is_none() || stream.below(EARLIER_SHARE) == 0 {
            group.keep_earlier(replica.replica, view.clone(), look.view.clone());
        }
        if let Err(what) = read {
            return Some(Violation {
                invariant: "reads",
                what: format!("{}: {what}", replica.name),
            });
        }
    }
    None
}

/// A view, and everything in it.
struct ViewReading<'a> {
    view: &'a View,
    listed: &'a [KeyValue],
}

/// A range as it was drawn, to be told apart without the code that is looked at.
#[derive(Debug)]
struct DrawnRange {
    lower: Option<(Bytes, bool)>,
    upper: Option<(Bytes, bool)>,
    is_reverse: bool,
    limit: Option<u64>,
}

impl ViewReading<'_> {
    /// Reads ranges, and keys that are there and that are not.
    fn parts(&self, stream: &mut Stream) -> Result<(), String> {
        for _ in 0..READS {
            let drawn = DrawnRange::draw(self.listed, stream);
            let expected: Vec<&KeyValue> = drawn.of(self.listed.iter(), |(key, _)| key);
            if let Some(found) = outcome(at_once(self.view.entries(drawn.range())))?
                && !found.iter().eq(expected.iter().copied())
            {
                let found: Vec<&KeyValue> = found.iter().collect();
                let difference = first_difference(&found, &expected);
                return Err(format!(
                    "{drawn:?} is read as other than what is there, {difference}"
                ));
            }
            let streamed = async {
                let mut entries = self.view.stream(drawn.range());
                let mut found = Vec::new();
                while let Some(entry) = entries.next().await? {
                    found.push(entry);
                }
                Ok(found)
            };
            if let Some(found) = outcome(at_once(streamed))?
                && !found.iter().eq(expected.iter().copied())
            {
                let found: Vec<&KeyValue> = found.iter().collect();
                let difference = first_difference(&found, &expected);
                return Err(format!(
                    "{drawn:?} is streamed as other than what is there, {difference}"
                ));
            }
            let key = some_key(self.listed, stream);
            let at = self.listed.binary_search_by(|(other, _)| other.cmp(&key));
            let expected = at.ok().map(|at| &self.listed[at].1);
            if let Some(found) = outcome(at_once(self.view.get(&key)))?
                && found.as_ref() != expected
            {
                return Err(format!("{key:?} is read as {found:?}, it is {expected:?}"));
            }
        }
        Ok(())
    }

    /// Reads what differs from an earlier version and back, and the earlier version once more.
    fn changes(&self, earlier: &Self, stream: &mut Stream) -> Result<(), String> {
        for (from, to) in [(earlier, self), (self, earlier)] {
            let drawn = DrawnRange::draw(
                if stream.below(2) == 0 {
                    from.listed
                } else {
                    to.listed
                },
                stream,
            );
            let all = differences(from.listed, to.listed);
            let expected: Vec<ViewChange> = drawn.of(all.into_iter(), |change| &change.key);
            if let Some(found) = outcome(at_once(from.view.changes(to.view, drawn.range())))?
                && found != expected
            {
                let difference = first_difference(&found, &expected);
                return Err(format!(
                    "changes from version {} to {} in {drawn:?} are other than those that were made, {difference}",
                    from.view.head().length,
                    to.view.head().length
                ));
            }
        }
        match outcome(at_once(earlier.view.all()))? {
            Some(found) if found != earlier.listed => Err(format!(
                "version {} of the view is not what it was, {}",
                earlier.view.head().length,
                first_difference(&found, earlier.listed)
            )),
            _ => Ok(()),
        }
    }
}

/// None when the database is closed, or a version needs what is not here any more.
fn outcome<T>(read: Option<Result<T, Error>>) -> Result<Option<T>, String> {
    match read {
        Some(Ok(found)) => Ok(Some(found)),
        Some(Err(error)) if !matches!(error.kind(), ErrorKind::Closed) => {
            Err(format!("a read failed: {error}"))
        }
        _ => Ok(None),
    }
}

fn differences(from: &[KeyValue], to: &[KeyValue]) -> Vec<ViewChange> {
    let mut both: BTreeMap<&Bytes, (Option<&Bytes>, Option<&Bytes>)> = BTreeMap::new();
    for (key, value) in from {
        both.entry(key).or_default().0 = Some(value);
    }
    for (key, value) in to {
        both.entry(key).or_default().1 = Some(value);
    }
    let changed = both.into_iter().filter(|(_, (old, new))| old != new);
    let changed = changed.map(|(key, (old, new))| ViewChange {
        key: key.clone(),
        old: old.cloned(),
        new: new.cloned(),
    });
    changed.collect()
}

/// A key that is there, or one right beside it.
fn some_key(listed: &[KeyValue], stream: &mut Stream) -> Bytes {
    if listed.is_empty() {
        return Bytes::from_static(b"nothing");
    }
    let key = &listed[stream.index(listed.len())].0;
    match stream.below(6) {
        0 => key.slice(..key.len() / 2),
        1 => [&key[..], &[0]].concat().into(),
        2 => Bytes::new(),
        _ => key.clone(),
    }
}

impl DrawnRange {
    fn draw(listed: &[KeyValue], stream: &mut Stream) -> Self {
        let mut bound = || (stream.below(4) > 0).then(|| (some_key(listed, stream), stream.below(2) == 0));
        let (mut lower, mut upper) = (bound(), bound());
        if let (Some((least, _)), Some((most, _))) = (&lower, &upper)
            && least > most
        {
            std::mem::swap(&mut lower, &mut upper);
        }
        Self {
            lower,
            upper,
            is_reverse: stream.below(2) == 0,
            limit: (stream.below(2) == 0).then(|| stream.below(5)),
        }
    }

    fn range(&self) -> Range {
        let range = Range::all();
        let range = match &self.lower {
            None => range,
            Some((key, true)) => range.gte(key),
            Some((key, false)) => range.gt(key),
        };
        let range = match &self.upper {
            None => range,
            Some((key, true)) => range.lte(key),
            Some((key, false)) => range.lt(key),
        };
        let range = if self.is_reverse { range.reverse() } else { range };
        match self.limit {
            None => range,
            Some(limit) => range.limit(limit),
        }
    }

    /// What of these, which are in order, is in the range.
    fn of<T>(&self, all: impl DoubleEndedIterator<Item = T>, key: impl Fn(&T) -> &Bytes) -> Vec<T> {
        let is_inside = |item: &T| {
            let key = key(item);
            let above = self
                .lower
                .as_ref()
                .is_none_or(|(bound, inclusive)| key > bound || *inclusive && key == bound);
            let below = self
                .upper
                .as_ref()
                .is_none_or(|(bound, inclusive)| key < bound || *inclusive && key == bound);
            above && below
        };
        let mut inside: Vec<T> = all.filter(is_inside).collect();
        if self.is_reverse {
            inside.reverse();
        }
        let most = self
            .limit
            .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        inside.truncate(most);
        inside
    }
}
