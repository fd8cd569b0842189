//! A shared list whose devices find each other by the key of its database, wherever they are.
//!
//! `cargo run --example swarm --features hyperswarm -- DIR [KEY]`; `AUTOBEE_DHT=HOST:PORT` names a node of another DHT than the
//! public one. Each line that is typed is an entry: `add WRITER` lets a device write, anything else is a line of the list.

#![expect(clippy::print_stdout, reason = "a program tells whoever runs it")]

use autobee::{
    AppendOptions, Apply, ApplyError, ApplyView, Autobee, Corestore, Entry, Host, Hyperswarm,
    HyperswarmSettings, NativeEnv, Outcome, Range, Seed, WriterOptions,
};
use tokio::io::{AsyncBufReadExt as _, BufReader};

struct SharedList;

impl Apply for SharedList {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        host: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        let mut write = view.write();
        for entry in entries {
            match entry.value().strip_prefix(b"add ") {
                Some(key) => {
                    let key = String::from_utf8_lossy(key).parse();
                    let key = key.map_err(|_| ApplyError::reject("no key"))?;
                    host.add_writer(key, WriterOptions::default());
                }
                None => write.put(entry.value(), b""),
            }
        }
        write.flush().await
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (dir, key) = match &words[..] {
        [dir] => (dir, None),
        [dir, key] => (dir, Some(key.parse()?)),
        _ => return Err("usage: swarm DIR [KEY]".into()),
    };
    let env = NativeEnv::new(dir)?;
    let mut builder = Autobee::builder(Corestore::open_default(env.clone()).await?).apply(SharedList);
    if let Some(key) = key {
        builder = builder.key(key);
    }
    let db = builder.open().await?;
    println!("the key is {}, this writer is {}", db.key(), db.local());

    let settings = HyperswarmSettings::with(|settings| {
        if let Ok(node) = std::env::var("AUTOBEE_DHT") {
            settings.bootstrap = vec![node];
        }
    });
    // A fresh key each time: who may write is decided by the keys of logs, not by this one.
    let seed = Seed::new(autobee::env::Entropy::array(autobee::env::Env::entropy(&env)));
    let swarm = Hyperswarm::start(env, &seed, settings).await?;
    let mut joined = db.join(swarm)?;

    let mut changes = db.watch(Range::all());
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut connected = 0;
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(line) => match db.append_with(vec![line.into()], AppendOptions::default()).await {
                    Ok(appended) => {
                        if let Outcome::Rejected(why) = appended.outcome {
                            println!("not taken: {why}");
                        }
                    }
                    Err(error) => println!("{error}"),
                },
                None => break,
            },
            event = changes.next() => {
                drop(event?);
                for (line, _) in db.view().all().await? {
                    println!("- {}", String::from_utf8_lossy(&line));
                }
            }
            is_open = joined.changed() => {
                let peers = joined.state().peers.len();
                if is_open && std::mem::replace(&mut connected, peers) != peers {
                    println!("{peers} peers are connected");
                }
            }
        }
    }
    joined.close().await;
    Ok(db.close().await?)
}
