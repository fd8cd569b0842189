//! Writes the seeds of all fuzz targets from the vectors: every byte string that a vector holds, in the form that a
//! target reads, below `fuzz/corpus/<target>/`.
//!
//! ```text
//! cargo run --manifest-path fuzz/Cargo.toml --bin seeds
//! ```

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::{fs, io};

use serde_json::Value;

/// A seed above this teaches a fuzzer little and slows it down.
const SEED_BYTES_MAX: usize = 4096;

/// The files of vectors from which a target gets seeds, and the form that it reads.
struct Source {
    target: &'static str,
    vectors: &'static [&'static str],
    form: fn(&[u8]) -> Vec<Vec<u8>>,
}

const SOURCES: &[Source] = &[
    Source {
        target: "bee",
        vectors: &["bee_encoding", "bee_cross_core"],
        form: |block| [0, 1].map(|core| with_length(&[], block, 1, core)).into(),
    },
    Source {
        target: "history",
        vectors: &["order", "scenarios"],
        form: |bytes| vec![head(bytes, 512)],
    },
    Source {
        target: "linearizer",
        vectors: &["order", "scenarios"],
        form: |bytes| vec![head(bytes, 256)],
    },
    Source {
        target: "manifest",
        vectors: &["manifest"],
        form: |encoded| vec![with_length(&[], encoded, 0, 0)],
    },
    Source {
        target: "oplog",
        vectors: &["oplog", "scenarios", "witness"],
        form: |block| vec![block.to_vec()],
    },
    Source {
        target: "proofs",
        vectors: &["proofs", "replication_requests"],
        form: |bytes| kinds(0..=2, bytes),
    },
    Source {
        target: "replication_messages",
        vectors: &[
            "hypercore_messages",
            "wakeup_messages",
            "protomux",
            "replication_requests",
        ],
        form: |bytes| kinds((0..=10).chain(16..=19).chain(32..=34), bytes),
    },
    Source {
        target: "replication_mux",
        vectors: &["protomux", "replication_transcripts"],
        form: |frame| vec![with_length(&[], &head(frame, 0x7f), 0, 0)],
    },
    Source {
        target: "replication_peer",
        vectors: &[
            "hypercore_messages",
            "replication_requests",
            "replication_transcripts",
        ],
        form: |message| (0..=9).map(|kind| with_length(&[kind], message, 0, 0)).collect(),
    },
    Source {
        target: "replication_stream",
        vectors: &["secret_stream_transcripts", "secretstream", "noise"],
        form: |bytes| kinds([0x00, 0x01, 0xfe, 0xff], bytes),
    },
    Source {
        target: "scenario",
        vectors: &["scenarios"],
        form: |bytes| vec![head(bytes, 64)],
    },
    // No vector is a file of our store: the odd form reads one as a checkpoint and a segment, the even as edits.
    Source {
        target: "store_recovery",
        vectors: &["merkle", "manifest"],
        form: |bytes| kinds(0..=3, bytes),
    },
];

fn main() -> Result<(), Box<dyn Error>> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    for source in SOURCES {
        let mut seeds = BTreeSet::new();
        for name in source.vectors {
            let file = package.join(format!("../tests/vectors/{name}.json"));
            let text = fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            let mut strings = BTreeSet::new();
            collect(&serde_json::from_slice(&text)?, &mut strings);
            seeds.extend(strings.iter().flat_map(|bytes| (source.form)(bytes)));
        }
        seeds.retain(|seed| seed.len() <= SEED_BYTES_MAX);
        if seeds.is_empty() {
            return Err(format!("no seed for {}", source.target).into());
        }
        write(&package.join("corpus").join(source.target), &seeds)?;
        println!("{}: {} seeds", source.target, seeds.len());
    }
    Ok(())
}

fn write(folder: &Path, seeds: &BTreeSet<Vec<u8>>) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("vector-{number:05}")), seed)?;
    }
    Ok(())
}

/// Collects every string of a value that is the hexadecimal form of bytes.
fn collect(value: &Value, into: &mut BTreeSet<Vec<u8>>) {
    match value {
        Value::String(text) => into.extend(bytes_of(text)),
        Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    if hex.is_empty() {
        return None;
    }
    let digit = |byte: &u8| {
        char::from(*byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    hex.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect()
}

/// The bytes behind `front` and a byte that says how many of them there are: shifted left, with `low` in the lowest
/// bits.
fn with_length(front: &[u8], bytes: &[u8], shift: u32, low: u8) -> Vec<u8> {
    let bytes = head(bytes, usize::from(u8::MAX >> shift));
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX >> shift);
    [front, &[length << shift | low], &bytes].concat()
}

fn kinds(kinds: impl IntoIterator<Item = u8>, bytes: &[u8]) -> Vec<Vec<u8>> {
    kinds.into_iter().map(|kind| [&[kind], bytes].concat()).collect()
}

fn head(bytes: &[u8], length: usize) -> Vec<u8> {
    bytes[..bytes.len().min(length)].to_vec()
}
