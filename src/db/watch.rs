//! Being told what changes in a part of the view.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::stream::Steps;
use super::{Autobee, Changes, View, ViewChange};
use crate::bee::Range;
use crate::env::{Env, Slip};
use crate::error::Error;
use crate::wire::Link;

/// A subscription to a key, a prefix or a range of the view.
///
/// What it tells are differences by value between the view that was seen last and the present one. So it is right
/// also when entries were reordered in between: a value that was changed and changed back is not told.
///
/// It is a [`Stream`], too, which ends when the database is closed.
#[derive(Debug)]
pub struct ViewWatch<E: Env> {
    steps: Steps<Watching<E>, Result<ViewEvent, Error>>,
}

/// Where a watch is.
#[derive(Debug)]
struct Watching<E: Env> {
    db: Autobee<E>,
    range: Range,
    /// Changes that one event has at most.
    limit: usize,
    /// What did not fit into the last event.
    rest: Option<ViewEvent>,
    seen: View,
    changes: Changes,
}

/// Changes that lead from one version of the view to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewEvent {
    /// The version that was seen before.
    pub from: Link,
    /// The version that was compared with it.
    pub to: Link,
    /// What differs, in the order of the range; at least one key.
    pub changes: Vec<ViewChange>,
}

impl<E: Env> Autobee<E> {
    /// Watches a part of the view from now on. A limit of the range is one for each event: what does not fit comes with the
    /// next.
    ///
    /// ```
    /// # use autobee::{Autobee, Corestore};
    /// # use autobee::apply::{Apply, ApplyError, ApplyView, Entry, Host};
    /// # use autobee::env::memory::MemoryEnv;
    /// use autobee::bee::Range;
    ///
    /// # struct Words;
    /// # impl Apply for Words {
    /// #     async fn apply(&self, entries: &[Entry], view: &mut ApplyView, _: &mut dyn Host) -> Result<(), ApplyError> {
    /// #         for entry in entries {
    /// #             let mut write = view.write();
    /// #             write.put(entry.value(), b"here");
    /// #             write.flush().await?;
    /// #         }
    /// #         Ok(())
    /// #     }
    /// # }
    /// # let env = MemoryEnv::new(1);
    /// # env.run(async {
    /// # let db = Autobee::builder(Corestore::open_default(env.clone()).await?).apply(Words).open().await?;
    /// let mut watch = db.watch(Range::prefix("user/"));
    /// db.append(b"other").await?;
    /// db.append(b"user/ada").await?;
    /// let event = watch.next().await?;
    /// assert_eq!((event.changes.len(), &event.changes[0].key[..]), (1, &b"user/ada"[..]));
    /// # Ok::<(), autobee::Error>(())
    /// # }).unwrap().unwrap();
    /// ```
    pub fn watch(&self, range: Range) -> ViewWatch<E> {
        let limit = range.limit_count().and_then(|limit| usize::try_from(limit).ok());
        let watching = Watching {
            db: self.clone(),
            range: range.unlimited(),
            limit: limit.unwrap_or(usize::MAX).max(1),
            rest: None,
            seen: self.view(),
            changes: Changes::default(),
        };
        let steps = Steps::new(watching);
        ViewWatch { steps }
    }
}

impl<E: Env> ViewWatch<E> {
    /// Waits for the next change. A call that is dropped loses nothing.
    ///
    /// # Errors
    ///
    /// `Closed`; otherwise as [`View::get`], and the next call tries again.
    pub async fn next(&mut self) -> Result<ViewEvent, Error> {
        self.steps.step(Watching::step).await
    }
}

impl<E: Env> Stream for ViewWatch<E> {
    type Item = Result<ViewEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.get_mut().steps.poll_step(context, Watching::step);
        polled.map(|event| match event {
            Err(Error::Closed) => None,
            event => Some(event),
        })
    }
}

impl<E: Env> Watching<E> {
    async fn step(mut self) -> (Self, Result<ViewEvent, Error>) {
        let next = self.next().await;
        (self, next)
    }

    async fn next(&mut self) -> Result<ViewEvent, Error> {
        if let Some(rest) = self.rest.take() {
            return Ok(self.portion(rest));
        }
        loop {
            let view = self.db.view();
            if view.head() != self.seen.head() {
                let changes = self.seen.changes(&view, self.range.clone()).await?;
                let from = std::mem::replace(&mut self.seen, view).head();
                if !changes.is_empty() {
                    let to = self.seen.head();
                    return Ok(self.portion(ViewEvent { from, to, changes }));
                }
            }
            self.db.shared.check_open()?;
            self.changes.wait(&self.db.shared).await;
        }
    }

    /// As much of an event as one may have. The rest comes next.
    fn portion(&mut self, mut event: ViewEvent) -> ViewEvent {
        if event.changes.len() > self.limit {
            let changes = event.changes.split_off(self.limit);
            if !self.db.shared.store.planted().has(Slip::WatchRestLost) {
                self.rest = Some(ViewEvent { changes, ..event });
            }
        }
        event
    }
}
