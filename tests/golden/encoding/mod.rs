//! `encoding.json`: compact encoding, and the messages and records of a core.
//!
//! Codecs that no format of ours uses (big integers, floats, `any`, addresses) are composed here from the parts that the
//! library has.

mod exotic;
mod primitive;
mod record;

use autobee::wire::{DecodeError, Decoder, Encoder};
use serde_json::Value;

use super::{hex, text, to_hex, uint};

/// Both directions of a codec, on values as vectors write them.
pub(crate) struct Codec {
    encode: Encode,
    decode: Decode,
}

/// None when our types cannot express the value: then the case must be one that fails.
type Encode = Box<dyn Fn(&Value, &mut Encoder) -> Option<()>>;
type Decode = Box<dyn Fn(&mut Decoder<'_>) -> Result<Value, DecodeError>>;

impl Codec {
    fn new(
        encode: impl Fn(&Value, &mut Encoder) -> Option<()> + 'static,
        decode: impl Fn(&mut Decoder<'_>) -> Result<Value, DecodeError> + 'static,
    ) -> Option<Self> {
        Some(Self {
            encode: Box::new(encode),
            decode: Box::new(decode),
        })
    }
}

pub(crate) fn check(case: &Value) -> Result<(), String> {
    let name = text(&case["codec"]);
    // The order of keys is lost when a vector is read: these are checked from their bytes.
    if let Some(rewrite) = exotic::ordered(name) {
        check_ordered(case, rewrite);
        return Ok(());
    }
    let codec = codec(name).ok_or_else(|| format!("codec {name}"))?;
    let op = text(&case["op"]);
    let fails = case.get("error").is_some();
    if op != "decode" {
        let mut encoder = Encoder::new();
        let written = (codec.encode)(&case["value"], &mut encoder).and_then(|()| encoder.finish().ok());
        assert_eq!(written.is_none(), fails, "{case}");
        if let Some(bytes) = written {
            assert_eq!(to_hex(&bytes), case["hex"], "{case}");
        }
    }
    if op != "encode" {
        let bytes = hex(&case["hex"]);
        let mut decoder = Decoder::new(&bytes);
        match (codec.decode)(&mut decoder) {
            Ok(value) => {
                assert!(!fails, "{value}: {case}");
                assert_eq!(&value, case.get("decoded").unwrap_or(&case["value"]), "{case}");
                let consumed = case.get("consumed").map_or(bytes.len() as u64, uint);
                assert_eq!(decoder.position() as u64, consumed, "{case}");
            }
            Err(error) => assert!(fails, "{error}: {case}"),
        }
    }
    Ok(())
}

/// `rewrite` reads a value, and gives it back together with the bytes that it writes for it.
fn check_ordered(case: &Value, rewrite: exotic::Rewrite) {
    match rewrite(&hex(&case["hex"])) {
        Ok((value, bytes)) => {
            assert!(case.get("error").is_none(), "{value}: {case}");
            assert_eq!(value, case["value"], "{case}");
            assert_eq!(to_hex(&bytes), case["hex"], "{case}");
        }
        Err(error) => assert!(case.get("error").is_some(), "{error}: {case}"),
    }
}

fn codec(name: &str) -> Option<Codec> {
    primitive::codec(name)
        .or_else(|| exotic::codec(name))
        .or_else(|| record::codec(name))
        .or_else(|| composed(name))
}

/// `array(x)` and `frame(x)`.
fn composed(name: &str) -> Option<Codec> {
    let (outer, inner) = name.strip_suffix(')')?.split_once('(')?;
    let Codec { encode, decode } = codec(inner)?;
    match outer {
        "array" => Codec::new(
            move |value, to| {
                let mut all = Some(());
                to.array(value.as_array()?, |item, to| {
                    all = all.and_then(|()| encode(item, to));
                });
                all
            },
            move |from| from.array(|from| decode(from)).map(Value::from),
        ),
        "frame" => Codec::new(
            move |value, to| {
                let mut inner = None;
                to.frame(|to| inner = encode(value, to));
                inner
            },
            move |from| from.frame(|from| decode(from)),
        ),
        _ => None,
    }
}
