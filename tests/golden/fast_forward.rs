//! A recorded fast-forward: a reader goes on from the trees of a writer, whose cores it holds.

use std::collections::BTreeMap;

use autobee::Rules;
use autobee::apply::ApplyFn;
use autobee::bee::{BlockError, Blocks};
use autobee::crypto::{CoreKey, Ed25519};
use autobee::engine::encryption::SYSTEM_NAME;
use autobee::engine::{
    CUT_ENTRIES, CUT_ENTRIES_MIN, CutRange, Engine, EngineOptions, StampedHead, Survey, Trees, WINDOW_BATCHES,
};
use autobee::env::Planted;
use autobee::hypercore::encryption::BlockCipher as _;
use autobee::wire::oplog::OplogBlock;
use autobee::wire::{Decode as _, Index, Length, Link, Timestamp};
use autobee_sim::workload::JsonApply;
use bytes::Bytes;
use serde_json::Value;

use super::engine::{clear_blocks, compare, keys};
use super::{fixed, hex, list, uint};

/// The clock by which blocks are taken: ahead of all that was recorded.
const NOW: Timestamp = Timestamp(1 << 50);

#[derive(Clone)]
struct RecordedCores(BTreeMap<CoreKey, Vec<Bytes>>);

impl Blocks for RecordedCores {
    fn block(&self, core: &CoreKey, index: Index) -> Result<Bytes, BlockError> {
        let blocks = self.0.get(core).ok_or(BlockError::Missing)?;
        let block = usize::try_from(index.0).ok().and_then(|index| blocks.get(index));
        block.cloned().ok_or(BlockError::Missing)
    }
}

pub(crate) fn check(case: &Value) -> Result<(), String> {
    let keys = keys(case);
    let read = |head: &Value| Link {
        key: CoreKey::new(fixed(&head["key"])),
        length: Length(uint(&head["length"])),
    };
    let logs: BTreeMap<CoreKey, Vec<Bytes>> = list(&case["writers"])
        .iter()
        .map(|writer| {
            (
                CoreKey::new(fixed(&writer["key"])),
                clear_blocks(writer, keys.as_ref()),
            )
        })
        .collect();
    let cores = list(&case["cores"]).iter().map(|core| {
        let name = if core["role"] == "system" {
            SYSTEM_NAME
        } else {
            "view"
        };
        let cipher = keys.as_ref().map(|keys| keys.view(name));
        let blocks = (0..).zip(list(&core["blocks"])).map(|(index, block)| {
            let mut block = hex(block);
            if let Some(cipher) = &cipher {
                cipher.decrypt(index, &mut block).unwrap();
                block.drain(..cipher.padding(index));
            }
            Bytes::from(block)
        });
        (CoreKey::new(fixed(&core["key"])), blocks.collect())
    });
    let cores = RecordedCores(cores.collect());
    let own = |name: u8| Link {
        key: CoreKey::new([name; 32]),
        length: Length::ZERO,
    };
    let trees = Trees::stored((own(1), cores.clone()), (own(2), cores), 1 << 20).unwrap();
    let mut engine = Engine::new(EngineOptions {
        key: CoreKey::new(fixed(&case["bootstrap"])),
        name: String::new(),
        apply: ApplyFn::new(JsonApply),
        optimistic: true,
        rules: Some(Rules::interop()),
        verify: Ed25519,
        trees: trees.clone(),
        window_batches: WINDOW_BATCHES,
    });

    if let Some(keys) = keys.clone() {
        engine.set_keys(keys);
    }
    let block = |core: &CoreKey, Index(index): Index| {
        let blocks = logs.get(core)?;
        blocks.get(usize::try_from(index).ok()?).cloned()
    };
    let head = read(&case["moveTo"]);
    let last = block(&head.key, head.length.last().unwrap()).unwrap();
    let stamped = StampedHead::of(&OplogBlock::from_bytes(&last).unwrap()).unwrap();
    let moved_to = read(&case["movedTo"]);
    assert_eq!(stamped.system, moved_to, "{}", case["name"]);
    let range = CutRange {
        within: CUT_ENTRIES[1],
        least: CUT_ENTRIES_MIN,
    };
    let options = (range, Rules::interop(), Planted::default());
    let survey = Survey::of(&trees, stamped, options, block).unwrap();
    engine.move_onto(&survey).unwrap();
    assert!(survey.entries_skipped() > 0);
    for (key, blocks) in &logs {
        let from = engine.fed_from(key);
        let first = usize::try_from(from.0).unwrap();
        engine.ingest(*key, Index(from.0), &blocks[first..]);
    }
    engine.drain(NOW, usize::MAX).unwrap();
    let stats = engine.stats();
    assert!(stats.applies <= uint(&case["applies"]), "{stats:?}");
    assert_eq!(stats.fast_forwards, uint(&case["fastForwards"]));
    assert_eq!(engine.records().head(), moved_to);
    compare(case, &engine, &case["final"]);
    Ok(())
}
