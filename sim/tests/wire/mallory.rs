//! The hostile peer of the library, with the logs of these tests.

use autobee::env::Env as _;
use autobee::hypercore::log::Log;
use autobee_sim::hostile::HostileStream;
use bytes::Bytes;

pub(crate) use autobee_sim::hostile::{Account, Attack, attack};

use crate::nodes::key_pair;

/// Makes logs as their owners would.
pub(crate) trait Forge {
    /// The log of this name with these blocks.
    fn forge(&self, name: &str, blocks: Vec<Bytes>) -> Log;
}

impl Forge for HostileStream {
    fn forge(&self, name: &str, blocks: Vec<Bytes>) -> Log {
        let mut log = Log::create(key_pair(self.env(), name));
        log.append(self.env().crypto(), blocks).unwrap();
        log
    }
}
