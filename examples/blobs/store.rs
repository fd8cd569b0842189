//! The pieces of files: a log of this device's own for what it stores, and those of the others for what it reads.
//!
//! The logs are in the store that has the database, too. So they go over the same connections: a peer is offered each log that
//! is open here, and gives each block that is asked for.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use autobee::{
    Bytes, Core, CoreError, CoreKey, CoreOptions, Corestore, DownloadRange, Index, NativeEnv, Wait,
};

use crate::Result;
use crate::files::{File, PIECE, Place};

/// Pieces that are appended with one sync.
const BATCH: usize = 16;

/// The logs with the pieces.
pub(crate) struct Pieces {
    store: Corestore<NativeEnv>,
    /// In which this device stores.
    own: Core<NativeEnv>,
    /// Those that are open, and offered to peers.
    logs: BTreeMap<CoreKey, Core<NativeEnv>>,
    /// How long a piece is waited for.
    patience: Duration,
}

impl Pieces {
    pub(crate) async fn open(store: &Corestore<NativeEnv>, patience: Duration) -> Result<Self> {
        // Of its own, so that no name of the database's is used.
        let store = store.namespace("files");
        Ok(Self {
            own: store.get(CoreOptions::name("pieces")).await?,
            store,
            logs: BTreeMap::new(),
            patience,
        })
    }

    /// Opens a log, so that pieces of it come from peers, and go to others.
    pub(crate) async fn follow(&mut self, key: CoreKey) -> Result<()> {
        if key != self.own.key() && !self.logs.contains_key(&key) {
            self.logs
                .insert(key, self.store.get(CoreOptions::key(key)).await?);
        }
        Ok(())
    }

    fn log(&self, key: &CoreKey) -> Option<&Core<NativeEnv>> {
        Some(&self.own)
            .filter(|own| own.key() == *key)
            .or_else(|| self.logs.get(key))
    }

    /// Whether all pieces of a file are here, and have its hash.
    pub(crate) fn holds(&self, file: &File, place: &Place) -> Result<bool> {
        let Some(log) = self.log(&place.log) else {
            return Ok(false);
        };
        let mut state = state();
        for index in place.first..place.first + file.pieces() {
            let Some(piece) = log.get_local(Index(index))? else {
                return Ok(false);
            };
            state.update(&piece);
        }
        Ok(state.finalize().to_hex().as_str() == file.hash)
    }

    /// How many pieces of a file are here.
    pub(crate) fn here(&self, file: &File, place: &Place) -> Result<u64> {
        let Some(log) = self.log(&place.log) else {
            return Ok(0);
        };
        let mut here = 0;
        // Somebody may have said that it has more pieces than there are.
        let end = (place.first + file.pieces()).min(log.length()?.0);
        for index in place.first..end {
            here += u64::from(log.has(Index(index)..Index(index + 1))?);
        }
        Ok(here)
    }

    /// Stores the content of a file, of which `hash` is the hash: a piece at a time, durable when it returns.
    pub(crate) async fn store(&self, path: &Path, hash: &str) -> Result<Place> {
        let place = Place {
            log: self.own.key(),
            first: self.own.length()?.0,
        };
        let mut state = state();
        let mut batch: Vec<Bytes> = Vec::with_capacity(BATCH);
        let mut pieces = pieces(path)?;
        while let Some(piece) = pieces.next().transpose()? {
            state.update(&piece);
            batch.push(piece.into());
            if batch.len() == BATCH {
                self.own.append(std::mem::take(&mut batch)).await?;
            }
        }
        self.own.append(batch).await?;
        if state.finalize().to_hex().as_str() != hash {
            return Err(format!("{} changed while it was read: try again", path.display()).into());
        }
        Ok(place)
    }

    /// Writes a file to a path at which there is nothing, a piece at a time; there is nothing still, unless all of it came
    /// and has the hash that the database says.
    pub(crate) async fn fetch(&self, file: &File, place: &Place, path: &Path) -> Result<()> {
        let log = self
            .log(&place.log)
            .ok_or("the log with its pieces is not open")?;
        let count = file.pieces();
        let end = place.first + count;
        // Peers are asked for all of it ahead, in order; it waits in the store, not in memory.
        let _ahead = log.download(DownloadRange::from(Index(place.first)..Index(end)).in_order())?;
        let mut part = Part::create(path)?;
        let (mut state, mut size) = (state(), 0);
        for index in place.first..end {
            let piece = log.get(Index(index), Wait::For(self.patience)).await;
            let piece = piece.map_err(|error| match error {
                CoreError::Timeout(_) | CoreError::Unavailable(_) => format!(
                    "piece {} of {count} is at nobody who is connected: try again with somebody who has it",
                    index - place.first + 1
                ),
                other => other.to_string(),
            })?;
            size += piece.len() as u64;
            if piece.len() > PIECE || size > file.size {
                return Err(format!("what {} stored is longer than it says", place.log).into());
            }
            state.update(&piece);
            part.file.write_all(&piece)?;
        }
        if size != file.size || state.finalize().to_hex().as_str() != file.hash {
            return Err(format!("what {} stored is not the file that has this hash", place.log).into());
        }
        part.finish(path)
    }
}

fn state() -> blake2b_simd::State {
    blake2b_simd::Params::new().hash_length(32).to_state()
}

/// The hash of what is in a file, and its size.
pub(crate) fn hash_of(path: &Path) -> Result<(String, u64)> {
    let (mut state, mut size) = (state(), 0);
    for piece in pieces(path)? {
        let piece = piece?;
        state.update(&piece);
        size += piece.len() as u64;
    }
    Ok((state.finalize().to_hex().to_string(), size))
}

/// The pieces of a file, read one at a time.
fn pieces(path: &Path) -> Result<impl Iterator<Item = Result<Vec<u8>>>> {
    let mut file = fs::File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(std::iter::from_fn(move || {
        let mut piece = Vec::with_capacity(PIECE);
        match Read::by_ref(&mut file).take(PIECE as u64).read_to_end(&mut piece) {
            Ok(0) => None,
            Ok(_) => Some(Ok(piece)),
            Err(error) => Some(Err(error.into())),
        }
    }))
}

/// A file that is being written, beside the path at which it will be.
struct Part {
    path: PathBuf,
    file: fs::File,
}

impl Part {
    fn create(path: &Path) -> Result<Self> {
        if path.exists() {
            return Err(format!("there is something at {} already", path.display()).into());
        }
        let mut name = path.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path, file })
    }

    fn finish(self, path: &Path) -> Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, path).map_err(|error| format!("{}: {error}", path.display()).into())
    }
}

impl Drop for Part {
    /// Also when what it was written for is dropped, as by Ctrl-C.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
