//! The same laws for every world: what the simulator says about disks and networks must be true of real ones.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "conformance/disk.rs"]
mod disk;
#[path = "conformance/network.rs"]
mod network;

use std::path::{Path, PathBuf};

use autobee::env::PeerAddr;
use autobee::env::memory::{MemoryDisk, MemoryEnv};
use autobee_sim::disk::SimDisk;
use autobee_sim::{PathConfig, World, WorldConfig};

#[test]
fn disk_in_memory() {
    disk::laws(MemoryDisk::default);
}

#[test]
fn disk_of_the_simulator() {
    disk::laws(|| SimDisk::new(7));
}

#[cfg(feature = "tokio")]
#[test]
fn disk_of_this_machine() {
    let directory = Scratch::new("disk");
    let mut count = 0;
    disk::laws(|| {
        count += 1;
        autobee::env::native::NativeDisk::new(directory.path().join(format!("{count}"))).unwrap()
    });
}

#[test]
fn network_in_memory() {
    let env = MemoryEnv::new(1);
    env.run(network::stream_laws(
        env.clone(),
        env.sibling(2),
        PeerAddr::new("listener"),
    ))
    .expect("the laws come to an end");
}

#[test]
fn network_of_the_simulator() {
    for (seed, path) in [
        (1, PathConfig::default()),
        (
            2,
            PathConfig {
                chop_64k: 65_536,
                window: 4_096,
                ..PathConfig::default()
            },
        ),
        (
            5,
            PathConfig {
                read_max: 1,
                ..PathConfig::default()
            },
        ),
        (
            3,
            PathConfig {
                window: 4_001,
                latency_us_min: 0,
                latency_us_max: 1,
                ..PathConfig::default()
            },
        ),
        (
            4,
            PathConfig {
                window: 1 << 20,
                bytes_per_ms: 0,
                spike_64k: 6_553,
                ..PathConfig::default()
            },
        ),
    ] {
        let world = World::new(WorldConfig {
            seed,
            path,
            ..WorldConfig::default()
        });
        let [a, b] = ["a", "b"].map(|name| world.add_replica(name).unwrap());
        let laws = network::stream_laws(world.env(a), world.env(b), PeerAddr::new("b:0"));
        world.block_on(a, laws).unwrap();
        world
            .block_on(a, network::address_laws(world.env(a), PeerAddr::new("a:0")))
            .unwrap();
    }
}

#[cfg(feature = "tokio")]
#[tokio::test(flavor = "multi_thread")]
async fn network_of_this_machine() {
    let directory = Scratch::new("network");
    let env = autobee::env::native::NativeEnv::new(directory.path()).unwrap();
    let any = PeerAddr::new("127.0.0.1:0");
    network::stream_laws(env.clone(), env.clone(), any.clone()).await;
    network::address_laws(env, any).await;
}

/// A directory that is gone at the end of its test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("autobee-conformance-{name}-{}", std::process::id()));
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
