//! A world whose directory is only read: what is written to it stays in memory.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile, DiskLock, Env, Open, Point, TraceEvent, TraceSpan, check_name};

/// The same world, whose directory is only read, and not locked: it may be on media that cannot be written, belong to
/// another user, or be in use. What is written goes to memory, and is gone with the last handle.
///
/// ```
/// use autobee::env::{Disk as _, Env as _, Open, ReadOnlyEnv, memory::MemoryEnv};
/// use std::io::IoSlice;
///
/// let env = MemoryEnv::new(1);
/// let file = env.disk().open("greeting", Open::CreateNew)?;
/// file.write_at(0, &[IoSlice::new(b"hello")])?;
///
/// let read_only = ReadOnlyEnv::new(env.clone());
/// let layer = read_only.disk().open("greeting", Open::Write)?;
/// layer.write_at(0, &[IoSlice::new(b"HELLO, bee")])?;
/// assert_eq!((layer.len()?, file.len()?), (10, 5));
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct ReadOnlyEnv<E: Env> {
    env: E,
    disk: Arc<Layered>,
}

impl<E: Env> ReadOnlyEnv<E> {
    /// Reads the directory of a world.
    #[must_use]
    pub fn new(env: E) -> Self {
        let disk = Layered {
            below: env.disk(),
            above: Mutex::default(),
        };
        Self {
            env,
            disk: Arc::new(disk),
        }
    }
}

impl<E: Env> std::fmt::Debug for ReadOnlyEnv<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadOnlyEnv").finish_non_exhaustive()
    }
}

impl<E: Env> Env for ReadOnlyEnv<E> {
    const SIM: bool = E::SIM;
    const READ_ONLY: bool = true;
    const TRACED: bool = E::TRACED;
    type Clock = E::Clock;
    type Network = E::Network;
    type Entropy = E::Entropy;
    type Spawn = E::Spawn;
    type Crypto = E::Crypto;

    fn clock(&self) -> &E::Clock {
        self.env.clock()
    }

    fn network(&self) -> &E::Network {
        self.env.network()
    }

    fn entropy(&self) -> &E::Entropy {
        self.env.entropy()
    }

    fn spawn(&self) -> &E::Spawn {
        self.env.spawn()
    }

    fn crypto(&self) -> &E::Crypto {
        self.env.crypto()
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk) as Arc<dyn Disk>
    }

    fn buggify(&self, point: &'static str) -> bool {
        self.env.buggify(point)
    }

    fn knob(&self, name: &'static str, default: u64) -> u64 {
        self.env.knob(name, default)
    }

    fn planted(&self, bug: &'static str) -> bool {
        self.env.planted(bug)
    }

    fn trace(&self, event: impl FnOnce() -> TraceEvent) {
        self.env.trace(event);
    }

    fn in_span<F: Future + Send>(span: TraceSpan, future: F) -> impl Future<Output = F::Output> + Send {
        E::in_span(span, future)
    }

    fn sometimes(&self, point: Point, seen: bool) {
        self.env.sometimes(point, seen);
    }
}

/// A directory that is read, and what was changed of it since, in memory.
struct Layered {
    below: Arc<dyn Disk>,
    /// Files that are other ones than below; none: removed.
    above: Mutex<BTreeMap<String, Option<OverlayFile>>>,
}

impl Layered {
    /// A file as it is now, to be written.
    fn layer(&self, above: &BTreeMap<String, Option<OverlayFile>>, name: &str) -> io::Result<OverlayFile> {
        match above.get(name) {
            Some(Some(layer)) => Ok(layer.clone()),
            Some(None) => Err(missing(name)),
            None => OverlayFile::over(self.below.open(name, Open::Read)?),
        }
    }
}

