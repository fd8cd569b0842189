//! `id_encoding.json`: keys as text.

use autobee::crypto::{CoreKey, id};
use serde_json::Value;

use super::{hex, text, to_hex};

pub(crate) fn check(case: &Value) -> Result<(), String> {
    let input = &case["input"];
    let result = match text(&case["op"]) {
        "encode" => CoreKey::try_from(&*hex(input)).map(|key| key.to_id()),
        "decode" => text(input).parse().map(|key: CoreKey| key.to_hex()),
        "decode_bytes" => CoreKey::try_from(&*hex(input)).map(|key| key.to_hex()),
        "normalize" => text(input).parse().map(|key: CoreKey| key.to_id()),
        "isValid" => {
            assert_eq!(text(input).parse::<CoreKey>().is_ok(), case["out"], "{case}");
            return Ok(());
        }
        "z32_encode" => Ok(id::z32_encode(&hex(input))),
        "z32_decode" => id::z32_decode(text(input)).map(|bytes| to_hex(&bytes)),
        op => return Err(format!("op {op}")),
    };
    if case.get("error").is_some() {
        assert!(result.is_err(), "{case}");
    } else {
        assert_eq!(result.as_deref(), Ok(text(&case["out"])), "{case}");
    }
    Ok(())
}
