//! What a handle answers while something is applied: on another thread, and out of apply and the update hook themselves;
//! and what it answers after code of the user's panicked.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and an apply is slow by sleeping"
)]

mod custom_view;
mod streams;

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use autobee::apply::{Apply, ApplyError, ApplyView, Entry, Host};
use autobee::db::Event;
use autobee::env::memory::MemoryEnv;
use autobee::env::{Clock as _, Env as _, Spawn as _};
use autobee::{Autobee, Corestore, Error, ErrorKind, LocalWriter};

type Db = Autobee<MemoryEnv>;

/// How long a test waits for another thread before it fails.
const LONG: Duration = Duration::from_secs(60);

/// Keeps the last value, after it did what a test wants.
struct During<F>(F);

impl<F: Fn(&[Entry]) + Send + Sync + 'static> Apply for During<F> {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        _: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        let mut write = view.write();
        for entry in entries {
            write.put(b"last", entry.value());
        }
        write.flush().await?;
        (self.0)(entries);
        Ok(())
    }
}

async fn open(env: &MemoryEnv, during: impl Fn(&[Entry]) + Send + Sync + 'static) -> Db {
    let store = Corestore::open_default(env.clone()).await.unwrap();
    Autobee::builder(store)
        .apply(During(during))
        .open()
        .await
        .unwrap()
}

/// Everything that can be read, and that nothing changes.
fn read_all(db: &Db) -> String {
    let status = db.status();
    let events = db.events();
    drop(events);
    format!(
        "{} {} {} {} {} {} {} {} {} {} {:?}",
        db.writable(),
        db.is_indexer(),
        db.view().head().length,
        db.writers().len(),
        db.order().unwrap().len(),
        db.blocks(&db.local()).len(),
        db.cores().len(),
        db.stalled().len(),
        db.stats().applies,
        db.held().batches,
        (
            status.is_writable,
            status.writers.len(),
            db.writer(&db.local()),
            status.stopped
        ),
    )
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// An apply that stands still, until it is let go on.
fn gate() -> (
    impl Fn(&[Entry]) + Send + Sync + 'static,
    Receiver<()>,
    Sender<()>,
) {
    let (inside, is_inside) = channel();
    let (go_on, goes_on) = channel::<()>();
    let (inside, goes_on) = (Mutex::new(inside), Mutex::new(goes_on));
    let during = move |entries: &[Entry]| {
        if entries.iter().any(|entry| entry.value() == b"slow") {
            inside.lock().unwrap().send(()).unwrap();
            goes_on.lock().unwrap().recv_timeout(LONG).unwrap();
        }
    };
    (during, is_inside, go_on)
}

#[test]
fn reads_answer_while_apply_stands_still() {
    let env = MemoryEnv::new(1);
    let (during, is_inside, go_on) = gate();
    let db = env.run(open(&env, during)).unwrap();
    env.run(db.append(b"quick")).unwrap().unwrap();
    let before = read_all(&db);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| env.run(db.append(b"slow")).unwrap());
        is_inside.recv_timeout(LONG).unwrap();
        for _ in 0..3 {
            assert_eq!(read_all(&db), before, "nothing of it is there yet");
        }
        let view = MemoryEnv::new(2).run(async { db.view().get(b"last").await });
        assert_eq!(view.unwrap().unwrap().as_deref(), Some(&b"quick"[..]));
        go_on.send(()).unwrap();
        writer.join().unwrap().unwrap();
    });
    assert_ne!(read_all(&db), before);
}

#[test]
fn reads_go_on_all_the_time_of_a_slow_drain() {
    let env = MemoryEnv::new(1);
    let db = env
        .run(open(&env, |_| std::thread::sleep(Duration::from_millis(5))))
        .unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            env.run(async {
                for number in 0..60_u8 {
                    db.append([number]).await.unwrap();
                }
            });
            is_over.store(true, Ordering::SeqCst);
        });
        let mut reads = 0;
        while !is_over.load(Ordering::SeqCst) {
            assert!(db.writable() || db.view().head().length.0 == 0);
            reads += 1;
        }
        writer.join().unwrap();
        // Many times as many as there were applies: none of them waited for one.
        assert!(reads > 60 * 50, "{reads} reads");
    });
}

/// A handle that is there once the database is open.
type Later = Arc<OnceLock<Db>>;

#[test]
fn inside_of_apply_reads_answer_and_writes_are_refused() {
    let env = MemoryEnv::new(1);
    let (later, calls) = (Later::default(), Arc::new(AtomicUsize::new(0)));
    let (handle, count) = (Arc::clone(&later), Arc::clone(&calls));
    let db = env.run(open(&env, move |_| {
        let Some(db) = handle.get() else { return };
        count.fetch_add(1, Ordering::SeqCst);
        assert!(read_all(db).starts_with("true true"));
        let refused = |polled: Poll<Result<(), Error>>| match polled {
            Poll::Ready(Err(error)) => {
                assert_eq!(error.kind(), ErrorKind::Denied);
                assert!(matches!(error, Error::Reentrant), "{error}");
            }
            other => panic!("{other:?}"),
        };
        refused(poll(pin!(db.append(b"more"))).map_ok(|_| ()));
        refused(poll(pin!(db.update())));
        refused(poll(pin!(db.updated())));
        refused(poll(pin!(db.flush())));
        refused(poll(pin!(db.create_writer())).map_ok(|_| ()));
        refused(poll(pin!(db.set_local(LocalWriter::New))).map_ok(|_| ()));
        refused(poll(pin!(db.close())));
    }));
    let db = db.unwrap();
    env.run(db.append(b"one")).unwrap().unwrap();
    later.set(db.clone()).unwrap();
    env.run(db.append(b"two")).unwrap().unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!((db.order().unwrap().len(), db.status().stopped), (2, None));
}

