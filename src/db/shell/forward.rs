//! Looking at the trees of another writer, and moving onto them: fetches what the survey asks for, and hands it to the
//! machine.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use super::{Shell, store, told, unless};
use crate::bee::BeeError;
use crate::crypto::CoreKey;
use crate::db::fast_forward::{Boot, FastForward};
use crate::db::machine::{Input, Moved, NotMoved};
use crate::db::{View, view};
use crate::engine::{
    CUT_ENTRIES, CUT_ENTRIES_MIN, CutRange, GAP_ENTRIES, STAMP_SEARCH_BLOCKS, StampedHead, Survey,
    SurveyError,
};
use crate::env::{BoxFuture, Clock as _, Env, Spawn as _, TraceEvent, knob};
use crate::error::Error;
use crate::hypercore::{Core, CoreError, Download, Wait};
use crate::wire::oplog::OplogBlock;
use crate::wire::{Decode as _, Index, Length, Link, Rules};

/// Most fetches of one survey. Each brings a block that the survey asked for, and those around it.
const FETCHES_MAX: usize = 4096;

/// Blocks in front of one that is asked for that are asked for with it.
const AHEAD_BLOCKS: u64 = 64;

/// How long it is waited for what connected peers say that they have.
const SAID_IN: Duration = Duration::from_secs(1);

/// Most heads that one block names as trusted that are looked at.
const TRUSTED_MAX: usize = 4;

/// How often a head to boot from is tried.
const BOOT_EACH: Duration = Duration::from_millis(250);

/// Where trees stand, and by whose word.
struct StampedBlock {
    head: StampedHead,
    /// The writers that the block names as trusted, with the ends of their logs.
    trusted: Vec<Link>,
}

impl<E: Env> Shell<E> {
    /// Looks at the trees of a writer whose log is far ahead, as the machine asks.
    pub(super) fn look_ahead_later(self: &Arc<Self>, head: Link) {
        let looking = look_ahead(Arc::downgrade(self), head);
        self.env.spawn().spawn("look ahead", looking);
    }

