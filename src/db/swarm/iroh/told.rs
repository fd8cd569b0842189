//! What peers of a topic tell each other of others: how it is written, and what of it is remembered. No I/O.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::collections::{BTreeMap, VecDeque};

use super::IrohPeer;
use crate::crypto::PublicKey;

/// Addresses of one peer that are told or remembered.
pub(super) const ADDRESSES_MAX: usize = 8;

/// Peers that fit into one list, whose length is written in two bytes.
pub(super) const LIST_MAX: usize = 256;

const V4: u8 = 4;
const V6: u8 = 6;

/// A list: for each peer its key, the number of its addresses, and each of those with its family and port. The scope of an
/// address of IPv6 is of one machine, and is left out.
pub(super) fn encode(peers: &[IrohPeer]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for peer in peers.iter().take(LIST_MAX) {
        let addresses = &peer.addresses[..peer.addresses.len().min(ADDRESSES_MAX)];
        bytes.extend_from_slice(peer.key.as_bytes());
        bytes.extend(u8::try_from(addresses.len()));
        for address in addresses {
            match address.ip() {
                IpAddr::V4(ip) => {
                    bytes.push(V4);
                    bytes.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    bytes.push(V6);
                    bytes.extend_from_slice(&ip.octets());
                }
            }
            bytes.extend_from_slice(&address.port().to_le_bytes());
        }
    }
    bytes
}

/// The peers of a list. None when it is not one, or tells more addresses of a peer than may be.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Vec<IrohPeer>> {
    let mut peers = Vec::new();
    while !bytes.is_empty() {
        let key = PublicKey::new(take(&mut bytes)?);
        let [count] = take(&mut bytes)?;
        if usize::from(count) > ADDRESSES_MAX {
            return None;
        }
        let mut addresses = Vec::new();
        for _ in 0..count {
            let ip = match take(&mut bytes)? {
                [V4] => IpAddr::V4(Ipv4Addr::from(take::<4>(&mut bytes)?)),
                [V6] => IpAddr::V6(Ipv6Addr::from(take::<16>(&mut bytes)?)),
                _ => return None,
            };
            let port = u16::from_le_bytes(take(&mut bytes)?);
            addresses.push(SocketAddr::new(ip, port));
        }
        peers.push(IrohPeer { key, addresses });
    }
    Some(peers)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

/// The addresses of peers that others told. Of more peers than may be, those are forgotten first that were told first.
#[derive(Debug)]
pub(super) struct ToldPeers {
    peers_max: usize,
    addresses: BTreeMap<PublicKey, Vec<SocketAddr>>,
    order: VecDeque<PublicKey>,
}

impl ToldPeers {
    pub(super) const fn new(peers_max: usize) -> Self {
        Self {
            peers_max,
            addresses: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Remembers where a peer is said to be. What was said before of the same one stays as far as there is room, so that who
    /// lies of a peer does not hide it.
    pub(super) fn hear(&mut self, peer: IrohPeer) {
        if self.peers_max == 0 {
            return;
        }
        if !self.addresses.contains_key(&peer.key) {
            if self.order.len() >= self.peers_max
                && let Some(first) = self.order.pop_front()
            {
                self.addresses.remove(&first);
            }
            self.order.push_back(peer.key);
        }
        let known = self.addresses.entry(peer.key).or_default();
        for address in peer.addresses {
            if let Some(place) = known.iter().position(|known| *known == address) {
                known.remove(place);
            }
            known.insert(0, address);
        }
        known.truncate(ADDRESSES_MAX);
    }

    /// Where a peer is said to be; nothing for one that nobody told.
    pub(super) fn addresses(&self, key: &PublicKey) -> &[SocketAddr] {
        self.addresses.get(key).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn peer(key: u8, ports: &[u16]) -> IrohPeer {
        let addresses = ports.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port)));
        IrohPeer::new(PublicKey::new([key; 32]), addresses.collect())
    }

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let mut third = peer(3, &[1]);
        third.addresses.push("[2001:db8::1]:65535".parse().unwrap());
        let peers = vec![peer(1, &[]), peer(2, &[80, 81]), third];
        assert_eq!(decode(&encode(&peers)), Some(peers));
        assert_eq!(decode(&[]), Some(Vec::new()));
    }

    #[test]
    fn a_list_is_as_long_as_its_length_can_say() {
        let mut longest = peer(1, &[]);
        let address = |port| SocketAddr::from(([1; 16], port));
        longest.addresses = (0..20).map(address).collect();
        let bytes = encode(&vec![longest; 400]);
        assert!(u16::try_from(bytes.len()).is_ok(), "{}", bytes.len());
        let read = decode(&bytes).unwrap();
        assert_eq!((read.len(), read[0].addresses.len()), (LIST_MAX, ADDRESSES_MAX));
    }

    #[test]
    fn who_was_told_first_is_forgotten_first() {
        let mut told = ToldPeers::new(2);
        for key in [1, 2, 1, 3] {
            told.hear(peer(key, &[u16::from(key)]));
        }
        let known = [1, 2, 3].map(|key| told.addresses(&PublicKey::new([key; 32])).len());
        assert_eq!(known, [0, 1, 1]);
        let mut none = ToldPeers::new(0);
        none.hear(peer(1, &[1]));
        assert!(none.addresses(&PublicKey::new([1; 32])).is_empty());
    }

    #[test]
    fn the_newest_addresses_of_a_peer_stay() {
        let mut told = ToldPeers::new(1);
        let ports: Vec<u16> = (1..=9).collect();
        told.hear(peer(1, &ports[..8]));
        told.hear(peer(1, &[8, 9]));
        let known = told.addresses(&PublicKey::new([1; 32]));
        let known: Vec<u16> = known.iter().map(SocketAddr::port).collect();
        assert_eq!(known, [9, 8, 7, 6, 5, 4, 3, 2]);
    }

    proptest! {
        /// What is read of any bytes is what they say.
        #[test]
        fn any_bytes_are_a_list_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(peers) = decode(&bytes) {
                prop_assert_eq!(encode(&peers), bytes);
            }
        }
    }
}
