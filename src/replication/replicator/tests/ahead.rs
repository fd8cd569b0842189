//! Nodes that are asked for ahead of their blocks.

use super::*;

/// All requests are on their way before the first answer is read, as over a long line.
fn nodes_in_proofs(said: &[(usize, Message)], from: u64) -> (usize, usize) {
    let data = said.iter().filter_map(|(_, message)| match message {
        Message::Data(data) => Some(&data.proof),
        _ => None,
    });
    let (mut blocks, mut nodes) = (0, 0);
    for proof in data {
        if let Some(block) = proof.block.as_ref().filter(|block| block.index >= from) {
            blocks += 1;
            nodes += block.nodes.len();
        }
        if let Some(hash) = proof.hash.as_ref().filter(|hash| hash.index >= 2 * from) {
            nodes += hash.nodes.len();
        }
    }
    (blocks, nodes)
}

#[test]
fn a_long_download_needs_few_nodes() {
    let mut net = Net::new(2, 4096);
    net.connect(0, 1);
    net.download(1, 0, None);
    let said = net.settle();
    net.assert_copied(1);
    assert_no_trap(&said);
    // The first window knows nothing yet.
    let (blocks, nodes) = nodes_in_proofs(&said, 512);
    assert_eq!(blocks, 4096 - 512);
    assert!(nodes < 4 * blocks, "{nodes} nodes for {blocks} blocks");
    let scouts = requests(&said).filter(|(_, request)| request.request.hash.is_some());
    assert!(scouts.count() <= 4096 / 16);
}

#[test]
fn a_short_download_goes_without() {
    let mut net = Net::new(2, 500);
    net.connect(0, 1);
    net.download(1, 0, None);
    let said = net.settle();
    net.assert_copied(1);
    assert!(requests(&said).all(|(_, request)| request.request.hash.is_none()));
}

#[test]
fn nothing_is_asked_ahead_of_a_source_that_has_not_announced_the_block() {
    let mut net = Net::new(3, 4000);
    let first = net.connect(0, 1);
    net.download(1, 0, Some(1000));
    net.settle();
    net.disconnect(first);
    net.connect(1, 2);
    net.download(2, 0, None);
    let said = net.settle();
    assert_no_trap(&said);
    for (_, request) in requests(&said) {
        assert!(
            request.request.hash.is_none_or(|hash| hash.index < 2000),
            "{request:?}"
        );
    }
    assert_eq!(net.nodes[2].log.log.contiguous_length(), Length(1000));
}

#[test]
fn what_was_asked_ahead_is_asked_again_after_a_truncation() {
    let mut net = Net::new(2, 3000);
    net.connect(0, 1);
    net.download(1, 0, None);
    net.settle();
    net.truncate(100);
    net.append(3000);
    let said = net.settle();
    net.assert_copied(1);
    assert_no_trap(&said);
    let (blocks, nodes) = nodes_in_proofs(&said, 1200);
    assert!(nodes < 4 * blocks, "{nodes} nodes for {blocks} blocks");
}
