//! Making a database, joining one, and saying which one it is.

use autobee::env::Entropy as _;
use autobee::env::native::NativeEntropy;
use autobee::{CoreOptions, Rules, Ticket};
use serde_json::{Value, json};

use crate::Result;
use crate::args::{Create, Id, Join};
use crate::failure::not_a_writer;
use crate::out::{Out, hex};
use crate::place::{Place, ReadStore, Reader, check_free};
use crate::status::may_write;

pub(crate) async fn create(args: Create, place: &Place, out: &Out) -> Result<()> {
    check_free(&args.path)?;
    let rules = if args.interop {
        Rules::interop()
    } else {
        Rules::safe()
    };
    let secret: Option<[u8; 32]> = args.encrypt.then(|| NativeEntropy.array());
    let make = place.make(&args.path, |builder| {
        let builder = builder.rules(rules);
        match secret {
            Some(secret) => builder.encryption_key(secret),
            None => builder,
        }
    });
    let (db, _) = make.await?;
    let secret = secret.map(|secret| hex(&secret));
    let answer = json!({
        "dir": args.path.display().to_string(),
        "key": db.key().to_string(),
        "id": db.id(),
        "local": db.local().to_string(),
        "rules": rules.name(),
        "encryptionKey": secret,
    });
    out.either(&answer, || {
        let dir = args.path.display();
        let mut lines = format!("a database was made in {dir}, with {rules}\nkey {}", db.key());
        let mut join = format!("autobee join DIR {}", db.key());
        if let Some(secret) = &secret {
            lines.push_str(&format!("\nencryption key {secret}"));
            join.push_str(&format!(" --encryption-key {secret}"));
        }
        format!("{lines}\nothers join it with: {join}")
    })
}

pub(crate) async fn join(args: Join, place: &Place, out: &Out) -> Result<()> {
    check_free(&args.path)?;
    let make = place.make(&args.path, |builder| {
        let builder = builder.ticket(&args.ticket);
        match args.encryption_key {
            Some(secret) => builder.encryption_key(secret.0),
            None => builder,
        }
    });
    let (db, _) = make.await?;
    let peers = match peers_of(&args.ticket) {
        peers if peers.is_empty() => "--connect HOST:PORT".to_owned(),
        peers => peers,
    };
    let answer = json!({
        "dir": args.path.display().to_string(),
        "key": db.key().to_string(),
        "id": db.id(),
        "local": db.local().to_string(),
        "addresses": args.ticket.addresses(),
        "swarm": args.ticket.is_on_swarm(),
    });
    out.either(&answer, || {
        format!(
            "{dir} is for the database {key} now, of which nothing is here yet\nwriter {local}\nfetch it with: autobee --dir {dir} \
             sync {peers}\nto write: {hint}",
            dir = args.path.display(),
            key = db.key(),
            local = db.local(),
            hint = not_a_writer(&db.local()),
        )
    })
}

/// The arguments with which the peers of a ticket are reached.
fn peers_of(ticket: &Ticket) -> String {
    let addresses = ticket
        .addresses()
        .iter()
        .map(|address| format!("--connect {address}"));
    let has_swarm = cfg!(feature = "hyperswarm") && ticket.is_on_swarm();
    let swarm = has_swarm.then(|| "--swarm".to_owned());
    addresses.chain(swarm).collect::<Vec<_>>().join(" ")
}

pub(crate) async fn id(args: Id, place: &Place, out: &Out) -> Result<()> {
    let (reader, store) = place.read_with_store().await?;
    let mut answer = identity(&reader);
    if args.secret {
        answer["encryptionKey"] = json!(secret(&reader, &store).await?.map(|secret| hex(&secret)));
    }
    out.either(&answer, || {
        let mut lines = Vec::new();
        for (name, value) in answer.as_object().into_iter().flatten() {
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Null => "none".to_owned(),
                other => other.to_string(),
            };
            lines.push(format!("{name:<14} {value}"));
        }
        lines.join("\n")
    })
}

fn identity(db: &Reader) -> Value {
    json!({
        "key": db.key().to_string(),
        "id": db.id(),
        "discoveryKey": db.discovery_key().to_string(),
        "local": db.local().to_string(),
        "writable": may_write(db, &db.local()),
        "rules": db.rules().map_or("unknown until something came of a peer", Rules::name),
    })
}

/// The encryption key that the store keeps with the local writer, or with the creator.
pub(crate) async fn secret(db: &Reader, store: &ReadStore) -> Result<Option<Vec<u8>>> {
    let core = store.get(CoreOptions::key(db.local())).await?;
    Ok(core
        .user_data("autobee/encryption")?
        .map(|secret| secret.to_vec()))
}
