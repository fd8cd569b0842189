//! `noise.json`: the handshake, its parts, and what is derived from its hash.

use autobee::crypto::{CoreKey, PublicKey, Seed, namespace};
use autobee::replication::noise::{
    Handshake, Keys, NoiseError, Pattern, Symmetric, dh, hkdf, hmac, public_key,
};
use autobee::replication::{Role, capability};
use serde_json::Value;

use super::{fixed, hex, list, text, to_hex, uint};

pub(crate) fn check(case: &Value) -> Result<(), String> {
    match text(&case["kind"]) {
        "namespaces" => {
            for (name, values) in case["values"].as_object().unwrap() {
                for (id, value) in (0..).zip(list(values)) {
                    assert_eq!(namespace(name.as_bytes(), id).to_hex(), *value, "{name} {id}");
                }
            }
        }
        "hmac-blake2b-512" => {
            let out = hmac(&hex(&case["key"]), &hex(&case["data"]));
            assert_eq!(to_hex(out.as_ref()), case["out"], "{case}");
        }
        "hkdf" => {
            let (first, second) = hkdf(&fixed(&case["chainingKey"]), &hex(&case["ikm"]));
            assert_eq!(to_hex(first.as_ref()), case["out1"], "{case}");
            assert_eq!(to_hex(second.as_ref()), case["out2"], "{case}");
        }
        "dh" => {
            let (own, other) = (seed(&case["seed"]), seed(&case["remoteSeed"]));
            assert_eq!(public_key(&own).to_hex(), case["publicKey"], "{case}");
            assert_eq!(public_key(&other).to_hex(), case["remotePublicKey"], "{case}");
            let shared = dh(&own, &public_key(&other)).unwrap();
            assert_eq!(to_hex(shared.as_bytes()), case["shared"], "{case}");
            let shared = dh(&other, &public_key(&own)).unwrap();
            assert_eq!(to_hex(shared.as_bytes()), case["sharedFromRemote"], "{case}");
        }
        "dh-invalid" => {
            let remote = PublicKey::new(fixed(&case["remotePublicKey"]));
            let done = dh(&seed(&case["seed"]), &remote);
            assert_eq!(done.is_err(), case["rejected"].as_bool().unwrap(), "{case}");
        }
        "handshake" => handshake(case),
        "handshake-invalid" => invalid(case),
        "derived" => derived(case),
        kind => return Err(format!("kind {kind}")),
    }
    Ok(())
}

fn handshake(case: &Value) {
    let prologue = hex(&case["prologue"]);
    let [mut initiator, mut responder] = match text(&case["pattern"]) {
        "XX" => {
            [Role::Initiator, Role::Responder].map(|role| Handshake::xx(role, keys(case, role), &prologue))
        }
        "IK" => {
            let known = public_key(&keys(case, Role::Responder).identity);
            [
                Handshake::ik_initiator(keys(case, Role::Initiator), known, &prologue),
                Handshake::ik_responder(keys(case, Role::Responder), &prologue),
            ]
        }
        pattern => panic!("pattern {pattern}"),
    };
    let names = [Pattern::Xx.name(), Pattern::Ik.name()];
    assert!(names.contains(&text(&case["protocolName"])), "{case}");
    for side in [&initiator, &responder] {
        same_state(side.symmetric(), &case["initial"]);
    }
    for (side, keys) in [
        ("initiator", keys(case, Role::Initiator)),
        ("responder", keys(case, Role::Responder)),
    ] {
        assert_eq!(
            public_key(&keys.identity).to_hex(),
            case[side]["staticPublicKey"],
            "{case}"
        );
        assert_eq!(
            public_key(&keys.ephemeral).to_hex(),
            case[side]["ephemeralPublicKey"],
            "{case}"
        );
    }
    for message in list(&case["messages"]) {
        let (from, to) = match text(&message["from"]) {
            "initiator" => (&mut initiator, &mut responder),
            _ => (&mut responder, &mut initiator),
        };
        let payload = hex(&message["payload"]);
        let bytes = from.write(&payload).unwrap();
        assert_eq!(to_hex(&bytes), message["bytes"], "{case}");
        assert_eq!(to.read(&bytes).unwrap(), payload, "{case}");
        if !message["stateAfter"].is_null() {
            same_state(from.symmetric(), &message["stateAfter"]);
            same_state(to.symmetric(), &message["stateAfter"]);
        }
    }
    let (initiator, responder) = (initiator.finish().unwrap(), responder.finish().unwrap());
    let result = &case["result"];
    for (side, send, receive) in [
        (&initiator, "initiatorTx", "initiatorRx"),
        (&responder, "initiatorRx", "initiatorTx"),
    ] {
        assert_eq!(to_hex(side.send.as_bytes()), result[send], "{case}");
        assert_eq!(to_hex(side.receive.as_bytes()), result[receive], "{case}");
        assert_eq!(to_hex(&side.hash), result["handshakeHash"], "{case}");
    }
    assert_eq!(initiator.remote.to_hex(), case["responder"]["staticPublicKey"]);
    assert_eq!(responder.remote.to_hex(), case["initiator"]["staticPublicKey"]);
    let id = |role| capability::stream_id(&initiator.hash, role).to_hex();
    assert_eq!(id(Role::Initiator), result["initiatorStreamId"], "{case}");
    assert_eq!(id(Role::Responder), result["responderStreamId"], "{case}");
}

