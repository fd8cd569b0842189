//! What a subscriber of the crate `tracing` hears of a native database.

#![cfg(feature = "tracing")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use autobee::{
    Apply, ApplyError, ApplyView, Autobee, Changes, CoreKey, Corestore, Entry, Host, NativeEnv, Role,
    WriterOptions,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Puts each value; lets in who is named behind `add `; stops at `stop`.
struct Put;

impl Apply for Put {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        host: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        for entry in entries {
            if let Some(key) = entry.value().strip_prefix(b"add ") {
                let key = CoreKey::try_from(key).map_err(|_| ApplyError::reject("no key"))?;
                host.add_writer(key, WriterOptions { weight: 1 });
                continue;
            }
            if entry.value() == b"stop" {
                return Err(ApplyError::fatal("told to"));
            }
            let mut write = view.write();
            write.put(entry.value(), b"");
            write.flush().await?;
        }
        Ok(())
    }
}

/// An event, and the spans around it.
#[derive(Debug, Clone)]
struct Told {
    level: Level,
    target: &'static str,
    fields: BTreeMap<&'static str, String>,
    spans: Vec<&'static str>,
}

impl Told {
    fn is(&self, target: &str, message: &str) -> bool {
        self.target == target && self.fields.get("message").is_some_and(|told| told == message)
    }
}

/// Collects events of one thread.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Collected>>);

#[derive(Default)]
struct Collected {
    spans: Vec<&'static str>,
    entered: Vec<u64>,
    told: Vec<Told>,
}

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("autobee")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut collected = self.0.lock().unwrap();
        collected.spans.push(span.metadata().name());
        Id::from_u64(collected.spans.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(BTreeMap::new());
        event.record(&mut fields);
        let mut collected = self.0.lock().unwrap();
        let names = collected
            .entered
            .iter()
            .map(|id| collected.spans[usize::try_from(*id).unwrap() - 1]);
        let spans = names.collect();
        collected.told.push(Told {
            level: *event.metadata().level(),
            target: event.metadata().target(),
            fields: fields.0,
            spans,
        });
    }

    fn enter(&self, span: &Id) {
        self.0.lock().unwrap().entered.push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        let entered = &mut self.0.lock().unwrap().entered;
        if let Some(at) = entered.iter().rposition(|id| *id == span.into_u64()) {
            entered.remove(at);
        }
    }
}

struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

#[test]
fn a_subscriber_hears_what_happens_with_levels_targets_and_spans() {
    let collector = Collector::default();
    let directory = std::env::temp_dir().join(format!("autobee-tracing-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let names = tracing::subscriber::with_default(collector.clone(), || {
        runtime.block_on(async {
            let open = async |name: &str, key: Option<CoreKey>| {
                let env = NativeEnv::new(directory.join(name)).unwrap();
                let mut builder = Autobee::builder(Corestore::open_default(env).await.unwrap()).apply(Put);
                if let Some(key) = key {
                    builder = builder.key(key);
                }
                builder.open().await.unwrap()
            };
            let a = open("a", None).await;
            let b = open("b", Some(a.key())).await;
            let (near, far) = tokio::io::duplex(1 << 16);
            let session = a.replicate(near, Role::Initiator).unwrap();
            b.replicate(far, Role::Responder).unwrap();
            a.append("first").await.unwrap();
            a.append([b"add ", &b.local().as_bytes()[..]].concat())
                .await
                .unwrap();
            let mut changes = Changes::default();
            while !b.writable() {
                b.changed(&mut changes).await;
            }
            session.close();
            session.ended().await;
            assert!(a.append("stop").await.is_err() || a.update().await.is_err());

            let stats = a.stats();
            assert_eq!((stats.connections_opened, stats.connections_closed), (1, 1));
            assert!(stats.sent_blocks >= 2 && stats.sent_bytes > 0 && stats.received_bytes > 0);
            assert_eq!(b.stats().received_blocks, stats.sent_blocks);
            b.close().await.unwrap();
            let _ = a.close().await;
            (a.local().to_string(), b.local().to_string())
        })
    });
    std::fs::remove_dir_all(&directory).unwrap();

    let told = collector.0.lock().unwrap().told.clone();
    let find = |target, message| -> Vec<&Told> {
        let found: Vec<&Told> = told.iter().filter(|told| told.is(target, message)).collect();
        assert!(!found.is_empty(), "no {message} at {target}: {told:#?}");
        found
    };
    let (database, session) = ("autobee::database", "autobee::session");
    for (target, message, level) in [
        (database, "opened", Level::INFO),
        (database, "closed", Level::INFO),
        (database, "writer_added", Level::INFO),
        (database, "interrupted", Level::ERROR),
        (database, "drained", Level::DEBUG),
        (database, "appended", Level::TRACE),
        (database, "taken", Level::TRACE),
        (session, "connected", Level::INFO),
        (session, "closed", Level::INFO),
        (session, "channel_opened", Level::DEBUG),
    ] {
        assert!(find(target, message).iter().all(|told| told.level == level));
    }
    let added = find(database, "writer_added");
    for name in [names.0, names.1] {
        assert!(added.iter().any(|told| told.fields["core"] == name), "{name}");
    }
    assert!(
        find(database, "drained")
            .iter()
            .all(|told| told.spans.contains(&"drain"))
    );
    assert!(
        find(session, "connected")
            .iter()
            .all(|told| told.spans == ["session"])
    );
    assert!(
        find(session, "closed")
            .iter()
            .all(|told| told.fields.contains_key("why"))
    );
}
