//! The only door to the world: clock, disk, network, entropy, tasks and signatures.
//!
//! Everything above is written against these traits and never names an operating system, a runtime or a clock. The
//! library brings two worlds: `native` (feature `tokio`) and [`memory`]. The simulator brings the third.
//!
//! Rules for whoever implements a world: futures are `Send`; byte streams, never messages; positional file access;
//! nothing is durable before its sync returned.

mod clock;
mod disk;
mod entropy;
pub mod knob;
pub mod memory;
#[cfg(feature = "tokio")]
pub mod native;
mod network;
mod planted;
pub mod point;
mod read_only;
mod spawn;
pub mod trace;
pub mod watch;

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub use clock::{Clock, Mono, Wall};
pub use disk::{Disk, DiskFile, DiskLock, Open, check_name};
pub use entropy::Entropy;
pub use network::{Listener, Network, PeerAddr};
#[doc(hidden)]
pub use planted::{Layer, Planted, Slip};
pub use point::{Point, Sights};
pub use read_only::ReadOnlyEnv;
pub use spawn::{Spawn, TaskHandle, Worker};
pub use trace::{TraceEvent, TraceSpan};

#[doc(no_inline)]
pub use crate::crypto::{Ed25519, Hash, KeyPair, PublicKey, Seed, Sign, Signature, Verify};

/// A future whose type is not told. What a program awaits directly of generic code is compiled again in each crate that does,
/// and in each part of it; this is compiled where it is made.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Signatures of a world: Ed25519 everywhere but in the simulator, which may choose a cheaper stand-in.
pub trait Crypto: Sign + Clone + Send + Sync + 'static {}

impl<T: Sign + Clone + Send + Sync + 'static> Crypto for T {}

/// One world: a bundle of its resources. Cloning is cheap and gives a handle to the same world.
pub trait Env: Clone + Send + Sync + 'static {
    /// True in a simulator. Fault points fold to nothing where it is false.
    const SIM: bool;
    /// True where nothing that is written stays, see [`ReadOnlyEnv`]. A database that is opened there takes no appends and no
    /// peers.
    const READ_ONLY: bool = false;
    /// True where [`Env::trace`] does something.
    const TRACED: bool = Self::SIM;
    /// Time.
    type Clock: Clock;
    /// Byte streams between peers.
    type Network: Network;
    /// Randomness.
    type Entropy: Entropy;
    /// Tasks.
    type Spawn: Spawn;
    /// Signatures.
    type Crypto: Crypto;

    /// Time.
    fn clock(&self) -> &Self::Clock;
    /// Byte streams between peers.
    fn network(&self) -> &Self::Network;
    /// Randomness.
    fn entropy(&self) -> &Self::Entropy;
    /// Tasks.
    fn spawn(&self) -> &Self::Spawn;
    /// Signatures.
    fn crypto(&self) -> &Self::Crypto;
    /// The directory that belongs to this replica.
    fn disk(&self) -> Arc<dyn Disk>;

    /// True when the simulator wants the named rare path taken now.
    #[inline(always)]
    fn buggify(&self, _point: &'static str) -> bool {
        false
    }

    /// The value of a named number that the simulator may choose for a run, see [`knob`]; `default` elsewhere.
    #[inline(always)]
    fn knob(&self, _name: &'static str, default: u64) -> u64 {
        default
    }

    /// True when the simulator wants the named defect present, to prove that its checks find it.
    #[inline(always)]
    fn planted(&self, _bug: &'static str) -> bool {
        false
    }

    /// Hands an event to the trace of the world: what happened, in values that in a simulation are the same on every run.
    #[inline(always)]
    fn trace(&self, _event: impl FnOnce() -> TraceEvent) {}

    /// Has the events that happen while a future runs belong to a span, where the trace has spans.
    fn in_span<F: Future + Send>(_span: TraceSpan, future: F) -> impl Future<Output = F::Output> + Send {
        future
    }

    /// Tells the simulator whether a state worth reaching was reached.
    #[inline(always)]
    fn sometimes(&self, _point: Point, _seen: bool) {}
}

/// What a panic in code of the user's said.
pub(crate) fn panic_words(panic: &(dyn Any + Send)) -> &str {
    let words = panic.downcast_ref::<String>().map(String::as_str);
    let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
    words.unwrap_or("it did not say why")
}
