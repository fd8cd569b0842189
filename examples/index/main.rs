//! A secondary index that apply keeps: contacts by id, and by city.
//!
//! It shows how an index stays true when contacts are overwritten and removed, also by several devices at once: apply
//! writes both in one flush, and takes the key that has to go from what the view has (`contacts.rs`).
//! `tests/examples/index.rs` checks it through partitions and crashes.
//!
//! ```text
//! cargo run --example index -- DIR COMMAND
//! ```
//!
//! ```text
//! $ index book put ada Ulm Ada Lovelace
//! $ index book put bob Ulmen Bob
//! $ index book put eve Aachen Eve
//! $ index book in Ulm
//! Ulm: Ada Lovelace, ada
//! $ index book put ada Bonn Ada Lovelace
//! $ index book in Ulm
//! $ index book between A C
//! Aachen: Eve, eve
//! Bonn: Ada Lovelace, ada
//! $ index book check
//! 3 contacts, and the index agrees
//! $ index book remove joe
//! index: there is no contact joe
//! ```

mod contacts;

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use autobee::{Autobee, Corestore, NativeAutobee, NativeEnv, Outcome, Range};

use contacts::{Contact, Contacts, Op, agrees, between, city_and_id, contact_key, in_city, read};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "usage: index DIR COMMAND, which is one of
  put ID CITY NAME    writes a contact, over the one of this id if there is one
  remove ID           removes one
  get ID              shows one
  in CITY             shows all of a city
  between FROM TO     shows all of the cities from FROM on and before TO
  check               checks that contacts and index agree";

/// What the words of the command line ask for.
enum Command {
    Write(Op),
    Get(String),
    Show(Range),
    Check,
}

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some((dir, command)) = words
        .split_first()
        .and_then(|(dir, rest)| Some((dir, command(rest)?)))
    else {
        complain(USAGE);
        return ExitCode::from(2);
    };
    match run(dir, command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn command(words: &[&str]) -> Option<Command> {
    Some(match *words {
        ["put", id, city, ref name @ ..] if !name.is_empty() => Command::Write(Op::Put {
            id: id.to_owned(),
            contact: Contact {
                city: city.to_owned(),
                name: name.join(" "),
            },
        }),
        ["remove", id] => Command::Write(Op::Remove { id: id.to_owned() }),
        ["get", id] => Command::Get(id.to_owned()),
        ["in", city] => Command::Show(in_city(city)),
        ["between", from, to] => Command::Show(between(from, to)),
        ["check"] => Command::Check,
        _ => return None,
    })
}

async fn run(dir: &str, command: Command) -> Result<()> {
    let store = Corestore::open_default(NativeEnv::new(dir)?).await?;
    let db = Autobee::builder(store).apply(Contacts).open().await?;
    let done = obey(&db, command).await;
    db.close().await?;
    done
}

async fn obey(db: &NativeAutobee, command: Command) -> Result<()> {
    let view = db.view();
    match command {
        Command::Write(op) => {
            // What apply would refuse in any case does not have to stay in the log for good.
            op.check()?;
            let appended = db
                .append_with(vec![op.to_bytes().into()], Default::default())
                .await?;
            if let Outcome::Rejected(why) = appended.outcome {
                return Err(why.into());
            }
        }
        Command::Get(id) => {
            let found = view.get(contact_key(&id).as_slice()).await?;
            let found = found.ok_or_else(|| format!("there is no contact {id}"))?;
            let Contact { city, name } = read(&found)?;
            say(format!("{id}: {name}, {city}"));
        }
        Command::Show(range) => {
            // Read in pages: an index may be longer than memory.
            let mut keys = view.stream(range);
            while let Some((key, _)) = keys.next().await? {
                let (city, id) = city_and_id(&key).ok_or("a key of the index that is none")?;
                let contact = view.get(&contact_key(id)).await?;
                let contact = contact.ok_or_else(|| format!("the index has {id}, which is not there"))?;
                say(format!("{city}: {}, {id}", read(&contact)?.name));
            }
        }
        Command::Check => say(format!("{} contacts, and the index agrees", agrees(&view).await?)),
    }
    Ok(())
}

fn say(line: impl Display) {
    // That nobody reads it any more is no reason to fail.
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn complain(what: &str) {
    let _ = writeln!(std::io::stderr(), "index: {what}");
}
