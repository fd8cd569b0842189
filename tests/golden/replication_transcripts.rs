//! `replication_transcripts.json`: flows between two peers of the original, above the encrypted stream.
//!
//! Three things are checked. Every frame is read as recorded, and written again byte for byte. What a source of the
//! original answered is what ours answers, from the log as it was then. And our reader, told what the recorded source
//! said, ends where the recorded reader ended.

use std::collections::{BTreeMap, VecDeque};

use autobee::crypto::{CoreKey, Ed25519};
use autobee::env::Mono;
use autobee::hypercore::log::Log;
use autobee::replication::core::MemoryCore;
use autobee::replication::message::{Message, OpenMessage};
use autobee::replication::mux::Frame;
use autobee::replication::replicator::{PeerId, Replicator};
use autobee::replication::settings::ReplicatorSettings;
use autobee::replication::{Role, capability, wakeup};
use autobee::wire::{Decode as _, Encode as _};
use serde_json::{Value, json};

use super::hypercore_messages::{handshake_json, message_json};
use super::replication_requests::{answer, writer};
use super::{fixed, hex, list, text, to_hex, wakeup_messages};

const PEER: PeerId = PeerId(1);

pub(crate) fn check(case: &Value) -> Result<(), String> {
    if text(&case["kind"]) != "flow" {
        return Err(format!("kind {}", case["kind"]));
    }
    let said = read(case);
    capabilities(case);
    if case["core"]["blocks"].is_array() {
        answers(case, &said);
        reader(case, &said);
    }
    Ok(())
}

/// A replication message of the core of the flow, with its sender.
type Said = Vec<(String, Message)>;

/// Reads every frame, compares its fields, and writes it again.
fn read(case: &Value) -> Said {
    let mut said = Vec::new();
    let mut channels: BTreeMap<(String, u64), (String, String)> = BTreeMap::new();
    for frame in list(&case["frames"]) {
        let Some(from) = frame["from"].as_str() else {
            continue;
        };
        let context = format!("{}: {frame}", case["name"]);
        let bytes = hex(&frame["bytes"]);
        let read = Frame::decode(bytes.clone().into()).unwrap();
        assert_eq!(to_hex(&read.encode()), frame["bytes"], "{context}");
        let decoded = &frame["decoded"];
        let expected = match text(&decoded["kind"]) {
            "batch" => list(&decoded["items"]).to_vec(),
            _ => vec![decoded.clone()],
        };
        let items = read.into_items().unwrap();
        assert_eq!(items.len(), expected.len(), "{context}");
        for (item, expected) in items.iter().zip(&expected) {
            if let Frame::Open {
                local, protocol, id, ..
            } = item
            {
                channels.insert((from.to_owned(), *local), (protocol.clone(), to_hex(id)));
            }
            let channel = match item {
                Frame::Message { channel, .. } => channels.get(&(from.to_owned(), *channel)),
                _ => None,
            };
            same_item(
                item,
                channel.map_or("", |(protocol, _)| protocol),
                expected,
                &context,
            );
            if let Frame::Message { kind, payload, .. } = item
                && channel.is_some_and(|(_, id)| case["core"]["discoveryKey"] == *id)
                && let Some(message) = Message::decode(*kind, payload).unwrap()
            {
                said.push((from.to_owned(), message));
            }
        }
    }
    said
}

