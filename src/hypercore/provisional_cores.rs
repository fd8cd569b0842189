//! Whole signed logs in memory and in files, until sessions over the store land.
//!
//! Trees, manifests and signatures are the real ones. An own log may be longer than what is durable of it; it is
//! offered to peers only up to its durable length, because a writer that signs two blocks at one length is lost to
//! every peer that saw both. What it is not: sparse, truncatable, or bounded in memory.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use super::manifest::{Manifest, ManifestError, SignError, TreeHead, VerifyError};
use super::merkle::Tree;
use crate::crypto::{CoreKey, KeyPair, Seed, Sign};
use crate::env::{Disk, DiskFile};
use crate::store::provisional_records::RecordFile;
use crate::wire::{DecodeError, Decoder, EncodeError, Encoder, Index, Length};

const ENDING: &str = ".core";
const HEADER: u64 = 1;
const BLOCKS: u64 = 2;

/// The end of a log with the blocks that lead to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The core.
    pub key: CoreKey,
    /// Its manifest, encoded; it must hash to the key.
    pub manifest: Bytes,
    /// How many blocks come before the first one here.
    pub from: Length,
    /// The blocks up to the signed length.
    pub blocks: Vec<Bytes>,
    /// The signature over the tree that ends with the last block, as the manifest wants it.
    pub signature: Bytes,
}

