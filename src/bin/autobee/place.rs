//! The directory of a database, and how it is opened.
//!
//! All that has to be remembered the store keeps itself: the key of the database, its rules (in the manifest of its creator's log),
//! the encryption key, the key pair of the local writer, and that a directory was restored. There is no file beside it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use autobee::env::{Env, ReadOnlyEnv};
use autobee::{
    Autobee, Builder, Corestore, Error, KeptConnection, Listening, NativeAutobee, NativeEnv, Session,
};

use crate::Result;
use crate::args::Peers;
use crate::entries::JsonEntries;
use crate::failure::Failure;
use crate::out::{Out, note};
use crate::serve::tell;

/// A database that is read: neither locked nor written, so that another process may have it.
pub(crate) type Reader = Autobee<ReadOnlyEnv<NativeEnv>>;

pub(crate) type Store = Corestore<NativeEnv>;

/// The store of one that is read.
pub(crate) type ReadStore = Corestore<ReadOnlyEnv<NativeEnv>>;

/// The directory of a command, and the databases that it opened.
pub(crate) struct Place {
    dir: PathBuf,
    is_json: bool,
    opened: Mutex<Vec<NativeAutobee>>,
}

impl Place {
    /// The directory that was named, or the current one. What is wrong with a database in it is said as JSON, or in words.
    pub(crate) fn new(dir: Option<PathBuf>, is_json: bool) -> Self {
        Self {
            is_json,
            dir: dir.unwrap_or_else(|| PathBuf::from(".")),
            opened: Mutex::default(),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Opens the database to write, says what the opening found, and has it closed at the end.
    pub(crate) async fn open(&self) -> Result<NativeAutobee> {
        let (db, _) = self.open_with(&self.dir, |builder| builder).await?;
        self.tell_of_opening(&db).await;
        Ok(db)
    }

    /// The same of another directory, which has a database.
    pub(crate) async fn open_with(
        &self,
        dir: &Path,
        options: impl FnOnce(Builder<NativeEnv>) -> Builder<NativeEnv>,
    ) -> Result<(NativeAutobee, Store)> {
        check(dir)?;
        let store = Self::store(dir).await?;
        if store.list()?.is_empty() {
            // Files that lost what they held: a database that is made there would be another one.
            store.close().await?;
            return Err(Failure::NoDatabase(dir.to_owned()));
        }
        self.build(dir, store, options).await
    }

    /// The same of a directory that may have none.
    pub(crate) async fn make(
        &self,
        dir: &Path,
        options: impl FnOnce(Builder<NativeEnv>) -> Builder<NativeEnv>,
    ) -> Result<(NativeAutobee, Store)> {
        let store = Self::store(dir).await?;
        self.build(dir, store, options).await
    }

    async fn store(dir: &Path) -> Result<Store> {
        let store = Corestore::open_default(env(dir)?).await;
        store.map_err(|error| in_use(dir, error.into()))
    }

    async fn build(
        &self,
        dir: &Path,
        store: Store,
        options: impl FnOnce(Builder<NativeEnv>) -> Builder<NativeEnv>,
    ) -> Result<(NativeAutobee, Store)> {
        let builder = Autobee::builder(store.clone()).apply(JsonEntries);
        let db = options(builder)
            .open()
            .await
            .map_err(|error| in_use(dir, error))?;
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.push(db.clone());
        Ok((db, store))
    }

    /// Opens the database to read.
    pub(crate) async fn read(&self) -> Result<Reader> {
        self.read_with_store().await.map(|(db, _)| db)
    }

    /// The same, with its store.
    pub(crate) async fn read_with_store(&self) -> Result<(Reader, ReadStore)> {
        let (db, store) = read_with_store(&self.dir).await?;
        self.tell_of_opening(&db).await;
        Ok((db, store))
    }

    /// Says what the opening found that somebody has to know: what is read may lack what was written.
    async fn tell_of_opening<E: Env>(&self, db: &Autobee<E>) {
        let mut events = db.events();
        loop {
            let told = tokio::select! {
                biased;
                Ok(event) = events.next() => tell(&event),
                () = std::future::ready(()) => break,
            };
            if let Some((line, _)) = told {
                note(self.is_json, &line);
            }
        }
        let local = db.local();
        let own = db.status().writers.into_iter().find(|writer| writer.key == local);
        if let Some(own) = own.filter(|own| own.have < own.length) {
            let text = format!(
                "block {} of the own log is not here, of {}: it was damaged, or has not come yet. What is read may lack what was \
                 written here; a peer that has it brings it again (autobee sync)",
                own.have, own.length
            );
            note(self.is_json, &text);
        }
    }

    /// Closes what was opened.
    pub(crate) async fn close(&self) -> Result<()> {
        let opened = std::mem::take(&mut *self.opened.lock().unwrap_or_else(PoisonError::into_inner));
        let mut done = Ok(());
        for db in opened {
            done = done.and(db.close().await.map_err(Failure::from));
        }
        done
    }
}

/// Opens the database of a directory to read.
pub(crate) async fn read(dir: &Path) -> Result<Reader> {
    read_with_store(dir).await.map(|(db, _)| db)
}

async fn read_with_store(dir: &Path) -> Result<(Reader, ReadStore)> {
    check(dir)?;
    let store = Corestore::open_read_only(env(dir)?).await?;
    if store.list()?.is_empty() {
        return Err(Failure::NoDatabase(dir.to_owned()));
    }
    let db = Autobee::builder(store.clone()).apply(JsonEntries).open().await?;
    Ok((db, store))
}

/// The world in which a directory that is there is opened.
pub(crate) fn env(dir: &Path) -> Result<NativeEnv> {
    NativeEnv::new(dir).map_err(|error| Failure::io("opening the directory", error))
}

/// That there is a database in a directory.
pub(crate) fn check(dir: &Path) -> Result<()> {
    match files(dir) {
        Err(error) if is_no_directory(&error) => Err(Failure::NoDirectory(dir.to_owned())),
        Err(error) => Err(Failure::io(
            format!("reading the directory {}", dir.display()),
            error,
        )),
        Ok(files) if has_store(&files) => Ok(()),
        Ok(_) => Err(Failure::NoDatabase(dir.to_owned())),
    }
}

/// That a directory can be made, or is empty.
pub(crate) fn check_free(dir: &Path) -> Result<()> {
    match files(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::io(
            format!("reading the directory {}", dir.display()),
            error,
        )),
        Ok(files) if has_store(&files) => Err(Failure::Exists(dir.to_owned())),
        Ok(files) if files.is_empty() => Ok(()),
        Ok(_) => Err(Failure::NotEmpty(dir.to_owned())),
    }
}

/// Nothing is there, or a file.
fn is_no_directory(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn has_store(files: &[(String, u64)]) -> bool {
    files.iter().any(|(name, _)| name.ends_with(".segment"))
}

/// The files of a directory, and their sizes.
pub(crate) fn files(dir: &Path) -> io::Result<Vec<(String, u64)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let size = entry.metadata()?.len();
        files.push((entry.file_name().to_string_lossy().into_owned(), size));
    }
    files.sort();
    Ok(files)
}

