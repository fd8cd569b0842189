//! `witness.json`: attestations, their verification, and the weights that follow.

use autobee::crypto::{CoreKey, Ed25519, Seed, Sign as _, namespace};
use autobee::engine::witness::{attest, attestation_message, resolve, verify};
use autobee::hypercore::manifest::Manifest;
use autobee::wire::{Length, Weight, WriterRecord};
use serde_json::Value;

use super::oplog::witness;
use super::{fixed, hex, list, optional, text, to_hex, uint};

pub(crate) fn check(case: &Value) -> Result<(), String> {
    match text(&case["kind"]) {
        "namespace" => {
            let value = namespace(text(&case["name"]).as_bytes(), 0);
            assert_eq!(value.to_hex(), case["value"], "{case}");
        }
        "attestation" => {
            let pair = Ed25519.key_pair(&Seed::new(fixed(&case["seed"])));
            assert_eq!(pair.public.to_hex(), case["publicKey"], "{case}");
            let manifest = Manifest::decode(&hex(&case["manifest"])).unwrap();
            let backer = manifest.key();
            assert_eq!(backer.to_hex(), case["backer"], "{case}");
            let grantee = CoreKey::new(fixed(&case["grantee"]));
            let (length, weight) = (Length(uint(&case["length"])), Weight(uint(&case["weight"])));
            let message = attestation_message(&backer, &grantee, length, weight).unwrap();
            assert_eq!(to_hex(&message), case["message"], "{case}");
            let signature = attest(&Ed25519, &pair.secret, &backer, &grantee, length, weight).unwrap();
            assert_eq!(signature.to_hex(), case["signature"], "{case}");
        }
        "verify" => {
            let writer = CoreKey::new(fixed(&case["node"]));
            assert_eq!(
                verify(&Ed25519, &writer, &witness(&case["witness"])),
                case["valid"],
                "{case}"
            );
        }
        "resolve" => {
            let writer = CoreKey::new(fixed(&case["node"]));
            let witness = optional(&case["witness"]).map(witness);
            let weight = resolve(&Ed25519, &writer, witness.as_ref(), |key| {
                list(&case["records"])
                    .iter()
                    .find(|value| value["key"] == key.to_hex())
                    .map(record)
            });
            assert_eq!(weight.0, case["weight"], "{case}");
        }
        kind => return Err(format!("kind {kind}")),
    }
    Ok(())
}

fn record(value: &Value) -> WriterRecord {
    WriterRecord {
        is_removed: value["isRemoved"] == true,
        is_genesis: value["isGenesis"] == true,
        weight: Weight(uint(&value["weight"])),
        max_weight: optional(&value["maxWeight"]).map(|weight| Weight(uint(weight))),
        length: Length(uint(&value["length"])),
        ..WriterRecord::default()
    }
}
