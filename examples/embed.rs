//! A database inside a program, as in production: a directory, an apply function, a listener, peers to dial.
//!
//! `cargo run --example embed -- DIR LISTEN [KEY PEER...]`

#![expect(clippy::print_stderr, reason = "a program tells whoever runs it")]

use std::pin::pin;

use autobee::{Apply, ApplyError, ApplyView, Autobee, Corestore, Entry, Host, NativeEnv, Range};

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
    let mut builder = Autobee::builder(Corestore::open_default(env).await?).apply(SharedList);
    if let Some(key) = peers.first() {
        builder = builder.key(key.parse()?);
    }
    let db = builder.open().await?;
    // Both go on for as long as what they give is held: peers are dialled again when they are lost.
    let dialled = peers.iter().skip(1).map(|peer| db.keep_connected(peer));
    let _peers = dialled.collect::<Result<Vec<_>, _>>()?;
    let listening = db.listen(listen).await?;
    eprintln!(
        "the key is {}, and peers are welcome at {}",
        db.key(),
        listening.local_addr()
    );
    let mut changes = db.watch(Range::all());
    if db.writable() {
        db.append(format!("started as {}", db.id())).await?; // durable when it returns
    }
    // One for the whole time: none is lost that comes while something is drawn.
    let mut stop = pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            biased;
            stopped = &mut stop => { stopped?; break }
            event = changes.next() => {
                event?; // the view changed: draw it
                eprintln!("lines: {}", db.view().all().await?.len());
            }
        }
    }
    Ok(db.close().await?)
}
