//! Fetching what a database passed over, so that looks can read all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use autobee::Corestore;
use autobee::crypto::CoreKey;
use autobee::db::Autobee;
use autobee::env::{Clock as _, Env};
use autobee::hypercore::{CoreOptions, DownloadRange};

/// How often it is looked for more to fetch.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long a database that moved reads blocks of its trees from peers, before all of them are fetched.
const ARCHIVED_AFTER: Duration = Duration::from_millis(1_500);

/// What is fetched for one replica.
pub(super) struct Archive<E: Env> {
    pub(super) db: Autobee<E>,
    pub(super) store: Corestore<E>,
    /// The logs of writers, too, and not only the trees that order and view are read from.
    pub(super) has_logs: bool,
}

impl<E: Env> Archive<E> {
    /// Runs until the database is closed. `moved_onto` says in which cores the trees of members may be, once this replica
    /// moved onto one, in this life or an earlier one.
    pub(super) async fn run(self, env: E, moved_onto: impl Fn() -> Option<BTreeSet<CoreKey>>) {
        let Self { db, store, has_logs } = self;
        let mut downloads = BTreeMap::new();
        loop {
            let Ok(views) = db.views() else { return };
            if let Some(moved) = moved_onto() {
                if downloads.is_empty() {
                    env.clock().sleep(ARCHIVED_AFTER).await;
                }
                let trees = views.iter().map(|core| core.key).chain([db.view().head().key]);
                let logs = if has_logs { db.cores() } else { Vec::new() };
                for key in logs.into_iter().chain(trees).chain(moved) {
                    if !downloads.contains_key(&key)
                        && let Ok(core) = store.get(CoreOptions::key(key)).await
                        && let Ok(all) = core.download(DownloadRange::ALL.in_order())
                    {
                        downloads.insert(key, (core, all));
                    }
                }
            }
            env.clock().sleep(LOOK_EVERY).await;
        }
    }
}