    /// Who is trusted from now on.
    pub(in crate::db) fn set_forward(self: &Arc<Self>, forward: FastForward) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let is_on = forward.is_on();
            let until = forward.boots().map(|boot| self.env.clock().now() + boot.lasts());
            *self.forward.lock().unwrap_or_else(PoisonError::into_inner) = forward;
            {
                let mut machine = self.machine.enter().await;
                self.step_alone(&mut machine, Input::Forward { is_on, until });
            }
            self.boot_later();
        })
    }

    fn forward(&self) -> FastForward {
        self.forward
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Begins with a head that was given, in the background.
    pub(super) fn boot_later(self: &Arc<Self>) {
        if let Some(boot) = self.forward().boots().cloned() {
            let booting = boot_from(Arc::downgrade(self), boot);
            self.env.spawn().spawn("boot from a head", booting);
        }
    }

    /// Moves onto the trees of a writer, whoever is trusted.
    pub(in crate::db) fn move_to(
        self: &Arc<Self>,
        head: Link,
    ) -> BoxFuture<'_, Result<Option<Moved>, Error>> {
        Box::pin(async move {
            if self.read().rules.is_none() {
                let (core, index) = (self.key, Index(0));
                return Err(Error::Unavailable { core, index });
            }
            let mut logs = SurveyedLogs::new(self);
            let Some(found) = logs.stamped(head, STAMP_SEARCH_BLOCKS).await? else {
                return Ok(None);
            };
            let survey = logs.survey(found.head).await?;
            self.move_onto(survey, true).await
        })
    }

    /// Tells the machine to move, and applies what follows.
    async fn move_onto(self: &Arc<Self>, survey: Survey, is_forced: bool) -> Result<Option<Moved>, Error> {
        let (done, moved) = {
            let mut machine = self.machine.enter().await;
            let survey = Box::new(survey);
            let done = self.step(&mut machine, Input::MoveOnto { survey, is_forced });
            (done, machine.take_moved())
        };
        if done.drains {
            Box::pin(self.drain()).await?;
        }
        match moved {
            Some(Ok(moved)) => Ok(Some(moved)),
            Some(Err(refused)) => {
                self.refused(refused);
                Ok(None)
            }
            None => Err(Error::Closed),
        }
    }

    /// Whom the own view names as trusted, for the next own entry to tell others.
    pub(super) async fn named(&self) -> Option<Link> {
        let forward = self.forward();
        if !forward.is_on() {
            return None;
        }
        let view = View::new(self.read().view.clone(), self.trees.peers());
        let wait = self.env.clock().sleep(self.settings.read_wait());
        unless(forward.named(&view), wait).await.flatten()
    }

    fn refused(&self, why: NotMoved) {
        self.env.trace(|| TraceEvent::Failed {
            what: "moving onto the trees of another writer".into(),
            why: format!("{why:?}"),
        });
    }

    /// Goes on from the trees of a writer if they are far ahead, and it is trusted.
    async fn try_forward(self: &Arc<Self>, head: Link) -> Result<(), Error> {
        let mut logs = SurveyedLogs::new(self);
        let Some(found) = logs.stamped(head, STAMP_SEARCH_BLOCKS).await? else {
            return Ok(());
        };
        let forward = self.forward();
        let reference = View::new(self.read().view.clone(), self.trees.peers());
        // What it says itself, and whom it calls trusted.
        let mut heads = vec![(head, Some(found.head))];
        heads.extend(found.trusted.iter().take(TRUSTED_MAX).map(|head| (*head, None)));
        for (head, known) in heads {
            if !self.is_member(&head.key) || !forward.is_trusted(&head.key, &reference).await {
                continue;
            }
            let found = match known {
                Some(found) => found,
                // Whatever it names need not be there.
                None => match logs.stamped(head, STAMP_SEARCH_BLOCKS).await {
                    Ok(Some(found)) => found.head,
                    Ok(None) | Err(_) => continue,
                },
            };
            if self.is_far(found) && self.is_to_be_had(head).await {
                let survey = logs.survey(found).await?;
                self.move_onto(survey, false).await?;
                return Ok(());
            }
        }
        // Whom the view there names.
        if !self.is_far(found.head) || !self.is_member(&head.key) {
            return Ok(());
        }
        let target = logs.view(found.head).await?;
        if let Some(named) = forward.most_recent_trusted(&target, &reference).await
            && self.is_member(&named.key)
            && self.is_to_be_had(named).await
            && let Some(found) = logs.stamped(named, STAMP_SEARCH_BLOCKS).await?
            && self.is_far(found.head)
        {
            let survey = logs.survey(found.head).await?;
            self.move_onto(survey, false).await?;
        }
        Ok(())
    }

    /// True for a member that is not removed, and for the creator as long as there are none.
    fn is_member(&self, key: &CoreKey) -> bool {
        let published = self.read();
        match published.system.record(key) {
            Some(record) => !record.is_removed && !record.is_anchor && !record.is_guest,
            None => *key == self.key && published.system.flushes() == 0,
        }
    }

    fn is_far(&self, head: StampedHead) -> bool {
        let gap = knob::FORWARD_GAP.of(&self.env, GAP_ENTRIES);
        head.entries >= self.read().system.flushes() + gap
    }

    /// True when some connected peer has all of the log up to there, or that does not matter. Peers have a moment to say
    /// what they have.
    async fn is_to_be_had(&self, head: Link) -> bool {
        let is_whole = || self.replication.announced(&head.key) >= head.length.0;
        let deadline = self.env.clock().now() + SAID_IN;
        while !self.forward().is_liberal() && !is_whole() {
            if self.env.clock().now() >= deadline || self.is_closed() {
                return false;
            }
            self.env.clock().sleep(SAID_IN / 20).await;
        }
        true
    }
}

/// Looks at the trees of a writer whose log is far ahead.
async fn look_ahead<E: Env>(shared: Weak<Shell<E>>, head: Link) {
    let Some(shared) = shared.upgrade() else { return };
    let look = RunningLook(&shared);
    if let Err(error) = shared.try_forward(head).await {
        shared.env.trace(|| TraceEvent::Failed {
            what: "looking at the trees of another writer".into(),
            why: error.to_string(),
        });
    }
    look.end();
    shared.looked_ahead().await;
}

