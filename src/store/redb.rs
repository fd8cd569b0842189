//! The crate `redb` as an engine: one file, bounded memory, a copy-on-write B-tree.
//!
//! Two things it does not do by itself are done here. A crash while its file is created leaves one that never opens
//! again: the file is made under another name, and renamed when it is whole. And commits that are not synced live in
//! the memory of the process alone ([`StoreEngine::keeps_visible`] says so).

use std::fmt;
use std::io::{ErrorKind, IoSlice};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase as _, StorageBackend, TableDefinition,
    WriteTransaction,
};

use super::{Key, Op, Read, Seq, Snapshot, Store, StoreBatch, StoreEngine, StoreError, SyncDone, SyncJob};
use crate::env::{Disk, DiskFile, DiskLock, Open};

const NAME: &str = "store.redb";
const NEW_NAME: &str = "store.redb.new";
const CACHE_BYTES: usize = 16 * 1024 * 1024;

const VALUES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("values");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
const SEQ: &str = "seq";

/// Keeps a store in one file of `redb`.
#[derive(Debug, Clone, Copy, Default)]
pub struct RedbEngine;

impl StoreEngine for RedbEngine {
    fn open(&self, disk: Arc<dyn Disk>) -> Result<Box<dyn Store>, StoreError> {
        let lock = super::lock(&*disk)?;
        let there = disk
            .list()
            .map_err(|error| StoreError::io("list", "the directory", error))?;
        if !there.iter().any(|name| name == NAME) {
            create(&*disk)?;
        }
        let database = database(&*disk, NAME, Open::Write)?;
        let seq = {
            let read = database.begin_read().map_err(failed)?;
            let numbers = read.open_table(NUMBERS).map_err(failed)?;
            numbers.get(SEQ).map_err(failed)?.map_or(0, |seq| seq.value())
        };
        Ok(Box::new(RedbStore {
            database: Arc::new(database),
            seq: Seq(seq),
            durable: Seq(seq),
            fenced: false,
            _lock: lock,
        }))
    }

    fn keeps_visible(&self) -> bool {
        false
    }
}

/// A whole file, or none.
fn create(disk: &dyn Disk) -> Result<(), StoreError> {
    match disk.remove(NEW_NAME) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(StoreError::io("remove", NEW_NAME, error));
        }
        _ => {}
    }
    let database = database(disk, NEW_NAME, Open::CreateNew)?;
    let write = database.begin_write().map_err(failed)?;
    write.open_table(VALUES).map_err(failed)?;
    write.open_table(NUMBERS).map_err(failed)?;
    write.commit().map_err(failed)?;
    drop(database);
    disk.rename(NEW_NAME, NAME)
        .map_err(|error| StoreError::io("rename", NEW_NAME, error))?;
    disk.sync_dir()
        .map_err(|error| StoreError::io("sync", "the directory", error))
}

fn database(disk: &dyn Disk, name: &'static str, how: Open) -> Result<Database, StoreError> {
    let file = disk
        .open(name, how)
        .map_err(|error| StoreError::io("open", name, error))?;
    redb::Builder::new()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(Backend { file })
        .map_err(failed)
}

struct Backend {
    file: Box<dyn DiskFile>,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backend")
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> std::io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn set_len(&self, length: u64) -> std::io::Result<()> {
        self.file.truncate(length)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.file.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.file.write_at(offset, &[IoSlice::new(data)])
    }
}

struct RedbStore {
    database: Arc<Database>,
    seq: Seq,
    durable: Seq,
    fenced: bool,
    _lock: DiskLock,
}

impl RedbStore {
    fn check_fence(&self) -> Result<(), StoreError> {
        if self.fenced {
            Err(StoreError::Fenced)
        } else {
            Ok(())
        }
    }

    fn view(&self) -> Result<RedbView, StoreError> {
        self.check_fence()?;
        let read = self.database.begin_read().map_err(failed)?;
        Ok(RedbView { read, seq: self.seq })
    }

    fn write(&self, batch: &StoreBatch, seq: Seq) -> Result<(), StoreError> {
        let mut write = self.database.begin_write().map_err(failed)?;
        write.set_durability(Durability::None).map_err(failed)?;
        apply(&write, batch, seq)?;
        write.commit().map_err(failed)
    }
}

