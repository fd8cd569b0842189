//! Peers whose applies differ are told.

use std::time::Duration;

use autobee::apply::{Apply, ApplyError, ApplyView, Entry, Host, WriterOptions};
use autobee::crypto::CoreKey;
use autobee::db::{Event, Events};
use autobee::env::memory::MemoryEnv;
use autobee::env::{Clock as _, Env as _};
use autobee::{Autobee, Role, Settings};

use crate::support::Db;
use crate::{memory_store, run};

/// Puts each value as a key, with what this peer is called where the value begins with `name`; deletes the key behind `del `,
/// but not at peers that are called `keeper`. `add` before 32 bytes lets a writer in.
struct Named(&'static str);

impl Apply for Named {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        host: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        for entry in entries {
            let value = entry.value();
            if let Some(key) = value.strip_prefix(b"add ") {
                let key = CoreKey::try_from(key).map_err(|_| ApplyError::reject("no key"))?;
                host.add_writer(key, WriterOptions { weight: 1 });
                continue;
            }
            let mut write = view.write();
            match value.strip_prefix(b"del ") {
                Some(_) if self.0 == "keeper" => write.put(b"kept", b""),
                Some(key) => write.delete(key),
                None if value.starts_with(b"name") => write.put(value, self.0.as_bytes()),
                None => write.put(value, b""),
            }
            write.flush().await?;
        }
        Ok(())
    }
}

async fn open(env: &MemoryEnv, join: Option<&Db>, name: &'static str, secret: Option<[u8; 32]>) -> Db {
    let mut builder = Autobee::builder(memory_store(env).await).apply(Named(name));
    if let Some(db) = join {
        builder = builder.key(db.key());
    }
    if let Some(secret) = secret {
        builder = builder.encryption_key(secret);
    }
    let settings = Settings::with(|settings| settings.compare_ms = 100);
    builder.settings(settings).open().await.unwrap()
}

/// A creator and a member that are connected.
async fn pair(env: &MemoryEnv, names: [&'static str; 2], secret: Option<[u8; 32]>) -> [Db; 2] {
    let a = open(env, None, names[0], secret).await;
    let b = open(&env.sibling(2), Some(&a), names[1], secret).await;
    let (near, far) = tokio::io::duplex(1 << 16);
    b.replicate(far, Role::Responder).unwrap();
    a.replicate(near, Role::Initiator).unwrap();
    a.append("first").await.unwrap();
    let add = [b"add ", &b.local().as_bytes()[..]].concat();
    a.append(add).await.unwrap();
    let mut changes = Default::default();
    while !b.writable() {
        b.changed(&mut changes).await;
    }
    [a, b]
}

/// What is told within some seconds.
async fn told(env: &MemoryEnv, events: &mut Events) -> Option<(CoreKey, u64, Vec<u8>)> {
    let deadline = env.clock().now() + Duration::from_secs(5);
    loop {
        let event = tokio::select! {
            biased;
            event = events.next() => event.unwrap(),
            () = env.clock().sleep_until(deadline) => return None,
        };
        if let Event::Diverged { writer, length, key } = event {
            return Some((writer, length.0, key.to_vec()));
        }
    }
}

#[test]
fn a_view_that_differs_is_told_with_its_key() {
    for secret in [None, Some([7; 32])] {
        run(async |env| {
            let [a, b] = pair(env, ["ann", "bob"], secret).await;
            let mut events = [a.events(), b.events()];
            for number in 0..10 {
                [&a, &b][number % 2].append(format!("{number}")).await.unwrap();
                env.clock().sleep(Duration::from_millis(300)).await;
            }
            for events in &mut events {
                assert_eq!(told(env, events).await, None, "so far all is well");
            }
            let length = a.append("name").await.unwrap();
            let expected = (a.local(), length.0, b"name".to_vec());
            assert_eq!(told(env, &mut events[1]).await, Some(expected));
            // What differs is no news to who wrote something else.
            b.append("another").await.unwrap();
            assert_eq!(told(env, &mut events[0]).await, None);
            let length = b.append("name 2").await.unwrap();
            let expected = (b.local(), length.0, b"name 2".to_vec());
            assert_eq!(told(env, &mut events[0]).await, Some(expected));
        });
    }
}

#[test]
fn a_key_that_is_deleted_at_one_of_two_peers_is_told_at_both() {
    run(async |env| {
        let [a, b] = pair(env, ["ann", "keeper"], None).await;
        let mut events = [a.events(), b.events()];
        a.append("key").await.unwrap();
        env.clock().sleep(Duration::from_secs(1)).await;
        a.append("del key").await.unwrap();
        let (writer, _, _) = told(env, &mut events[1]).await.unwrap();
        assert_eq!(writer, a.local());
        b.append("del first").await.unwrap();
        let (writer, _, key) = told(env, &mut events[0]).await.unwrap();
        assert_eq!((writer, key), (b.local(), b"first".to_vec()));
    });
}
