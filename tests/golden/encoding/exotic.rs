//! Codecs that no format of ours uses, composed from those that it has.

use std::net::{Ipv4Addr, Ipv6Addr};

use autobee::wire::{DecodeError, DecodeErrorKind, Decoder, Encoder};
use serde_json::{Map, Value, json};

use super::super::{hex, to_hex};
use super::Codec;
use super::primitive::{done, unsigned};

pub(super) fn codec(name: &str) -> Option<Codec> {
    match name {
        "biguint64" => Codec::new(
            |value, to| done(to.raw(&unsigned(value)?.to_le_bytes())),
            |from| Ok(json!(u64::from_le_bytes(from.fixed()?).to_string())),
        ),
        "bigint64" => Codec::new(
            |value, to| {
                let value: i64 = value.as_str()?.parse().ok()?;
                done(to.raw(&((value << 1) ^ (value >> 63)).to_le_bytes()))
            },
            |from| {
                let folded = u64::from_le_bytes(from.fixed()?);
                let value = (folded >> 1).cast_signed() ^ -(folded & 1).cast_signed();
                Ok(json!(value.to_string()))
            },
        ),
        "biguint" => Codec::new(
            |value, to| big_to(&Big::parse(value.as_str()?)?, to),
            |from| Ok(json!(big_from(from)?.to_string())),
        ),
        "bigint" => Codec::new(
            |value, to| {
                let text = value.as_str()?;
                let magnitude = Big::parse(text.trim_start_matches('-'))?;
                let folded = magnitude.scaled(2, 0);
                big_to(
                    &if text.starts_with('-') {
                        folded.decremented()
                    } else {
                        folded
                    },
                    to,
                )
            },
            |from| {
                let folded = big_from(from)?;
                let (half, odd) = folded.divided(2);
                let text = if odd == 1 {
                    format!("-{}", half.scaled(1, 1))
                } else {
                    half.to_string()
                };
                Ok(json!(text))
            },
        ),
        "float64" => Codec::new(
            |value, to| done(to.raw(&float(value)?.to_le_bytes())),
            |from| Ok(float_to_json(f64::from_le_bytes(from.fixed()?))),
        ),
        "float32" => Codec::new(
            #[expect(clippy::cast_possible_truncation, reason = "what the codec does")]
            |value, to| done(to.raw(&(float(value)? as f32).to_le_bytes())),
            |from| Ok(float_to_json(f32::from_le_bytes(from.fixed()?).into())),
        ),
        "lexint" => Codec::new(lexint_to, |from| lexint_from(from).map(Value::from)),
        "ascii" => Codec::new(
            |value, to| done(to.buffer(value.as_str()?.as_bytes())),
            |from| from.buffer().map(|bytes| json!(latin(bytes))),
        ),
        "hex" => Codec::new(
            |value, to| done(to.buffer(&hex(value))),
            |from| from.buffer().map(|bytes| json!(to_hex(bytes))),
        ),
        "base64" => Codec::new(
            |value, to| done(to.buffer(&base64_decode(value.as_str()?)?)),
            |from| from.buffer().map(|bytes| json!(base64_encode(bytes))),
        ),
        "utf16le" => Codec::new(
            |value, to| done(to.buffer(&utf16(value.as_str()?))),
            |from| from.buffer().map(|bytes| json!(utf16_text(bytes))),
        ),
        "bitarray" => Codec::new(bits_to, bits_from),
        "ipv4Address" => Codec::new(|value, to| address_to(value, to, 4), |from| address_from(from, 4)),
        "ipv6Address" => Codec::new(|value, to| address_to(value, to, 6), |from| address_from(from, 6)),
        "ipAddress" => Codec::new(
            |value, to| {
                let family = u8::try_from(value["family"].as_u64()?).ok()?;
                address_to(value, to.raw(&[family]), family)
            },
            |from| match from.byte()? {
                family @ (4 | 6) => address_from(from, family),
                family => Err(from.unknown("address family", family.into())),
            },
        ),
        _ => by_name(name.strip_prefix("from(")?.strip_suffix(')')?),
    }
}

/// A value encoding given by name: no length in front, and every unknown name means the bytes as they are.
fn by_name(name: &str) -> Option<Codec> {
    match name {
        "utf-8" | "utf8" | "ascii" => Codec::new(
            |value, to| done(to.raw(value.as_str()?.as_bytes())),
            |from| Ok(json!(String::from_utf8_lossy(from.rest()))),
        ),
        "base64" => Codec::new(
            |value, to| done(to.raw(&base64_decode(value.as_str()?)?)),
            |from| Ok(json!(base64_encode(from.rest()))),
        ),
        "ucs2" | "utf16le" => Codec::new(
            |value, to| done(to.raw(&utf16(value.as_str()?))),
            |from| Ok(json!(utf16_text(from.rest()))),
        ),
        _ => Codec::new(
            |value, to| done(to.raw(&hex(value))),
            |from| Ok(json!(to_hex(from.rest()))),
        ),
    }
}

