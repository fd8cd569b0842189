//! What comes one after the other, as streams.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use autobee::env::memory::MemoryEnv;
use autobee::{
    Apply, ApplyError, ApplyView, Autobee, Corestore, Entry, ErrorKind, Event, Host, Length, Link, Range,
};
use futures_core::Stream;

/// Puts each value under itself.
struct Put;

impl Apply for Put {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        _: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        let mut write = view.write();
        for entry in entries {
            write.put(entry.value(), b"");
        }
        write.flush().await
    }
}

fn run(test: impl AsyncFnOnce(Autobee<MemoryEnv>)) {
    let env = MemoryEnv::new(1);
    let done = env.run(async {
        let store = Corestore::open_default(env.clone()).await.unwrap();
        test(Autobee::builder(store).apply(Put).open().await.unwrap()).await;
    });
    assert!(done.is_some(), "the test waits for something that cannot happen");
}

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
}

fn is_pending<S: Stream + Unpin>(stream: &mut S) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    matches!(Pin::new(stream).poll_next(&mut context), Poll::Pending)
}

#[test]
fn events_and_changes_are_streams_that_end_with_the_database() {
    run(async |db| {
        let (mut events, mut watch) = (db.events(), db.watch(Range::prefix("user/")));
        assert!(is_pending(&mut events) && is_pending(&mut watch));
        db.append("user/ada").await.unwrap();
        assert_eq!(next(&mut events).await, Some(Event::Writer(db.local())));
        assert!(matches!(next(&mut events).await, Some(Event::Update { .. })));
        let told = next(&mut watch).await.unwrap().unwrap();
        assert_eq!(told.changes[0].key, "user/ada");
        // A wait that is dropped loses nothing, and both ways to wait see the same.
        assert!(is_pending(&mut events) && is_pending(&mut watch));
        drop(Box::pin(watch.next()));
        db.append("user/bob").await.unwrap();
        assert!(matches!(events.next().await, Ok(Event::Update { .. })));
        assert_eq!(watch.next().await.unwrap().changes[0].key, "user/bob");
        db.close().await.unwrap();
        drop(db);
        assert!(next(&mut watch).await.is_none());
        assert_eq!(watch.next().await.unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[test]
fn entries_are_streamed_as_they_are_read_at_once() {
    run(async |db| {
        let values = (0..700).map(|number| format!("{number:03}").into());
        db.append_batch(values.collect()).await.unwrap();
        let view = db.view();
        for range in [
            Range::all(),
            Range::all().reverse(),
            Range::all().gt("100").lte("612").reverse(),
            Range::prefix("2"),
            Range::all().limit(512),
            Range::all().limit(513).reverse(),
            Range::all().limit(0),
            Range::prefix("none"),
        ] {
            let mut stream = view.stream(range.clone());
            let mut streamed = Vec::new();
            while let Some(entry) = next(&mut stream).await {
                streamed.push(entry.unwrap());
            }
            assert!(stream.next().await.unwrap().is_none());
            assert_eq!(streamed, view.entries(range.clone()).await.unwrap(), "{range:?}");
        }
    });
}

#[test]
fn an_earlier_version_of_the_view_is_read() {
    run(async |db| {
        let mut heads = vec![db.view().head()];
        for number in 0..5 {
            db.append(format!("{number}")).await.unwrap();
            heads.push(db.view().head());
        }
        for (count, head) in heads.iter().enumerate() {
            assert_eq!(db.view_at(*head).unwrap().all().await.unwrap().len(), count);
        }
        let beyond = Link {
            length: Length(db.view().head().length.0 + 1),
            ..db.view().head()
        };
        assert_eq!(db.view_at(beyond).unwrap_err().kind(), ErrorKind::Invalid);
    });
}
