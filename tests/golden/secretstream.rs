//! `secretstream.json`: the cipher of a direction, and framing.

use autobee::replication::frame::{FRAME_MAX, FrameReader, put_length};
use autobee::replication::noise::SessionKey;
use autobee::replication::secretstream::{Cipher, HEADER_SIZE, OVERHEAD, Tag};
use bytes::BytesMut;
use serde_json::Value;

use super::{fixed, hex, list, text, to_hex, uint};

pub(crate) fn check(case: &Value) -> Result<(), String> {
    match text(&case["kind"]) {
        "constants" => {
            let values = &case["values"];
            assert_eq!(uint(&values["headerBytes"]), HEADER_SIZE as u64);
            assert_eq!(uint(&values["overhead"]), OVERHEAD as u64);
            for (name, tag) in [
                ("MESSAGE", Tag::MESSAGE),
                ("PUSH", Tag::PUSH),
                ("REKEY", Tag::REKEY),
                ("FINAL", Tag::FINAL),
            ] {
                assert_eq!(uint(&values["tags"][name]), u64::from(tag.0));
            }
        }
        "stream" => stream(case),
        "stream-invalid" => {
            let mut receiver = Cipher::new(&SessionKey::new(fixed(&case["key"])), &fixed(&case["header"]));
            for (sealed, plain) in list(&case["ciphertexts"]).iter().zip(list(&case["plains"])) {
                let (mut sealed, before) = (hex(sealed), receiver.clone());
                let opened = receiver
                    .open(&mut sealed, &[])
                    .ok()
                    .map(|(_, plain)| to_hex(plain));
                assert_eq!(opened.as_deref(), plain.as_str(), "{case}");
                assert_eq!(plain.is_null(), before == receiver, "{case}");
            }
        }
        "framing" => {
            let mut reader = FrameReader::new(FRAME_MAX);
            let mut messages = Vec::new();
            for chunk in list(&case["chunks"]) {
                reader.extend(&hex(chunk));
                while let Some(message) = reader.next_frame().unwrap() {
                    messages.push(to_hex(&message));
                }
            }
            assert_eq!(Value::from(messages), case["messages"], "{case}");
        }
        kind => return Err(format!("kind {kind}")),
    }
    Ok(())
}

fn stream(case: &Value) {
    let start = if case["patched"].as_bool().unwrap() {
        cipher(&case["initial"])
    } else {
        Cipher::new(&SessionKey::new(fixed(&case["key"])), &fixed(&case["header"]))
    };
    assert!(start == cipher(&case["initial"]), "{case}");
    let (mut sender, mut receiver) = (start.clone(), start);
    for message in list(&case["messages"]) {
        let (plain, ad) = (hex(&message["plain"]), hex(&message["ad"]));
        let tag = Tag(u8::try_from(uint(&message["tag"])).unwrap());
        let mut sealed = sender.seal(tag, &plain, &ad);
        assert_eq!(to_hex(&sealed), message["ciphertext"], "{case}");
        let mut frame = BytesMut::new();
        assert!(put_length(&mut frame, sealed.len()));
        frame.extend_from_slice(&sealed);
        assert_eq!(to_hex(&frame), message["frame"], "{case}");
        assert_eq!(
            receiver.open(&mut sealed, &ad).unwrap(),
            (tag, plain.as_slice()),
            "{case}"
        );
        let after = cipher(&message["after"]);
        assert!(sender == after && receiver == after, "{case}");
    }
}

fn cipher(state: &Value) -> Cipher {
    let nonce: [u8; 12] = fixed(&state["nonce"]);
    let (counter, nonce) = nonce.split_first_chunk::<4>().unwrap();
    Cipher::resume(
        fixed(&state["k"]),
        u32::from_le_bytes(*counter),
        nonce.try_into().unwrap(),
    )
}
