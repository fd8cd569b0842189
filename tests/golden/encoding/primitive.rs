//! Codecs that the library has as methods.

use autobee::wire::{Decoder, Encoder};
use serde_json::{Value, json};

use super::super::{hex, to_hex};
use super::Codec;

pub(super) fn codec(name: &str) -> Option<Codec> {
    match name {
        "uint" => Codec::new(
            |value, to| done(to.uint(unsigned(value)?)),
            |from| from.uint().map(number),
        ),
        "int" => Codec::new(
            |value, to| done(to.int(value.as_i64()?)),
            |from| from.int().map(Value::from),
        ),
        "date" => codec("int"),
        "uint8" => uint_le::<1>(),
        "uint16" => uint_le::<2>(),
        "uint24" => uint_le::<3>(),
        "uint32" => uint_le::<4>(),
        "uint40" => uint_le::<5>(),
        "uint48" => uint_le::<6>(),
        "uint56" => uint_le::<7>(),
        "uint64" => uint_le::<8>(),
        "uint32be" => uint_be::<4>(),
        "uint64be" => uint_be::<8>(),
        "int8" => int_le::<1>(),
        "int16" => int_le::<2>(),
        "int24" => int_le::<3>(),
        "int32" => int_le::<4>(),
        "int40" => int_le::<5>(),
        "int48" => int_le::<6>(),
        "int56" => int_le::<7>(),
        "int64" => int_le::<8>(),
        "fixed8" => fixed::<8>(),
        "fixed16" => fixed::<16>(),
        "fixed24" => fixed::<24>(),
        "fixed32" => fixed::<32>(),
        "fixed64" => fixed::<64>(),
        "bool" => Codec::new(
            |value, to| done(to.bool(value.as_bool()?)),
            |from| from.bool().map(Value::from),
        ),
        "buffer" | "binary" | "uint8array" => Codec::new(
            |value, to| done(to.buffer(&hex(value))),
            |from| from.buffer().map(|bytes| json!(to_hex(bytes))),
        ),
        "optionalBuffer" => Codec::new(
            |value, to| done(to.optional_buffer(value.as_str().map(|_| hex(value)).as_deref())),
            |from| from.optional_buffer().map(|bytes| json!(bytes.map(to_hex))),
        ),
        "raw" => Codec::new(
            |value, to| done(to.raw(&hex(value))),
            |from| Ok(json!(to_hex(from.rest()))),
        ),
        "string" | "utf8" => Codec::new(
            |value, to| done(to.string(value.as_str()?)),
            |from| from.string().map(|text| json!(text)),
        ),
        "uint32array" => Codec::new(
            |value, to| {
                let words = value
                    .as_array()?
                    .iter()
                    .map(|word| u32::try_from(word.as_u64()?).ok());
                done(to.words(&words.collect::<Option<Vec<_>>>()?))
            },
            |from| from.words().map(Value::from),
        ),
        "none" => Codec::new(|_, _| Some(()), |_| Ok(Value::Null)),
        _ => None,
    }
}

/// What was written is in the encoder already.
pub(super) fn done(_: &mut Encoder) -> Option<()> {
    Some(())
}

/// A number, or a decimal text above `2^53 - 1`.
pub(super) fn unsigned(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn number(value: u64) -> Value {
    json!(value)
}

fn uint_le<const N: usize>() -> Option<Codec> {
    Codec::new(
        |value, to| done(to.uint_le::<N>(unsigned(value)?)),
        |from| from.uint_le::<N>().map(number),
    )
}

fn uint_be<const N: usize>() -> Option<Codec> {
    Codec::new(
        |value, to| done(to.uint_be::<N>(unsigned(value)?)),
        |from| from.uint_be::<N>().map(number),
    )
}

fn int_le<const N: usize>() -> Option<Codec> {
    Codec::new(
        |value, to| done(to.int_le::<N>(value.as_i64()?)),
        |from| from.int_le::<N>().map(Value::from),
    )
}

fn fixed<const N: usize>() -> Option<Codec> {
    Codec::new(
        |value, to| {
            let array: [u8; N] = hex(value).try_into().ok()?;
            done(to.raw(&array))
        },
        |from: &mut Decoder<'_>| from.fixed::<N>().map(|bytes| json!(to_hex(&bytes))),
    )
}
