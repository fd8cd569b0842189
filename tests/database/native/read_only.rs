//! A directory that can only be read, or that somebody else has.

#![expect(
    clippy::disallowed_methods,
    reason = "what is in the directory is looked at from outside"
)]

use std::collections::BTreeMap;
use std::path::Path;

use autobee::bee::Range;
use autobee::env::Env as _;
use autobee::{Autobee, Corestore, Error, ErrorKind, Role};
use autobee_sim::workload::{JsonApply, Op};

use super::{Directory, connect, open, until};

/// All files, with what is in them.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    let read = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name, std::fs::read(entry.path()).unwrap())
    };
    entries.map(read).collect()
}

#[cfg(unix)]
fn set_mode(directory: &Path, (of_directory, of_files): (u32, u32)) {
    use std::os::unix::fs::PermissionsExt as _;
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set(directory, 0o700);
    for entry in std::fs::read_dir(directory).unwrap() {
        set(&entry.unwrap().path(), of_files);
    }
    set(directory, of_directory);
}

/// ```text
/// a: create, add b, put ---- b: join, put     a's directory is read while a is open, and once it cannot be written
/// ```
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_is_read_without_a_write_or_a_lock() {
    let [a_dir, b_dir] = [Directory::new("read-only-a"), Directory::new("read-only-b")];
    let a = open(&a_dir, None).await;
    let b = open(&b_dir, Some(&a)).await;
    connect(&a_dir.env(), &a, &b_dir.env(), &b).await;
    a.append(Op::add_writer(b.local(), 2).to_value()).await.unwrap();
    until(&b, |db| db.writable()).await;
    for number in 0..30 {
        let value = Op::put(format!("key {number}"), "v".repeat(500)).to_value();
        [&a, &b][number % 2].append(value).await.unwrap();
    }
    until(&a, |db| db.order().unwrap().len() == 31).await;
    let looked_at = async || {
        let store = Corestore::open_read_only(a_dir.env()).await.unwrap();
        let report = autobee::store::verify(&*store.env().disk()).unwrap();
        assert!(report.damages.is_empty() && report.values > 0, "{report:?}");
        let db = Autobee::builder(store).apply(JsonApply).open().await.unwrap();
        assert_eq!((db.key(), db.local()), (a.key(), a.local()));
        assert!(a.writable() && a.status().is_writable);
        assert!(!db.writable() && !db.status().is_writable);
        assert_eq!(db.order().unwrap(), a.order().unwrap());
        // All that an export needs.
        assert_eq!(db.view().all().await.unwrap(), a.view().all().await.unwrap());
        let range = Range::prefix("key 1");
        assert_eq!(db.view().entries(range).await.unwrap().len(), 11);
        for core in [a.local(), b.local()] {
            assert!(!a.blocks(&core).is_empty());
            assert_eq!(db.blocks(&core), a.blocks(&core));
        }
        for refused in [
            db.append("x").await.map(drop),
            db.append_optimistic("x").await.map(drop),
            db.replicate(tokio::io::duplex(1).0, Role::Initiator).map(drop),
        ] {
            let refused = refused.unwrap_err();
            assert!(matches!(refused, Error::ReadOnly), "{refused}");
            assert_eq!(refused.kind(), ErrorKind::Denied);
        }
        db.update().await.unwrap();
        db.close().await.unwrap();
    };
    // Twice at a time, while their owner has it open and locked.
    tokio::join!(looked_at(), looked_at());
    a.append(Op::put("later", "1").to_value()).await.unwrap();
    looked_at().await;

    a.close().await.unwrap();
    b.close().await.unwrap();
    let a = open(&a_dir, None).await;
    a.update().await.unwrap();
    drop(a);
    let before = files(&a_dir.0);
    set_mode(&a_dir.0, (0o500, 0o400));
    let store = Corestore::open_read_only(a_dir.env()).await.unwrap();
    // With another version of apply everything is applied anew, in memory.
    let db = Autobee::builder(store).apply(JsonApply).apply_version(2);
    let db = db.open().await.unwrap();
    assert_eq!(db.order().unwrap().len(), 32);
    assert!(db.view().get(b"later").await.unwrap().is_some());
    db.close().await.unwrap();
    set_mode(&a_dir.0, (0o700, 0o600));
    assert!(before == files(&a_dir.0), "nothing was written");
}

#[tokio::test]
async fn a_directory_without_a_database_is_not_made_one() {
    let directory = Directory::new("read-nothing");
    let env = directory.env();
    let store = Corestore::open_read_only(env.clone()).await.unwrap();
    let refused = Autobee::builder(store).open().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    assert!(env.disk().list().unwrap().is_empty());
}
