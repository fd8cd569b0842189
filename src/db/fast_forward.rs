//! Fast-forward: going on from the trees of a trusted writer instead of applying the whole history, and who decides it.
//!
//! Source: spec/autobee.md 14.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::machine::Moved;
use super::{Autobee, View};
use crate::crypto::CoreKey;
use crate::env::Env;
use crate::error::Error;
use crate::wire::{Length, Link};

/// Who is believed when it says what the view is.
///
/// Only members are asked about: a log of somebody without a record is never gone on from, but for the creator's before there are any
/// members.
pub trait Trust: Send + Sync + 'static {
    /// True when the trees of this member may be taken for the own ones. `view` is the view of now.
    fn is_trusted(&self, writer: &CoreKey, view: &View) -> impl Future<Output = bool> + Send;

    /// Whom the view of a member that is not trusted names as trusted: the end of that one's log there. None by default.
    ///
    /// `target` is the view of that member, `view` the own one of now.
    fn most_recent_trusted(&self, target: &View, view: &View) -> impl Future<Output = Option<Link>> + Send {
        _ = (target, view);
        async { None }
    }

    /// Whom the own view names as trusted: the end of that one's log, which the next own entry tells others. A peer that
    /// trusts the named writer, and not this one, finds its way by it. By default what
    /// [`most_recent_trusted`](Self::most_recent_trusted) says of the own view.
    ///
    /// Asked before each append, which waits for the answer, for `Settings::read_wait_ms` at most; so it must not append.
    fn named(&self, view: &View) -> impl Future<Output = Option<Link>> + Send {
        self.most_recent_trusted(view, view)
    }
}

/// Trusts every member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AllMembers;

impl Trust for AllMembers {
    async fn is_trusted(&self, _: &CoreKey, _: &View) -> bool {
        true
    }
}

impl<F: Fn(&CoreKey) -> bool + Send + Sync + 'static> Trust for F {
    async fn is_trusted(&self, writer: &CoreKey, _: &View) -> bool {
        self(writer)
    }
}

/// When the database goes on from the trees of another writer, at [`FastForward::off`] never: everything is applied here.
///
/// The last entry of a writer says where its own trees stood behind it. When that is 32 entries or more ahead of what is
/// applied here, and the writer is a member and trusted, these trees are taken for the own ones: a newcomer has the whole
/// view at once, reads blocks of it from peers as they are needed, and applies what comes after. What came before is
/// neither fetched nor checked: that is what the trust is for. Entries that turn out to belong before the place that was moved onto have
/// all logs fetched whole; until they are here nothing more is applied.
///
/// A newcomer, who knows no members, goes on from heads in the creator's log, and from there on from members' logs.
///
/// ```
/// use autobee::{Autobee, Corestore};
/// use autobee::db::{AllMembers, FastForward};
/// # use autobee::env::memory::MemoryEnv;
/// # let env = MemoryEnv::new(1);
/// # let key = autobee::CoreKey::new([1; 32]);
/// # env.run(async {
/// let store = Corestore::open_default(env.clone()).await?;
/// let joined = Autobee::builder(store).key(key).fast_forward(FastForward::trusting(AllMembers)).open().await?;
/// # joined.close().await
/// # }).unwrap().unwrap();
/// ```
#[derive(Clone, Default)]
pub struct FastForward {
    trust: Option<Arc<dyn ErasedTrust>>,
    is_liberal: bool,
    boot: Option<Boot>,
}

impl FastForward {
    /// Never.
    #[must_use]
    pub fn off() -> Self {
        Self::default()
    }

    /// Onto the trees of members that are trusted, as long as some connected peer has their whole log: so what turns out to be
    /// needed of it can be had.
    #[must_use]
    pub fn trusting(trust: impl Trust) -> Self {
        Self {
            trust: Some(Arc::new(trust)),
            ..Self::default()
        }
    }

    /// Also when no connected peer has their whole log: peers that moved on themselves have none.
    #[must_use]
    pub fn liberal(mut self) -> Self {
        self.is_liberal = true;
        self
    }

    /// Begins by moving onto the end of some writer's log that is known from elsewhere, whoever is trusted.
    #[must_use]
    pub fn boot(mut self, boot: Boot) -> Self {
        self.boot = Some(boot);
        self
    }

    /// True when it is looked for trees that are far ahead.
    pub(super) fn is_on(&self) -> bool {
        self.trust.is_some()
    }

    pub(super) const fn is_liberal(&self) -> bool {
        self.is_liberal
    }

    pub(super) const fn boots(&self) -> Option<&Boot> {
        self.boot.as_ref()
    }

    pub(super) async fn is_trusted(&self, writer: &CoreKey, view: &View) -> bool {
        match &self.trust {
            Some(trust) => trust.is_trusted(writer, view).await,
            None => false,
        }
    }

    pub(super) async fn most_recent_trusted(&self, target: &View, view: &View) -> Option<Link> {
        self.trust.as_ref()?.most_recent_trusted(target, view).await
    }

