//! `secret_stream_transcripts.json`: whole sessions, byte for byte, good ones and damaged ones.

use autobee::crypto::Seed;
use autobee::replication::Role;
use autobee::replication::noise::{Keys, public_key};
use autobee::replication::stream::{SecretStream, StreamError, StreamEvent, StreamKeys};
use serde_json::Value;

use super::{fixed, hex, list, text, to_hex};

pub(crate) fn check(case: &Value) -> Result<(), String> {
    match text(&case["kind"]) {
        "session" => {
            for role in [Role::Initiator, Role::Responder] {
                for piece in [1, 7, 1 << 20] {
                    session(case, role, piece);
                }
            }
        }
        "session-invalid" => {
            for role in [Role::Initiator, Role::Responder] {
                for piece in [1, 1 << 20] {
                    damaged(case, role, piece);
                }
            }
        }
        kind => return Err(format!("kind {kind}")),
    }
    Ok(())
}

/// Our side must write exactly its own bytes, whatever way the other side's bytes are cut.
fn session(case: &Value, role: Role, piece: usize) {
    let mut side = SecretStream::new(role, keys(case, role));
    let (mut written, mut received) = (Vec::new(), Vec::new());
    let mut connected = false;
    let mut sent = list(&case["sent"])
        .iter()
        .filter(|message| message["from"] == name(role));
    for bytes in writes(case, role.other()) {
        for piece in bytes.chunks(piece) {
            side.receive(piece);
            while let Some(event) = side.poll().unwrap() {
                match event {
                    StreamEvent::Connected { stream, remote } => {
                        connected = true;
                        assert_eq!(to_hex(&stream), case["handshakeHash"]);
                        assert_eq!(remote.to_hex(), case[format!("{}PublicKey", name(role.other()))]);
                    }
                    StreamEvent::Message(message) => received.push(to_hex(&message)),
                }
            }
        }
        written.extend_from_slice(&side.take_output());
    }
    assert!(connected, "{}", case["name"]);
    assert!(sent.all(|message| side.send(&hex(&message["plain"])).is_ok()));
    written.extend_from_slice(&side.take_output());
    let expected: Vec<u8> = writes(case, role).into_iter().flatten().collect();
    assert!(written == expected, "{} {role:?} wrote other bytes", case["name"]);
    assert_eq!(
        Value::from(received),
        case["received"][name(role)],
        "{}",
        case["name"]
    );
}

/// The side that got the damage must fail where the reference failed, with nothing more received.
fn damaged(case: &Value, role: Role, piece: usize) {
    let mut side = SecretStream::new(role, keys(case, role));
    let (mut received, mut opened, mut error) = (Vec::new(), false, None::<StreamError>);
    for bytes in writes(case, role.other()) {
        for piece in bytes.chunks(piece) {
            side.receive(piece);
            while error.is_none() {
                match side.poll() {
                    Ok(Some(StreamEvent::Connected { .. })) => opened = true,
                    Ok(Some(StreamEvent::Message(message))) => received.push(to_hex(&message)),
                    Ok(None) => break,
                    Err(found) => error = Some(found),
                }
            }
        }
    }
    let context = format!("{} {role:?}: {error:?}", case["name"]);
    assert_eq!(
        error.is_some(),
        !case["errorAt"][name(role)].is_null(),
        "{context}"
    );
    assert_eq!(opened, case["opened"][name(role)].as_bool().unwrap(), "{context}");
    // A side without an error of its own was torn down by the other one, perhaps before it had read everything.
    let expected: Vec<_> = list(&case["received"][name(role)]).iter().map(text).collect();
    assert!(
        received.starts_with(&expected.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "{context}"
    );
    if error.is_some() {
        assert_eq!(received, expected, "{context}");
        assert_eq!(side.poll(), Err(StreamError::Over), "{context}");
    }
}

fn writes(case: &Value, role: Role) -> Vec<Vec<u8>> {
    let of_side = list(&case["wire"])
        .iter()
        .filter(|write| write["from"] == name(role));
    of_side
        .filter(|write| write["bytes"].is_string())
        .map(|write| hex(&write["bytes"]))
        .collect()
}

fn keys(case: &Value, role: Role) -> StreamKeys {
    let side = &case[name(role)];
    // A side that never got as far has no ephemeral key, or no header, on record.
    let noise = Keys {
        identity: Seed::new(fixed(&side["staticSeed"])),
        ephemeral: Seed::new(optional(&side["ephemeralSeed"])),
    };
    if let Some(expected) = case[format!("{}PublicKey", name(role))].as_str() {
        assert_eq!(public_key(&noise.identity).to_hex(), expected);
    }
    StreamKeys {
        noise,
        header: optional(&side["header"]),
    }
}

fn optional<const N: usize>(value: &Value) -> [u8; N] {
    if value.is_null() { [1; N] } else { fixed(value) }
}

fn name(role: Role) -> &'static str {
    if role.is_initiator() {
        "initiator"
    } else {
        "responder"
    }
}
