//! Ranges of which large blocks are left out.

use super::*;

const MOST: u64 = 100;

/// Every third block is large.
fn net() -> Net {
    let mut net = Net::new(2, 0);
    let blocks = (0..12_u8).map(|number| vec![number; if number % 3 == 2 { 101 } else { 100 }]);
    let owner = &mut net.nodes[0];
    owner.log.log.append(&Cheap, blocks).unwrap();
    owner.replicator.changed(&owner.log).unwrap();
    net
}

fn want(net: &mut Net, range: hypercore::DownloadRange, most: Option<u64>) {
    let demand = hypercore::Demand {
        ranges: [(most.unwrap_or_default(), range)].into(),
        block_bytes_max: most.map(|most| (most, most)).into_iter().collect(),
        ..hypercore::Demand::default()
    };
    let node = &mut net.nodes[1];
    node.replicator.set_demand(&demand, &node.log, net.now).unwrap();
}

const ALL: hypercore::DownloadRange = hypercore::DownloadRange {
    start: Index(0),
    end: Some(Index(12)),
    is_linear: true,
};

#[test]
fn blocks_that_are_too_large_are_never_asked_for() {
    let mut net = net();
    want(&mut net, ALL, Some(MOST));
    net.connect(0, 1);
    let said = net.settle();
    assert_no_trap(&said);
    let asked: BTreeSet<u64> = requests(&said)
        .filter_map(|(_, request)| Some(request.request.block?.index))
        .collect();
    let small: BTreeSet<u64> = (0..12).filter(|index| index % 3 != 2).collect();
    assert_eq!(asked, small);
    let sizes = requests(&said).filter(|(_, request)| request.request.hash.is_some());
    assert!(sizes.count() <= 12, "each is asked for its size once");
    assert!(net.is_synced(1, PeerId(0)), "nothing else is to come");

    // Who wants any of them gets it.
    want(&mut net, ALL, None);
    net.settle();
    net.assert_copied(1);
}

#[test]
fn a_large_block_at_the_end_of_a_log_does_not_come_with_its_length() {
    let mut net = net();
    let live = hypercore::DownloadRange {
        end: None,
        is_linear: false,
        ..ALL
    };
    want(&mut net, live, Some(MOST));
    net.connect(0, 1);
    let said = net.settle();
    let mut asked = requests(&said).filter_map(|(_, request)| Some(request.request.block?.index));
    assert!(asked.all(|index| index % 3 != 2));
    assert!(net.is_synced(1, PeerId(0)), "nothing else is to come");
}

#[test]
fn of_a_log_that_is_small_as_a_whole_no_size_is_asked_for() {
    let mut net = net();
    want(&mut net, ALL, Some(12 * MOST + 4));
    net.connect(0, 1);
    let said = net.settle();
    net.assert_copied(1);
    assert!(requests(&said).all(|(_, request)| request.request.hash.is_none()));
}

#[test]
fn a_size_that_a_peer_does_not_tell_another_one_does() {
    let mut net = net();
    want(&mut net, ALL, Some(MOST));
    let silent = net.connect(0, 1);
    // It is asked for the first size, and goes away.
    for turn in 0.. {
        assert!(turn < 100, "no size is asked for");
        if net.nodes[1].replicator.requests.is_sized(0) {
            break;
        }
        for link in [0, 1] {
            net.pull(link);
            if !net.nodes[1].replicator.requests.is_sized(0) {
                net.deliver(link);
            }
        }
    }
    net.disconnect(silent);
    net.connect(0, 1);
    net.settle();
    let here = (0..12).filter(|index| net.nodes[1].log.log.get(Index(*index)).is_some());
    assert_eq!(here.count(), 8);
}

#[test]
fn who_wants_the_first_blocks_alone_is_synced_with_them() {
    let mut net = net();
    let first = hypercore::DownloadRange {
        end: Some(Index(4)),
        ..ALL
    };
    want(&mut net, first, None);
    let peer = net.connect(0, 1);
    assert!(!net.is_synced(1, peer), "it has not said what it has");
    net.settle();
    assert_eq!(net.nodes[1].log.state().unwrap().contiguous, 4);
    assert!(net.is_synced(1, peer));
    want(&mut net, hypercore::DownloadRange { end: None, ..ALL }, None);
    assert!(!net.is_synced(1, peer));
    net.settle();
    assert!(net.is_synced(1, peer));
}

#[test]
fn who_is_asked_for_the_last_block_is_not_the_only_one_that_is_synced_with() {
    let mut net = Net::new(3, 6);
    net.connect(0, 1);
    net.download(1, 0, None);
    net.settle();
    let (owner, copy) = (net.connect(0, 2), net.connect(1, 2));
    net.download(2, 0, None);
    net.settle();
    net.assert_copied(2);
    assert!(net.is_synced(2, owner) && net.is_synced(2, copy));
}
