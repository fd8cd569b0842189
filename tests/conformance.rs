//! The same laws for every world: what the simulator says about disks and networks must be true of real ones.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "conformance/disk.rs"]
mod disk;

use std::path::{Path, PathBuf};

use autobee::env::memory::MemoryDisk;
use autobee_sim::disk::SimDisk;

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
