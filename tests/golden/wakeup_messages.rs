//! `wakeup_messages.json`: messages of a wakeup channel.

use autobee::crypto::{CoreKey, discovery_key};
use autobee::replication::wakeup::{WakeupHandshake, WakeupMessage};
use autobee::replication::{Role, capability};
use autobee::wire::{Decode as _, Encode as _};
use serde_json::{Value, json};

use super::{fixed, hex, text, to_hex};

pub(crate) fn check(case: &Value) -> Result<(), String> {
    match text(&case["kind"]) {
        "message" => {
            assert_eq!(case["value"], case["decoded"], "{case}");
            let (json, written, kind) = read(case, &hex(&case["bytes"]))?.unwrap();
            assert_eq!(json, case["decoded"], "{case}");
            assert_eq!(to_hex(&written), case["bytes"], "{case}");
            assert_eq!(kind, case["type"].as_u64(), "{case}");
        }
        "decode" => {
            let (json, ..) = read(case, &hex(&case["bytes"]))?.unwrap();
            assert_eq!(json, case["decoded"], "{case}");
        }
        "invalid" => assert!(read(case, &hex(&case["bytes"]))?.is_none(), "{case}"),
        "truncations" => {
            let bytes = hex(&case["bytes"]);
            let mut accepted = Vec::new();
            for length in 0..=bytes.len() {
                if read(case, &bytes[..length])?.is_some() {
                    accepted.push(length);
                }
            }
            assert_eq!(json!(accepted), case["acceptedLengths"], "{case}");
        }
        "capability" => {
            let role = if case["isInitiator"] == true {
                Role::Initiator
            } else {
                Role::Responder
            };
            let topic = CoreKey::new(fixed(&case["topicKey"]));
            let capability = capability::wakeup(&fixed(&case["handshakeHash"]), role, &topic);
            assert_eq!(capability.to_hex(), case["capability"], "{case}");
            assert_eq!(discovery_key(&topic).to_hex(), case["channelId"], "{case}");
        }
        kind => return Err(format!("kind {kind}")),
    }
    Ok(())
}

type Read = (Value, Vec<u8>, Option<u64>);

/// Decodes bytes as the message that the case names. None when they are refused.
fn read(case: &Value, bytes: &[u8]) -> Result<Option<Read>, String> {
    let kind = match text(&case["message"]) {
        "handshake" => {
            let handshake = WakeupHandshake::from_bytes(bytes).ok();
            return Ok(handshake.map(|read| (handshake_json(&read), read.to_bytes().unwrap(), None)));
        }
        "lookup" => 0,
        "announce" => 1,
        "info" => 2,
        name => return Err(format!("message {name}")),
    };
    Ok(WakeupMessage::decode(kind, bytes).ok().map(|message| {
        let message = message.unwrap();
        (
            message_json(&message),
            message.encode().unwrap(),
            Some(message.kind()),
        )
    }))
}

pub(crate) fn handshake_json(handshake: &WakeupHandshake) -> Value {
    json!({
        "version": handshake.version,
        "capability": handshake.capability.to_hex(),
        "active": handshake.active,
    })
}

/// A message as the vectors write it.
pub(crate) fn message_json(message: &WakeupMessage) -> Value {
    match message {
        WakeupMessage::Lookup { hash } => json!({"hash": hash.map(|hash| hash.to_hex())}),
        WakeupMessage::Announce(cores) => cores
            .iter()
            .map(|core| json!({"key": core.key.to_hex(), "length": core.length.0}))
            .collect(),
        WakeupMessage::Info { active } => json!({"active": active}),
    }
}