/// A look that runs. It is over also when the program's own code panics in it.
struct RunningLook<'a, E: Env>(&'a Arc<Shell<E>>);

impl<E: Env> RunningLook<'_, E> {
    /// Whoever looked says so itself.
    const fn end(self) {
        std::mem::forget(self);
    }
}

impl<E: Env> Drop for RunningLook<'_, E> {
    fn drop(&mut self) {
        self.0.machine.leave(Input::LookedAhead);
    }
}

/// Moves onto a head that was given at the opening, as soon as it can be had and its view is accepted.
async fn boot_from<E: Env>(shared: Weak<Shell<E>>, boot: Boot) {
    let Some(clock) = shared.upgrade().map(|shared| shared.env.clock().clone()) else {
        return;
    };
    let deadline = clock.now() + boot.lasts();
    let mut head = boot.link();
    loop {
        let Some(shared) = shared.upgrade() else { return };
        if shared.is_closed() {
            return;
        }
        let look = RunningLook(&shared);
        let tried = shared.try_boot(&boot, head).await;
        look.end();
        let is_over = tried.unwrap_or_else(|error| {
            shared.env.trace(|| TraceEvent::Failed {
                what: "booting from a head".into(),
                why: error.to_string(),
            });
            // What is not here may come.
            !matches!(error, Error::Unavailable { .. })
        });
        if is_over || clock.now() >= deadline {
            return shared.looked_ahead().await;
        }
        // Later entries of the same log may be accepted.
        if boot.is_conditional()
            && let Some(length) = shared.log_length(&head.key).await
        {
            head.length = head.length.max(length);
        }
        let mut closing = shared.closing.subscribe();
        drop(shared);
        let until = (clock.now() + BOOT_EACH).min(deadline);
        _ = unless(clock.sleep_until(until), closing.changed()).await;
    }
}

impl<E: Env> Shell<E> {
    /// What was held back meanwhile is ordered.
    async fn looked_ahead(self: &Arc<Self>) {
        let done = {
            let mut machine = self.machine.enter().await;
            self.step(&mut machine, Input::LookedAhead)
        };
        if done.drains {
            told(Box::pin(self.drain()).await, &self.env);
        }
    }

    async fn log_length(&self, key: &CoreKey) -> Option<Length> {
        let machine = self.machine.enter().await;
        machine.logs().get(key)?.core().length().ok()
    }

    async fn try_boot(self: &Arc<Self>, boot: &Boot, head: Link) -> Result<bool, Error> {
        // By them trees are read, and entries ordered.
        if self.read().rules.is_none() {
            return Ok(false);
        }
        let mut logs = SurveyedLogs::new(self);
        let Some(found) = logs.stamped(head, STAMP_SEARCH_BLOCKS).await? else {
            return Ok(false);
        };
        if boot.is_conditional() {
            let target = logs.view(found.head).await?;
            if !boot.accepts(target).await {
                return Ok(false);
            }
        }
        let survey = logs.survey(found.head).await?;
        // Else the trees are no further than what is here, or entries are here that they do not have.
        self.move_onto(survey, true).await?;
        Ok(true)
    }
}

/// SurveyedLogs that are read for a survey, of members that may not be known here yet.
struct SurveyedLogs<'a, E: Env> {
    shell: &'a Arc<Shell<E>>,
    open: BTreeMap<CoreKey, Core<E>>,
    /// What is asked for until the survey is made.
    downloads: Vec<Download<E>>,
}

impl<'a, E: Env> SurveyedLogs<'a, E> {
    fn new(shell: &'a Arc<Shell<E>>) -> Self {
        Self {
            shell,
            open: BTreeMap::new(),
            downloads: Vec::new(),
        }
    }

    fn wait(&self) -> Wait {
        Wait::For(self.shell.settings.read_wait())
    }

    async fn core(&mut self, key: CoreKey) -> Result<&Core<E>, CoreError> {
        if !self.open.contains_key(&key) {
            let core = store::read_log(&self.shell.store, self.shell.keys.as_ref(), key).await?;
            self.open.insert(key, core);
        }
        self.open.get(&key).ok_or(CoreError::Unknown)
    }

