//! Opening a database.

use std::fmt;
use std::sync::Arc;

use super::machine::{Logs, TreeRecord};
use super::own_log::Origin;
use super::shell::Shell;
use super::shell::store::{OpenLog, Opened, doubt};
use super::trees::DatabaseTrees;
use super::update::{Update, UpdateHook};
use super::{Autobee, FastForward, Settings, Ticket, View};
use crate::apply::{Apply, ApplyFn, OrderOnly};
use crate::crypto::{CoreKey, KeyPair, PublicKey, Seed};
use crate::engine::{Engine, EngineOptions, Portions};
use crate::env::{BoxFuture, Env, Point, Sights, TraceEvent};
use crate::error::Error;
use crate::hypercore::Corestore;
use crate::replication::session::{Admit, SessionSettings};
use crate::wire::Length;
use crate::wire::Rules;
use crate::wire::rules::RecordedRules;
use zeroize::Zeroizing;

/// Collects what is needed to open a database.
pub struct Builder<E: Env> {
    store: Corestore<E>,
    key: Option<CoreKey>,
    encryption_key: Option<Zeroizing<[u8; 32]>>,
    key_pair: Option<KeyPair>,
    name: String,
    update: Option<UpdateHook>,
    apply: ApplyFn,
    apply_version: u64,
    forward: FastForward,
    rebuilds_in_background: bool,
    optimistic: bool,
    rules: Rules,
    settings: Settings,
    identity: Option<Seed>,
    admit: Option<Admit>,
    is_restored: bool,
    has_whole_log: bool,
}

impl<E: Env> Builder<E> {
    pub(super) fn new(store: Corestore<E>) -> Self {
        Self {
            store,
            key: None,
            encryption_key: None,
            key_pair: None,
            name: String::new(),
            update: None,
            apply: ApplyFn::new(OrderOnly),
            apply_version: 0,
            forward: FastForward::off(),
            rebuilds_in_background: false,
            optimistic: true,
            rules: Rules::safe(),
            settings: Settings::default(),
            identity: None,
            admit: None,
            is_restored: false,
            has_whole_log: false,
        }
    }

    /// The database to join. Without it a new one is made, or the one of the store is opened again.
    #[must_use]
    pub fn key(mut self, key: CoreKey) -> Self {
        self.key = Some(key);
        self
    }

    /// The database that a ticket is for, with its encryption key when that is in it. Nothing is dialled: the addresses are for
    /// [`Autobee::keep_connected`].
    #[must_use]
    pub fn ticket(self, ticket: &Ticket) -> Self {
        let named = self.key(ticket.key());
        match ticket.encryption_key() {
            Some(secret) => named.encryption_key(secret),
            None => named,
        }
    }

    /// Encrypts the logs of writers with keys that follow from this one. All peers of the database need it, from their
    /// first opening on; the store remembers it, in clear, so that it need not be given again. Under [`Rules::safe`] the
    /// trees are encrypted with it, too, and a block that says that it is clear ends what is taken of its log; under
    /// [`Rules::interop`] who has the key of the database reads the trees, and clear blocks are taken, as by the original.
    ///
    /// A wrong key, or none, is found by the first block of the creator's log: at the opening, if it is here, else when it
    /// comes. Then all that applies or appends answers [`Error::EncryptionKey`], which says what does not fit, and an
    /// [`Event::Error`](super::Event::Error) tells it. Opened again with the right key, the database is what it is: that
    /// one is remembered instead. Of databases whose creator's core has an older manifest than version 2 nothing tells.
    #[must_use]
    pub fn encryption_key(mut self, key: [u8; 32]) -> Self {
        self.encryption_key = Some(Zeroizing::new(key));
        self
    }

    /// The key pair of the local writer, instead of one that the store makes. The store does not keep it: give it at
    /// every opening, or the local writer is another one.
    #[must_use]
    pub fn key_pair(mut self, key_pair: KeyPair) -> Self {
        self.key_pair = Some(key_pair);
        self
    }

