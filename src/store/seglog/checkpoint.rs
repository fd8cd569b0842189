//! The index as a file, so that opening a store reads only what was written since.
//!
//! Written under another name, synced, renamed, and the directory synced: there is always one whole checkpoint or
//! none.
//!
//! ```text
//! magic 8 | format version 4 | chunks: length 4 | crc 4 | items
//! ```
//!
//! The checksum of a chunk covers its number too. The last item says that it is the last.

use std::io::{ErrorKind, IoSlice};

use bytes::Bytes;

use super::super::{DataPointer, Seq, StoreError};
use super::index::{Live, PlaceIndex, Usage, Value};
use super::page::{Pages, RecordPlace};
use super::record::{key, number, put_key, put_number};
use crate::env::{Disk, DiskFile, Open, Slip};

/// The name of the file.
pub(super) const NAME: &str = "checkpoint";

/// Its name while it is written.
pub(super) const NEW_NAME: &str = "checkpoint.new";

const MAGIC: &[u8; 8] = b"autobeeI";
const FORMAT_VERSION: u32 = 1;
const HEAD: usize = 12;
const HEAD_BYTES: u64 = HEAD as u64;

/// A chunk ends with the item that makes it this long.
const CHUNK_BYTES: usize = 256 * 1024;

/// A chunk that says it is longer than this is none.
const CHUNK_BYTES_MAX: u32 = 8 * 1024 * 1024;

/// Places that one item holds at most.
const RUN: usize = 1024;

const ITEM_HEAD: u8 = 1;
const ITEM_SEGMENT: u8 = 2;
const ITEM_VALUE: u8 = 3;
const ITEM_BLOCKS: u8 = 4;
const ITEM_NODES: u8 = 5;
const ITEM_END: u8 = 6;

/// The state at one point of the log.
#[derive(Default)]
pub(super) struct IndexCheckpoint {
    pub(super) salt: u64,
    pub(super) seq: Seq,
    /// The segment, and the place in it, where the log goes on.
    pub(super) segment: u32,
    pub(super) offset: u64,
    pub(super) index: PlaceIndex,
    pub(super) usage: Usage,
    /// Segments before that one, with their lengths.
    pub(super) sealed: Vec<(u32, u64)>,
}

