//! Connections between databases of one process.

use autobee::db::Session;
use autobee::replication::Role;

use super::databases::Database;

/// A connection through memory.
pub(crate) struct Connection(Session, Session);

impl Connection {
    pub(crate) fn end(self) {
        self.0.close();
        self.1.close();
    }
}

pub(crate) fn connect(a: &Database, b: &Database) -> Connection {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    Connection(
        a.replicate(ours, Role::Initiator).unwrap(),
        b.replicate(theirs, Role::Responder).unwrap(),
    )
}
