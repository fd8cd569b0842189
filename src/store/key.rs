//! What a store is asked for: typed keys with one order that every engine follows.
//!
//! The places are those of the JavaScript storage (hypercore-storage 3.3); the bytes are our own.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::crypto::DiscoveryKey;

/// Names one core within a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CorePointer(pub u64);

/// Names one line of blocks within a store: the main one of a core, or that of a named batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataPointer(pub u64);

/// A place in a store. Keys sort by what they belong to, then by kind, then by index: everything of one
/// [`DataPointer`] is one range.
///
/// ```
/// use autobee::store::{DataPointer, Key};
///
/// let data = DataPointer(7);
/// assert!(Key::Head(data) < Key::Block(data, 0));
/// assert!(Key::Block(data, u64::MAX) < Key::Tree(data, 0));
/// assert!(Key::Mark(data, u64::MAX) < Key::Head(DataPointer(8)));
/// assert_eq!(Key::decode(&Key::Block(data, 300).encode()), Some(Key::Block(data, 300)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// What the store says of itself.
    StoreHead,
    /// The core that is called this in public.
    CoreByDiscovery(DiscoveryKey),
    /// The core that has this name in this namespace.
    CoreByAlias([u8; 32], Bytes),
    /// Key, manifest and secret of a core.
    Auth(CorePointer),
    /// The lines of blocks of a core.
    Sessions(CorePointer),
    /// Length, fork, root hash and signature of a line.
    Head(DataPointer),
    /// The line, and the length of it, on which this one builds.
    Dependency(DataPointer),
    /// What saves work after a reopening, and may be wrong.
    Hints(DataPointer),
    /// A block, by index.
    Block(DataPointer, u64),
    /// A node of the Merkle tree, by flat index.
    Tree(DataPointer, u64),
    /// A page of the bitfield.
    Bitfield(DataPointer, u64),
    /// A value that the user of a core keeps with it.
    UserData(DataPointer, Bytes),
    /// A value that belongs to this machine alone.
    Local(DataPointer, Bytes),
    /// A mark of the garbage collection.
    Mark(DataPointer, u64),
    /// For layers above.
    Ext(Bytes),
}

/// The key taken apart, in the order of comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyParts<'a> {
    pub(super) prefix: KeyPrefix,
    pub(super) index: u64,
    rest: &'a [u8],
}

/// The common start of keys that belong together: space, pointer, kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyPrefix(u8, u64, u8);

impl KeyPrefix {
    pub(super) const fn blocks(data: DataPointer) -> Self {
        Self(DATA, data.0, BLOCK)
    }

    pub(super) const fn nodes(data: DataPointer) -> Self {
        Self(DATA, data.0, TREE)
    }

    /// The range of data pointers that keys from here on, or up to here, may belong to.
    pub(super) const fn data_bound(self) -> Result<DataPointer, Ordering> {
        match self.0 {
            DATA => Ok(DataPointer(self.1)),
            space if space < DATA => Err(Ordering::Less),
            _ => Err(Ordering::Greater),
        }
    }
}

const STORE: u8 = 0;
const DISCOVERY: u8 = 1;
const ALIAS: u8 = 2;
const CORE: u8 = 3;
const DATA: u8 = 4;
const EXT: u8 = 5;

const AUTH: u8 = 0;
const SESSIONS: u8 = 1;

const HEAD: u8 = 0;
const DEPENDENCY: u8 = 1;
const HINTS: u8 = 2;
const BLOCK: u8 = 3;
const TREE: u8 = 4;
const BITFIELD: u8 = 5;
const USER_DATA: u8 = 6;
const LOCAL: u8 = 7;
const MARK: u8 = 8;

