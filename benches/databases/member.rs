//! Peers that may write.

use autobee::db::Durability;

use super::connection::connect;
use super::databases::{Peer, until};

/// A peer that `creator` lets write, and that knows it; the two are not connected any more.
pub(crate) async fn member(creator: &Peer) -> Peer {
    let peer = Peer::open(Some(creator.db.key()), Durability::Visible).await;
    let grant = [b"+".as_slice(), peer.db.local().as_bytes()].concat();
    creator.db.append(grant).await.unwrap();
    let link = connect(&creator.db, &peer.db);
    until(&peer.db, |db| db.writable()).await;
    link.end();
    peer
}
