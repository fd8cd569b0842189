//! What is stored of cores fits together: each node of a tree is what the nodes and blocks below it make, none is left of
//! what was cut off, what is said to be here is here, and each block that is can be proven to somebody who has nothing.
//!
//! Source: spec/hypercore.md, the Merkle tree and its proofs: who has a block has the way from it to a root, also when
//! the blocks beside it are not here.

use autobee::Corestore;
use autobee::crypto::DiscoveryKey;
use autobee::env::Env;
use autobee::hypercore::merkle::{leaf, parent};
use autobee::hypercore::proof::{BlockRequest, Request, UpgradeRequest};
use autobee::hypercore::{Core, CoreError, CoreOptions, OfferedSnapshot, flat_tree};
use autobee::wire::Index;

use super::group::Group;
use super::look::at_once;
use crate::invariant::{Claims, ReplicaLook, Violation};

/// Nodes that are looked for behind the length of a core: the depth of them is that of what was cut off.
const BEHIND: u64 = 128;

/// Blocks of one core that are proven, at most: spread over all of it.
const PROVEN_MAX: u64 = 64;

/// What does not fit together of the cores of a replica at rest.
pub(super) fn check_cores<E: Env>(
    group: &Group<E>,
    replica: &ReplicaLook,
    claims: &Claims,
) -> Option<Violation> {
    let number = replica.replica;
    let store = group.store(number)?;
    // What a disk lost or spoiled is not here either.
    if group.is_disk_faulty(number) || claims.damaged.contains(&number) {
        return None;
    }
    let mut names = store.list().ok()?;
    names.sort();
    names.into_iter().find_map(|name| {
        let what = match at_once(look_at_core(&store, name))? {
            Ok(what) => what?,
            // A log of which the owner signed two histories, or that is closed, says nothing.
            Err(CoreError::Signatures { .. } | CoreError::Closed | CoreError::Unknown) => return None,
            Err(error) => format!("cannot be read: {error}"),
        };
        Some(Violation {
            invariant: "cores",
            what: format!("{}: the core {}.. {what}", replica.name, &name.to_string()[..8]),
        })
    })
}

async fn look_at_core<E: Env>(store: &Corestore<E>, name: DiscoveryKey) -> Result<Option<String>, CoreError> {
    let mut options = CoreOptions::discovery_key(name);
    options.session.is_serving = true;
    let core = store.get(options).await?;
    let snapshot = core.peer_access().offered_snapshot()?;
    let length = core.length()?.0;
    for index in 0..length.saturating_mul(2).saturating_add(BEHIND) {
        if let Some(what) = misfit(&core, &snapshot, index, length)? {
            return Ok(Some(what));
        }
    }
    for root in core.head()?.tree.roots() {
        if snapshot.stored_node(root.index)?.as_ref() != Some(root) {
            return Ok(Some(format!(
                "has not stored the root {} that it has",
                root.index
            )));
        }
    }
    let leading = core.contiguous_length()?.0;
    for index in 0..length {
        let is_said = core.has(Index(index)..Index(index + 1))?;
        let is_here = core.get_local(Index(index))?.is_some();
        if is_said != is_here || (index < leading && !is_here) {
            return Ok(Some(format!(
                "says of block {index} that it is {}here, of {leading} leading ones, and it is {}",
                if is_said { "" } else { "not " },
                if is_here { "here" } else { "not" }
            )));
        }
    }
    // What is not durable is not proven to anybody.
    let length = snapshot.offered().length;
    let step = length.div_ceil(PROVEN_MAX).max(1);
    for index in (0..length).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
        if core.get_local(Index(index))?.is_none() {
            continue;
        }
        let request = Request {
            block: Some(BlockRequest {
                index,
                nodes: levels(index, length),
            }),
            upgrade: Some(UpgradeRequest { start: 0, length }),
            ..Request::default()
        };
        match snapshot.prove(&request, false) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(Some(format!("has block {index} and does not give it"))),
            Err(error) => {
                return Ok(Some(format!(
                    "has block {index} of {length} and cannot prove it: {error}"
                )));
            }
        }
    }
    Ok(None)
}

/// A node that is not what lies below it, or that should not be here.
fn misfit<E: Env>(
    core: &Core<E>,
    snapshot: &OfferedSnapshot<'_, E>,
    index: u64,
    length: u64,
) -> Result<Option<String>, CoreError> {
    let Some(node) = snapshot.stored_node(index)? else {
        return Ok(None);
    };
    if flat_tree::end_block(index) > length {
        return Ok(Some(format!(
            "has node {index}, for blocks behind its length of {length}"
        )));
    }
    let made = match flat_tree::children(index) {
        None => {
            let block = core.get_local(Index(index / 2))?;
            block.map(|block| leaf(index / 2, &block))
        }
        Some((left, right)) => {
            let below = (snapshot.stored_node(left)?, snapshot.stored_node(right)?);
            below.0.zip(below.1).map(|(left, right)| parent(&left, &right))
        }
    };
    let is_other = made.filter(|made| *made != node);
    Ok(is_other.map(|_| format!("has node {index} of another history than what lies below it")))
}

/// How many levels the leaf of a block is below the root that it is under.
fn levels(block: u64, length: u64) -> u64 {
    let mut at = block * 2;
    let mut levels = 0;
    while flat_tree::end_block(flat_tree::parent(at)) <= length {
        at = flat_tree::parent(at);
        levels += 1;
    }
    levels
}
