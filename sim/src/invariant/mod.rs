//! What must hold, while a world runs and when it comes to rest.
//!
//! An [`Invariant`] looks at [`Moment`]s: what all replicas are at one point of virtual time. It is a property of states,
//! not an example, and one that a user of the simulator can add to. What a fault takes away from it stands in
//! [`Claims`]; `docs/simulation.md` has the table.

mod acknowledged;
mod applied;
mod bounded;
mod causal;
mod claims;
mod contradictions;
mod convergence;
mod equal_sets;
mod gathering;
mod handed_on;
mod honest;
mod links;
mod log_copy;
mod logs;
mod moment;
mod outcomes;
mod own_log;
mod prompt;
mod reference;
mod reopened;
mod seen;
mod sets;
mod settled;
mod synced;
mod told;
mod weights;

use std::fmt;

use serde::Serialize;

pub use acknowledged::AcknowledgedEntries;
pub use applied::AppliedLengths;
pub use bounded::Bounds;
pub use causal::CausalOrder;
pub use claims::Claims;
pub(crate) use claims::SKEW_HARMLESS_MS;
pub use contradictions::Contradictions;
pub use convergence::{convergence, is_beyond_reach};
pub use equal_sets::EqualSets;
pub use gathering::{Healing, gathering};
pub use handed_on::HandedOn;
pub use honest::HonestPeers;
pub use links::AppendLinks;
pub use log_copy::LogCopy;
pub use logs::EqualLogs;
pub(crate) use moment::VIEW_WAITS;
pub use moment::{Acknowledged, Look, Moment, Progress, ReplicaLook, SettledLook};
pub use outcomes::outcomes;
pub use own_log::OwnLogs;
pub use prompt::Promptness;
pub(crate) use reference::known_batches;
pub use reference::{Effective, Model, reference};
pub use reopened::{remembered, reopened};
pub use seen::Seen;
pub use sets::GrowingSets;
pub use settled::SettledStays;
pub use synced::SyncedSessions;
pub use told::StatusTruth;
pub use weights::WeightsReached;

/// A property of what replicas are.
///
/// ```
/// use autobee_sim::invariant::{Invariant, Moment};
///
/// /// No view has more than a thousand keys.
/// struct SmallViews;
///
/// impl Invariant for SmallViews {
///     fn name(&self) -> &'static str {
///         "small views"
///     }
///
///     fn tick(&mut self, moment: &Moment<'_>) -> Result<(), String> {
///         for (replica, look) in moment.open() {
///             if look.view.len() > 1_000 {
///                 return Err(format!("{} has {} keys", replica.name, look.view.len()));
///             }
///         }
///         Ok(())
///     }
/// }
/// ```
///
/// Of a program that is no database it looks at what that shows: see [`crate::Program`].
pub trait Invariant<W: Watched = Databases>: Send {
    /// What it is called in reports.
    fn name(&self) -> &'static str;

    /// Looks at a moment of the run. The error says who differs from what, and where.
    ///
    /// # Errors
    ///
    /// When the property does not hold.
    fn tick(&mut self, moment: &W::Moment<'_>) -> Result<(), String>;

    /// Looks at the last moment, when everything is healed and at rest.
    ///
    /// # Errors
    ///
    /// When the property does not hold.
    fn end(&mut self, moment: &W::Moment<'_>) -> Result<(), String> {
        self.tick(moment)
    }

    /// How often it really compared something, by what: a check that never compared says nothing.
    fn counts(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// What runs in a world, and can be looked at.
pub trait Watched: 'static {
    /// What it is at one point of virtual time.
    type Moment<'a>;
}

/// Replicas of a database.
#[derive(Debug, Clone, Copy)]
pub struct Databases;

impl Watched for Databases {
    type Moment<'a> = Moment<'a>;
}

/// All invariants of the engine, for one run.
#[must_use]
pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(EqualLogs::default()),
        Box::new(OwnLogs::default()),
        Box::new(AcknowledgedEntries::default()),
        Box::new(GrowingSets::default()),
        Box::new(AppliedLengths::default()),
        Box::new(CausalOrder::default()),
        Box::new(AppendLinks::default()),
        Box::new(EqualSets::default()),
        Box::new(StatusTruth::default()),
        Box::new(Promptness::default()),
        Box::new(Bounds::default()),
        Box::new(WeightsReached::default()),
        Box::new(SettledStays::default()),
        Box::new(HonestPeers::default()),
        Box::new(HandedOn::default()),
        Box::new(Contradictions::default()),
        Box::new(SyncedSessions::default()),
    ]
}

/// Something that must hold, and does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which property.
    pub invariant: &'static str,
    /// Who differs from what, and where.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// Where two lists begin to differ, for people: the position, and both sides.
pub(crate) fn first_difference<T: PartialEq + fmt::Debug>(ours: &[T], theirs: &[T]) -> String {
    let at = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
    let shown = |side: &[T]| {
        side.get(at)
            .map_or_else(|| "nothing".into(), |item| format!("{item:?}"))
    };
    format!("at position {at}: {} here, {} there", shown(ours), shown(theirs))
}