/// Says it in words when another process has the directory.
pub(crate) fn in_use(dir: &Path, error: Error) -> Failure {
    match error {
        Error::Disk {
            operation: "lock",
            ref source,
        } if source.kind() == io::ErrorKind::WouldBlock => Failure::InUse(dir.to_owned()),
        error => error.into(),
    }
}

/// Connections to peers: they go on until these are dropped.
pub(crate) struct Connections {
    pub(crate) kept: Vec<KeptConnection>,
    pub(crate) listening: Option<Listening>,
    #[cfg(feature = "hyperswarm")]
    joined: Option<autobee::JoinedSwarm>,
    /// Of which it was said that they are not reached.
    is_told: Vec<bool>,
}

/// A peer: its connection, or why there is none.
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) session: std::result::Result<Session, String>,
}

impl Connections {
    /// The peers that were dialled, and those that were found.
    pub(crate) fn links(&self) -> Vec<Link> {
        let kept = self.kept.iter().map(|kept| {
            let (name, state) = (kept.address().to_string(), kept.state());
            let why = || match state.last_error {
                Some(error) => error.to_string(),
                None => format!("{name} did not answer"),
            };
            let session = state.session.ok_or_else(why);
            Link { name, session }
        });
        #[cfg_attr(
            not(feature = "hyperswarm"),
            expect(unused_mut, reason = "a swarm adds to them")
        )]
        let mut links: Vec<Link> = kept.collect();
        #[cfg(feature = "hyperswarm")]
        if let Some(joined) = &self.joined {
            let state = joined.state();
            if state.peers.is_empty() {
                let why = state
                    .last_error
                    .map_or_else(String::new, |error| format!(": {error}"));
                links.push(Link {
                    name: "the swarm".into(),
                    session: Err(format!("no peer was found yet{why}")),
                });
            }
            links.extend(state.peers.into_iter().map(|peer| Link {
                name: peer.key.to_string(),
                session: Ok(peer.session),
            }));
        }
        links
    }

    /// Joins the swarm, if that is asked for.
    #[cfg(feature = "hyperswarm")]
    pub(crate) async fn join(
        &mut self,
        db: &NativeAutobee,
        place: &Place,
        swarm: &crate::args::Swarm,
    ) -> Result<()> {
        use autobee::env::{Entropy as _, Env as _};

        if !swarm.swarm {
            return Ok(());
        }
        let env = env(place.dir())?;
        let settings = autobee::HyperswarmSettings::with(|settings| {
            if !swarm.dht.is_empty() {
                settings.bootstrap.clone_from(&swarm.dht);
            }
        });
        let identity = autobee::Seed::new(env.entropy().array());
        let entered = autobee::Hyperswarm::start(env, &identity, settings).await;
        let entered = entered.map_err(|error| Failure::io("entering the swarm", error))?;
        self.joined = Some(db.join(entered)?);
        Ok(())
    }

    /// Says once of each peer that it is not reached, until it is.
    pub(crate) fn tell(&mut self, out: &Out) {
        self.is_told.resize(self.kept.len(), false);
        for (kept, is_told) in self.kept.iter().zip(&mut self.is_told) {
            let state = kept.state();
            if state.is_connected() {
                *is_told = false;
                continue;
            }
            let Some(error) = state.last_error.filter(|_| state.failures > 0 && !*is_told) else {
                continue;
            };
            *is_told = true;
            out.note(&format!("{error}; it is tried again and again"));
        }
    }
}

/// Begins to accept and to dial.
pub(crate) async fn connect(db: &NativeAutobee, peers: &Peers) -> Result<Connections> {
    let listening = match &peers.listen {
        Some(at) => Some(db.listen(at).await?),
        None => None,
    };
    let kept = peers.connect.iter().map(|to| db.keep_connected(to));
    let kept = kept.collect::<std::result::Result<_, _>>()?;
    let is_told = Vec::new();
    Ok(Connections {
        kept,
        listening,
        #[cfg(feature = "hyperswarm")]
        joined: None,
        is_told,
    })
}