#[test]
fn inside_of_the_update_hook_too() {
    let env = MemoryEnv::new(1);
    let (later, calls) = (Later::default(), Arc::new(AtomicUsize::new(0)));
    let (handle, count) = (Arc::clone(&later), Arc::clone(&calls));
    let db = env.run(async {
        let store = Corestore::open_default(env.clone()).await.unwrap();
        let builder = Autobee::builder(store).apply(During(|_: &[Entry]| ()));
        let builder = builder.update(move |view, _| {
            let Some(db) = handle.get() else { return };
            count.fetch_add(1, Ordering::SeqCst);
            assert_eq!(db.view().head(), view.head());
            assert!(read_all(db).starts_with("true true"));
            let appended = poll(pin!(db.append(b"more")));
            assert!(
                matches!(appended, Poll::Ready(Err(Error::Reentrant))),
                "{appended:?}"
            );
        });
        builder.open().await.unwrap()
    });
    let db = db.unwrap();
    env.run(db.append(b"one")).unwrap().unwrap();
    later.set(db.clone()).unwrap();
    env.run(db.append(b"two")).unwrap().unwrap();
    assert_eq!((calls.load(Ordering::SeqCst), db.status().stopped), (1, None));
}

#[test]
fn an_append_of_another_thread_waits_and_goes_on() {
    let env = MemoryEnv::new(1);
    let (during, is_inside, go_on) = gate();
    let db = env.run(open(&env, during)).unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let (over, writer) = (&is_over, &db);
    // The world goes on for as long as the other thread is to do something in it, and whatever waits for that.
    let (ticking, clock) = (Arc::clone(&is_over), env.clock().clone());
    env.spawn().spawn("world", async move {
        while !ticking.load(Ordering::SeqCst) {
            clock.sleep(Duration::from_millis(1)).await;
        }
    });
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            let clock = env.clock().clone();
            env.run(async {
                let appended = writer.append(b"slow").await;
                while !over.load(Ordering::SeqCst) {
                    clock.sleep(Duration::from_millis(1)).await;
                }
                appended
            })
        });
        is_inside.recv_timeout(LONG).unwrap();
        let mut second = pin!(db.append(b"second"));
        for _ in 0..10 {
            assert!(poll(second.as_mut()).is_pending(), "the first one is not over");
        }
        go_on.send(()).unwrap();
        let appended = loop {
            match poll(second.as_mut()) {
                Poll::Ready(appended) => break appended,
                Poll::Pending => std::thread::yield_now(),
            }
        };
        assert_eq!(appended.unwrap().0, 2);
        is_over.store(true, Ordering::SeqCst);
        assert_eq!(first.join().unwrap().unwrap().unwrap().0, 1);
    });
}

#[test]
fn a_panic_in_apply_stops_the_peer_and_a_reopen_tries_again() {
    let env = MemoryEnv::new(1);
    let ran = env.run(async {
        let db = open(&env, |entries| assert!(entries[0].value() != b"bad", "it is bad")).await;
        db.append(b"good").await.unwrap();
        let (view, order) = (db.view(), db.order().unwrap());
        let mut events = db.events();
        for _ in 0..2 {
            let error = db.append(b"bad").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Interrupted);
            assert!(error.to_string().contains("apply panicked: it is bad"), "{error}");
        }
        assert_eq!(db.status().stopped.as_deref(), Some("apply panicked: it is bad"));
        assert_eq!((db.view(), db.order().unwrap()), (view.clone(), order.clone()));
        assert_eq!(db.blocks(&db.local()).len(), 1, "nothing of it was written");
        let reason = "apply panicked: it is bad".to_owned();
        assert_eq!(events.next().await.unwrap(), Event::Interrupt { reason });
        assert_eq!(db.updated().await.unwrap_err().kind(), ErrorKind::Interrupted);
        db.close().await.unwrap();

        let db = open(&env, |_| ()).await;
        assert_eq!((db.view(), db.order().unwrap()), (view, order));
        db.append(b"bad").await.unwrap();
        assert_eq!(
            db.view().get(b"last").await.unwrap().as_deref(),
            Some(&b"bad"[..])
        );
    });
    ran.unwrap();
}

#[test]
fn a_panic_in_the_update_hook_stops_the_peer_and_loses_nothing() {
    let env = MemoryEnv::new(1);
    let ran = env.run(async {
        let store = Corestore::open_default(env.clone()).await.unwrap();
        let builder = Autobee::builder(store).apply(During(|_: &[Entry]| ()));
        let builder = builder.update(|view, _| assert!(view.head().length.0 < 2, "too long"));
        let db = builder.open().await.unwrap();
        db.append(b"one").await.unwrap();
        db.append(b"two").await.unwrap();
        let error = db.append(b"three").await.unwrap_err();
        assert!(
            error.to_string().contains("the update hook panicked: too long"),
            "{error}"
        );
        assert_eq!(db.blocks(&db.local()).len(), 2);
        db.close().await.unwrap();
    });
    ran.unwrap();
}