impl Disk for Layered {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names: BTreeMap<String, bool> = BTreeMap::new();
        names.extend(self.below.list()?.into_iter().map(|name| (name, true)));
        let above = locked(&self.above);
        names.extend(above.iter().map(|(name, file)| (name.clone(), file.is_some())));
        Ok(names
            .into_iter()
            .filter_map(|(name, is_there)| is_there.then_some(name))
            .collect())
    }

    fn open(&self, name: &str, how: Open) -> io::Result<Box<dyn DiskFile>> {
        check_name(name)?;
        let mut above = locked(&self.above);
        let layer = match how {
            Open::Read if !above.contains_key(name) => return self.below.open(name, Open::Read),
            Open::Read | Open::Write => self.layer(&above, name)?,
            Open::CreateNew => {
                let is_there = match above.get(name) {
                    Some(file) => file.is_some(),
                    None => self.below.open(name, Open::Read).is_ok(),
                };
                if is_there {
                    return Err(io::Error::new(ErrorKind::AlreadyExists, name.to_owned()));
                }
                OverlayFile::default()
            }
        };
        above.insert(name.to_owned(), Some(layer.clone()));
        Ok(Box::new(layer))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(to)?;
        let mut above = locked(&self.above);
        let layer = self.layer(&above, from)?;
        above.insert(from.to_owned(), None);
        above.insert(to.to_owned(), Some(layer));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut above = locked(&self.above);
        self.layer(&above, name)?;
        above.insert(name.to_owned(), None);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    /// Of a world that is only read anybody may have as many handles as he likes.
    fn lock(&self) -> io::Result<DiskLock> {
        Ok(Box::new(()))
    }
}

const PAGE: usize = 4096;

/// A file: pages that were written, over one that is read.
#[derive(Clone, Default)]
struct OverlayFile(Arc<Mutex<FileOverlay>>);

#[derive(Default)]
struct FileOverlay {
    below: Option<Box<dyn DiskFile>>,
    /// Up to here the file below counts.
    reaches: u64,
    length: u64,
    written: BTreeMap<u64, Vec<u8>>,
}

impl OverlayFile {
    fn over(below: Box<dyn DiskFile>) -> io::Result<Self> {
        let length = below.len()?;
        Ok(Self(Arc::new(Mutex::new(FileOverlay {
            below: Some(below),
            reaches: length,
            length,
            written: BTreeMap::new(),
        }))))
    }
}

impl FileOverlay {
    /// Reads what is below, and zeros behind it.
    fn read_below(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let there = self.reaches.saturating_sub(offset);
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(buffer.len());
        let (there, behind) = buffer.split_at_mut(there);
        behind.fill(0);
        match &self.below {
            Some(below) if !there.is_empty() => below.read_at(offset, there),
            _ => Ok(()),
        }
    }

    fn page(&mut self, number: u64) -> io::Result<&mut Vec<u8>> {
        if !self.written.contains_key(&number) {
            let mut page = vec![0; PAGE];
            self.read_below(number * PAGE as u64, &mut page)?;
            self.written.insert(number, page);
        }
        self.written
            .get_mut(&number)
            .ok_or_else(|| ErrorKind::NotFound.into())
    }
}

/// The pages of a range: the number of each, where the range begins in it, and how much of it is in the page.
fn pages(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let start = (at % PAGE as u64) as usize;
        let size = (PAGE - start).min(length - done);
        done += size;
        (size > 0).then_some((at / PAGE as u64, start, size))
    })
}