fn same_item(item: &Frame, protocol: &str, expected: &Value, context: &str) {
    let read = match item {
        Frame::Open {
            local,
            protocol,
            id,
            handshake,
        } => {
            let read = match protocol.as_str() {
                "hypercore/alpha" | "hypercore" => {
                    let read = OpenMessage::from_bytes(handshake).unwrap();
                    assert_eq!(read.to_bytes().unwrap(), handshake[..], "{context}");
                    handshake_json(&read)
                }
                _ => {
                    wakeup_messages::handshake_json(&wakeup::WakeupHandshake::from_bytes(handshake).unwrap())
                }
            };
            assert_eq!(expected["rest"], "", "{context}");
            json!({"kind": "open", "localId": local, "protocol": protocol, "id": to_hex(id), "handshake": read, "rest": ""})
        }
        Frame::Reject { id } => json!({"kind": "reject", "yourLocalId": id}),
        Frame::Close { id } => json!({"kind": "close", "localId": id}),
        Frame::Message {
            channel,
            kind,
            payload,
        } => {
            let (fields, written) = match protocol {
                "hypercore/alpha" => Message::decode(*kind, payload)
                    .unwrap()
                    .map(|read| (message_json(&read), read.encode().unwrap()))
                    .unzip(),
                "wakeup" => wakeup::WakeupMessage::decode(*kind, payload)
                    .unwrap()
                    .map(|read| (wakeup_messages::message_json(&read), read.encode().unwrap()))
                    .unzip(),
                other => panic!("{context}: protocol {other}"),
            };
            assert_eq!(
                written.unwrap_or_else(|| payload.to_vec()),
                payload[..],
                "{context}"
            );
            let mut read = json!({"kind": "message", "channel": channel, "protocol": protocol, "type": kind});
            read["fields"] = json!(fields);
            for known in ["name", "raw"] {
                if let Some(value) = expected.get(known) {
                    read[known] = value.clone();
                }
            }
            read
        }
        other => panic!("{context}: {other:?}"),
    };
    assert_eq!(&read, expected, "{context}");
}

/// Every proof of knowing a key of which the flow tells us is the one that we would make.
fn capabilities(case: &Value) {
    let stream = fixed(&case["handshakeHash"]);
    let mut keys: Vec<CoreKey> = Vec::new();
    for field in [
        &case["core"]["key"],
        &case["bootstrapKey"],
        &case["topicKey"],
        &case["unknownKey"],
    ] {
        keys.extend(field.as_str().map(|_| CoreKey::new(fixed(field))));
    }
    let mut wrong = 0;
    for frame in list(&case["frames"]) {
        let Some(from) = frame["from"].as_str() else {
            continue;
        };
        let role = match case["peers"][from]["isInitiator"].as_bool() {
            Some(true) => Role::Initiator,
            _ => Role::Responder,
        };
        for item in Frame::decode(hex(&frame["bytes"]).into())
            .unwrap()
            .into_items()
            .unwrap()
        {
            let Frame::Open {
                protocol,
                id,
                handshake,
                ..
            } = item
            else {
                continue;
            };
            let key = keys
                .iter()
                .find(|key| autobee::crypto::discovery_key(key).as_bytes()[..] == id[..]);
            let Some(key) = key else { continue };
            let right = match protocol.as_str() {
                "wakeup" => {
                    let given = wakeup::WakeupHandshake::from_bytes(&handshake)
                        .unwrap()
                        .capability;
                    capability::same(&given, &capability::wakeup(&stream, role, key))
                }
                _ => {
                    let given = OpenMessage::from_bytes(&handshake).unwrap().capability;
                    capability::same(&given, &capability::replication(&stream, role, key))
                }
            };
            wrong += usize::from(!right);
        }
    }
    let about = text(&case["about"]);
    assert_eq!(
        wrong > 0,
        about.contains("wrong capability"),
        "{}: {wrong} wrong",
        case["name"]
    );
}

/// The log as it was at each time: all lengths of the writer's blocks that are known, at fork 0.
fn histories(case: &Value) -> Vec<Log> {
    let mut blocks: Vec<_> = list(&case["core"]["blocks"]).iter().map(hex).collect();
    if case["resultForkB"].is_null() {
        blocks.extend(case["appended"].as_array().into_iter().flatten().map(hex));
    }
    let mut log = writer(&case["core"]);
    let mut logs = vec![log.clone()];
    if log
        .append(&Ed25519, blocks[..1.min(blocks.len())].to_vec())
        .is_err()
    {
        // Fixed by its manifest: it comes as a whole.
        log.append(&Ed25519, blocks).unwrap();
        logs.push(log);
        return logs;
    }
    logs.push(log.clone());
    for block in blocks.into_iter().skip(1) {
        log.append(&Ed25519, [block]).unwrap();
        logs.push(log.clone());
    }
    logs
}

