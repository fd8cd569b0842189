//! `manifest.json`: manifests, core keys, and signatures over trees.

use autobee::crypto::{
    CoreKey, Ed25519, Hash, PublicKey, Seed, Sign as _, Signature, TreeNode, discovery_key,
};
use autobee::hypercore::manifest::{
    Manifest, ManifestError, ManifestOptions, MultiSignature, MultiSignatureV0, PartialSignature, Prologue,
    Signer, TreeHead, VerifyError, signable_length,
};
use autobee::wire::Encode as _;
use serde_json::{Value, json};

use super::crypto::node;
use super::{fixed, hex, list, optional, text, to_hex, uint};

pub(crate) fn check(case: &Value) -> Result<(), String> {
    let fails = case.get("error").is_some();
    match text(&case["kind"]) {
        "create" => match options(&case["input"]).and_then(|options| Manifest::new(options).ok()) {
            None => assert!(fails, "{case}"),
            Some(manifest) => {
                assert!(!fails, "{case}");
                assert_eq!(to_json(&manifest), case["manifest"], "{case}");
                assert_eq!(to_hex(manifest.as_bytes()), case["encoded"], "{case}");
                assert_eq!(manifest.key().to_hex(), case["key"], "{case}");
                assert_eq!(
                    discovery_key(&manifest.key()).to_hex(),
                    case["discoveryKey"],
                    "{case}"
                );
            }
        },
        "decode" => same(Manifest::decode(&hex(&case["hex"])), case),
        "parse" => {
            let key = optional(&case["key"]).map(|key| CoreKey::new(fixed(key)));
            same(Manifest::parse(&hex(&case["hex"]), key), case);
        }
        "key" => assert_eq!(
            key(&hex(&case["input"]), &case["opts"]).to_hex(),
            case["key"],
            "{case}"
        ),
        "sign" => {
            let head = Head::new(&case["tree"]);
            let (manifest, key) = manifest_of(case);
            let pair = Ed25519.key_pair(&Seed::new(fixed(&case["seed"])));
            match manifest.sign(&Ed25519, &key, &pair, &head.head()) {
                Err(error) => assert!(fails, "{error}: {case}"),
                Ok(signature) => {
                    assert!(!fails, "{case}");
                    assert_eq!(to_hex(&signature), case["signature"], "{case}");
                    let signer = manifest
                        .signers()
                        .iter()
                        .find(|signer| signer.public_key == pair.public)
                        .unwrap();
                    assert_eq!(
                        to_hex(&manifest.signable(&key, signer, &head.head())),
                        case["signable"],
                        "{case}"
                    );
                }
            }
        }
        "verify" => {
            let head = Head::new(&case["tree"]);
            let (manifest, key) = manifest_of(case);
            let signature = optional(&case["signature"]).map(hex);
            let result = manifest.verify(&Ed25519, &key, &head.head(), signature.as_deref());
            let malformed = matches!(result, Err(VerifyError::Malformed(_)));
            assert_eq!(malformed, fails, "{result:?}: {case}");
            if !fails {
                assert_eq!(result.is_ok(), case["out"], "{result:?}: {case}");
            }
        }
        "assemble" => {
            let parts: Vec<_> = list(&case["inputs"]).iter().map(part).collect();
            let bytes = match uint(&case["version"]) {
                0 => MultiSignatureV0::assemble(&parts).to_bytes(),
                _ => MultiSignature::assemble(&parts).to_bytes(),
            };
            assert_eq!(to_hex(&bytes.unwrap()), case["signature"], "{case}");
        }
        "signableLength" => {
            let lengths: Vec<_> = list(&case["lengths"]).iter().map(uint).collect();
            assert_eq!(
                signable_length(&lengths, uint(&case["quorum"])),
                case["out"],
                "{case}"
            );
        }
        kind => return Err(format!("kind {kind}")),
    }
    Ok(())
}