/// Reads a value, and writes it again in the order in which it was read.
pub(super) type Rewrite = fn(&[u8]) -> Result<(Value, Vec<u8>), DecodeError>;

/// Codecs of values with ordered keys.
pub(super) fn ordered(name: &str) -> Option<Rewrite> {
    match name {
        "any" => Some(|bytes| {
            let any = Any::decode(&mut Decoder::new(bytes))?;
            let mut encoder = Encoder::new();
            any.encode(&mut encoder);
            Ok((any.to_json(), encoder.finish().unwrap()))
        }),
        "stringRecord" => Some(|bytes| {
            let pairs = Decoder::new(bytes)
                .array(|from| Ok((from.string()?.into_owned(), from.string()?.into_owned())))?;
            let mut encoder = Encoder::new();
            encoder.array(&pairs, |(key, value), to| {
                to.string(key).string(value);
            });
            let map: Map<_, _> = pairs
                .into_iter()
                .map(|(key, value)| (key, json!(value)))
                .collect();
            Ok((map.into(), encoder.finish().unwrap()))
        }),
        "json" => Some(|bytes| {
            let text = Decoder::new(bytes).string()?;
            let mut encoder = Encoder::new();
            encoder.string(&text);
            Ok((parse_json(&text)?, encoder.finish().unwrap()))
        }),
        "from(json)" | "from(ndjson)" => Some(|bytes| {
            let text = String::from_utf8_lossy(bytes);
            Ok((parse_json(&text)?, text.as_bytes().to_vec()))
        }),
        _ => None,
    }
}

fn parse_json(text: &str) -> Result<Value, DecodeError> {
    serde_json::from_str(text).map_err(|_| Decoder::new(&[]).error(DecodeErrorKind::Invalid { what: "json" }))
}

enum Any {
    Null,
    Bool(bool),
    Text(String),
    Buffer(Vec<u8>),
    Uint(u64),
    Int(i64),
    Float(f64),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
    Date(i64),
}

impl Any {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match from.uint()? {
            0 => Self::Null,
            1 => Self::Bool(from.bool()?),
            2 => Self::Text(from.string()?.into_owned()),
            3 => Self::Buffer(from.buffer()?.to_vec()),
            4 => Self::Uint(from.uint()?),
            5 => Self::Int(from.int()?),
            6 => Self::Float(f64::from_le_bytes(from.fixed()?)),
            7 => Self::Array(from.array(Self::decode)?),
            8 => Self::Object(from.array(|from| Ok((from.string()?.into_owned(), Self::decode(from)?)))?),
            9 => Self::Date(from.int()?),
            kind => return Err(from.unknown("type", kind)),
        })
    }

    fn encode(&self, to: &mut Encoder) {
        match self {
            Self::Null => to.uint(0),
            Self::Bool(value) => to.uint(1).bool(*value),
            Self::Text(text) => to.uint(2).string(text),
            Self::Buffer(bytes) => to.uint(3).buffer(bytes),
            Self::Uint(value) => to.uint(4).uint(*value),
            Self::Int(value) => to.uint(5).int(*value),
            Self::Float(value) => to.uint(6).raw(&value.to_le_bytes()),
            Self::Array(items) => to.uint(7).array(items, Self::encode),
            Self::Object(pairs) => to.uint(8).array(pairs, |(key, value), to| {
                to.string(key);
                value.encode(to);
            }),
            Self::Date(ms) => to.uint(9).int(*ms),
        };
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => json!(value),
            Self::Text(text) => json!(text),
            Self::Buffer(bytes) => json!(to_hex(bytes)),
            Self::Uint(value) => json!(value),
            Self::Int(value) | Self::Date(value) => json!(value),
            Self::Float(value) => float_to_json(*value),
            Self::Array(items) => items.iter().map(Self::to_json).collect(),
            Self::Object(pairs) => pairs
                .iter()
                .map(|(key, value)| (key.clone(), value.to_json()))
                .collect(),
        }
    }
}

fn float(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some(text) => text.parse().ok(),
        None => value.as_f64(),
    }
}

