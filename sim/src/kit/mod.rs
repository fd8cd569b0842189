//! Tests of an app's own apply function, in a plain `cargo test`: see [`check()`].

mod attempt;
mod faults;
mod identity;
mod ops;
mod outside;
mod plan;
mod program;
mod record;
mod report;
mod runner;
mod second;
mod seed;
mod tested;
mod words;

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use autobee::apply::{Apply, ApplyFn};
use autobee::crypto::CoreKey;
use autobee::db::View;
use autobee::wire::Rules;
use proptest::strategy::Strategy;

pub use faults::Faults;
pub use ops::{AsBytes, AsValue, IntoOp, Raw};
pub use program::{Peer, Program, ProgramCheck, Shown};

use identity::CheckId;
use ops::{Encode, Ops, Typed, Untyped};
pub(crate) use outside::{Panicked, quietly};
use runner::CheckJob;
use seed::Setup;
use tested::Maker;
pub(crate) use words::{action, bytes_text, shorten};

/// Seeds that are run when nothing else is said.
const SEEDS: (u64, u64) = (0, 100);

/// Replicas of a run when nothing else is said.
const REPLICAS: (usize, usize) = (2, 4);

/// The most replicas of a run.
const REPLICAS_MAX: usize = 64;

/// Starts a check of an apply function: replicas append operations of the app through partitions, crashes, wrong clocks
/// and failing disks, and must come to the same. `make` makes a fresh apply function for each replica and each start of
/// it.
///
/// ```
/// use autobee::apply::{Apply, ApplyError, ApplyView, Entry, Host};
/// use autobee_sim::{Faults, View, check};
///
/// /// Counts what was appended, and refuses more than three letters.
/// #[derive(Default)]
/// struct Words;
///
/// impl Apply for Words {
///     async fn apply(&self, entries: &[Entry], view: &mut ApplyView, _: &mut dyn Host) -> Result<(), ApplyError> {
///         for entry in entries {
///             if entry.value().len() > 3 {
///                 return Err(ApplyError::reject("too long"));
///             }
///             let count = view.get(entry.value()).await.map_or(0, |count| count[0]);
///             let mut write = view.write();
///             write.put(entry.value(), &[count.saturating_add(1)]);
///             write.flush().await?;
///         }
///         Ok(())
///     }
/// }
///
/// check(Words::default)
///     .ops(proptest::collection::vec(b'a'..b'c', 1..5))
///     .always("no long words", async |view: &View| {
///         let all = view.all().await?;
///         match all.iter().find(|(word, _)| word.len() > 3) {
///             Some((word, _)) => Err(format!("{word:?} is there")),
///             None => Ok(()),
///         }
///     })
///     .replicas(2..=3)
///     .faults(Faults::all())
///     .seeds(0..5)
///     .run();
/// ```
///
/// `docs/testing-your-apply.md` walks through a longer one, and says what cannot be seen.
#[track_caller]
pub fn check<A: Apply>(make: impl Fn() -> A + Send + Sync + 'static) -> Check<Raw> {
    let make: Maker = Arc::new(move || ApplyFn::new(make()));
    Check {
        parts: CheckParts {
            make,
            ops: None,
            always: Vec::new(),
            replicas: REPLICAS,
            faults: Faults::all(),
            rules: Rules::safe(),
            seeds: SEEDS,
            members: None,
            name: None,
            place: outside::place(Location::caller()),
        },
        encode: None,
    }
}

/// A check of an apply function that is being put together; see [`check()`].
#[must_use = "nothing is checked before `run`"]
pub struct Check<T = Raw> {
    parts: CheckParts,
    encode: Option<Encode<T>>,
}

/// Makes the operation of the app that adds a writer, and says how it is printed.
type Members = Arc<dyn Fn(CoreKey) -> (Vec<u8>, String) + Send + Sync>;

/// A check without types.
pub(crate) struct CheckParts {
    make: Maker,
    ops: Option<Box<dyn Ops>>,
    always: Vec<Arc<dyn Always>>,
    /// The fewest and the most.
    replicas: (usize, usize),
    faults: Faults,
    rules: Rules,
    /// The first, and the one after the last.
    seeds: (u64, u64),
    members: Option<Members>,
    name: Option<String>,
    /// Where it was made.
    place: String,
}

impl<T> Check<T> {
    /// Operations that are bytes; printed as text where they are text.
    pub fn ops(mut self, strategy: impl Strategy<Value = Vec<u8>> + 'static) -> Check<Raw> {
        self.parts.ops = Some(Box::new(Untyped(strategy)));
        Check {
            parts: self.parts,
            encode: None,
        }
    }

    /// Operations of a type, printed by `Debug`; `encode` makes what is appended of them.
    pub fn typed_ops<S, B>(
        mut self,
        strategy: S,
        encode: impl Fn(&S::Value) -> B + Send + Sync + 'static,
    ) -> Check<S::Value>
    where
        S: Strategy + 'static,
        S::Tree: 'static,
        S::Value: 'static,
        B: Into<Vec<u8>>,
    {
        let encode: Encode<S::Value> = Arc::new(move |op| encode(op).into());
        self.parts.ops = Some(Box::new(Typed {
            strategy,
            encode: Arc::clone(&encode),
        }));
        Check {
            parts: self.parts,
            encode: Some(encode),
        }
    }

    /// What must hold of every version of the view that any replica shows at any time. Each reads a view as a program
    /// does, and says what is wrong.
    pub fn always(
        mut self,
        name: impl Into<String>,
        holds: impl AsyncFn(&View) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let name = name.into();
        self.parts.always.push(Arc::new(Holds { name, holds }));
        self
    }