/// A manifest as vectors write it.
pub(crate) fn to_json(manifest: &Manifest) -> Value {
    json!({
        "version": manifest.version(),
        "hash": "blake2b",
        "allowPatch": manifest.allow_patch(),
        "quorum": manifest.quorum(),
        "signers": manifest.signers().iter().map(|signer| json!({
            "signature": "ed25519",
            "namespace": to_hex(&signer.namespace),
            "publicKey": signer.public_key.to_hex(),
        })).collect::<Vec<_>>(),
        "prologue": manifest.prologue().map(|prologue| json!({
            "hash": prologue.hash.to_hex(),
            "length": prologue.length,
        })),
        "linked": manifest.linked().map(|keys| keys.iter().map(CoreKey::to_hex).collect::<Vec<_>>()),
        "userData": manifest.user_data().map(to_hex),
    })
}

/// The options of a vector, or none when our types cannot even express them.
pub(crate) fn options(input: &Value) -> Option<ManifestOptions> {
    let array = |value: &Value| -> Option<[u8; 32]> { hex(value).try_into().ok() };
    let mut options = ManifestOptions {
        version: optional(&input["version"]).map(uint),
        allow_patch: input["allowPatch"] == true,
        user_data: optional(&input["userData"]).map(hex),
        ..ManifestOptions::default()
    };
    if optional(&input["hash"]).is_some_and(|hash| hash != "blake2b") {
        return None;
    }
    if let Some(quorum) = optional(&input["quorum"]) {
        options.quorum = Some(quorum.as_u64()?);
    }
    for signer in input["signers"].as_array().into_iter().flatten() {
        if optional(&signer["signature"]).is_some_and(|signature| signature != "ed25519") {
            return None;
        }
        let mut parsed = Signer::new(PublicKey::new(array(optional(&signer["publicKey"])?)?));
        if let Some(namespace) = optional(&signer["namespace"]) {
            parsed.namespace = array(namespace)?;
        }
        options.signers.push(parsed);
    }
    if let Some(prologue) = optional(&input["prologue"]) {
        let hash = Hash::new(array(&prologue["hash"])?);
        options.prologue = Some(Prologue {
            hash,
            length: prologue["length"].as_u64()?,
        });
    }
    for key in input["linked"].as_array().into_iter().flatten() {
        options.linked.push(CoreKey::new(array(key)?));
    }
    Some(options)
}

fn same(result: Result<Manifest, ManifestError>, case: &Value) {
    match result {
        Err(error) => assert!(case.get("error").is_some(), "{error}: {case}"),
        Ok(manifest) => assert_eq!(Some(&to_json(&manifest)), case.get("manifest"), "{case}"),
    }
}

/// A public key stands for a manifest with that one signer, anything else for itself.
fn key(input: &[u8], opts: &Value) -> CoreKey {
    let Ok(public_key) = PublicKey::try_from(input) else {
        return Manifest::parse(input, None).unwrap().key();
    };
    if opts["compat"] == true {
        return CoreKey::new(*public_key.as_bytes());
    }
    let mut signer = Signer::new(public_key);
    if let Some(namespace) = optional(&opts["namespace"]) {
        signer.namespace = fixed(namespace);
    }
    let version = Some(optional(&opts["version"]).map_or(1, uint));
    let options = ManifestOptions {
        version,
        signers: vec![signer],
        ..ManifestOptions::default()
    };
    Manifest::new(options).unwrap().key()
}

fn manifest_of(case: &Value) -> (Manifest, CoreKey) {
    let manifest = Manifest::decode(&hex(&case["manifest"])).unwrap();
    let key = CoreKey::new(fixed(&case["key"]));
    assert_eq!(manifest.is_compat(&key), case["compat"], "{case}");
    (manifest, key)
}

fn part(value: &Value) -> PartialSignature {
    PartialSignature {
        signer: uint(&value["signer"]),
        signature: Signature::new(fixed(&value["signature"])),
        patch: uint(&value["patch"]),
        nodes: optional(&value["nodes"])
            .map(|nodes| list(nodes).iter().map(node).collect())
            .unwrap_or_default(),
    }
}

struct Head {
    roots: Vec<TreeNode>,
    length: u64,
    fork: u64,
}

impl Head {
    fn new(value: &Value) -> Self {
        let head = Self {
            roots: list(&value["roots"]).iter().map(node).collect(),
            length: uint(&value["length"]),
            fork: uint(&value["fork"]),
        };
        assert_eq!(head.head().hash().to_hex(), value["hash"], "{value}");
        head
    }

    fn head(&self) -> TreeHead<'_> {
        TreeHead {
            roots: &self.roots,
            length: self.length,
            fork: self.fork,
        }
    }
}
