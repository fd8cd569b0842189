//! Directories that earlier versions wrote are opened.

use std::path::Path;

use autobee::wire::Length;
use autobee_sim::workload::Op;

use super::restore::copy;
use super::{Directory, connect, open, until};

/// Of November 2026: two writers, the second of them removed in the end.
const WRITER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stored/2026-11/writer");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_an_earlier_version_is_opened_and_goes_on() {
    let [a_dir, b_dir] = ["a", "b"].map(|name| Directory::new(&format!("older-{name}")));
    copy(Path::new(WRITER), &a_dir);
    let a = open(&a_dir, None).await;
    assert_eq!(a.order().unwrap().len(), 14);
    for (key, value) in [
        ("key 00", "value 7"),
        ("key 04", "value 11"),
        ("key 06", "value 6"),
    ] {
        let found = a.view().get(key.as_bytes()).await.unwrap();
        assert_eq!(found.as_deref(), Some(value.as_bytes()));
    }
    assert_eq!(a.unconfirmed(), None);
    assert_eq!(
        a.append(Op::put("key 07", "later").to_value()).await.unwrap(),
        Length(9)
    );
    a.close().await.unwrap();

    let a = open(&a_dir, None).await;
    // Who computes all of it from the logs that are there has the same.
    let b = open(&b_dir, Some(&a)).await;
    connect(&a_dir.env(), &a, &b_dir.env(), &b).await;
    let creator = a.local();
    until(&b, |b| {
        b.writer(&creator)
            .is_some_and(|writer| writer.length == Length(9))
    })
    .await;
    assert_eq!(a.order().unwrap(), b.order().unwrap());
    assert_eq!(a.view().all().await.unwrap(), b.view().all().await.unwrap());
    assert_eq!(a.writers(), b.writers());
}