    async fn block(&mut self, key: CoreKey, index: u64) -> Result<OplogBlock, Error> {
        let wait = self.wait();
        let block = match self.core(key).await?.get(Index(index), wait).await {
            Err(CoreError::Timeout(_) | CoreError::Unavailable(_)) => {
                let (core, index) = (key, Index(index));
                return Err(Error::Unavailable { core, index });
            }
            block => block?,
        };
        OplogBlock::from_bytes(&block).map_err(|error| Error::Peer {
            what: format!("block {index} of {key}: {error}"),
        })
    }

    /// Where the trees of a writer stood, by the newest of some blocks before the end of its log there.
    async fn stamped(&mut self, head: Link, blocks: u64) -> Result<Option<StampedBlock>, Error> {
        let end = head.length.0;
        for index in (end.saturating_sub(blocks)..end).rev() {
            let block = self.block(head.key, index).await?;
            if let Some(head) = StampedHead::of(&block) {
                let trusted = block.trusted.iter().flatten();
                let trusted = trusted.map(|head| Link {
                    key: head.key,
                    length: head.length,
                });
                let trusted = trusted.collect();
                return Ok(Some(StampedBlock { head, trusted }));
            }
        }
        Ok(None)
    }

    /// The view that a system tree names.
    async fn view(&mut self, head: StampedHead) -> Result<View, Error> {
        let peers = self.shell.trees.peers();
        let mut fetched = None;
        loop {
            match self.shell.trees.trees().restore(head.system) {
                Ok(restored) => return Ok(View::new(restored.view, peers)),
                Err(BeeError::Unavailable { core, index }) if fetched != Some((core, index)) => {
                    self.fetch_tree(core, index).await?;
                    fetched = Some((core, index));
                }
                Err(error) => return Err(view::read_error(error)),
            }
        }
    }

    /// All that has to be known to go on from there.
    async fn survey(&mut self, head: StampedHead) -> Result<Survey, Error> {
        let [first, most] = CUT_ENTRIES;
        let mut within = first;
        let planted = self.shell.store.planted();
        let rules = self.shell.read().rules.unwrap_or(Rules::interop());
        let least = knob::FORWARD_CUT.size(&self.shell.env, CUT_ENTRIES_MIN);
        for _ in 0..FETCHES_MAX {
            let block = |core: &CoreKey, index| self.open.get(core)?.get_local(index).ok().flatten();
            let range = CutRange { within, least };
            match Survey::of(self.shell.trees.trees(), head, (range, rules, planted), block) {
                Ok(survey) => {
                    self.downloads.clear();
                    return Ok(survey);
                }
                Err(SurveyError::Tree(BeeError::Unavailable { core, index })) => {
                    self.fetch_tree(core, index).await?;
                }
                Err(SurveyError::Tree(error)) => return Err(view::read_error(error)),
                Err(SurveyError::Blocks { core, from, .. }) => {
                    let range = Index(from.0.saturating_sub(AHEAD_BLOCKS))..Index(from.0 + 1);
                    let download = self.core(core).await?.download(range.into())?;
                    self.downloads.push(download);
                    self.block(core, from.0).await?;
                }
                Err(SurveyError::NoCut { .. }) if within == first => within = most,
                Err(error @ (SurveyError::Untrue { .. } | SurveyError::NoCut { .. })) => {
                    return Err(Error::Peer {
                        what: error.to_string(),
                    });
                }
            }
        }
        let (core, index) = (head.system.key, Index(head.system.length.0.saturating_sub(1)));
        Err(Error::Unavailable { core, index })
    }

    /// Fetches a block of a tree, and asks for those in front of it.
    async fn fetch_tree(&mut self, core: CoreKey, index: Index) -> Result<(), Error> {
        let peers = self.shell.trees.peers();
        peers.open(&core).await?;
        self.downloads
            .extend(peers.ask_before(&core, index, AHEAD_BLOCKS)?);
        view::RemoteBlocks::fetch(&*peers, core, index).await
    }
}
