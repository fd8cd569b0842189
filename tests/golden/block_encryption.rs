//! `block_encryption.json`: keys, blocks and whole logs under the default encryption.

use autobee::crypto::{CoreKey, Ed25519};
use autobee::hypercore::encryption::{BlockCipher as _, CoreCipher};
use autobee::hypercore::merkle::Seek;
use autobee::wire::{Index, Length};
use serde_json::Value;

use super::merkle::{blocks, empty_log};
use super::{block, fixed, hex, list, text, to_hex, uint};

pub(crate) fn check(case: &Value) -> Result<(), String> {
    match text(&case["kind"]) {
        "derive" => {
            let cipher = cipher(
                case,
                &CoreKey::new(fixed(&case["coreKey"])),
                case["compat"] == true,
            );
            assert_eq!(to_hex(cipher.block_key()), case["blockKey"], "{case}");
            assert_eq!(to_hex(cipher.blinding_key()), case["blindingKey"], "{case}");
        }
        "blockEncryptionKey" => {
            let cipher = cipher(case, &CoreKey::new(fixed(&case["coreKey"])), false);
            assert_eq!(to_hex(cipher.block_key()), case["out"], "{case}");
        }
        "encrypt" => {
            let cipher = CoreCipher::with_block_key(&fixed(&case["blockKey"]));
            assert_eq!(to_hex(cipher.blinding_key()), case["blindingKey"], "{case}");
            let (index, fork, plain) = (uint(&case["index"]), uint(&case["fork"]), block(&case["plain"]));
            let stored = encrypt(&cipher, index, fork, &plain);
            assert_eq!(to_hex(&stored), case["cipher"], "{case}");
            assert_eq!(decrypt(&cipher, index, stored), plain, "{case}");
        }
        "log" => log(case),
        kind => return Err(format!("kind {kind}")),
    }
    Ok(())
}

fn log(case: &Value) {
    let mut log = empty_log(text(&case["style"]), fixed(&case["seed"]));
    assert_eq!(log.key().to_hex(), case["key"], "{case}");
    let cipher = cipher(case, &log.key(), text(&case["style"]) == "compat");
    for step in list(&case["ops"]) {
        if step["append"].is_null() {
            let length = Length(uint(&step["truncate"]));
            log.truncate(&Ed25519, length, step["fork"].as_u64()).unwrap();
            continue;
        }
        let (start, fork) = (log.length().0, log.fork());
        let stored = (start..)
            .zip(blocks(&step["append"]))
            .map(|(index, plain)| encrypt(&cipher, index, fork, &plain));
        let stored: Vec<Vec<u8>> = stored.collect();
        log.append(&Ed25519, stored).unwrap();
        let result = &step["result"];
        assert_eq!(log.length().0, uint(&result["length"]), "{step}");
        assert_eq!(
            log.head().tree.byte_length(),
            uint(&result["byteLength"]),
            "{step}"
        );
    }
    let head = log.head();
    let padding = uint(&case["padding"]);
    assert_eq!(log.length().0, uint(&case["length"]), "{case}");
    assert_eq!(log.fork(), uint(&case["fork"]), "{case}");
    assert_eq!(head.tree.byte_length(), uint(&case["treeByteLength"]), "{case}");
    assert_eq!(
        head.tree.byte_length() - padding * log.length().0,
        uint(&case["byteLength"]),
        "{case}"
    );
    assert_eq!(head.tree.hash().to_hex(), case["treeHash"], "{case}");
    assert_eq!(
        to_hex(head.signature.as_ref().unwrap()),
        case["signature"],
        "{case}"
    );
    for (index, (stored, plain)) in (0..).zip(list(&case["stored"]).iter().zip(list(&case["plain"]))) {
        let block = log.get(Index(index)).unwrap();
        assert_eq!(to_hex(block), *stored, "{case}");
        assert_eq!(decrypt(&cipher, index, block.to_vec()), hex(plain), "{case}");
    }
    if let Some(last) = log.length().last() {
        assert_eq!(
            to_hex(&log.get(last).unwrap()[cipher.padding(last.0)..]),
            case["undecrypted"],
            "{case}"
        );
    }
    for seek in list(&case["seeks"]) {
        let found = head
            .tree
            .seek(uint(&seek["bytes"]), padding, log.nodes())
            .unwrap();
        let expected = seek["out"].as_array().map_or(Seek::Past, |out| Seek::Found {
            block: uint(&out[0]),
            offset: uint(&out[1]),
        });
        assert_eq!(found, expected, "{seek}");
    }
}

fn cipher(case: &Value, core: &CoreKey, is_compat: bool) -> CoreCipher {
    let key = fixed(&case["encryptionKey"]);
    if case["block"] == true {
        CoreCipher::with_block_key(&key)
    } else {
        CoreCipher::new(&key, core, is_compat)
    }
}

fn encrypt(cipher: &CoreCipher, index: u64, fork: u64, plain: &[u8]) -> Vec<u8> {
    let mut block = vec![0; cipher.padding(index)];
    block.extend_from_slice(plain);
    cipher.encrypt(index, fork, &mut block).unwrap();
    block
}

fn decrypt(cipher: &CoreCipher, index: u64, mut block: Vec<u8>) -> Vec<u8> {
    cipher.decrypt(index, &mut block).unwrap();
    block.split_off(cipher.padding(index))
}
