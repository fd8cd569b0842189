//! Properties of the set of batches.

use proptest::prelude::*;

use super::*;

fn key(name: u8) -> CoreKey {
    CoreKey::new([name; 32])
}

fn link(name: u8, length: u64) -> Link {
    Link {
        key: key(name),
        length: Length(length),
    }
}

fn batch(name: u8, first: u64, last: u64, links: Vec<Link>) -> NewBatch {
    NewBatch {
        writer: key(name),
        first: Length(first),
        last: Length(last),
        timestamp: Timestamp(0),
        optimistic: false,
        links,
        gates: Vec::new(),
        claim: None,
    }
}

#[test]
fn a_batch_waits_for_all_it_names() {
    let mut dag = Dag::new();
    let claim = Claim {
        weight: Weight(2),
        backer: link(4, 1),
        valid: false,
    };
    let gated = NewBatch {
        gates: vec![link(3, 2)],
        claim: Some(claim),
        ..batch(1, 1, 2, vec![link(2, 1)])
    };
    dag.insert(gated).unwrap();
    dag.insert(batch(1, 3, 3, vec![])).unwrap();
    for (at, next) in [
        batch(2, 1, 1, vec![]),
        batch(3, 1, 3, vec![]),
        batch(4, 1, 1, vec![]),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(dag.len(), at);
        dag.insert(next).unwrap();
    }
    assert_eq!((dag.len(), dag.waiting()), (5, 0));
    let id = dag.find(link(1, 2)).unwrap();
    let parents: Vec<_> = dag
        .batch(id)
        .parents
        .iter()
        .map(|id| dag.batch(*id).writer)
        .collect();
    assert_eq!(
        parents,
        [key(2), key(4)],
        "the gate of the second node orders nothing"
    );
    assert_eq!(dag.batch(dag.find(link(1, 3)).unwrap()).parents, [id]);
}

#[test]
fn a_link_into_a_batch_names_the_batch() {
    let mut dag = Dag::new();
    dag.insert(batch(1, 1, 3, vec![])).unwrap();
    dag.insert(batch(2, 1, 1, vec![link(1, 2)])).unwrap();
    assert_eq!(
        dag.batch(dag.find(link(2, 1)).unwrap()).parents,
        [dag.find(link(1, 1)).unwrap()]
    );
}

#[test]
fn a_cycle_and_a_link_to_nothing_wait_for_ever() {
    let mut dag = Dag::new();
    dag.insert(batch(1, 1, 1, vec![link(1, 1)])).unwrap();
    dag.insert(batch(2, 1, 1, vec![link(2, 0)])).unwrap();
    dag.insert(batch(3, 1, 1, vec![link(4, 1)])).unwrap();
    dag.insert(batch(4, 1, 1, vec![link(3, 1)])).unwrap();
    assert_eq!((dag.len(), dag.waiting()), (0, 4));
}

#[test]
fn an_anchor_opens_a_gate_and_orders_nothing() {
    let mut dag = Dag::new();
    dag.insert(batch(1, 1, 1, vec![link(9, 1)])).unwrap();
    assert_eq!(dag.len(), 0);
    dag.add_anchor(key(9));
    assert!(dag.batch(dag.find(link(1, 1)).unwrap()).parents.is_empty());
}

#[test]
fn batches_of_a_writer_come_in_order() {
    let mut dag = Dag::new();
    assert!(matches!(
        dag.insert(batch(1, 2, 2, vec![])),
        Err(DagError::NotNext { .. })
    ));
    assert!(matches!(
        dag.insert(batch(1, 1, 0, vec![])),
        Err(DagError::Empty { .. })
    ));
    dag.insert(batch(1, 1, 1, vec![])).unwrap();
    assert!(matches!(
        dag.insert(batch(1, 1, 1, vec![])),
        Err(DagError::NotNext { .. })
    ));
}

proptest! {
    /// What is missing is what somebody waits for and nobody added, whatever was added in which order.
    #[test]
    fn what_is_missing_is_what_is_waited_for_and_was_not_added(
        steps in proptest::collection::vec((1_u8..6, 1_u64..3, (1_u8..8, 0_u64..5)), 1..60),
    ) {
        let mut dag = Dag::new();
        for (writer, nodes, (linked, length)) in steps {
            if linked == 7 {
                dag.add_anchor(key(writer));
                continue;
            }
            let first = dag.known_length(&key(writer)).0 + 1;
            dag.insert(batch(writer, first, first + nodes - 1, vec![link(linked, length)])).unwrap();
            let waited = dag.waits.keys();
            let missing = waited.filter(|(key, length)| *length > dag.known_length(key));
            let missing: Vec<Link> = missing.map(|(key, length)| Link { key: *key, length: *length }).collect();
            prop_assert_eq!(dag.missing().collect::<Vec<_>>(), missing);
        }
    }
}
