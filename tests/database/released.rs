//! What was closed, or dropped, is given back: no database, store or task keeps another in memory.

use std::sync::{Arc, Weak};
use std::time::Duration;

use autobee::Settings;
use autobee::apply::{Apply, ApplyError, ApplyView, Entry, Host};
use autobee_sim::workload::JsonApply;

use crate::support::{World, add, connect, in_world, put};

/// An apply that tells when it is dropped, and with it the database that it is of.
struct Watched(Arc<()>);

impl Watched {
    fn new() -> (Self, Weak<()>) {
        let alive = Arc::new(());
        let seen = Arc::downgrade(&alive);
        (Self(alive), seen)
    }
}

impl Apply for Watched {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        host: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        assert!(Arc::strong_count(&self.0) > 0);
        JsonApply.apply(entries, view, host).await
    }
}

#[test]
fn a_closed_database_is_given_back() {
    in_world(async |world| {
        let (apply, seen) = Watched::new();
        let a = world.open(1, None, apply, Settings::default()).await;
        put(&a, "a", "1").await;
        a.close().await.unwrap();
        drop(a);
        world.wait(Duration::from_secs(1)).await;
        assert!(seen.upgrade().is_none());
    });
}

#[test]
fn a_dropped_database_is_given_back() {
    in_world(async |world: World| {
        let (apply, seen) = Watched::new();
        let a = world.open(1, None, apply, Settings::default()).await;
        let (apply, seen_b) = Watched::new();
        let b = world.open(2, Some(a.key()), apply, Settings::default()).await;
        connect(&a, &b);
        add(&a, &b, 1).await;
        world.until(|| b.writable()).await;
        put(&b, "b", "1").await;
        let (view, events, watch) = (a.view(), a.events(), b.view());
        drop((a, b));
        world.wait(Duration::from_secs(10)).await;
        drop((view, events, watch));
        world.wait(Duration::from_secs(1)).await;
        assert!(seen.upgrade().is_none(), "the creator's");
        assert!(seen_b.upgrade().is_none(), "the joiner's");
    });
}

#[test]
fn databases_end_with_their_world() {
    let mut seen = Vec::new();
    in_world(async |world: World| {
        let (apply, seen_a) = Watched::new();
        let a = world.open(1, None, apply, Settings::default()).await;
        let (apply, seen_b) = Watched::new();
        let b = world.open(2, Some(a.key()), apply, Settings::default()).await;
        seen.extend([seen_a, seen_b]);
        connect(&a, &b);
        add(&a, &b, 1).await;
        world.until(|| b.writable()).await;
    });
    assert!(seen.iter().all(|seen| seen.upgrade().is_none()));
}

#[test]
fn handles_that_outlive_their_world_keep_nothing() {
    let (mut seen, mut kept) = (Vec::new(), Vec::new());
    in_world(async |world: World| {
        let (apply, seen_a) = Watched::new();
        let a = world.open(1, None, apply, Settings::default()).await;
        let (apply, seen_b) = Watched::new();
        let b = world.open(2, Some(a.key()), apply, Settings::default()).await;
        seen.extend([seen_a, seen_b]);
        connect(&a, &b);
        add(&a, &b, 1).await;
        world.until(|| b.writable()).await;
        kept.extend([a, b]);
    });
    drop(kept);
    assert!(seen.iter().all(|seen| seen.upgrade().is_none()));
}
