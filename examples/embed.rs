//! A database inside a program, as in production: a directory, an apply function, a listener, peers to dial.
//!
//! `cargo run --example embed -- DIR LISTEN [KEY PEER...]`

#![expect(clippy::print_stderr, reason = "a program tells whoever runs it")]

use std::time::Duration;

use autobee::env::{Clock as _, Env as _, Listener as _, Network as _, PeerAddr};
use autobee::{Apply, ApplyError, ApplyView, Autobee, Corestore, Entry, Host, NativeEnv, Range, Role};

/// Entries are lines of a shared list. A line that is there twice counts once.
struct SharedList;

impl Apply for SharedList {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        _: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        let mut write = view.write();
        entries.iter().for_each(|entry| write.put(entry.value(), b""));
        write.flush().await
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [dir, listen, peers @ ..] = &words[..] else {
        return Err("usage: embed DIR LISTEN [KEY PEER...]".into());
    };
    let env = NativeEnv::new(dir)?;
    let mut builder = Autobee::builder(Corestore::open_default(env.clone()).await?).apply(SharedList);
    if let Some(key) = peers.first() {
        builder = builder.key(key.parse()?);
    }
    let db = builder.open().await?;
    for peer in peers.iter().skip(1) {
        db.replicate(env.network().dial(&PeerAddr::new(peer)).await?, Role::Initiator)?;
    }
    let mut listener = env.network().listen(&PeerAddr::new(listen)).await?;
    let mut changes = db.watch(Range::all());
    if db.writable() {
        db.append(format!("started as {}", db.id())).await?; // durable when it returns
    }
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(db.replicate(stream, Role::Responder)?),
                // One peer was gone too soon, or there are too many open files: others come.
                Err(error) => {
                    eprintln!("a connection was not accepted: {error}");
                    env.clock().sleep(Duration::from_millis(100)).await;
                }
            },
            event = changes.next() => drop(event?), // the view changed: draw it
            stop = tokio::signal::ctrl_c() => { stop?; break }
        }
    }
    Ok(db.close().await?)
}