    /// Is called after each round of applying that changed the order, with the view of then. It runs between two rounds,
    /// so it should be quick; what takes longer listens to [`Autobee::events`].
    ///
    /// The database keeps the function. One that keeps a handle to the same database keeps it in memory for ever.
    #[must_use]
    pub fn update(mut self, update: impl Fn(&View, &Update) + Send + Sync + 'static) -> Self {
        self.update = Some(Arc::new(update));
        self
    }

    /// The user's merge. Without one, entries are ordered and recorded only.
    #[must_use]
    pub fn apply(mut self, apply: impl Apply) -> Self {
        self.apply = ApplyFn::new(apply);
        self
    }

    /// The version of [`Builder::apply`]: give another number whenever it may answer anything else than before. It is 0 by
    /// default, also where nothing was stored about it.
    ///
    /// It is stored with the view. When another one opens the database, nothing that the other one made counts: everything
    /// is applied anew from the logs, behind what stands in the own cores of the view and of the system tree, which nobody
    /// rewrites, so that what was said about them stays so. The end is what a peer comes to that joins with this version. The
    /// number takes effect in the same commit as the end of the rebuild: after a crash on the way, either version opens the
    /// database, and begins anew. [`Event::Rebuilt`](super::Event::Rebuilt) says that it is over, and
    /// [`Status::rebuild`](super::Status::rebuild) how far it is.
    ///
    /// All peers should change at about the same time: as long as their applies differ, so may their views and records.
    ///
    /// ```
    /// # use autobee::{Autobee, Corestore};
    /// # use autobee::apply::OrderOnly;
    /// # use autobee::env::memory::MemoryEnv;
    /// # let env = MemoryEnv::new(1);
    /// # env.run(async {
    /// let open = async |version| {
    ///     let store = Corestore::open_default(env.clone()).await?;
    ///     Autobee::builder(store).apply(OrderOnly).apply_version(version).open().await
    /// };
    /// let db = open(1).await?;
    /// db.append(b"hello").await?;
    /// db.close().await?;
    /// let db = open(2).await?; // the entry was applied by the second version
    /// assert_eq!(db.stats().applies, 1);
    /// # Ok::<(), autobee::Error>(())
    /// # }).unwrap().unwrap();
    /// ```
    #[must_use]
    pub fn apply_version(mut self, version: u64) -> Self {
        self.apply_version = version;
        self
    }

    /// Whether [`Builder::open`] returns before a rebuild is over that another [`Builder::apply_version`] causes. The view
    /// is that of no entries until then; appends wait for it. By default it waits.
    #[must_use]
    pub fn rebuild_in_background(mut self, in_background: bool) -> Self {
        self.rebuilds_in_background = in_background;
        self
    }

    /// The rules of a database that is made, [`Rules::safe`] by default: its key commits to them, and whoever joins learns
    /// them. They count for nothing when a database is joined, or opened again: that has its rules. [`Autobee::rules`] tells
    /// them.
    ///
    /// **JavaScript peers cannot join a database with safe rules**: they would ignore the rules, and silently diverge. For
    /// those make it with [`Rules::interop`].
    ///
    /// ```
    /// # use autobee::{Autobee, Corestore, Rules};
    /// # use autobee::apply::OrderOnly;
    /// # use autobee::env::memory::MemoryEnv;
    /// # let env = MemoryEnv::new(1);
    /// # env.run(async {
    /// let store = Corestore::open_default(env.clone()).await?;
    /// // Peers that run the original in JavaScript are to join it.
    /// let db = Autobee::builder(store).apply(OrderOnly).rules(Rules::interop()).open().await?;
    /// assert_eq!(db.rules(), Some(Rules::interop()));
    /// # Ok::<(), autobee::Error>(())
    /// # }).unwrap().unwrap();
    /// ```
    #[must_use]
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// Whether entries of strangers are tried; they are by default. It counts when a database is made
    /// under [`Rules::safe`], which records it, and is ignored by whoever joins such a database. Under [`Rules::interop`]
    /// nothing records it: each peer says it at each opening, and peers that differ in it cannot agree.
    #[must_use]
    pub fn optimistic(mut self, optimistic: bool) -> Self {
        self.optimistic = optimistic;
        self
    }