fn apply(write: &WriteTransaction, batch: &StoreBatch, seq: Seq) -> Result<(), StoreError> {
    let mut values = write.open_table(VALUES).map_err(failed)?;
    for op in batch.ops() {
        match op {
            Op::Put(key, value) => drop(values.insert(&key.encode()[..], &value[..]).map_err(failed)?),
            Op::Delete(key) => drop(values.remove(&key.encode()[..]).map_err(failed)?),
            Op::DeleteRange(from, to) if from < to => {
                let (from, to) = (from.encode(), to.encode());
                values
                    .retain_in(&from[..]..&to[..], |_, _| false)
                    .map_err(failed)?;
            }
            Op::DeleteRange(..) => {}
        }
    }
    let mut numbers = write.open_table(NUMBERS).map_err(failed)?;
    numbers.insert(SEQ, seq.0).map_err(failed)?;
    Ok(())
}

impl Read for RedbStore {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.view()?.get(key)
    }

    fn scan(
        &self,
        from: &Key,
        to: &Key,
        reverse: bool,
        visit: &mut dyn FnMut(Key, Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.view()?.scan(from, to, reverse, visit)
    }
}

impl Store for RedbStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Ok(Box::new(self.view()?))
    }

    fn commit(&mut self, batch: &StoreBatch) -> Result<Seq, StoreError> {
        self.check_fence()?;
        let seq = Seq(self.seq.0 + 1);
        let written = self.write(batch, seq);
        self.fenced |= written.is_err();
        written?;
        self.seq = seq;
        Ok(seq)
    }

    fn begin_sync(&mut self) -> Result<Option<SyncJob>, StoreError> {
        self.check_fence()?;
        if self.durable == self.seq {
            return Ok(None);
        }
        let database = self.database.clone();
        Ok(Some(SyncJob::new(self.seq, move || {
            let write = database.begin_write().map_err(failed)?;
            write.commit().map_err(failed)
        })))
    }

    fn end_sync(&mut self, done: SyncDone) -> Result<Seq, StoreError> {
        self.check_fence()?;
        let outcome = done.into_outcome();
        self.fenced |= outcome.is_err();
        self.durable = self.durable.max(outcome?);
        Ok(self.durable)
    }

    fn seq(&self) -> Seq {
        self.seq
    }

    fn durable(&self) -> Seq {
        self.durable
    }

    /// It keeps house with every commit.
    fn maintain(&mut self, _budget_bytes: u64) -> Result<bool, StoreError> {
        self.check_fence()?;
        Ok(false)
    }

    fn check(&self) -> Result<(), StoreError> {
        let view = self.view()?;
        let values = view.read.open_table(VALUES).map_err(failed)?;
        for entry in values.range::<&[u8]>(..).map_err(failed)? {
            let (key, _) = entry.map_err(failed)?;
            decoded(key.value())?;
        }
        Ok(())
    }

    fn close(mut self: Box<Self>) -> Result<(), StoreError> {
        self.sync().map(drop)
    }
}

struct RedbView {
    read: ReadTransaction,
    seq: Seq,
}

impl Read for RedbView {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        let values = self.read.open_table(VALUES).map_err(failed)?;
        let value = values.get(&key.encode()[..]).map_err(failed)?;
        Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
    }

    fn scan(
        &self,
        from: &Key,
        to: &Key,
        reverse: bool,
        visit: &mut dyn FnMut(Key, Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        let values = self.read.open_table(VALUES).map_err(failed)?;
        let (from, to) = (from.encode(), to.encode());
        let mut range = values.range(&from[..]..&to[..]).map_err(failed)?;
        while let Some(entry) = if reverse { range.next_back() } else { range.next() } {
            let (key, value) = entry.map_err(failed)?;
            if visit(decoded(key.value())?, Bytes::copy_from_slice(value.value())).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Snapshot for RedbView {
    fn seq(&self) -> Seq {
        self.seq
    }
}

fn decoded(bytes: &[u8]) -> Result<Key, StoreError> {
    Key::decode(bytes)
        .ok_or_else(|| StoreError::corrupt(NAME, 0, format!("no key has the bytes {bytes:02x?}")))
}

fn failed(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => {
            StoreError::corrupt(NAME, 0, "the file ends before its time")
        }
        redb::Error::Io(error) => StoreError::io("use", NAME, error),
        redb::Error::PreviousIo => StoreError::Fenced,
        redb::Error::Corrupted(what) => StoreError::corrupt(NAME, 0, what),
        redb::Error::ValueTooLarge(_) => StoreError::Invalid("a value of more than 3 GiB"),
        other => StoreError::io("use", NAME, std::io::Error::other(other)),
    }
}
