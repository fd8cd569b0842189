//! Hostile peers: processes of a world that know the database, speak its protocol by its own machines, and do with them what
//! they should not. What each kind does stands at [`Hostility`].
//!
//! # What must hold
//!
//! In every run, with any of them: nothing panics; memory, tasks and streams of replicas stay bounded; nothing that was
//! acknowledged to a client of a replica whose log is not forked leaves its log, or the order of those who have it.
//!
//! | kind | replicas come to agree | what their set holds of it |
//! | --- | --- | --- |
//! | `garbage`, `truncated`, `flood` | as if it was not there | nothing |
//! | `forged-proof`, `replay` | as if it was not there | nothing; true blocks may have come by it |
//! | `withheld` | as if it was not there, at most a timeout for answers (`answer_ms_max`) later for each time that it connects | nothing |
//! | `stranger` | on everything of replicas; on what it wrote, those who have equal blocks of it | batches that are accepted; what waits for a block that nobody has waits |
//! | `member` | on everything, when its blocks have reached everybody | all batches up to the first block that nobody takes, at which it is frozen at every replica alike |
//! | `equivocator` | those with equal bytes on everything; all on what does not need the forked log | the branch that came first; what links the other one waits |
//! | `twin` | as for an equivocator, of the log of the replica `of` | as for an equivocator |
//!
//! A log that may have two branches is named by [`Hostile::may_fork`](crate::scenario::Hostile::may_fork) (a replica's) or [`Hostile::forks_itself`](crate::scenario::Hostile::forks_itself) (its own).
//! Where both branches meet, the core is reported by [`Autobee::stalled`](autobee::Autobee::stalled), or entries that wait
//! for the other branch are, and entries of everybody else go on. What a twin or an equivocator was told that it appended
//! is not claimed of anybody; nor is what the replica `of` was told, at others than itself.
//!
//! A stranger's core that gave up its slot counts as not being here, so two replicas may hold different parts of strangers'
//! logs while neither is wrong: convergence is claimed of equal sets, and of everything that members link.

mod account;
mod author;
mod branch;
mod context;
mod flood;
mod forged;
mod garbage;
mod hoard;
pub mod line;
mod misdeed;
mod replay;
mod truncated;
mod withheld;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use autobee::crypto::CoreKey;
use autobee::env::{Clock as _, Env, Spawn as _, TaskHandle, watch};

pub(crate) use account::Ledger;
pub use account::{Account, Deeds, class};
pub(crate) use context::RunContext;
pub use line::{Attack, HostileStream, attack};

use crate::replica::{Crash, ReplicaId};
use crate::scenario::{Hostility, Scenario};
use crate::simulated_world::SimulatedWorld;
use crate::world::NameError;
use account::lock;
use context::Context;
use hoard::Hoard;

/// The hostile peers of a run.
pub(crate) struct Hostiles {
    ids: Vec<ReplicaId>,
    writers: Vec<(Arc<Mutex<Account>>, u64)>,
    gate: watch::Sender<bool>,
}

impl Hostiles {
    /// Starts all of them. They connect to nobody before [`Hostiles::begin`].
    pub(crate) fn start<S: SimulatedWorld>(
        world: &S,
        scenario: &Scenario,
        known: &Arc<dyn RunContext<S::Env>>,
        ledger: &Ledger,
    ) -> Result<Self, NameError> {
        let gate = watch::Sender::new(false);
        let (mut ids, mut writers) = (Vec::new(), Vec::new());
        for (number, hostile) in scenario.hostile.iter().enumerate() {
            let id = world.add_replica(&account::name(number))?;
            ids.push(id);
            let account = ledger.account(number);
            writers.extend(hostile.ceiling().map(|weight| (Arc::clone(&account), weight)));
            let (hostile, targets) = (hostile.clone(), hostile.dialled(scenario.replicas));
            let (known, gate, replicas) = (Arc::clone(known), gate.subscribe(), scenario.replicas);
            world.boot(id, move |env| {
                let context = Context {
                    env,
                    number,
                    hostile: hostile.clone(),
                    targets: targets.clone(),
                    replicas,
                    known: Arc::clone(&known),
                    account: Arc::clone(&account),
                };
                live(context, gate.clone())
            });
        }
        Ok(Self { ids, writers, gate })
    }

