//! Accepting peers until somebody ends it.

use autobee::{Event, NativeAutobee, Session};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::Result;
use crate::args::{Peers, Serve};
use crate::data::port;
use crate::out::{Out, clean, short};
use crate::place::{Place, connect};

pub(crate) async fn serve(args: Serve, place: &Place, out: &Out) -> Result<()> {
    // What the opening found is told with everything else.
    let (db, _) = place.open_with(place.dir(), |builder| builder).await?;
    let mut events = db.events();
    let peers = Peers {
        listen: Some(args.listen),
        connect: args.connect,
    };
    let mut connections = connect(&db, &peers).await?;
    #[cfg(feature = "hyperswarm")]
    connections.join(&db, place, &args.swarm).await?;
    let address = connections
        .listening
        .as_ref()
        .map(|listening| listening.local_addr().to_string());
    let address = address.unwrap_or_default();
    let ready = json!({
        "event": "listening",
        "address": address,
        "port": port(&address),
        "key": db.key().to_string(),
        "local": db.local().to_string(),
        "writable": db.writable(),
    });
    out.either(&ready, || {
        format!(
            "peers are welcome at {address}\nkey {}\nwriter {}\nCtrl-C ends it",
            db.key(),
            db.local()
        )
    })?;
    if let Some(why) = db.unconfirmed() {
        out.note(&format!("the first append waits for a peer: {why:?}"));
    }
    let (sender, mut sessions) = mpsc::unbounded_channel();
    let mut known: Vec<Session> = Vec::new();
    loop {
        let told = tokio::select! {
            event = events.next() => tell(&event?),
            Some(told) = sessions.recv() => Some(told),
            // Connections are few, and looked for where they all are: those that were accepted, and those that were dialled.
            () = tokio::time::sleep(std::time::Duration::from_millis(100)) => {
                follow(&db, &mut known, &sender);
                connections.tell(out);
                None
            }
        };
        if let Some((line, object)) = told {
            out.either(&object, || clean(&line))?;
        }
    }
}

pub(crate) type Told = (String, Value);

/// Tells of connections that began, and later of their end.
fn follow(db: &NativeAutobee, known: &mut Vec<Session>, sender: &mpsc::UnboundedSender<Told>) {
    known.retain(|session| session.close_reason().is_none());
    for peer in db.status().peers {
        let Some(remote) = peer.progress.remote else {
            continue;
        };
        if known
            .iter()
            .any(|session| session.progress().stream == peer.progress.stream)
        {
            continue;
        }
        known.push(peer.session.clone());
        let remote = remote.to_string();
        let name: String = remote.chars().take(8).collect();
        // The receiver lives as long as the loop that calls this.
        let _ = sender.send((
            format!("peer {name} connected"),
            json!({ "event": "connected", "peer": remote }),
        ));
        let sender = sender.clone();
        tokio::spawn(async move {
            let reason = peer.session.ended().await;
            let _ = sender.send((
                format!("peer {name} is gone: {reason}"),
                json!({ "event": "disconnected", "peer": remote, "reason": reason.to_string() }),
            ));
        });
    }
}

/// What is told of an event; none when it is none for people, or for programs.
pub(crate) fn tell(event: &Event) -> Option<Told> {
    let told = match event {
        Event::Writable => ("this writer may write now".into(), json!({ "event": "writable" })),
        Event::Unwritable => (
            "this writer may write no longer".into(),
            json!({ "event": "unwritable" }),
        ),
        Event::Writer(key) => (
            format!("writer {} was added", short(key)),
            json!({ "event": "writer", "writer": key.to_string() }),
        ),
        Event::Confirmed => (
            "the own log is whole: appends go on".into(),
            json!({ "event": "confirmed" }),
        ),
        Event::Contradicted { length } => (
            format!(
                "the own log was written twice, from block {} on: see docs/devices.md",
                length.0
            ),
            json!({ "event": "contradicted", "length": length.0 }),
        ),
        Event::Diverged { writer, length, key } => {
            let key = crate::out::text(key);
            (
                format!(
                    "the view of {} differs behind its block {}, under {key:?}",
                    short(writer),
                    length.0
                ),
                json!({ "event": "diverged", "writer": writer.to_string(), "length": length.0, "key": key }),
            )
        }
        Event::CutOff { first, last } => (
            format!("commits {first} to {last} were durable here, and are gone: somebody cut the files off"),
            json!({ "event": "cut_off", "first": first, "last": last }),
        ),
        Event::Rebuilt { from, to } if from == to => (
            "the view was made anew from the logs: what was stored of it was damaged".into(),
            json!({ "event": "rebuilt", "from": from, "to": to }),
        ),
        Event::Interrupt { reason } => (
            format!("nothing is applied any more: {reason}"),
            json!({ "event": "interrupt", "reason": reason }),
        ),
        Event::Error { what } => (
            format!("error: {what}"),
            json!({ "event": "error", "what": what }),
        ),
        _ => return None,
    };
    Some(told)
}
