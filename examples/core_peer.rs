//! A peer that serves one log, or fetches blocks of one, over TCP: with itself, or with hypercore on Node.
//!
//! ```text
//! core_peer serve --listen 127.0.0.1:0 --blocks 10
//! core_peer get --connect 127.0.0.1:PORT --key KEY --index 3
//! core_peer download --connect 127.0.0.1:PORT --key KEY
//! ```
//!
//! Every line on stdout is one JSON object. `serve` stays until stdin is closed; the others end when they are done. The
//! store lies in `--dir`, or in a directory that is removed at the end.

#![expect(clippy::print_stdout, reason = "lines on stdout are what this program is for")]
#![expect(clippy::disallowed_methods, reason = "a program for this machine")]

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use autobee::env::native::NativeStream;
use autobee::env::{Entropy as _, Env as _, Listener as _, Network as _, PeerAddr};
use autobee::wire::Index;
use autobee::{
    Core, CoreKey, CoreOptions, Corestore, CorestoreOptions, DownloadRange, NativeEnv, Replication,
    ReplicationSession, Role, Seglog, SessionSettings, StoreHandle, Wait,
};
use bytes::Bytes;
use serde_json::json;
use tokio::io::AsyncReadExt as _;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "core_peer serve --listen ADDR [--blocks N] | get --connect ADDR --key KEY --index I | \
                     download --connect ADDR --key KEY, each with [--dir DIR]";

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::read(std::env::args().skip(1))?;
    let (dir, is_temporary) = match &options.dir {
        Some(dir) => (dir.clone(), false),
        None => (std::env::temp_dir().join(unique_name()), true),
    };
    let done = run(&options, dir.clone()).await;
    if is_temporary {
        // What the system cleans up in the end anyway.
        let _ = std::fs::remove_dir_all(dir);
    }
    done
}

async fn run(options: &Options, dir: PathBuf) -> Result<()> {
    let env = NativeEnv::new(dir)?;
    let store = StoreHandle::open(&env, &Seglog::default())?;
    let store = Corestore::open(env.clone(), store, CorestoreOptions::default()).await?;
    let replication = Replication::new(&env, &store, SessionSettings::default());
    match options.command.as_str() {
        "serve" => serve(&env, &store, &replication, options).await?,
        "get" => get(&env, &store, &replication, options).await?,
        "download" => download(&env, &store, &replication, options).await?,
        _ => return Err(USAGE.into()),
    }
    replication.close();
    store.close().await?;
    Ok(())
}

/// Offers a log of `--blocks` blocks to whoever connects, until stdin is closed.
async fn serve(
    env: &NativeEnv,
    store: &Corestore<NativeEnv>,
    replication: &Replication<NativeEnv>,
    options: &Options,
) -> Result<()> {
    let core = store.get(CoreOptions::name("core_peer")).await?;
    let missing = core.length()?.0..options.blocks.unwrap_or(0);
    if !missing.is_empty() {
        let blocks = missing.map(|index| Bytes::from(format!("block {index}")));
        core.append(blocks.collect()).await?;
    }
    let at = PeerAddr::new(options.listen.as_deref().ok_or(USAGE)?);
    let mut listener = env.network().listen(&at).await?;
    let local = listener.local_addr();
    let port: u16 = local.as_str().rsplit(':').next().unwrap_or_default().parse()?;
    let ready = json!({ "event": "ready", "port": port, "key": hex(core.key().as_bytes()), "length": core.length()?.0 });
    println!("{ready}");

    let replication = replication.clone();
    let accepting = tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => _ = replication.start(stream, Role::Responder),
                // One peer was gone too soon, or there are too many open files: others come.
                Err(error) => {
                    println!(
                        "{}",
                        json!({ "event": "not-accepted", "reason": error.to_string() })
                    );
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    let mut ignored = Vec::new();
    tokio::io::stdin().read_to_end(&mut ignored).await?;
    accepting.abort();
    Ok(())
}

/// Fetches one block.
async fn get(
    env: &NativeEnv,
    store: &Corestore<NativeEnv>,
    replication: &Replication<NativeEnv>,
    options: &Options,
) -> Result<()> {
    let index = options.index.ok_or(USAGE)?;
    let (core, session) = connect(env, store, replication, options).await?;
    let block = unless_ended(&session, core.get(Index(index), Wait::Forever)).await??;
    show(index, &block);
    Ok(())
}

/// Fetches all blocks that the peer's log has now.
async fn download(
    env: &NativeEnv,
    store: &Corestore<NativeEnv>,
    replication: &Replication<NativeEnv>,
    options: &Options,
) -> Result<()> {
    let (core, session) = connect(env, store, replication, options).await?;
    let all = core.download(DownloadRange::ALL.in_order())?;
    let is_whole = session.reached(|progress| progress.is_synced && progress.have >= progress.want);
    if !is_whole.await {
        return Err(session.ended().await.into());
    }
    drop(all);
    for index in 0..core.length()?.0 {
        show(index, &core.get(Index(index), Wait::Local).await?);
    }
    Ok(())
}

async fn connect(
    env: &NativeEnv,
    store: &Corestore<NativeEnv>,
    replication: &Replication<NativeEnv>,
    options: &Options,
) -> Result<(Core<NativeEnv>, ReplicationSession)> {
    let key: CoreKey = options.key.as_deref().ok_or(USAGE)?.parse()?;
    let core = store.get(CoreOptions::key(key)).await?;
    let to = PeerAddr::new(options.connect.as_deref().ok_or(USAGE)?);
    let stream: NativeStream = env.network().dial(&to).await?;
    Ok((core, replication.start(stream, Role::Initiator)))
}

/// What the peer cannot give any more is not waited for.
async fn unless_ended<T>(session: &ReplicationSession, work: impl Future<Output = T>) -> Result<T> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        end = session.ended() => Err(end.into()),
    }
}

fn show(index: u64, block: &[u8]) {
    println!(
        "{}",
        json!({ "event": "block", "index": index, "hex": hex(block) })
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unique_name() -> String {
    let random: [u8; 8] = autobee::env::native::NativeEntropy.array();
    format!("core-peer-{}", hex(&random))
}

/// What was said on the command line.
#[derive(Default)]
struct Options {
    command: String,
    listen: Option<String>,
    connect: Option<String>,
    key: Option<String>,
    dir: Option<PathBuf>,
    blocks: Option<u64>,
    index: Option<u64>,
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            command: words.next().ok_or(USAGE)?,
            ..Self::default()
        };
        while let Some(name) = words.next() {
            let value = words.next().ok_or(USAGE)?;
            match name.as_str() {
                "--listen" => options.listen = Some(value),
                "--connect" => options.connect = Some(value),
                "--key" => options.key = Some(value),
                "--dir" => options.dir = Some(value.into()),
                "--blocks" => options.blocks = Some(value.parse()?),
                "--index" => options.index = Some(value.parse()?),
                _ => return Err(USAGE.into()),
            }
        }
        Ok(options)
    }
}