/// Replays the recorded messages to the side that gets them; our own go nowhere.
fn invalid(case: &Value) {
    let mut sides = [Role::Initiator, Role::Responder].map(|role| Handshake::xx(role, keys(case, role), &[]));
    let mut replay = || -> Result<(), NoiseError> {
        for (number, message) in list(&case["messages"]).iter().enumerate() {
            sides[number % 2].write(&[])?;
            sides[(number + 1) % 2].read(&hex(message))?;
        }
        // A wrong key or a changed hash may show one step later only.
        let next = list(&case["messages"]).len();
        if sides.iter().all(Handshake::is_finished) {
            return Ok(());
        }
        let bytes = sides[next % 2].write(&[])?;
        sides[(next + 1) % 2].read(&bytes).map(drop)
    };
    assert_eq!(replay().is_err(), case["rejected"].as_bool().unwrap(), "{case}");
}

fn derived(case: &Value) {
    let stream = fixed(&case["handshakeHash"]);
    let key = CoreKey::new(fixed(&case["key"]));
    assert_eq!(
        autobee::crypto::discovery_key(&key).to_hex(),
        case["discoveryKey"],
        "{case}"
    );
    for (role, name) in [(Role::Initiator, "Initiator"), (Role::Responder, "Responder")] {
        let expected = |prefix: &str| case[format!("{prefix}{name}")].clone();
        assert_eq!(
            capability::stream_id(&stream, role).to_hex(),
            expected("streamId"),
            "{case}"
        );
        assert_eq!(
            capability::replication(&stream, role, &key).to_hex(),
            expected("hypercoreCapability"),
            "{case}"
        );
        assert_eq!(
            capability::wakeup(&stream, role, &key).to_hex(),
            expected("wakeupCapability"),
            "{case}"
        );
    }
}

fn same_state(state: &Symmetric, expected: &Value) {
    assert_eq!(to_hex(state.hash()), expected["h"]);
    assert_eq!(to_hex(state.chaining_key()), expected["ck"]);
    assert_eq!(
        state.key().map(|key| to_hex(key)).as_deref(),
        expected["k"].as_str()
    );
    assert_eq!(state.counter(), uint(&expected["n"]));
}

fn keys(case: &Value, role: Role) -> Keys {
    let side = &case[if role.is_initiator() {
        "initiator"
    } else {
        "responder"
    }];
    Keys {
        identity: seed(&side["staticSeed"]),
        ephemeral: seed(&side["ephemeralSeed"]),
    }
}

fn seed(value: &Value) -> Seed {
    Seed::new(fixed(value))
}
