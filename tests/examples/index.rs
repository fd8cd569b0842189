//! `examples/index`: an index that apply keeps.

use std::panic::{AssertUnwindSafe, catch_unwind};

use autobee::{Apply, ApplyError, ApplyView, Entry, Host};
use autobee_sim::{Check, Faults, View, check};
use proptest::prelude::*;

use crate::running::{Place, assert_says};

#[path = "../../examples/index/contacts.rs"]
mod contacts;

use contacts::{Contact, Contacts, Op, agrees, between, city_and_id, city_key, contact_key, in_city, read};

/// Runs a command that must succeed. Gives what it says.
fn good(place: &Place, words: &str) -> Vec<String> {
    let words: Vec<&str> = ["book"].into_iter().chain(words.split(' ')).collect();
    let (code, lines) = place.run("index", &words, "");
    assert_eq!(code, 0, "{words:?}: {lines:?}");
    lines
}

#[test]
fn contacts_are_found_by_city_wherever_they_move() {
    let place = Place::new("index");
    for words in [
        "put ada Ulm Ada Lovelace",
        "put bob Ulmen Bob",
        "put eve Aachen Eve",
        "put joe Ulm Joe",
    ] {
        assert!(good(&place, words).is_empty());
    }
    assert_eq!(
        good(&place, "in Ulm"),
        ["Ulm: Ada Lovelace, ada", "Ulm: Joe, joe"]
    );
    good(&place, "put ada Bonn Ada Lovelace");
    assert_eq!(good(&place, "in Ulm"), ["Ulm: Joe, joe"]);
    assert_eq!(good(&place, "get ada"), ["ada: Ada Lovelace, Bonn"]);
    assert_eq!(
        good(&place, "between A C"),
        ["Aachen: Eve, eve", "Bonn: Ada Lovelace, ada"]
    );
    good(&place, "remove eve");
    assert_eq!(good(&place, "between A C"), ["Bonn: Ada Lovelace, ada"]);
    assert!(good(&place, "in Aachen").is_empty());
    assert_eq!(good(&place, "check"), ["3 contacts, and the index agrees"]);
}

#[test]
fn what_makes_no_sense_is_told_in_words() {
    let place = Place::new("index-bad");
    for words in [
        &[][..],
        &["book"],
        &["book", "put", "ada", "Ulm"],
        &["book", "find", "ada"],
    ] {
        let (code, lines) = place.run("index", words, "");
        assert_eq!(code, 2, "{lines:?}");
        assert_says(&lines, "usage: index DIR COMMAND");
    }
    for (words, said) in [
        (["book", "get", "ada"], "index: there is no contact ada"),
        // By apply, which also says it when another device was first.
        (["book", "remove", "ada"], "index: there is no contact ada"),
        (["book", "remove", ""], "index: an id is not empty"),
    ] {
        let (code, lines) = place.run("index", &words, "");
        assert_eq!(code, 1, "{lines:?}");
        assert_says(&lines, said);
    }
}

fn op() -> impl Strategy<Value = Op> {
    let id = || "[a-d]";
    let contact = ("[xyz]{1,2}", "[a-z]").prop_map(|(city, name)| Contact { city, name });
    prop_oneof![
        3 => (id(), contact).prop_map(|(id, contact)| Op::Put { id, contact }),
        1 => id().prop_map(|id| Op::Remove { id }),
    ]
}

fn checked<A: Apply>(apply: fn() -> A) -> Check<Op> {
    check(apply)
        .typed_ops(op(), Op::to_bytes)
        .always("the index agrees", async |view: &View| {
            agrees(view).await.map(|_| ())
        })
        .faults(Faults::all())
}

#[test]
fn the_index_agrees_at_all_times() {
    checked(|| Contacts).name("index").run();
}

/// An apply that writes the key of the present city, and leaves the one of the city before in the index.
struct Careless;

impl Apply for Careless {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        _: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        for entry in entries {
            let op: Op =
                serde_json::from_slice(entry.value()).map_err(|_| ApplyError::reject("no operation"))?;
            let mut write = view.write();
            if let Op::Put { id, contact } = op {
                write.put(&city_key(&contact.city, &id), b"");
                write.put(&contact_key(&id), &serde_json::to_vec(&contact).unwrap());
            }
            write.flush().await?;
        }
        Ok(())
    }
}

#[test]
fn a_key_that_stays_is_found() {
    let run = AssertUnwindSafe(|| checked(|| Careless).name("careless index").run());
    let panic = catch_unwind(run).unwrap_err();
    let said = panic.downcast_ref::<String>().unwrap();
    assert!(said.contains("always \"the index agrees\""), "{said}");
    assert!(said.contains("the index has"), "{said}");
}

#[test]
fn cities_are_kept_apart() {
    let key = city_key("Ulm", "ada");
    assert_eq!(city_and_id(&key), Some(("Ulm", "ada")));
    assert!(in_city("Ulm").contains(&key) && !in_city("Ul").contains(&key));
    assert!(between("U", "V").contains(&key) && !between("A", "Ulm").contains(&key));
    assert!(read(b"nothing").is_err());
    assert!(agrees_on_names("a\0b").is_err() && agrees_on_names("a").is_ok());
}

fn agrees_on_names(id: &str) -> Result<(), String> {
    Op::Remove { id: id.to_owned() }.check()
}