    /// Whether, and from whose trees, the database goes on instead of applying the whole history. By default from nobody's.
    #[must_use]
    pub fn fast_forward(mut self, forward: FastForward) -> Self {
        self.forward = forward;
        self
    }

    /// A name for messages.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Limits and waits.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// The seed of the key pair by which peers may recognise this one, see [`Autobee::public_key`]. Without it there is
    /// another key each time that the database is opened.
    #[must_use]
    pub fn identity(mut self, seed: Seed) -> Self {
        self.identity = Some(seed);
        self
    }

    /// Whom to talk to, by the static key that the peer proves to have. Without it everybody: what is protected, keys of
    /// cores protect. A panic in it ends the connection, with [`CloseReason::AdmitPanicked`](super::CloseReason::AdmitPanicked),
    /// and [`Event::Error`](super::Event::Error) tells of it; everything else goes on.
    #[must_use]
    pub fn admit(mut self, admit: impl Fn(&PublicKey) -> bool + Send + Sync + 'static) -> Self {
        self.admit = Some(Arc::new(admit));
        self
    }

    /// Says that the directory is an older copy, such as a backup: peers may have entries of the own log that are not
    /// here. Then, as with a key pair of which nothing is here, [`Autobee::append`] first waits for a peer, fetches what
    /// that has of the log, and is refused when none comes; so it is at later openings, until a peer came.
    ///
    /// It helps as far as that peer knows: entries that reached nobody but the lost directory, or only peers that are
    /// away, are unknown to it.
    #[must_use]
    pub fn restored(mut self) -> Self {
        self.is_restored = true;
        self
    }

    /// Says that nothing was written with the key pair of the local writer that is not here: no peer is waited for
    /// before the first append. For a key pair that was made just now. Where it is not so, the log gets two
    /// continuations, and peers take nothing more of it.
    #[must_use]
    pub fn whole_log(mut self) -> Self {
        self.has_whole_log = true;
        self
    }

    /// Opens the database and applies what is there.
    ///
    /// # Errors
    ///
    /// `Invalid` when the store holds another database, `EncryptionKey` when the key does not fit it, `Unsupported` when its
    /// rules are of a later version, `Disk` when it cannot be read, `Corrupt`, `Interrupted`.
    pub async fn open(self) -> Result<Autobee<E>, Error> {
        self.settings.check()?;
        self.opened().await
    }

