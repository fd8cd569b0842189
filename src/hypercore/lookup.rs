//! Which core is meant: by name, key, key pair or manifest.
//!
//! Source: spec/hypercore.md 11.2.

use bytes::Bytes;

use super::change::StoreChange;
use super::corestore::Corestore;
use super::error::CoreError;
use super::manifest::{Manifest, ManifestOptions, Signer};
use super::record::AuthRecord;
use super::session::SessionOptions;
use crate::crypto::{self, CoreKey, DiscoveryKey, KeyPair};
use crate::env::Env;
use crate::store::{CorePointer, Key, Read as _};
use crate::wire::compact::Decode as _;

/// Options of a core that is opened: which one, and how.
#[derive(Debug, Clone)]
pub struct CoreOptions {
    /// By name, in the namespace of the store. Made when it does not exist.
    pub name: Option<Bytes>,
    /// By key. Made when it does not exist; read-only unless a key pair of a signer is known.
    pub key: Option<CoreKey>,
    /// By public name. Never made.
    pub discovery_key: Option<DiscoveryKey>,
    /// By key pair, or the key pair to write with.
    pub key_pair: Option<KeyPair>,
    /// By manifest.
    pub manifest: Option<Manifest>,
    /// Version of the manifest that follows from a name or key pair; 0 also means 1.
    pub manifest_version: u64,
    /// User data of that manifest.
    pub manifest_data: Option<Vec<u8>>,
    /// The group that the core joins.
    pub group: Option<[u8; 32]>,
    /// How the session behaves.
    pub session: SessionOptions,
}

impl CoreOptions {
    fn empty() -> Self {
        Self {
            name: None,
            key: None,
            discovery_key: None,
            key_pair: None,
            manifest: None,
            manifest_version: 1,
            manifest_data: None,
            group: None,
            session: SessionOptions::default(),
        }
    }

    /// By name.
    pub fn name(name: impl AsRef<[u8]>) -> Self {
        Self {
            name: Some(Bytes::copy_from_slice(name.as_ref())),
            ..Self::empty()
        }
    }

    /// By key.
    #[must_use]
    pub fn key(key: CoreKey) -> Self {
        Self {
            key: Some(key),
            ..Self::empty()
        }
    }

    /// By public name.
    #[must_use]
    pub fn discovery_key(discovery_key: DiscoveryKey) -> Self {
        Self {
            discovery_key: Some(discovery_key),
            ..Self::empty()
        }
    }

    /// By key pair.
    #[must_use]
    pub fn key_pair(key_pair: KeyPair) -> Self {
        Self {
            key_pair: Some(key_pair),
            ..Self::empty()
        }
    }

    /// By manifest.
    #[must_use]
    pub fn manifest(manifest: Manifest) -> Self {
        Self {
            manifest: Some(manifest),
            ..Self::empty()
        }
    }
}

impl<E: Env> Corestore<E> {
    /// Finds or makes the core that the options name.
    pub(super) fn resolve(
        &self,
        options: &CoreOptions,
        change: &mut StoreChange<'_, E::Crypto>,
    ) -> Result<CorePointer, CoreError> {
        let seq = self.shared.store.seq()?;
        let name = options.name.as_ref().filter(|name| !name.is_empty());
        let alias = name.map(|name| Key::CoreByAlias(*self.namespace_key().as_bytes(), name.clone()));
        if let Some(alias) = &alias
            && let Some(bytes) = change.view().get(alias)?
        {
            let known = DiscoveryKey::new(<[u8; 32]>::from_bytes(&bytes)?);
            let pointer = change.find(&known, seq)?.ok_or(CoreError::Unknown)?;
            let core = change.cores.get(pointer)?;
            return match options.key {
                Some(key) if key != *core.key() => Err(CoreError::KeyMismatch { key }),
                _ => Ok(pointer),
            };
        }

        let key_pair = self.key_pair_of(options);
        let version = options.manifest_version.max(1);
        let manifest = match (&options.manifest, &key_pair) {
            (Some(manifest), _) => Some(manifest.clone()),
            (None, Some(pair))
                if options
                    .key
                    .is_none_or(|key| key.as_bytes() != pair.public.as_bytes()) =>
            {
                Some(Manifest::new(ManifestOptions {
                    version: Some(version),
                    signers: vec![Signer::new(pair.public)],
                    user_data: options.manifest_data.clone(),
                    ..ManifestOptions::default()
                })?)
            }
            (None, Some(pair)) => Some(Manifest::single(pair.public)),
            (None, None) => None,
        };
        let key = options.key.or_else(|| manifest.as_ref().map(Manifest::key));
        let known = match (key, options.discovery_key) {
            (Some(key), _) => crypto::discovery_key(&key),
            (None, Some(known)) => known,
            (None, None) => return Err(CoreError::NoCore),
        };
        let found = change.find(&known, seq)?;
        let Some(key) = key else {
            return found.ok_or(CoreError::Unknown);
        };
        let belongs = |manifest: &Manifest| manifest.key() == key || manifest.is_compat(&key);
        let pointer = match found {
            Some(pointer) => {
                let core = change.cores.get(pointer)?;
                let stored = core.manifest().or(manifest.as_ref());
                let may_sign = |pair: &KeyPair| {
                    stored.is_some_and(|manifest| {
                        belongs(manifest)
                            && manifest
                                .signers()
                                .iter()
                                .any(|signer| signer.public_key == pair.public)
                    })
                };
                if key_pair.as_ref().is_some_and(|pair| !may_sign(pair)) {
                    return Err(CoreError::KeyMismatch { key });
                }
                let learns = core.manifest().is_none() && manifest.is_some();
                let gains = core.auth.key_pair.is_none() && key_pair.is_some();
                if learns || gains {
                    change.edit_auth(pointer, |auth| {
                        auth.manifest = auth.manifest.take().or(manifest);
                        auth.key_pair = auth.key_pair.take().or(key_pair);
                        Ok(())
                    })?;
                }
                pointer
            }
            None => {
                if manifest.as_ref().is_some_and(|manifest| !belongs(manifest)) {
                    return Err(CoreError::KeyMismatch { key });
                }
                change.create(AuthRecord {
                    key,
                    manifest,
                    key_pair,
                    group: None,
                    contradiction: None,
                    other_history: None,
                })?
            }
        };
        if let Some(alias) = alias {
            change.put(alias, Bytes::copy_from_slice(known.as_bytes()));
        }
        Ok(pointer)
    }
}