    /// How many replicas there are: each seed draws a number of these. From 2 to 4 when nothing is said.
    pub fn replicas(mut self, replicas: impl RangeBounds<usize>) -> Self {
        self.parts.replicas = replica_bounds(&replicas);
        self
    }

    /// Which faults there are; all when nothing is said.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.parts.faults = faults;
        self
    }

    /// Which rules the database has; [`Rules::safe`] when nothing is said, as a new database has them.
    pub fn rules(mut self, rules: Rules) -> Self {
        self.parts.rules = rules;
        self
    }

    /// Which seeds are run; 0 to 99 when nothing is said. `AUTOBEE_SEED=17`, `AUTOBEE_SEEDS=0..10000` and
    /// `AUTOBEE_TIME=60s` in the environment say otherwise.
    pub fn seeds(mut self, seeds: impl RangeBounds<u64>) -> Self {
        self.parts.seeds = seed_bounds(&seeds);
        self
    }

    /// For an app whose own operations add writers: the operation that adds the writer with this key, as bytes or as a
    /// value of [`Check::typed_ops`]. All operations of the app are then appended as they are. Without it the kit wraps
    /// them, and adds writers by operations of its own that the app never sees.
    pub fn members_by<O, M>(mut self, op: impl Fn(CoreKey) -> O + Send + Sync + 'static) -> Self
    where
        O: IntoOp<T, M>,
        T: 'static,
    {
        let encode = self.encode.clone();
        self.parts.members = Some(Arc::new(move |key| op(key).into_op(encode.as_deref())));
        self
    }

    /// What the check is called, and where in the folder of its test its failures are kept; it is called as its test when
    /// nothing is said.
    pub fn name(mut self, name: impl AsRef<str>) -> Self {
        self.parts.name = Some(outside::file_name(name.as_ref()));
        self
    }

    /// Runs all seeds.
    ///
    /// # Panics
    ///
    /// When one of them fails: with what does not hold, the smallest history that was found for it, and how to see it
    /// again.
    #[track_caller]
    pub fn run(self) {
        let outcome = self.parts.run();
        #[expect(clippy::panic, reason = "a test fails by panicking")]
        if let Err(text) = outcome {
            panic!("{text}");
        }
    }
}

impl CheckParts {
    fn run(&self) -> Result<(), String> {
        let Some(ops) = &self.ops else {
            return Err("the check has no operations: say `.ops(..)` or `.typed_ops(..)`".into());
        };
        are_replicas(self.replicas)?;
        let setup = Setup::new(self);
        let id = CheckId::next(self.name.as_deref(), &self.place);
        runner::run(&CheckJob {
            id: &id,
            seeds: self.seeds,
            draw: &|seed| plan::draw(self, &id.label, &**ops, seed),
            run: &|scenario, seed, tries| setup.run(scenario, seed, tries),
            explain: Some(&|scenario, seed, tries| setup.explain(scenario, seed, tries)),
            ops: Some(&**ops),
        })
    }
}

/// The fewest replicas and the most.
fn replica_bounds(replicas: &impl RangeBounds<usize>) -> (usize, usize) {
    let least = match replicas.start_bound() {
        Bound::Included(least) => *least,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 1,
    };
    let most = match replicas.end_bound() {
        Bound::Included(most) => *most,
        Bound::Excluded(behind) => behind.saturating_sub(1),
        Bound::Unbounded => REPLICAS_MAX,
    };
    (least, most)
}

/// The first seed, and the one after the last.
fn seed_bounds(seeds: &impl RangeBounds<u64>) -> (u64, u64) {
    let first = match seeds.start_bound() {
        Bound::Included(first) => *first,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match seeds.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (first, end)
}

/// Refuses numbers of replicas that cannot be.
fn are_replicas((least, most): (usize, usize)) -> Result<(), String> {
    if least == 0 || least > most || most > REPLICAS_MAX {
        return Err(format!(
            "replicas({least}..={most}) is not within 1..={REPLICAS_MAX}"
        ));
    }
    Ok(())
}

impl<T> fmt::Debug for Check<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check")
            .field("name", &self.parts.name)
            .field("place", &self.parts.place)
            .finish_non_exhaustive()
    }
}

/// What does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Property {
    /// A property of the app.
    Always(String),
    /// Apply is a function of what it is handed.
    Function,
    /// Apply does not panic.
    NoPanic,
    /// Apply does not give up.
    GoesOn,
    /// Replicas come to the same.
    Convergence(String),
    /// The operations of [`Check::members_by`] add writers.
    Members,
}

impl Property {
    /// What it is called.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Always(name) => format!("always {name:?}"),
            Self::Function => "apply is a function of what it is handed (deterministic)".into(),
            Self::NoPanic => "apply does not panic".into(),
            Self::GoesOn => "apply does not give up".into(),
            Self::Convergence(_) => "replicas converge".into(),
            Self::Members => "the operations of members_by add writers".into(),
        }
    }
}

/// A property of views, whatever the type of its future.
pub(crate) trait Always: Send + Sync {
    fn name(&self) -> &str;
    fn check(&self, view: &View) -> Result<(), String>;
}

struct Holds<F> {
    name: String,
    holds: F,
}

impl<F> Always for Holds<F>
where
    F: AsyncFn(&View) -> Result<(), String> + Send + Sync,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self, view: &View) -> Result<(), String> {
        // A view that was written here needs no block of a peer, so reading it does not wait.
        let polled = quietly(|| {
            let future = pin!((self.holds)(view));
            future.poll(&mut Context::from_waker(Waker::noop()))
        });
        match polled {
            Ok(Poll::Ready(verdict)) => verdict,
            Ok(Poll::Pending) => Err("the check waits for something that is not the view".into()),
            Err(Panicked(text)) => Err(format!("the check panicked: {text}")),
        }
    }
}
