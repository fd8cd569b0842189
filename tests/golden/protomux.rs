//! `protomux.json`: frames of the multiplexer, and scripts of what it does.

use std::collections::BTreeMap;

use autobee::replication::mux::{Channel, Frame, Mux, MuxEvent, MuxSettings, OpenChannel};
use autobee::wire::compact::Decoder;
use bytes::Bytes;
use serde_json::{Value, json};

use super::{hex, list, text, to_hex, uint};

pub(crate) fn check(case: &Value) -> Result<(), String> {
    match text(&case["kind"]) {
        "frame" => frame(case),
        "script" => {
            let mut script = Script::new();
            for step in list(&case["steps"]) {
                script.step(step, text(&case["name"]))?;
            }
            Ok(())
        }
        kind => Err(format!("kind {kind}")),
    }
}

fn frame(case: &Value) -> Result<(), String> {
    let fields = &case["fields"];
    let bytes = |field: &Value| Bytes::from(optional(field));
    let frame = match fields["control"].as_str() {
        Some("open") => Frame::Open {
            local: uint(&fields["localId"]),
            protocol: text(&fields["protocol"]).to_owned(),
            id: bytes(&fields["id"]),
            handshake: bytes(&fields["handshake"]),
        },
        Some("reject") => Frame::Reject {
            id: uint(&fields["id"]),
        },
        Some("close") => Frame::Close {
            id: uint(&fields["id"]),
        },
        Some(control) => return Err(format!("control {control}")),
        None => Frame::Message {
            channel: uint(&fields["channel"]),
            kind: uint(&fields["type"]),
            payload: bytes(&fields["payload"]),
        },
    };
    assert_eq!(to_hex(&frame.encode()), case["frame"], "{case}");
    assert_eq!(Frame::decode(hex(&case["frame"]).into()), Ok(frame), "{case}");
    Ok(())
}

/// What a script knows about a channel object.
struct Object {
    protocol: String,
    aliases: Vec<String>,
    id: Vec<u8>,
    unique: bool,
    handshake: Option<String>,
    messages: u64,
    encoding: String,
    channel: Option<Channel>,
}

/// The application on top of the multiplexer.
struct Script {
    mux: Mux,
    objects: BTreeMap<String, Object>,
    names: BTreeMap<Channel, String>,
    handlers: BTreeMap<(String, Option<Vec<u8>>), Value>,
    events: Vec<Value>,
    destroyed: bool,
}

impl Script {
    fn new() -> Self {
        Self {
            mux: Mux::new(MuxSettings::default()),
            objects: BTreeMap::new(),
            names: BTreeMap::new(),
            handlers: BTreeMap::new(),
            events: Vec::new(),
            destroyed: false,
        }
    }

    fn step(&mut self, step: &Value, name: &str) -> Result<(), String> {
        match text(&step["do"]) {
            "create" => {
                let made = self.create(step, &optional(&step["id"]));
                assert_eq!(made, step["result"].as_bool().unwrap(), "{name}: {step}");
            }
            "open" => self.open(text(&step["channel"]), &step["handshake"]),
            "send" => {
                let object = &self.objects[text(&step["channel"])];
                let payload = encode(&object.encoding, &step["payload"]);
                let channel = object.channel.unwrap();
                let _ = self.mux.send(channel, uint(&step["type"]), &payload);
            }
            "close" => {
                let channel = self.objects[text(&step["channel"])].channel.unwrap();
                if self.mux.close(channel) {
                    self.events
                        .push(json!({"event": "close", "channel": step["channel"], "isRemote": false}));
                }
            }
            "cork" => self.mux.cork(),
            "uncork" => self.mux.uncork(),
            "pair" => {
                self.handlers.insert(handler(step), step["accept"].clone());
            }
            "unpair" => {
                self.handlers.remove(&handler(step));
            }
            "recv" => self.mux.receive(hex(&step["frame"]).into()),
            other => return Err(format!("step {other}")),
        }
        self.drain();
        let frames: Vec<_> = std::iter::from_fn(|| self.mux.take_frame())
            .map(|frame| to_hex(&frame))
            .collect();
        assert_eq!(Value::from(frames), step["frames"], "{name}: {step}");
        assert_eq!(
            Value::from(std::mem::take(&mut self.events)),
            step["events"],
            "{name}: {step}"
        );
        assert_eq!(Value::from(self.destroyed), step["destroyed"], "{name}: {step}");
        Ok(())
    }