impl IndexCheckpoint {
    /// Writes it in place of the one before. Gives its length.
    pub(super) fn write(&self, disk: &dyn Disk) -> Result<u64, StoreError> {
        let failed = |action| move |error| StoreError::io(action, NEW_NAME, error);
        match disk.remove(NEW_NAME) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("remove")(error)),
            _ => {}
        }
        let file = disk.open(NEW_NAME, Open::CreateNew).map_err(failed("create"))?;
        let mut chunks = ChunkWriter::new(&*file).map_err(failed("write"))?;
        self.write_items(&mut chunks).map_err(failed("write"))?;
        let length = chunks.finish().map_err(failed("write"))?;
        file.sync().map_err(failed("sync"))?;
        disk.rename(NEW_NAME, NAME).map_err(failed("rename"))?;
        if self.usage.planted.has(Slip::IndexNameUnsynced) {
            return Ok(length);
        }
        disk.sync_dir()
            .map_err(|error| StoreError::io("sync", "the directory", error))?;
        Ok(length)
    }

    fn write_items(&self, chunks: &mut ChunkWriter<'_>) -> std::io::Result<()> {
        chunks.item(|out| {
            out.push(ITEM_HEAD);
            for value in [self.salt, self.seq.0, u64::from(self.segment), self.offset] {
                put_number(out, value);
            }
        })?;
        for (segment, length) in &self.sealed {
            chunks.item(|out| {
                out.push(ITEM_SEGMENT);
                put_number(out, u64::from(*segment));
                put_number(out, *length);
            })?;
        }
        for (key, value) in &self.index.values {
            chunks.item(|out| {
                out.push(ITEM_VALUE);
                put_key(out, key);
                put_place(out, value.place);
                let inline = value.inline.as_ref();
                put_number(out, inline.map_or(0, |bytes| bytes.len() as u64 + 1));
                out.extend_from_slice(inline.map_or(&[][..], |bytes| &bytes[..]));
            })?;
        }
        for (data, line) in &self.index.lines {
            write_places(chunks, ITEM_BLOCKS, *data, &line.blocks)?;
            if !self.usage.planted.has(Slip::StraysUnindexed) {
                write_places(chunks, ITEM_NODES, *data, &line.nodes)?;
            }
        }
        chunks.item(|out| out.push(ITEM_END))
    }

    /// Reads the checkpoint of a directory, if it has one.
    pub(super) fn read(disk: &dyn Disk) -> Result<Option<Self>, StoreError> {
        let failed = |error| StoreError::io("read", NAME, error);
        let file = match disk.open(NAME, Open::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let length = file.len().map_err(failed)?;
        let mut head = [0; HEAD];
        if length < HEAD_BYTES {
            return Err(StoreError::corrupt(NAME, 0, "the head is cut off"));
        }
        file.read_at(0, &mut head).map_err(failed)?;
        if &head[..8] != MAGIC {
            return Err(StoreError::corrupt(NAME, 0, "the head does not check out"));
        }
        let version = head[8..]
            .first_chunk::<4>()
            .map_or(0, |part| u32::from_le_bytes(*part));
        let mut checkpoint = Self::default();
        let mut offset = HEAD_BYTES;
        for number in 0_u64.. {
            let damaged = |what: &str| StoreError::corrupt(NAME, offset, format!("chunk {number} {what}"));
            let mut chunk_head = [0; 8];
            if length - offset < 8 {
                return Err(damaged("is missing"));
            }
            file.read_at(offset, &mut chunk_head).map_err(failed)?;
            let part = |at: usize| {
                chunk_head[at..]
                    .first_chunk::<4>()
                    .map_or(0, |part| u32::from_le_bytes(*part))
            };
            let (size, crc) = (part(0), part(4));
            if size > CHUNK_BYTES_MAX || u64::from(size) > length - offset - 8 {
                return Err(damaged("is cut off"));
            }
            let mut items = vec![0; size as usize];
            file.read_at(offset + 8, &mut items).map_err(failed)?;
            if chunk_crc(version, number, &items) != crc {
                return Err(damaged("does not check out"));
            }
            if version > FORMAT_VERSION {
                return Err(StoreError::Newer {
                    found: version,
                    known: FORMAT_VERSION,
                });
            }
            match checkpoint.read_items(&items) {
                Some(false) => {}
                Some(true) => break,
                None => return Err(damaged("has an item that makes no sense")),
            }
            offset += 8 + u64::from(size);
        }
        checkpoint.recount();
        Ok(Some(checkpoint))
    }

    /// True when the last item was among them.
    fn read_items(&mut self, items: &[u8]) -> Option<bool> {
        let mut at = 0;
        while let Some(tag) = items.get(at).copied() {
            at += 1;
            match tag {
                ITEM_HEAD => {
                    self.salt = number(items, &mut at)?;
                    self.seq = Seq(number(items, &mut at)?);
                    self.segment = u32::try_from(number(items, &mut at)?).ok()?;
                    self.offset = number(items, &mut at)?;
                }
                ITEM_SEGMENT => {
                    let segment = u32::try_from(number(items, &mut at)?).ok()?;
                    self.sealed.push((segment, number(items, &mut at)?));
                }
                ITEM_VALUE => {
                    let key = key(items, &mut at)?;
                    let place = place(items, &mut at)?;
                    let length = usize::try_from(number(items, &mut at)?).ok()?;
                    let inline = match length.checked_sub(1) {
                        Some(length) => {
                            let end = at.checked_add(length)?;
                            let bytes = Bytes::copy_from_slice(items.get(at..end)?);
                            at = end;
                            Some(bytes)
                        }
                        None => None,
                    };
                    self.index.values.insert(key, Value { place, inline });
                }
                ITEM_BLOCKS | ITEM_NODES => {
                    let data = DataPointer(number(items, &mut at)?);
                    let first = number(items, &mut at)?;
                    let count = number(items, &mut at)?;
                    let line = self.index.lines.entry(data).or_default();
                    let pages = if tag == ITEM_BLOCKS {
                        &mut line.blocks
                    } else {
                        &mut line.nodes
                    };
                    for step in 0..count {
                        pages.set(first.checked_add(step)?, place(items, &mut at)?);
                    }
                }
                ITEM_END => return Some(true),
                _ => return None,
            }
        }
        Some(false)
    }

    /// What is wanted of each segment follows from the index.
    fn recount(&mut self) {
        self.usage.segments = self
            .sealed
            .iter()
            .map(|(segment, _)| (*segment, Live::default()))
            .collect();
        self.usage.count(&self.index);
    }
}

