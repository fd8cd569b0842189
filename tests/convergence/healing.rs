//! What healing costs: one undo, and every entry behind the shared prefix applied once.

use autobee_sim::model::ModelBatch;
use autobee_sim::workload::Op;

use super::history::{Peer, RULES, batch, claim, writer};

/// Two groups of two writers, `per_group` batches each; within a group each batch links the one before.
fn partition(per_group: usize) -> (Vec<ModelBatch>, usize) {
    let mut batches = Vec::new();
    for name in 1..4 {
        let length = u64::from(name);
        batches.push(batch(0, length, length, &[], &Op::add_writer(writer(name), 2)));
    }
    for name in 1..4_u8 {
        let first = batch(
            name,
            1,
            10 + u64::from(name),
            &[(0, 3)],
            &Op::put("first", name.to_string()),
        );
        batches.push(claim(first, 2, (0, u64::from(name))));
    }
    let shared = batches.len();
    let mut lengths = [3, 1, 1, 1];
    for group in [[0_u8, 1], [2, 3]] {
        let mut before: Vec<(u8, u64)> = (0..4)
            .map(|name| {
                (
                    name,
                    lengths[usize::from(name)].min(if name == 0 { 3 } else { 1 }),
                )
            })
            .collect();
        for at in 0..per_group {
            let name = group[at % 2];
            let length = &mut lengths[usize::from(name)];
            *length += 1;
            let timestamp = 100 + 2 * at as u64 + u64::from(group[0] / 2);
            batches.push(batch(
                name,
                *length,
                timestamp,
                &before,
                &Op::put(format!("k{}", at % 7), at.to_string()),
            ));
            before = vec![(name, *length)];
        }
    }
    (batches, shared)
}

#[test]
fn two_partitions_of_n_cost_two_n_applies_and_one_undo() {
    let n = 400;
    let (batches, shared) = partition(n);
    let groups = [shared..shared + n, shared + n..shared + 2 * n];
    for (own, other) in [(0, 1), (1, 0)] {
        let mut peer = Peer::new(&RULES, &batches);
        for at in (0..shared).chain(groups[own].clone()) {
            peer.receive(at);
            peer.update();
        }
        let before = peer.linearizer.stats();
        assert_eq!((before.applies, before.undos), ((shared + n) as u64, 0));
        for at in groups[other].clone() {
            peer.receive(at);
        }
        peer.player.applied.clear();
        peer.update();
        let after = peer.linearizer.stats();
        assert_eq!(peer.linearizer.len(), batches.len());
        assert!(after.undos - before.undos <= 1);
        assert!(after.applies - before.applies <= 2 * n as u64);
        assert!(peer.player.applied.values().all(|times| *times == 1));
        assert!(after.steps - before.steps <= 3 * n as u64, "{after:?}");
    }
}

/// Delivered one by one, each batch costs what it moves and not what is there.
#[test]
fn appending_at_the_end_costs_one_apply() {
    let (batches, shared) = partition(200);
    let mut peer = Peer::new(&RULES, &batches[..shared + 200]);
    for at in 0..shared + 200 {
        peer.receive(at);
        peer.update();
    }
    let stats = peer.linearizer.stats();
    assert_eq!((stats.applies, stats.undone), ((shared + 200) as u64, 0));
    assert!(stats.steps < 3 * (shared + 200) as u64, "{stats:?}");
}