impl Key {
    /// Bytes that sort as the keys do. At most 18 more than the name in it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(18);
        self.encode_into(&mut out);
        out
    }

    pub(super) fn encode_into(&self, out: &mut Vec<u8>) {
        let parts = self.parts();
        let KeyPrefix(space, pointer, kind) = parts.prefix;
        out.push(space);
        match self {
            Self::StoreHead | Self::CoreByDiscovery(_) | Self::Ext(_) => out.extend_from_slice(parts.rest),
            Self::CoreByAlias(namespace, name) => {
                out.extend_from_slice(namespace);
                out.extend_from_slice(name);
            }
            Self::Auth(_)
            | Self::Sessions(_)
            | Self::Head(_)
            | Self::Dependency(_)
            | Self::Hints(_)
            | Self::UserData(..)
            | Self::Local(..) => {
                out.extend_from_slice(&pointer.to_be_bytes());
                out.push(kind);
                out.extend_from_slice(parts.rest);
            }
            Self::Block(..) | Self::Tree(..) | Self::Bitfield(..) | Self::Mark(..) => {
                out.extend_from_slice(&pointer.to_be_bytes());
                out.push(kind);
                out.extend_from_slice(&parts.index.to_be_bytes());
            }
        }
    }

    /// The key of these bytes; none when no key has them.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (space, rest) = bytes.split_first()?;
        match *space {
            STORE => rest.is_empty().then_some(Self::StoreHead),
            DISCOVERY => Some(Self::CoreByDiscovery(DiscoveryKey::new(rest.try_into().ok()?))),
            ALIAS => {
                let (namespace, name) = rest.split_first_chunk::<32>()?;
                Some(Self::CoreByAlias(*namespace, Bytes::copy_from_slice(name)))
            }
            CORE => {
                let (pointer, kind, rest) = pointed(rest)?;
                match (kind, rest.is_empty()) {
                    (AUTH, true) => Some(Self::Auth(CorePointer(pointer))),
                    (SESSIONS, true) => Some(Self::Sessions(CorePointer(pointer))),
                    _ => None,
                }
            }
            DATA => Self::decode_data(rest),
            EXT => Some(Self::Ext(Bytes::copy_from_slice(rest))),
            _ => None,
        }
    }

    fn decode_data(bytes: &[u8]) -> Option<Self> {
        let (pointer, kind, rest) = pointed(bytes)?;
        let data = DataPointer(pointer);
        let index = || Some(u64::from_be_bytes(rest.try_into().ok()?));
        let name = || Bytes::copy_from_slice(rest);
        match (kind, rest.is_empty()) {
            (HEAD, true) => Some(Self::Head(data)),
            (DEPENDENCY, true) => Some(Self::Dependency(data)),
            (HINTS, true) => Some(Self::Hints(data)),
            (BLOCK, _) => Some(Self::Block(data, index()?)),
            (TREE, _) => Some(Self::Tree(data, index()?)),
            (BITFIELD, _) => Some(Self::Bitfield(data, index()?)),
            (USER_DATA, _) => Some(Self::UserData(data, name())),
            (LOCAL, _) => Some(Self::Local(data, name())),
            (MARK, _) => Some(Self::Mark(data, index()?)),
            _ => None,
        }
    }

    pub(super) fn parts(&self) -> KeyParts<'_> {
        let (prefix, index, rest) = match self {
            Self::StoreHead => (KeyPrefix(STORE, 0, 0), 0, &[][..]),
            Self::CoreByDiscovery(key) => (KeyPrefix(DISCOVERY, 0, 0), 0, &key.as_bytes()[..]),
            // The namespace goes first; comparing it is left to `cmp`.
            Self::CoreByAlias(_, name) => (KeyPrefix(ALIAS, 0, 0), 0, &name[..]),
            Self::Auth(core) => (KeyPrefix(CORE, core.0, AUTH), 0, &[][..]),
            Self::Sessions(core) => (KeyPrefix(CORE, core.0, SESSIONS), 0, &[][..]),
            Self::Head(data) => (KeyPrefix(DATA, data.0, HEAD), 0, &[][..]),
            Self::Dependency(data) => (KeyPrefix(DATA, data.0, DEPENDENCY), 0, &[][..]),
            Self::Hints(data) => (KeyPrefix(DATA, data.0, HINTS), 0, &[][..]),
            Self::Block(data, index) => (KeyPrefix(DATA, data.0, BLOCK), *index, &[][..]),
            Self::Tree(data, index) => (KeyPrefix(DATA, data.0, TREE), *index, &[][..]),
            Self::Bitfield(data, index) => (KeyPrefix(DATA, data.0, BITFIELD), *index, &[][..]),
            Self::UserData(data, name) => (KeyPrefix(DATA, data.0, USER_DATA), 0, &name[..]),
            Self::Local(data, name) => (KeyPrefix(DATA, data.0, LOCAL), 0, &name[..]),
            Self::Mark(data, index) => (KeyPrefix(DATA, data.0, MARK), *index, &[][..]),
            Self::Ext(name) => (KeyPrefix(EXT, 0, 0), 0, &name[..]),
        };
        KeyParts { prefix, index, rest }
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        if let (Self::CoreByAlias(ours, _), Self::CoreByAlias(theirs, _)) = (self, other)
            && ours != theirs
        {
            return ours.cmp(theirs);
        }
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn pointed(bytes: &[u8]) -> Option<(u64, u8, &[u8])> {
    let (pointer, rest) = bytes.split_first_chunk::<8>()?;
    let (kind, rest) = rest.split_first()?;
    Some((u64::from_be_bytes(*pointer), *kind, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(0..3_u8, 0..4).prop_map(Bytes::from)
    }

    fn key() -> impl Strategy<Value = Key> {
        let number = || prop_oneof![0..3_u64, Just(u64::MAX), any::<u64>()];
        let data = move || number().prop_map(DataPointer);
        let core = move || number().prop_map(CorePointer);
        let hash = || (0..2_u8).prop_map(|byte| [byte; 32]);
        prop_oneof![
            Just(Key::StoreHead),
            hash().prop_map(|bytes| Key::CoreByDiscovery(DiscoveryKey::new(bytes))),
            (hash(), name()).prop_map(|(namespace, name)| Key::CoreByAlias(namespace, name)),
            core().prop_map(Key::Auth),
            core().prop_map(Key::Sessions),
            data().prop_map(Key::Head),
            data().prop_map(Key::Dependency),
            data().prop_map(Key::Hints),
            (data(), number()).prop_map(|(data, index)| Key::Block(data, index)),
            (data(), number()).prop_map(|(data, index)| Key::Tree(data, index)),
            (data(), number()).prop_map(|(data, index)| Key::Bitfield(data, index)),
            (data(), name()).prop_map(|(data, name)| Key::UserData(data, name)),
            (data(), name()).prop_map(|(data, name)| Key::Local(data, name)),
            (data(), number()).prop_map(|(data, index)| Key::Mark(data, index)),
            name().prop_map(Key::Ext),
        ]
    }

    proptest! {
        #[test]
        fn encoding_keeps_key_and_order(a in key(), b in key()) {
            prop_assert_eq!(Key::decode(&a.encode()), Some(a.clone()));
            prop_assert_eq!(a.encode().cmp(&b.encode()), a.cmp(&b));
        }

        #[test]
        fn any_bytes_are_a_key_or_none(bytes in proptest::collection::vec(0..10_u8, 0..50)) {
            if let Some(key) = Key::decode(&bytes) {
                prop_assert_eq!(key.encode(), bytes);
            }
        }
    }
}
