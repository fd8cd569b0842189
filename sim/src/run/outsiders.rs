//! What hostile peers get to know of the replicas of a run.

use autobee::Corestore;
use autobee::crypto::CoreKey;
use autobee::env::Env;

use super::group::Group;
use crate::hostile::RunContext;

impl<E: Env> RunContext<E> for Group<E> {
    fn database(&self) -> Option<CoreKey> {
        self.database()
    }

    fn log(&self, replica: usize) -> Option<CoreKey> {
        self.local_key(replica)
    }

    fn store(&self, replica: usize) -> Option<Corestore<E>> {
        self.store(replica)
    }

    fn encryption(&self) -> Option<[u8; 32]> {
        self.encryption()
    }

    fn takes_strangers(&self) -> bool {
        self.takes_strangers()
    }
}