fn float_to_json(value: f64) -> Value {
    if value.is_nan() {
        return json!("NaN");
    }
    if value.is_infinite() {
        return json!(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    if value == 0.0 && value.is_sign_negative() {
        return json!("-0");
    }
    // A vector writes whole numbers without a point.
    #[expect(clippy::cast_possible_truncation, reason = "below 2^53 the cast is exact")]
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return json!(value as i64);
    }
    json!(value)
}

fn lexint_to(value: &Value, to: &mut Encoder) -> Option<()> {
    let number = value.as_u64()?;
    let Some(rest) = number.checked_sub(251) else {
        return done(to.uint_be::<1>(number));
    };
    match number {
        251..0x100 => done(to.raw(&[0xfb]).uint_be::<1>(rest)),
        0x100..0x1_0000 => done(to.raw(&[0xfc]).uint_be::<2>(rest)),
        0x1_0000..0x100_0000 => done(to.raw(&[0xfd]).uint_be::<3>(rest)),
        0x100_0000..0x1_0000_0000 => done(to.raw(&[0xfe]).uint_be::<4>(rest)),
        _ => None,
    }
}

fn lexint_from(from: &mut Decoder<'_>) -> Result<u64, DecodeError> {
    Ok(match from.byte()? {
        0xfb => 251 + from.uint_be::<1>()?,
        0xfc => 251 + from.uint_be::<2>()?,
        0xfd => 251 + from.uint_be::<3>()?,
        0xfe => 251 + from.uint_be::<4>()?,
        0xff => return Err(from.unknown("lexint form", 0xff)),
        small => small.into(),
    })
}

fn bits_to(value: &Value, to: &mut Encoder) -> Option<()> {
    let bits = value.as_array()?;
    let mut bytes = vec![0u8; bits.len().div_ceil(8)];
    for (at, bit) in bits.iter().enumerate() {
        bytes[at / 8] |= u8::from(bit.as_bool()?) << (at % 8);
    }
    done(to.uint(bits.len() as u64).raw(&bytes))
}

fn bits_from(from: &mut Decoder<'_>) -> Result<Value, DecodeError> {
    let count = from.uint()?;
    let bytes = from.take(count.div_ceil(8))?;
    Ok((0..usize::try_from(count).unwrap())
        .map(|at| bytes[at / 8] >> (at % 8) & 1 == 1)
        .collect())
}

fn address_to(value: &Value, to: &mut Encoder, family: u8) -> Option<()> {
    let host = value["host"].as_str()?;
    match family {
        4 => to.raw(&host.parse::<Ipv4Addr>().ok()?.octets()),
        6 => to.raw(&host.parse::<Ipv6Addr>().ok()?.octets()),
        _ => return None,
    };
    done(to.uint_le::<2>(value["port"].as_u64()?))
}

fn address_from(from: &mut Decoder<'_>, family: u8) -> Result<Value, DecodeError> {
    let host = if family == 4 {
        Ipv4Addr::from(from.fixed::<4>()?).to_string()
    } else {
        // JavaScript writes every group.
        let groups = Ipv6Addr::from(from.fixed::<16>()?).segments();
        groups.map(|group| format!("{group:x}")).join(":")
    };
    Ok(json!({ "host": host, "family": family, "port": from.uint_le::<2>()? }))
}

fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn utf16_text(bytes: &[u8]) -> String {
    let units: Vec<u16> = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    String::from_utf16_lossy(&units)
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64_encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0, |sum, at| sum << 8 | usize::from(*chunk.get(at).unwrap_or(&0)));
        for at in 0..4 {
            let letter = BASE64[bits >> (18 - 6 * at) & 63];
            text.push(if at <= chunk.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    text
}

fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        let value = BASE64.iter().position(|known| *known == letter)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

/// An unsigned integer of any size: 64-bit words, the lowest first, no zero word last.
struct Big(Vec<u64>);

fn big_to(big: &Big, to: &mut Encoder) -> Option<()> {
    to.array(&big.0, |word, to| {
        to.raw(&word.to_le_bytes());
    });
    Some(())
}

fn big_from(from: &mut Decoder<'_>) -> Result<Big, DecodeError> {
    from.array(|from| from.fixed().map(u64::from_le_bytes))
        .map(|words| Big(words).trimmed())
}

impl Big {
    fn parse(text: &str) -> Option<Self> {
        text.chars().try_fold(Self(Vec::new()), |sum, digit| {
            Some(sum.scaled(10, digit.to_digit(10)?.into()))
        })
    }

    /// `self * factor + plus`.
    fn scaled(&self, factor: u64, plus: u64) -> Self {
        let mut carry = u128::from(plus);
        let mut words = Vec::new();
        for word in &self.0 {
            carry += u128::from(*word) * u128::from(factor);
            words.push(low(carry));
            carry >>= 64;
        }
        words.push(low(carry));
        Self(words).trimmed()
    }

    fn divided(&self, divisor: u64) -> (Self, u64) {
        let mut rest = 0u128;
        let mut words = self.0.clone();
        for word in words.iter_mut().rev() {
            rest = rest << 64 | u128::from(*word);
            *word = low(rest / u128::from(divisor));
            rest %= u128::from(divisor);
        }
        (Self(words).trimmed(), low(rest))
    }

    fn decremented(mut self) -> Self {
        for word in &mut self.0 {
            let (less, borrow) = word.overflowing_sub(1);
            *word = less;
            if !borrow {
                break;
            }
        }
        self.trimmed()
    }

    fn trimmed(mut self) -> Self {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        self
    }
}

fn low(value: u128) -> u64 {
    (value & u128::from(u64::MAX)).try_into().unwrap()
}

impl std::fmt::Display for Big {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (mut rest, mut digits) = (Self(self.0.clone()), Vec::new());
        while !rest.0.is_empty() {
            let (less, digit) = rest.divided(10);
            digits.push(digit.to_string());
            rest = less;
        }
        digits.reverse();
        f.write_str(if digits.is_empty() { "0" } else { "" })?;
        f.write_str(&digits.concat())
    }
}