    fn opened(self) -> BoxFuture<'static, Result<Autobee<E>, Error>> {
        Box::pin(async move {
            let verify = self.store.env().crypto().clone();
            let origin = Origin {
                is_joined_as: self.key.is_some() && self.key_pair.is_some(),
                is_given: false,
                is_restored: self.is_restored,
                is_complete: self.has_whole_log,
            };
            // Rules of the original are not recorded: the database is one that the original could have made.
            let new_rules = self.rules.is_safe().then_some(RecordedRules {
                rules: self.rules,
                optimistic: self.optimistic,
            });
            let mut opened = Opened::open(
                self.store,
                self.key,
                self.encryption_key,
                self.key_pair,
                new_rules,
            )
            .await?;
            let recorded = opened.rules.flatten();
            let unconfirmed = doubt(&opened.store, opened.local.core(), origin).await?;
            let (trees, mut record, mut checkpoints) =
                DatabaseTrees::open(&opened, &self.settings, self.apply_version).await?;
            let local = opened.logs.local();
            let options = || EngineOptions {
                key: opened.database,
                name: self.name.clone(),
                apply: self.apply.clone(),
                optimistic: recorded.map_or(self.optimistic, |recorded| recorded.optimistic),
                rules: opened
                    .rules
                    .map(|_| recorded.map_or(Rules::interop(), |recorded| recorded.rules)),
                verify: verify.clone(),
                trees: trees.trees().clone(),
                window_batches: self.settings.window_batches,
            };
            let mut skipped = 0;
            let env = opened.store.env();
            let mut engine = loop {
                if skipped < checkpoints.len() && env.buggify("checkpoint_passed_over") {
                    if let [newer, older, ..] = &mut checkpoints[skipped..] {
                        older.replace(newer);
                    }
                    skipped += 1;
                    continue;
                }
                match Engine::resume(options(), &checkpoints[skipped..]) {
                    // A block that is damaged, and comes again, is no reason to do anything anew.
                    Ok(engine) if engine.is_within(|core| there_is(&opened.logs, &record, core)) => {
                        break engine;
                    }
                    Err(error) if skipped == checkpoints.len() => {
                        return Err(Error::Internal {
                            what: error.to_string(),
                        });
                    }
                    // From an older one there is more to read, and the same end.
                    refused => {
                        env.trace(|| TraceEvent::Failed {
                            what: "going on from a checkpoint".into(),
                            why: match refused {
                                Ok(_) => "it is of other logs than are here".into(),
                                Err(error) => error.to_string(),
                            },
                        });
                        if let [newer, older, ..] = &mut checkpoints[skipped..] {
                            older.replace(newer);
                        }
                        skipped += 1;
                    }
                }
            };
            engine.plant(opened.store.planted());
            if E::SIM {
                engine.set_portions(Portions::tuned(env));
            }
            if !E::READ_ONLY {
                engine.set_local(local);
            }
            if record.rebuild().is_some() {
                engine.attest_anew();
            }
            if let Some(keys) = &opened.keys {
                engine.set_keys(keys.clone());
            }
            record.resume(&mut engine, opened.logs.forks(), skipped == 0);
            let mut sights = Sights::default();
            sights.note_if(Point::CheckpointUsed, skipped == 0 && !checkpoints.is_empty());
            sights.note_if(Point::CheckpointOlder, skipped > 0 && skipped < checkpoints.len());
            sights.note_if(
                Point::CheckpointsRefused,
                skipped > 0 && skipped == checkpoints.len(),
            );
            sights.note_if(Point::TreesRebuilt, record.is_void());
            sights.note_if(Point::TreesDamaged, record.is_damaged());
            sights.note_if(
                Point::ViewRebuilt,
                record.rebuild().is_some() && !record.is_damaged(),
            );
            let waits = record.rebuild().is_none() || !self.rebuilds_in_background;
            sights.note_if(Point::EncryptedOpened, opened.keys.is_some());
            sights.note_if(Point::SafeOpened, engine.rules().is_some_and(Rules::is_safe));
            sights.report(env);
            env.trace(|| TraceEvent::Recovered {
                local,
                batches: engine.batches() as u64,
                refused: skipped as u64,
            });
            if engine.forgotten() == 0 {
                record.start_over();
            }
            opened.logs.pass_over(|core| record.passed_over(core));
            opened.logs.begin_at(|core| engine.fed_from(core));
            let sessions = SessionSettings {
                identity: self.identity,
                admit: self.admit,
                ..self.settings.sessions(opened.store.env())
            };
            let shared = Shell::new(
                self.settings,
                sessions,
                engine,
                (opened, unconfirmed),
                (trees, record),
                (self.update, self.forward),
            );
            shared.start(waits).await?;
            Ok(Autobee { shared })
        })
    }
}

/// How much of a log there is, or need not be.
fn there_is<E: Env>(logs: &Logs<OpenLog<E>>, record: &TreeRecord, core: &CoreKey) -> Option<Length> {
    let passed_over = record.passed_over(core);
    let passed_over = (passed_over > Length::ZERO).then_some(passed_over);
    logs.proven(core).max(passed_over)
}

impl<E: Env> fmt::Debug for Builder<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("key", &self.key)
            .field("name", &self.name)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
