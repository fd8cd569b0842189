//! Opening a database.

use std::io;
use std::sync::Arc;

use super::shared::Shared;
use super::{Autobee, Settings, cores_error};
use crate::apply::{Apply, ApplyFn, OrderOnly};
use crate::crypto::{CoreKey, Seed, Sign as _};
use crate::engine::{Engine, EngineOptions, Trees};
use crate::env::{Disk, Entropy as _, Env};
use crate::error::Error;
use crate::hypercore::manifest::{Manifest, ManifestOptions, Signer};
use crate::hypercore::provisional_cores::Cores;
use crate::store::provisional_records::RecordFile;
use crate::wire::{Decoder, Encoder, Index};

/// The file that says which database this directory belongs to.
const IDENTITY: &str = "autobee";
const IDENTITY_NEW: &str = "autobee.new";
const IDENTITY_VERSION: u64 = 1;

/// Collects what is needed to open a database.
#[derive(Debug)]
pub struct Builder<E> {
    env: E,
    key: Option<CoreKey>,
    name: String,
    apply: ApplyFn,
    optimistic: bool,
    settings: Settings,
}

/// Which database, and which local writer.
struct Identity {
    key: CoreKey,
    seed: Seed,
}

impl<E: Env> Builder<E> {
    pub(super) fn new(env: E) -> Self {
        Self {
            env,
            key: None,
            name: String::new(),
            apply: ApplyFn::new(OrderOnly),
            optimistic: true,
            settings: Settings::default(),
        }
    }

    /// The database to join. Without it a new one is made, or the one of the directory is opened again.
    #[must_use]
    pub fn key(mut self, key: CoreKey) -> Self {
        self.key = Some(key);
        self
    }

    /// The user's merge. Without one, entries are ordered and recorded only.
    #[must_use]
    pub fn apply(mut self, apply: impl Apply) -> Self {
        self.apply = ApplyFn::new(apply);
        self
    }

    /// Whether entries of strangers are tried; they are by default, as in the original. Peers that differ in this
    /// cannot agree.
    #[must_use]
    pub fn optimistic(mut self, optimistic: bool) -> Self {
        self.optimistic = optimistic;
        self
    }

    /// A name for messages.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Limits and waits.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Opens the database and applies what is there.
    ///
    /// # Errors
    ///
    /// `Invalid` when the directory belongs to another database, `Disk` when it cannot be read or another process has
    /// it, `Corrupt`, `Interrupted`.
    pub async fn open(self) -> Result<Autobee<E>, Error> {
        let disk = self.env.disk();
        let disk_lock = disk.lock().map_err(Error::disk("lock"))?;
        let identity = self.identity(disk.as_ref())?;

        let pair = self.env.crypto().key_pair(&identity.seed);
        let manifest = local_manifest(pair.public)?;
        let local = manifest.key();
        let mut cores = Cores::open(disk, self.env.crypto().clone()).map_err(cores_error)?;
        cores.create(manifest, pair).map_err(cores_error)?;

        let mut engine = Engine::new(EngineOptions {
            key: identity.key,
            name: self.name,
            apply: self.apply,
            optimistic: self.optimistic,
            verify: self.env.crypto().clone(),
            trees: Trees::unshared(&local, self.settings.view_cache_bytes_max).map_err(internal)?,
        });
        for key in cores.keys().collect::<Vec<_>>() {
            engine.ingest(key, Index(0), cores.blocks(&key));
        }
        let shared = Arc::new(Shared::new(
            self.env,
            self.settings,
            engine,
            cores,
            local,
            disk_lock,
        ));
        shared.drain().await?;
        Ok(Autobee { shared })
    }

    /// Reads which database this is, or decides it for an empty directory.
    fn identity(&self, disk: &dyn Disk) -> Result<Identity, Error> {
        match RecordFile::open(disk, IDENTITY) {
            Ok((_, records)) => {
                let stored = records.first().map(|record| read_identity(record));
                let Some(identity) = stored else {
                    let what = "it has no record".into();
                    return Err(Error::Corrupt {
                        file: IDENTITY.into(),
                        what,
                    });
                };
                let identity = identity?;
                match self.key {
                    Some(key) if key != identity.key => Err(Error::Invalid {
                        what: format!(
                            "this directory belongs to the database {}, not to {key}",
                            identity.key
                        ),
                    }),
                    _ => Ok(identity),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let seed = Seed::new(self.env.entropy().array());
                let local = local_manifest(self.env.crypto().key_pair(&seed).public)?.key();
                let identity = Identity {
                    key: self.key.unwrap_or(local),
                    seed,
                };
                write_identity(disk, &identity)?;
                Ok(identity)
            }
            Err(error) => Err(Error::disk("open")(error)),
        }
    }
}

/// Manifest version 2 with one signer, as the original makes its writers.
fn local_manifest(public_key: crate::crypto::PublicKey) -> Result<Manifest, Error> {
    let options = ManifestOptions {
        version: Some(2),
        signers: vec![Signer::new(public_key)],
        ..ManifestOptions::default()
    };
    Manifest::new(options).map_err(internal)
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::Internal {
        what: error.to_string(),
    }
}

fn read_identity(record: &[u8]) -> Result<Identity, Error> {
    let read = |from: &mut Decoder<'_>| {
        let version = from.uint()?;
        if version != IDENTITY_VERSION {
            return Err(from.unknown("identity version", version));
        }
        Ok(Identity {
            key: CoreKey::new(from.fixed()?),
            seed: Seed::new(from.fixed()?),
        })
    };
    read(&mut Decoder::new(record)).map_err(|error| Error::Corrupt {
        file: IDENTITY.into(),
        what: error.to_string(),
    })
}

/// Written under another name and renamed, so that a crash leaves either no identity or a whole one.
fn write_identity(disk: &dyn Disk, identity: &Identity) -> Result<(), Error> {
    let mut encoder = Encoder::new();
    encoder
        .uint(IDENTITY_VERSION)
        .raw(identity.key.as_bytes())
        .raw(identity.seed.as_bytes());
    let record = encoder.finish().map_err(|error| Error::Internal {
        what: error.to_string(),
    })?;
    match disk.remove(IDENTITY_NEW) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::disk("remove")(error)),
        _ => {}
    }
    let mut file = RecordFile::create(disk, IDENTITY_NEW).map_err(Error::disk("create"))?;
    file.append(&record).map_err(Error::disk("write"))?;
    file.file().sync().map_err(Error::disk("sync"))?;
    disk.rename(IDENTITY_NEW, IDENTITY)
        .map_err(Error::disk("rename"))?;
    disk.sync_dir().map_err(Error::disk("sync of the directory"))
}