    fn drain(&mut self) {
        loop {
            let readable = match self.mux.poll() {
                Ok(None) => break,
                Ok(Some(event)) => self.handle(event),
                Err(_) => None,
            };
            if readable.is_none() {
                self.destroyed = true;
                self.mux.end();
            }
        }
    }

    /// None when a part that the protocol defines cannot be read.
    fn handle(&mut self, event: MuxEvent) -> Option<()> {
        match event {
            MuxEvent::Offered { protocol, id } => {
                let of_id = (protocol.clone(), Some(id.clone()));
                let accept = self
                    .handlers
                    .get(&of_id)
                    .or_else(|| self.handlers.get(&(protocol.clone(), None)));
                if let Some(accept) = accept.cloned() {
                    let shown = (!id.is_empty()).then(|| to_hex(&id));
                    self.events
                        .push(json!({"event": "pair", "protocol": protocol, "id": shown}));
                    if accept.is_object() && self.create(&accept, &id) {
                        self.open(text(&accept["as"]), &accept["handshake"]);
                    }
                }
                self.mux.reject(&protocol, &id);
            }
            MuxEvent::Opened { channel, handshake } => {
                let name = &self.names[&channel];
                let handshake = match &self.objects[name].handshake {
                    Some(encoding) => decode(encoding, &handshake)?,
                    None => Value::Null,
                };
                self.events
                    .push(json!({"event": "open", "channel": name, "handshake": handshake}));
            }
            MuxEvent::Message {
                channel,
                kind,
                payload,
            } => {
                let name = &self.names[&channel];
                if kind < self.objects[name].messages {
                    let payload = decode(&self.objects[name].encoding, &payload)?;
                    self.events
                        .push(json!({"event": "message", "channel": name, "type": kind, "payload": payload}));
                }
            }
            MuxEvent::Closed { channel, .. } => {
                let name = &self.names[&channel];
                self.events
                    .push(json!({"event": "close", "channel": name, "isRemote": true}));
            }
        }
        Some(())
    }

    fn create(&mut self, step: &Value, id: &[u8]) -> bool {
        let protocol = text(&step["protocol"]).to_owned();
        let unique = step["unique"].as_bool().unwrap_or(true);
        if unique && self.mux.has(&protocol, id) {
            return false;
        }
        let aliases = step["aliases"].as_array().cloned().unwrap_or_default();
        let object = Object {
            protocol,
            aliases: aliases.iter().map(|alias| text(alias).to_owned()).collect(),
            id: id.to_owned(),
            unique,
            handshake: step["handshakeEncoding"].as_str().map(str::to_owned),
            messages: uint(&step["messages"]),
            encoding: step["encoding"].as_str().unwrap_or("raw").to_owned(),
            channel: None,
        };
        self.objects.insert(text(&step["as"]).to_owned(), object);
        true
    }

    fn open(&mut self, name: &str, handshake: &Value) {
        let object = self.objects.get_mut(name).unwrap();
        let handshake = object
            .handshake
            .as_deref()
            .map(|encoding| encode(encoding, handshake));
        let aliases: Vec<_> = object.aliases.iter().map(String::as_str).collect();
        let channel = self.mux.open(&OpenChannel {
            aliases: &aliases,
            ..open(
                &object.protocol,
                &object.id,
                &handshake.unwrap_or_default(),
                object.unique,
            )
        });
        object.channel = channel.ok();
        self.names.insert(channel.unwrap(), name.to_owned());
    }
}

fn open<'a>(protocol: &'a str, id: &'a [u8], handshake: &'a [u8], unique: bool) -> OpenChannel<'a> {
    OpenChannel {
        protocol,
        aliases: &[],
        id,
        handshake,
        unique,
    }
}

fn handler(step: &Value) -> (String, Option<Vec<u8>>) {
    let id = step["id"].is_string().then(|| hex(&step["id"]));
    (text(&step["protocol"]).to_owned(), id)
}

fn optional(value: &Value) -> Vec<u8> {
    if value.is_string() { hex(value) } else { Vec::new() }
}

fn encode(encoding: &str, value: &Value) -> Vec<u8> {
    match encoding {
        "uint" => {
            let mut encoder = autobee::wire::compact::Encoder::new();
            encoder.uint(uint(value));
            encoder.finish().unwrap()
        }
        _ => optional(value),
    }
}

fn decode(encoding: &str, bytes: &Bytes) -> Option<Value> {
    match encoding {
        "uint" => Decoder::new(bytes).uint().ok().map(Value::from),
        _ => Some(Value::from(to_hex(bytes))),
    }
}
