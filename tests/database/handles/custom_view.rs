//! A view of a type of the program's own is made once for each version, and closed with the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use autobee::db::View;
use autobee::env::memory::MemoryEnv;
use autobee::{Autobee, Bytes, CustomView, Error};

use super::open;

/// How many there are, and were.
#[derive(Clone, Default)]
struct Counts {
    made: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
}

impl Counts {
    fn now(&self) -> (usize, usize) {
        (
            self.made.load(Ordering::Relaxed),
            self.closed.load(Ordering::Relaxed),
        )
    }
}

struct Shelf {
    view: View,
    counts: Counts,
}

impl Drop for Shelf {
    fn drop(&mut self) {
        self.counts.closed.fetch_add(1, Ordering::Relaxed);
    }
}

fn shelves(db: &Autobee<MemoryEnv>, counts: &Counts) -> CustomView<MemoryEnv, Shelf> {
    let counts = counts.clone();
    db.custom_view(move |view| {
        counts.made.fetch_add(1, Ordering::Relaxed);
        let counts = counts.clone();
        Shelf { view, counts }
    })
}

#[test]
fn a_custom_view_is_made_once_for_each_version_and_closed_with_the_database() {
    let env = MemoryEnv::new(1);
    let ran = env.run(async {
        let db = open(&env, |_| {}).await;
        let counts = Counts::default();
        let custom = shelves(&db, &counts);
        assert_eq!(counts.now(), (0, 0), "nobody asked yet");
        let empty = custom.get().unwrap();
        assert!(Arc::ptr_eq(&empty, &custom.clone().get().unwrap()));
        assert_eq!(counts.now(), (1, 0));

        db.append("one").await.unwrap();
        let one = custom.get().unwrap();
        assert_eq!(counts.now(), (2, 0), "somebody holds the first one");
        assert_eq!(one.view.get(b"last").await.unwrap(), Some(Bytes::from("one")));
        assert_eq!(
            empty.view.get(b"last").await.unwrap(),
            None,
            "it stays what it was"
        );
        drop(empty);
        assert_eq!(counts.now(), (2, 1));
        drop(one);
        assert_eq!(counts.now(), (2, 1), "it is the latest");

        // One that nobody asks any more is let go with its handle.
        let other = shelves(&db, &counts);
        other.get().unwrap();
        drop(other);
        assert_eq!(counts.now(), (3, 2));

        db.close().await.unwrap();
        assert_eq!(counts.now(), (3, 3));
        assert!(matches!(custom.get(), Err(Error::Closed)));
        assert_eq!(counts.now(), (3, 3));
    });
    ran.unwrap();
}