/// The cores could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CoresError {
    /// The disk refused an operation.
    #[error("disk failed during {operation}: {source}")]
    Disk {
        /// What was being done.
        operation: &'static str,
        /// What the disk said.
        source: io::Error,
    },
    /// A file holds records that nobody can have written.
    #[error("{file} is damaged: {what}")]
    Corrupt {
        /// The file.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// There is no such core, or it is not ours to write.
    #[error("the core {0} is not writable here")]
    NotOurs(CoreKey),
    /// Signing failed: our own defect.
    #[error("signing failed: {0}")]
    Sign(#[from] SignError),
    /// A record cannot be encoded: our own defect.
    #[error("a record cannot be encoded: {0}")]
    Encode(#[from] EncodeError),
}

/// Blocks of a peer that do not check out.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// The manifest is malformed, or that of another core.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The blocks start behind the end of what is here.
    #[error("blocks from {from}, and only {length} are here")]
    Gap {
        /// Where they start.
        from: Length,
        /// What is here.
        length: Length,
    },
    /// The signature is not over these blocks.
    #[error(transparent)]
    Signature(#[from] VerifyError),
    /// The disk refused to take them: not the peer's fault.
    #[error(transparent)]
    Cores(#[from] CoresError),
}

/// All cores of one replica.
pub struct Cores<C> {
    disk: Arc<dyn Disk>,
    crypto: C,
    logs: BTreeMap<CoreKey, Log>,
}

#[derive(Debug)]
struct Log {
    manifest: Manifest,
    pair: Option<KeyPair>,
    tree: Tree,
    blocks: Vec<Bytes>,
    signature: Bytes,
    /// What may be offered, with its signature.
    durable: (Length, Bytes),
    file: RecordFile,
}

/// Own blocks that are written, and become durable with a sync.
pub struct Unsynced {
    key: CoreKey,
    length: Length,
    signature: Bytes,
    file: Arc<dyn DiskFile>,
}

impl<C: Sign> Cores<C> {
    /// Reads all cores of a directory.
    ///
    /// # Errors
    ///
    /// When the disk fails or a file is damaged.
    pub fn open(disk: Arc<dyn Disk>, crypto: C) -> Result<Self, CoresError> {
        let mut cores = Self {
            disk,
            crypto,
            logs: BTreeMap::new(),
        };
        for name in cores.disk.list().map_err(disk_error("list"))? {
            if name.ends_with(ENDING) {
                // A core whose creation did not get far enough to have a header was never used.
                if let Some(log) = cores.read_log(&name)? {
                    cores.logs.insert(log.manifest.key(), log);
                }
            }
        }
        Ok(cores)
    }

    /// Makes an own core, durable when it returns. Does nothing when it is there.
    ///
    /// # Errors
    ///
    /// When the disk fails.
    pub fn create(&mut self, manifest: Manifest, pair: KeyPair) -> Result<(), CoresError> {
        if self.logs.contains_key(&manifest.key()) {
            return Ok(());
        }
        let log = self.create_log(manifest, Some(pair))?;
        log.file.file().sync().map_err(disk_error("sync"))?;
        self.disk
            .sync_dir()
            .map_err(disk_error("sync of the directory"))?;
        self.logs.insert(log.manifest.key(), log);
        Ok(())
    }

    /// Signs blocks and appends them to an own core. They are visible here at once, and offered to nobody before
    /// [`Cores::synced`].
    ///
    /// # Errors
    ///
    /// When the core is not ours, or the disk fails.
    pub fn append(&mut self, key: &CoreKey, blocks: &[Bytes]) -> Result<Unsynced, CoresError> {
        let Some(log) = self.logs.get_mut(key) else {
            return Err(CoresError::NotOurs(*key));
        };
        let Some(pair) = &log.pair else {
            return Err(CoresError::NotOurs(*key));
        };
        let mut tree = log.tree.clone();
        extend(&mut tree, blocks);
        let signature = Bytes::from(log.manifest.sign(&self.crypto, key, pair, &head(&tree))?);
        log.take(tree, blocks, signature)?;
        Ok(log.unsynced())
    }

    /// What of an own core is written and not durable yet; none when all is durable.
    #[must_use]
    pub fn unsynced(&self, key: &CoreKey) -> Option<Unsynced> {
        self.logs
            .get(key)
            .filter(|log| log.durable.0 < log.length())
            .map(Log::unsynced)
    }

    /// Notes that own blocks are durable: from now on they are offered.
    pub fn synced(&mut self, unsynced: Unsynced) {
        if let Some(log) = self.logs.get_mut(&unsynced.key)
            && log.durable.0 < unsynced.length
        {
            log.durable = (unsynced.length, unsynced.signature);
        }
    }

    /// Takes blocks of a peer in after checking them. Returns the new ones with the index of the first.
    ///
    /// # Errors
    ///
    /// When they do not check out, which is the peer's fault, or when the disk fails.
    pub fn import(&mut self, segment: &Segment) -> Result<(Index, Vec<Bytes>), SegmentError> {
        let key = segment.key;
        let manifest = Manifest::parse(&segment.manifest, Some(key))?;
        let known = self.logs.get(&key);
        let length = known.map_or(Length::ZERO, Log::length);
        if segment.from > length {
            return Err(SegmentError::Gap {
                from: segment.from,
                length,
            });
        }
        let overlap = usize::try_from(length.0 - segment.from.0).unwrap_or(usize::MAX);
        let new = segment.blocks.get(overlap..).unwrap_or_default().to_vec();
        if new.is_empty() {
            return Ok((Index(length.0), new));
        }
        let mut tree = known.map(|log| log.tree.clone()).unwrap_or_default();
        extend(&mut tree, &new);
        manifest.verify(&self.crypto, &key, &head(&tree), Some(&segment.signature))?;
        if known.is_none() {
            let log = self.create_log(manifest, None)?;
            self.logs.insert(key, log);
        }
        if let Some(log) = self.logs.get_mut(&key) {
            log.take(tree, &new, segment.signature.clone())?;
            // Fetched blocks can be fetched again: a power cut may take them, and they may be passed on before.
            log.durable = (log.length(), segment.signature.clone());
        }
        Ok((Index(length.0), new))
    }

    /// The log from `from` to what is durable of it; none when it is not longer.
    #[must_use]
    pub fn export(&self, key: &CoreKey, from: Length) -> Option<Segment> {
        let log = self.logs.get(key)?;
        let (durable, signature) = &log.durable;
        let blocks = log
            .blocks
            .get(usize::try_from(from.0).ok()?..usize::try_from(durable.0).ok()?)?;
        (!blocks.is_empty()).then(|| Segment {
            key: *key,
            manifest: Bytes::copy_from_slice(log.manifest.as_bytes()),
            from,
            blocks: blocks.to_vec(),
            signature: signature.clone(),
        })
    }

    /// All cores, with the length that may be offered.
    pub fn durable(&self) -> impl Iterator<Item = (CoreKey, Length)> {
        self.logs.iter().map(|(key, log)| (*key, log.durable.0))
    }

    /// The length of a core here; zero when there is none.
    #[must_use]
    pub fn length(&self, key: &CoreKey) -> Length {
        self.logs.get(key).map_or(Length::ZERO, Log::length)
    }

    /// All blocks of a core.
    #[must_use]
    pub fn blocks(&self, key: &CoreKey) -> &[Bytes] {
        self.logs.get(key).map_or(&[], |log| &log.blocks)
    }

    /// The keys of all cores.
    pub fn keys(&self) -> impl Iterator<Item = CoreKey> {
        self.logs.keys().copied()
    }

    fn create_log(&self, manifest: Manifest, pair: Option<KeyPair>) -> Result<Log, CoresError> {
        let name = format!("{}{ENDING}", manifest.key());
        let mut encoder = Encoder::new();
        encoder.uint(HEADER).buffer(manifest.as_bytes());
        encoder.optional_buffer(
            pair.as_ref()
                .map(|pair| pair.secret.seed().as_bytes().to_vec())
                .as_deref(),
        );
        let header = encoder.finish()?;
        let mut file = match RecordFile::create(self.disk.as_ref(), &name) {
            // What a crash left of an earlier creation has no header, and is taken over.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                RecordFile::open(self.disk.as_ref(), &name)
                    .map_err(disk_error("open"))?
                    .0
            }
            other => other.map_err(disk_error("create"))?,
        };
        file.append(&header).map_err(disk_error("write"))?;
        Ok(Log::new(manifest, pair, file))
    }

    fn read_log(&self, name: &str) -> Result<Option<Log>, CoresError> {
        let corrupt = |what: String| CoresError::Corrupt {
            file: name.to_owned(),
            what,
        };
        let (file, records) = RecordFile::open(self.disk.as_ref(), name).map_err(disk_error("open"))?;
        let Some((first, rest)) = records.split_first() else {
            return Ok(None);
        };
        let Record::Header { manifest, seed } = read(first).map_err(|error| corrupt(error.to_string()))?
        else {
            return Err(corrupt("the first record is no header".into()));
        };
        let manifest = Manifest::parse(&manifest, None).map_err(|error| corrupt(error.to_string()))?;
        let pair = seed.map(|seed| self.crypto.key_pair(&seed));
        let mut log = Log::new(manifest, pair, file);
        for record in rest {
            let Record::Blocks { blocks, signature } =
                read(record).map_err(|error| corrupt(error.to_string()))?
            else {
                return Err(corrupt("a second header".into()));
            };
            extend(&mut log.tree, &blocks);
            log.blocks.extend(blocks);
            log.signature = signature;
        }
        if log.pair.is_some() {
            // What survived `kill -9` may still be in the page cache alone.
            log.file.file().sync().map_err(disk_error("sync"))?;
        }
        log.durable = (log.length(), log.signature.clone());
        Ok(Some(log))
    }
}

impl Unsynced {
    /// Makes the blocks durable. Takes as long as the disk does.
    ///
    /// # Errors
    ///
    /// When the disk fails. The core must not be used any more then.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    /// The length that will be durable.
    #[must_use]
    pub const fn length(&self) -> Length {
        self.length
    }
}

impl Log {
    fn new(manifest: Manifest, pair: Option<KeyPair>, file: RecordFile) -> Self {
        let durable = (Length::ZERO, Bytes::new());
        Self {
            manifest,
            pair,
            tree: Tree::default(),
            blocks: Vec::new(),
            signature: Bytes::new(),
            durable,
            file,
        }
    }

    const fn length(&self) -> Length {
        Length(self.tree.length())
    }

    fn take(&mut self, tree: Tree, blocks: &[Bytes], signature: Bytes) -> Result<(), CoresError> {
        let mut encoder = Encoder::new();
        encoder.uint(BLOCKS);
        encoder.array(blocks, |block, to| {
            to.buffer(block);
        });
        encoder.buffer(&signature);
        let record = encoder.finish()?;
        self.file.append(&record).map_err(disk_error("write"))?;
        self.tree = tree;
        self.blocks.extend_from_slice(blocks);
        self.signature = signature;
        Ok(())
    }

    fn unsynced(&self) -> Unsynced {
        Unsynced {
            key: self.manifest.key(),
            length: self.length(),
            signature: self.signature.clone(),
            file: self.file.file(),
        }
    }
}

impl<C> std::fmt::Debug for Cores<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cores")
            .field("logs", &self.logs)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Unsynced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unsynced")
            .field("key", &self.key)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

enum Record {
    Header { manifest: Vec<u8>, seed: Option<Seed> },
    Blocks { blocks: Vec<Bytes>, signature: Bytes },
}

fn read(record: &[u8]) -> Result<Record, DecodeError> {
    let mut from = Decoder::new(record);
    match from.uint()? {
        HEADER => {
            let manifest = from.buffer()?.to_vec();
            let seed = from
                .optional_buffer()?
                .map(|seed| Decoder::new(seed).fixed())
                .transpose()?;
            Ok(Record::Header {
                manifest,
                seed: seed.map(Seed::new),
            })
        }
        BLOCKS => {
            let blocks = from.array(|from| Ok(Bytes::copy_from_slice(from.buffer()?)))?;
            Ok(Record::Blocks {
                blocks,
                signature: Bytes::copy_from_slice(from.buffer()?),
            })
        }
        other => Err(from.unknown("record", other)),
    }
}

fn extend(tree: &mut Tree, blocks: &[Bytes]) {
    let mut nodes = Vec::new();
    for block in blocks {
        tree.append(block, &mut nodes);
    }
}

fn head(tree: &Tree) -> TreeHead<'_> {
    TreeHead {
        roots: tree.roots(),
        length: tree.length(),
        fork: tree.fork(),
    }
}

fn disk_error(operation: &'static str) -> impl FnOnce(io::Error) -> CoresError {
    move |source| CoresError::Disk { operation, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Ed25519;
    use crate::env::memory::MemoryDisk;

    fn own(disk: &Arc<MemoryDisk>) -> (Cores<Ed25519>, CoreKey) {
        let pair = Ed25519.key_pair(&Seed::new([1; 32]));
        let manifest = Manifest::single(pair.public);
        let key = manifest.key();
        let mut cores = Cores::open(Arc::<MemoryDisk>::clone(disk), Ed25519).unwrap();
        cores.create(manifest, pair).unwrap();
        (cores, key)
    }

    fn foreign() -> Cores<Ed25519> {
        Cores::open(Arc::new(MemoryDisk::default()), Ed25519).unwrap()
    }

    fn blocks(texts: &[&'static str]) -> Vec<Bytes> {
        texts
            .iter()
            .map(|text| Bytes::from_static(text.as_bytes()))
            .collect()
    }

    #[test]
    fn nothing_is_offered_before_it_is_durable() {
        let (mut cores, key) = own(&Arc::new(MemoryDisk::default()));
        let unsynced = cores.append(&key, &blocks(&["a", "b"])).unwrap();
        assert_eq!(cores.length(&key), Length(2));
        assert!(cores.export(&key, Length(0)).is_none());
        unsynced.sync().unwrap();
        cores.synced(unsynced);
        assert_eq!(cores.export(&key, Length(1)).unwrap().blocks, blocks(&["b"]));
    }

    #[test]
    fn a_log_travels_in_parts_and_overlaps_do_no_harm() {
        let (mut cores, key) = own(&Arc::new(MemoryDisk::default()));
        let mut peer = foreign();
        for round in 0..3 {
            let unsynced = cores.append(&key, &blocks(&["x", "y", "z"])).unwrap();
            cores.synced(unsynced);
            let segment = cores.export(&key, Length(round)).unwrap();
            assert_eq!(peer.import(&segment).unwrap().0, Index(round * 3));
            assert!(peer.import(&segment).unwrap().1.is_empty());
        }
        assert_eq!(peer.blocks(&key), cores.blocks(&key));
    }

    #[test]
    fn changed_blocks_are_refused() {
        let (mut cores, key) = own(&Arc::new(MemoryDisk::default()));
        let unsynced = cores.append(&key, &blocks(&["a", "b"])).unwrap();
        cores.synced(unsynced);
        let good = cores.export(&key, Length(0)).unwrap();
        let mut peer = foreign();
        let refused = |peer: &mut Cores<Ed25519>, change: fn(&mut Segment)| {
            let mut bad = good.clone();
            change(&mut bad);
            assert!(peer.import(&bad).is_err());
            assert_eq!(peer.length(&key), Length::ZERO);
        };
        refused(&mut peer, |bad| bad.blocks[1] = Bytes::from_static(b"c"));
        refused(&mut peer, |bad| bad.blocks.push(Bytes::from_static(b"c")));
        refused(&mut peer, |bad| bad.from = Length(1));
        refused(&mut peer, |bad| bad.key = CoreKey::new([9; 32]));
        refused(&mut peer, |bad| bad.signature = Bytes::new());
        peer.import(&good).unwrap();
    }

    #[test]
    fn cores_are_there_after_a_reopen() {
        let disk = Arc::new(MemoryDisk::default());
        let (mut cores, key) = own(&disk);
        cores.append(&key, &blocks(&["a"])).unwrap();
        cores.append(&key, &blocks(&["b", "c"])).unwrap();
        drop(cores);
        let (mut cores, _) = own(&disk);
        assert_eq!(cores.blocks(&key), blocks(&["a", "b", "c"]));
        let unsynced = cores.append(&key, &blocks(&["d"])).unwrap();
        cores.synced(unsynced);
        foreign().import(&cores.export(&key, Length(0)).unwrap()).unwrap();
    }
}