fn write_places(
    chunks: &mut ChunkWriter<'_>,
    tag: u8,
    data: DataPointer,
    pages: &Pages,
) -> std::io::Result<()> {
    let mut places = pages.range(0..=u64::MAX).peekable();
    let mut run = Vec::with_capacity(RUN);
    while let Some((first, place)) = places.next() {
        run.clear();
        run.push(place);
        while run.len() < RUN
            && let Some((_, place)) = places.next_if(|(index, _)| index - first == run.len() as u64)
        {
            run.push(place);
        }
        chunks.item(|out| {
            out.push(tag);
            put_number(out, data.0);
            put_number(out, first);
            put_number(out, run.len() as u64);
            for place in &run {
                put_place(out, *place);
            }
        })?;
    }
    Ok(())
}

fn put_place(out: &mut Vec<u8>, place: RecordPlace) {
    for part in place.to_raw() {
        out.extend_from_slice(&part.to_le_bytes());
    }
}

fn place(bytes: &[u8], at: &mut usize) -> Option<RecordPlace> {
    let mut raw = [0; 3];
    for part in &mut raw {
        let end = at.checked_add(4)?;
        *part = u32::from_le_bytes(bytes.get(*at..end)?.try_into().ok()?);
        *at = end;
    }
    Some(RecordPlace::from_raw(raw))
}

pub(super) fn chunk_crc(version: u32, number: u64, items: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&version.to_le_bytes());
    crc.update(&number.to_le_bytes());
    crc.update(items);
    crc.finalize()
}

struct ChunkWriter<'a> {
    file: &'a dyn DiskFile,
    offset: u64,
    number: u64,
    items: Vec<u8>,
}

impl<'a> ChunkWriter<'a> {
    fn new(file: &'a dyn DiskFile) -> std::io::Result<Self> {
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(MAGIC);
        head[8..].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        file.write_at(0, &[IoSlice::new(&head)])?;
        Ok(Self {
            file,
            offset: HEAD_BYTES,
            number: 0,
            items: Vec::new(),
        })
    }

    fn item(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> std::io::Result<()> {
        write(&mut self.items);
        if self.items.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let size = u32::try_from(self.items.len()).map_err(|_| ErrorKind::FileTooLarge)?;
        let crc = chunk_crc(FORMAT_VERSION, self.number, &self.items);
        let head = [size.to_le_bytes(), crc.to_le_bytes()].concat();
        self.file
            .write_at(self.offset, &[IoSlice::new(&head), IoSlice::new(&self.items)])?;
        self.offset += 8 + u64::from(size);
        self.number += 1;
        self.items.clear();
        Ok(())
    }

    fn finish(mut self) -> std::io::Result<u64> {
        if !self.items.is_empty() {
            self.flush()?;
        }
        Ok(self.offset)
    }
}