/// Every answer of an original is one that we would give.
fn answers(case: &Value, said: &Said) {
    let logs = histories(case);
    let mut asked: BTreeMap<(String, u64), Message> = BTreeMap::new();
    for (from, message) in said {
        match message {
            Message::Request(request) => {
                asked.insert((from.clone(), request.id), message.clone());
            }
            Message::Data(data) if from != "M" && data.proof.fork == 0 => {
                let request = asked
                    .iter()
                    .find(|((asker, id), _)| asker != from && *id == data.request);
                let Some((_, request)) = request else { continue };
                // A signature that nobody's key is needed for may be any, or none.
                let mut given = data.clone();
                if logs[0]
                    .manifest()
                    .is_some_and(|manifest| manifest.signers().is_empty())
                    && let Some(upgrade) = &mut given.proof.upgrade
                {
                    upgrade.signature = None;
                }
                let given = Message::Data(given).encode().unwrap();
                let ours = logs
                    .iter()
                    .any(|log| answer(log, request.clone()).encode().unwrap() == given);
                assert!(ours, "{}: {request:?} was answered {message:?}", case["name"]);
            }
            _ => {}
        }
    }
}

/// Our reader hears what the recorded source said; its requests are answered from the writer's log.
fn reader(case: &Value, said: &Said) {
    let by_originals = case["peers"].as_object().unwrap().keys().all(|name| name != "M");
    let (Some(length), true) = (case["resultLengthB"].as_u64(), by_originals) else {
        return;
    };
    if !case["resultForkB"].is_null() || !case["resultLengthA"].is_null() {
        return;
    }
    let logs = histories(case);
    let mut copy = MemoryCore::new(Log::replica(writer(&case["core"]).key()), Ed25519);
    let mut replicator = Replicator::new(&copy, ReplicatorSettings::default()).unwrap();
    if case["resultContiguousB"].is_u64() {
        replicator.download(0, None, &copy).unwrap();
    }
    replicator.open(PEER, true, &copy).unwrap();
    let recorded = said
        .iter()
        .filter(|(from, _)| from == "A")
        .map(|(_, message)| message.clone());
    let mut inbox: VecDeque<Message> = recorded.collect();
    // What the source has at most is announced last; it acknowledges our length as a source does.
    let mut source_length = 0;
    loop {
        while let Some(message) = replicator.pull(PEER, &copy, Mono(0)).unwrap() {
            match &message {
                Message::Request(_) => {
                    let source = logs.iter().find(|log| log.length().0 == source_length).unwrap();
                    inbox.push_front(answer(source, message));
                }
                Message::Sync(sync) if sync.length < source_length => {
                    inbox.push_front(Message::Sync(autobee::replication::message::Sync {
                        length: source_length,
                        remote_length: sync.length,
                        can_upgrade: true,
                        uploading: true,
                        downloading: true,
                        has_manifest: true,
                        ..Default::default()
                    }));
                }
                _ => {}
            }
        }
        let Some(message) = inbox.pop_front() else { break };
        match &message {
            Message::Sync(sync) => source_length = sync.length,
            Message::Data(_) if inbox.len() > said.len() => continue,
            _ => {}
        }
        replicator.receive(PEER, message, &mut copy, Mono(0)).unwrap();
    }
    assert_eq!(copy.log.length().0, length, "{}", case["name"]);
    if let Some(contiguous) = case["resultContiguousB"].as_u64() {
        assert_eq!(copy.log.contiguous_length().0, contiguous, "{}", case["name"]);
    }
}