    pub(super) async fn named(&self, view: &View) -> Option<Link> {
        self.trust.as_ref()?.named(view).await
    }
}

impl fmt::Debug for FastForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FastForward")
            .field("is_on", &self.is_on())
            .field("is_liberal", &self.is_liberal)
            .field("boot", &self.boot)
            .finish()
    }
}

/// A head to begin with.
#[derive(Clone)]
pub struct Boot {
    head: Link,
    condition: Option<Condition>,
    wait: Duration,
}

type Condition = Arc<dyn Fn(View) -> Answer + Send + Sync>;
type Answer = Pin<Box<dyn Future<Output = bool> + Send>>;

impl Boot {
    /// The end of a writer's log, or an earlier entry of it: the newest block up to there that says where the trees of its writer stand
    /// counts.
    #[must_use]
    pub fn head(head: Link) -> Self {
        Self {
            head,
            condition: None,
            wait: Duration::from_secs(5),
        }
    }

    /// Only if the view there is accepted. Until it is, later entries of the same log are tried.
    #[must_use]
    pub fn when<F>(mut self, accepts: impl Fn(View) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = bool> + Send + 'static,
    {
        self.condition = Some(Arc::new(move |view| Box::pin(accepts(view))));
        self
    }

    /// How long it is tried, 5 seconds by default. Then the database goes on as if nothing had been asked for.
    #[must_use]
    pub const fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    pub(super) const fn link(&self) -> Link {
        self.head
    }

    pub(super) const fn lasts(&self) -> Duration {
        self.wait
    }

    pub(super) async fn accepts(&self, view: View) -> bool {
        match &self.condition {
            Some(condition) => condition(view).await,
            None => true,
        }
    }

    pub(super) const fn is_conditional(&self) -> bool {
        self.condition.is_some()
    }
}

impl fmt::Debug for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Boot")
            .field("head", &self.head)
            .field("is_conditional", &self.is_conditional())
            .field("wait", &self.wait)
            .finish()
    }
}

impl<E: Env> Autobee<E> {
    /// Moves onto the trees of a writer, where they stood behind this entry of its log or the newest one before that says so,
    /// whoever is trusted and however little they are ahead. Gives the versions of the system tree before and now.
    ///
    /// None when they are not ahead of what is applied here, or when entries are here that they do not have.
    ///
    /// # Errors
    ///
    /// `Unavailable` when blocks do not come within `read_wait_ms`, or nothing of the creator's log is here yet, which tells the rules; `Corrupt` when the trees are not what was said of them;
    /// `Closed`.
    pub async fn move_to(&self, head: Link) -> Result<Option<(Link, Link)>, Error> {
        self.shared.check_open()?;
        self.shared.check_entry()?;
        let moved = self.shared.move_to(head).await?;
        Ok(moved.map(|Moved { from, to }| (from, to)))
    }

    /// Trusts others than before, or nobody, from now on, and begins with a head if one is given.
    ///
    /// # Errors
    ///
    /// `Closed`, `Reentrant`.
    pub async fn set_fast_forward(&self, forward: FastForward) -> Result<(), Error> {
        self.shared.check_open()?;
        self.shared.check_entry()?;
        self.shared.set_forward(forward).await;
        Ok(())
    }

    /// The last entry of the order: the end of its writer's log there. Others can boot from it: see [`Boot::head`].
    #[must_use]
    pub fn most_recent_head(&self) -> Option<Link> {
        let published = self.shared.read();
        let mut records = published.system.records().filter(|(_, record)| record.is_oplog);
        // Every record says how many entries were applied before the entry that wrote it.
        let first = records.next()?;
        let (key, record) = records.fold(
            first,
            |last, next| if next.1.clock > last.1.clock { next } else { last },
        );
        (record.length > Length::ZERO).then_some(Link {
            key: *key,
            length: record.length,
        })
    }
}

trait ErasedTrust: Send + Sync {
    fn is_trusted<'a>(
        &'a self,
        writer: &'a CoreKey,
        view: &'a View,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

    fn most_recent_trusted<'a>(
        &'a self,
        target: &'a View,
        view: &'a View,
    ) -> Pin<Box<dyn Future<Output = Option<Link>> + Send + 'a>>;

    fn named<'a>(&'a self, view: &'a View) -> Pin<Box<dyn Future<Output = Option<Link>> + Send + 'a>>;
}

impl<T: Trust> ErasedTrust for T {
    fn is_trusted<'a>(
        &'a self,
        writer: &'a CoreKey,
        view: &'a View,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(Trust::is_trusted(self, writer, view))
    }

    fn most_recent_trusted<'a>(
        &'a self,
        target: &'a View,
        view: &'a View,
    ) -> Pin<Box<dyn Future<Output = Option<Link>> + Send + 'a>> {
        Box::pin(Trust::most_recent_trusted(self, target, view))
    }

    fn named<'a>(&'a self, view: &'a View) -> Pin<Box<dyn Future<Output = Option<Link>> + Send + 'a>> {
        Box::pin(Trust::named(self, view))
    }
}
