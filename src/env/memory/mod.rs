//! A world in memory: one process, no runtime, no operating system.
//!
//! [`MemoryDisk`] stands in wherever a directory is asked for. [`MemoryEnv`] is a whole world for examples, unit tests
//! and targets without threads (wasm32): its clock moves only when it is told to or when nothing else is left to do,
//! its network connects whoever shares the world, its randomness is counted from a seed.
//!
//! It injects no faults and loses nothing: that is the simulator's business.

mod clock;
mod disk;
mod network;
mod tasks;

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blake2::{Blake2b512, Digest as _};

pub use clock::MemoryClock;
pub use disk::MemoryDisk;
pub use network::{MemoryListener, MemoryNetwork, MemoryStream};
pub use tasks::MemoryTasks;

use super::{Disk, Entropy, Env};
use crate::crypto::Ed25519;

/// A world of one process. Clones are handles to the same world; [`MemoryEnv::sibling`] makes another replica in it.
///
/// ```
/// use autobee::env::{Env, Listener as _, Network as _, PeerAddr, Spawn as _, memory::MemoryEnv};
/// use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
///
/// let alice = MemoryEnv::new(1);
/// let bob = alice.sibling(2);
/// let at = PeerAddr::new("alice");
/// let text = alice.run(async {
///     let mut door = alice.network().listen(&at).await?;
///     bob.spawn().spawn("greet", {
///         let (network, at) = (bob.network().clone(), at.clone());
///         async move {
///             if let Ok(mut stream) = network.dial(&at).await {
///                 let _ = stream.write_all(b"hello").await;
///                 let _ = stream.shutdown().await;
///             }
///         }
///     });
///     let (mut stream, _from) = door.accept().await?;
///     let mut text = String::new();
///     stream.read_to_string(&mut text).await?;
///     std::io::Result::Ok(text)
/// });
/// assert_eq!(text.unwrap().unwrap(), "hello");
/// ```
#[derive(Clone)]
pub struct MemoryEnv {
    clock: MemoryClock,
    network: MemoryNetwork,
    entropy: MemoryEntropy,
    tasks: MemoryTasks,
    disk: MemoryDisk,
}

impl MemoryEnv {
    /// A new world whose randomness is drawn from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            clock: MemoryClock::default(),
            network: MemoryNetwork::default(),
            entropy: MemoryEntropy::new(seed),
            tasks: MemoryTasks::default(),
            disk: MemoryDisk::default(),
        }
    }

    /// Another replica of this world: same clock, network and tasks; its own disk and randomness.
    #[must_use]
    pub fn sibling(&self, seed: u64) -> Self {
        Self {
            entropy: MemoryEntropy::new(seed),
            disk: MemoryDisk::default(),
            ..self.clone()
        }
    }

    /// Polls tasks until none can go on without the clock moving.
    pub fn run_until_idle(&self) {
        self.tasks.run_until_idle();
    }

    /// Runs `future` and all tasks to the end of `future`; jumps the clock to the next sleeper whenever nothing else
    /// is left to do. None when `future` waits for something that can no longer happen.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        self.tasks.drive(future, || self.clock.jump())
    }
}

impl Env for MemoryEnv {
    const SIM: bool = false;
    type Clock = MemoryClock;
    type Network = MemoryNetwork;
    type Entropy = MemoryEntropy;
    type Spawn = MemoryTasks;
    type Crypto = Ed25519;

    fn clock(&self) -> &MemoryClock {
        &self.clock
    }

    fn network(&self) -> &MemoryNetwork {
        &self.network
    }

    fn entropy(&self) -> &MemoryEntropy {
        &self.entropy
    }

    fn spawn(&self) -> &MemoryTasks {
        &self.tasks
    }

    fn crypto(&self) -> &Ed25519 {
        &Ed25519
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.disk.clone())
    }
}

/// Bytes counted from a seed: BLAKE2b of seed and counter. Not secret; a world in memory has nobody to hide from.
#[derive(Debug, Clone)]
pub struct MemoryEntropy {
    state: Arc<Mutex<(u64, u64)>>,
}

impl MemoryEntropy {
    /// A stream of its own for each seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new((seed, 0))),
        }
    }
}

impl Entropy for MemoryEntropy {
    fn fill(&self, out: &mut [u8]) {
        let mut state = locked(&self.state);
        for chunk in out.chunks_mut(64) {
            let mut hash = Blake2b512::new();
            hash.update(state.0.to_le_bytes());
            hash.update(state.1.to_le_bytes());
            state.1 = state.1.wrapping_add(1);
            chunk.copy_from_slice(&hash.finalize()[..chunk.len()]);
        }
    }
}

/// A lock whose holder panicked still guards whole values here: nothing is left half changed.
fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
