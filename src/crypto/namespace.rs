//! Constants that keep hashes and signatures of one purpose from being taken for another (spec/hypercore.md 2.2).

use super::{Hash, hash};

/// The `id`-th constant of a name: the hash of the hash of the name, and the id.
#[must_use]
pub fn namespace(name: &[u8], id: u8) -> Hash {
    hash(&[hash(&[name]).as_bytes(), &[id]])
}

/// In front of every signed tree. `namespace("hypercore", 0)`.
pub const TREE: Hash = constant("9fac70b50ca14efc4e91c833b204e75b8b5aad8b5881bfc0adb5ef38a3275b9c");
/// Proof of knowing a core's key, by who dialled. `namespace("hypercore", 1)`.
pub const REPLICATE_INITIATOR: Hash =
    constant("51812a2a359b50369536775df89e18e47740f3db72ac0ae70b29594c194dc316");
/// Proof of knowing a core's key, by who was dialled. `namespace("hypercore", 2)`.
pub const REPLICATE_RESPONDER: Hash =
    constant("0438492d02970cc13528ac0262bca0074e0926260256865accc0bf15bd79127d");
/// In front of every hashed manifest. `namespace("hypercore", 3)`.
pub const MANIFEST: Hash = constant("e64b7108eacce47cfc61ac850568f55f8b15b82ec5ed78c4ec597b036e2a1498");
/// The namespace of a signer that has no other. `namespace("hypercore", 4)`.
pub const DEFAULT_NAMESPACE: Hash =
    constant("4144eea531e483d54e0c14f4ca68e0644f355343ff6fcb0f005200e12cd747cb");
/// From which block keys are derived. `namespace("hypercore", 5)`.
pub const DEFAULT_ENCRYPTION: Hash =
    constant("9aedb6f1dea8487cc1e1698f97eb2f063f6db4c649695622e7b675e2ceafa6e9");
/// From which a store derives key pairs of named cores. `namespace("corestore", 0)`.
pub const CORESTORE: Hash = constant("ac5c4cbfb1064776404637a280c71fac823281d351ebeced03151743270def29");
/// In front of every attestation of a weight. `namespace("autobee-witness", 0)`.
pub const WITNESS: Hash = constant("132766db091c3b9d66c3f0c885a02ea1eed7f0e93898609f54b2219854d5fbc2");
/// From which block keys of an encrypted database are derived. `namespace("autobase", 1)`.
pub const VIEW_BLOCK_KEY: Hash = constant("0c246ba8c6b578479ac948d37bf94a7153a05321638b46534b5a7f8ff73b02d4");
/// From which the keys are derived that make the padding of encrypted blocks. `namespace("autobase", 2)`.
pub const HASH_KEY: Hash = constant("c388d1bc00239009be3dde0e4440ad3ca341376b89d95843ee541bc31bb94511");
/// The entropy of a database whose encryption was never changed. `namespace("autobase/entropy", 0)`.
pub const GENESIS_ENTROPY: Hash =
    constant("a6fea3a8774fc9479c09e6b336fa1f726d90c71cdca949c1ff85ba64467bda5c");

const fn constant(hex: &str) -> Hash {
    const fn nibble(character: u8) -> u8 {
        match character {
            b'0'..=b'9' => character - b'0',
            b'a'..=b'f' => character - b'a' + 10,
            _ => panic!("not hexadecimal"),
        }
    }
    let hex = hex.as_bytes();
    let mut bytes = [0; 32];
    let mut at = 0;
    while at < 32 {
        bytes[at] = nibble(hex[2 * at]) << 4 | nibble(hex[2 * at + 1]);
        at += 1;
    }
    Hash::new(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_what_their_names_hash_to() {
        let hypercore = [
            TREE,
            REPLICATE_INITIATOR,
            REPLICATE_RESPONDER,
            MANIFEST,
            DEFAULT_NAMESPACE,
            DEFAULT_ENCRYPTION,
        ];
        for (id, constant) in (0..).zip(hypercore) {
            assert_eq!(namespace(b"hypercore", id), constant);
        }
        assert_eq!(namespace(b"corestore", 0), CORESTORE);
        assert_eq!(namespace(b"autobee-witness", 0), WITNESS);
        assert_eq!(namespace(b"autobase", 1), VIEW_BLOCK_KEY);
        assert_eq!(namespace(b"autobase", 2), HASH_KEY);
        assert_eq!(namespace(b"autobase/entropy", 0), GENESIS_ENTROPY);
    }
}