impl DiskFile for OverlayFile {
    fn len(&self) -> io::Result<u64> {
        Ok(locked(&self.0).length)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let file = locked(&self.0);
        let end = offset.checked_add(buffer.len() as u64);
        if !buffer.is_empty() && end.is_none_or(|end| end > file.length) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        file.read_below(offset, buffer)?;
        let mut done = 0;
        for (number, start, size) in pages(offset, buffer.len()) {
            if let Some(page) = file.written.get(&number) {
                buffer[done..done + size].copy_from_slice(&page[start..start + size]);
            }
            done += size;
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
        let mut file = locked(&self.0);
        let mut at = offset;
        for slice in slices {
            let end = at
                .checked_add(slice.len() as u64)
                .ok_or(ErrorKind::FileTooLarge)?;
            let mut done = 0;
            for (number, start, size) in pages(at, slice.len()) {
                file.page(number)?[start..start + size].copy_from_slice(&slice[done..done + size]);
                done += size;
            }
            if !slice.is_empty() {
                file.length = file.length.max(end);
            }
            at = end;
        }
        Ok(())
    }

    fn allocate(&self, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut file = locked(&self.0);
        if length < file.length {
            file.reaches = file.reaches.min(length);
            let (last, kept) = (length / PAGE as u64, (length % PAGE as u64) as usize);
            drop(file.written.split_off(&(last + 1)));
            if let Some(page) = file.written.get_mut(&last) {
                page[kept..].fill(0);
            }
        }
        file.length = length;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

fn missing(name: &str) -> io::Error {
    io::Error::new(ErrorKind::NotFound, name.to_owned())
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::env::memory::MemoryEnv;

    proptest! {
        /// What is read is what a file in memory gives, and the file below stays.
        #[test]
        fn a_layer_is_a_file(
            below in prop::collection::vec(any::<u8>(), 0..9000),
            steps in prop::collection::vec((0..3u8, 0..10_000u64, 0..6000usize, any::<u8>()), 0..12),
        ) {
            let env = MemoryEnv::new(1);
            let original = env.disk().open("file", Open::CreateNew).unwrap();
            original.write_at(0, &[IoSlice::new(&below)]).unwrap();
            let layered = ReadOnlyEnv::new(env).disk();
            let layer = layered.open("file", Open::Write).unwrap();
            let model = MemoryEnv::new(2).disk().open("file", Open::CreateNew).unwrap();
            model.write_at(0, &[IoSlice::new(&below)]).unwrap();
            for (what, at, size, byte) in steps {
                let bytes = vec![byte; size];
                for file in [&layer, &model] {
                    match what {
                        0 => file.truncate(at).unwrap(),
                        _ => file.write_at(at, &[IoSlice::new(&bytes), IoSlice::new(b"end")]).unwrap(),
                    }
                }
                prop_assert_eq!(layer.len().unwrap(), model.len().unwrap());
                let (mut one, mut other) = (vec![1; size], vec![2; size]);
                let found = layer.read_at(at, &mut one).map_err(|error| error.kind());
                prop_assert_eq!(found, model.read_at(at, &mut other).map_err(|error| error.kind()));
                if found.is_ok() {
                    prop_assert_eq!(&one, &other);
                }
                let (mut one, mut other) = (vec![1; model.len().unwrap() as usize], vec![]);
                other.clone_from(&one);
                layer.read_at(0, &mut one).unwrap();
                model.read_at(0, &mut other).unwrap();
                prop_assert!(one == other);
            }
            let mut now = vec![0; below.len()];
            original.read_at(0, &mut now).unwrap();
            prop_assert_eq!(original.len().unwrap(), below.len() as u64);
            prop_assert_eq!(now, below);
        }
    }

    #[test]
    fn names_are_changed_in_memory_alone() {
        let env = MemoryEnv::new(1);
        for name in ["a", "b"] {
            env.disk().open(name, Open::CreateNew).unwrap();
        }
        let layered = ReadOnlyEnv::new(env.clone()).disk();
        assert!(layered.open("a", Open::CreateNew).is_err());
        layered.open("c", Open::CreateNew).unwrap();
        layered.rename("c", "a").unwrap();
        layered.remove("b").unwrap();
        assert!(layered.open("b", Open::Read).is_err() && layered.remove("b").is_err());
        assert_eq!(layered.list().unwrap(), ["a"]);
        layered.open("b", Open::CreateNew).unwrap();
        assert_eq!(layered.list().unwrap(), ["a", "b"]);
        assert_eq!(env.disk().list().unwrap(), ["a", "b"]);
        let _lock = env.disk().lock().unwrap();
        assert!(layered.lock().is_ok() && layered.lock().is_ok());
    }
}