    /// The logs that the creator makes writers, with the ceilings of their weights; none before all of them are known.
    pub(crate) fn writers(&self) -> Option<Vec<(CoreKey, u64)>> {
        let key = |(account, weight): &(Arc<Mutex<Account>>, u64)| Some((lock(account).key?, *weight));
        self.writers.iter().map(key).collect()
    }

    /// The times of the scenario count from now on.
    pub(crate) fn begin(&self) {
        self.gate.send_replace(true);
    }

    /// Ends those that are still there.
    pub(crate) fn end(&self, world: &impl SimulatedWorld) {
        for id in &self.ids {
            world.crash(*id, Crash::Kill);
        }
    }
}

/// Waits for its time, does what it does, and is gone.
async fn live<E: Env>(context: Context<E>, mut gate: watch::Receiver<bool>) {
    match context.hostile.kind {
        Hostility::Stranger | Hostility::Member => author::live(context, gate).await,
        Hostility::Equivocator | Hostility::Twin => branch::live(context, gate).await,
        _ => {
            let Some(end) = context.enter(&mut gate).await else {
                return;
            };
            let Some(key) = context.key().await else { return };
            let attacks = attacks(&context, key);
            context.env.clock().sleep_until(end).await;
            for attack in attacks {
                attack.abort();
            }
        }
    }
}

/// Starts an attack on each target.
fn attacks<E: Env>(context: &Context<E>, key: CoreKey) -> Vec<TaskHandle> {
    let env = &context.env;
    let hoard = || Hoard::of(key, env.crypto().clone()).map(|hoard| Arc::new(Mutex::new(hoard)));
    match context.hostile.kind {
        Hostility::Garbage => {
            let env = env.clone();
            each(context, key, move |attempt| garbage::Garbage::new(&env, attempt))
        }
        Hostility::Truncated => {
            let env = env.clone();
            each(context, key, move |attempt| {
                truncated::Truncated::new(&env, attempt)
            })
        }
        Hostility::Flood => {
            let env = env.clone();
            each(context, key, move |attempt| flood::Flood::new(&env, attempt))
        }
        Hostility::Withheld => each(context, key, withheld::Withheld::new),
        Hostility::ForgedProof => hoard().map_or_else(Vec::new, |hoard| {
            let env = env.clone();
            each(context, key, move |attempt| {
                forged::Forger::new(&env, &hoard, attempt)
            })
        }),
        Hostility::ForgedBlocks => hoard().map_or_else(Vec::new, |hoard| {
            let env = env.clone();
            each(context, key, move |attempt| {
                forged::Forger::of_blocks(&env, &hoard, attempt)
            })
        }),
        Hostility::Replay => hoard().map_or_else(Vec::new, |hoard| {
            let record: replay::Record = Arc::new(Mutex::new(VecDeque::new()));
            each(context, key, move |_| replay::Replayer::new(&hoard, &record))
        }),
        // Those have processes of other kinds.
        Hostility::Stranger | Hostility::Member | Hostility::Equivocator | Hostility::Twin => Vec::new(),
    }
}

/// One attack for each target, made anew for each stream from how many there were before.
fn each<E: Env, A: Attack<E>>(
    context: &Context<E>,
    key: CoreKey,
    new: impl Fn(u64) -> A + Clone + Send + 'static,
) -> Vec<TaskHandle> {
    let start = |(position, target): (usize, &usize)| {
        let (new, mut attempt) = (new.clone(), position as u64);
        let next = move || {
            attempt += 1;
            new(attempt - 1)
        };
        let (env, account) = (context.env.clone(), Arc::clone(&context.account));
        let task = attack(env, context::address(*target), key, next, account);
        context.env.spawn().spawn("attack", task)
    };
    context.targets.iter().enumerate().map(start).collect()
}

/// How long a hostile peer waits between looks at something that is not there yet.
const RETRY: Duration = Duration::from_millis(100);
