//! The real world, on tokio: the machine's clocks, one directory, TCP, the operating system's randomness.
//!
//! The only place of this crate that may name an operating system or a runtime; what the lints ban elsewhere is
//! expected here, file by file.

mod clock;
mod disk;
mod network;
mod tasks;
#[cfg(feature = "tracing")]
mod tracing;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use clock::NativeClock;
pub use disk::NativeDisk;
pub use network::{NativeListener, NativeNetwork, NativeStream};
pub use tasks::NativeTasks;

use super::{Disk, Entropy, Env};
#[cfg(feature = "tracing")]
use super::{TraceEvent, TraceSpan};
use crate::crypto::Ed25519;

/// The real world: clocks of this machine, files in one directory, TCP streams, tokio tasks, Ed25519.
///
/// ```
/// use autobee::env::{Clock as _, Env as _, native::NativeEnv};
///
/// # #[tokio::main]
/// # async fn main() -> std::io::Result<()> {
/// # let directory = std::env::temp_dir().join(format!("autobee-doc-env-{}", std::process::id()));
/// let env = NativeEnv::new(&directory)?;
/// assert!(env.disk().list()?.is_empty());
/// assert!(env.clock().wall().0 > 1_700_000_000_000);
/// # std::fs::remove_dir_all(&directory)
/// # }
/// ```
///
/// With the feature `tracing`, which comes with `tokio`, what happens in a database goes to the subscriber of the crate
/// `tracing`, with these targets:
///
/// | target | events |
/// | --- | --- |
/// | `autobee::database` | opened and closed, writers, applying: `INFO`, portions and undos `DEBUG`, appends and blocks `TRACE` |
/// | `autobee::session` | connected and closed `INFO`, channels `DEBUG`, faults of a peer `WARN`; in the span `session` |
/// | `autobee::store` | checkpoints and compactions `DEBUG`, a store that takes nothing more `ERROR` |
///
/// What happens while entries are ordered and applied is in the span `drain`.
#[derive(Debug, Clone)]
pub struct NativeEnv {
    clock: NativeClock,
    network: NativeNetwork,
    tasks: NativeTasks,
    disk: NativeDisk,
}

impl NativeEnv {
    /// A world whose files are in `directory`, which is created when it is missing. Tasks run on the tokio runtime
    /// from inside which this is called.
    ///
    /// # Errors
    ///
    /// The directory cannot be made, or no tokio runtime with time and I/O is there.
    pub fn new(directory: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self {
            clock: NativeClock::new(),
            network: NativeNetwork::default(),
            tasks: NativeTasks::current()?,
            disk: NativeDisk::new(directory)?,
        })
    }
}

impl Env for NativeEnv {
    const SIM: bool = false;
    const TRACED: bool = cfg!(feature = "tracing");
    type Clock = NativeClock;
    type Network = NativeNetwork;
    type Entropy = NativeEntropy;
    type Spawn = NativeTasks;
    type Crypto = Ed25519;

    fn clock(&self) -> &NativeClock {
        &self.clock
    }

    fn network(&self) -> &NativeNetwork {
        &self.network
    }

    fn entropy(&self) -> &NativeEntropy {
        &NativeEntropy
    }

    fn spawn(&self) -> &NativeTasks {
        &self.tasks
    }

    fn crypto(&self) -> &Ed25519 {
        &Ed25519
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.disk.clone())
    }

    #[cfg(feature = "tracing")]
    fn trace(&self, event: impl FnOnce() -> TraceEvent) {
        if tracing::is_on() {
            tracing::emit(&event());
        }
    }

    #[cfg(feature = "tracing")]
    fn in_span<F: Future + Send>(span: TraceSpan, future: F) -> impl Future<Output = F::Output> + Send {
        tracing::within(span, future)
    }
}

/// The operating system's random source.
#[derive(Debug, Clone, Copy, Default)]
pub struct NativeEntropy;

impl Entropy for NativeEntropy {
    /// # Panics
    ///
    /// When the operating system has no randomness to give. Nothing safe can be done then: keys, nonces and tie
    /// breaks all depend on it.
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    #[expect(
        clippy::expect_used,
        reason = "a machine without randomness cannot run a signed log"
    )]
    fn fill(&self, out: &mut [u8]) {
        getrandom::fill(out).expect("the operating system gives random bytes");
    }
}
