use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use autobee::{Apply, ApplyError, ApplyView, Entry, Host};
use autobee_sim::check;
use proptest::prelude::*;

/// The first note of a title is to win. It remembers titles in memory, where they do not go away when the order changes.
#[derive(Default)]
struct FirstWins {
    titles: Mutex<BTreeSet<String>>,
}

impl Apply for FirstWins {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        _: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        let mut write = view.write();
        for entry in entries {
            let line = String::from_utf8_lossy(entry.value()).into_owned();
            let (title, text) = line.split_once(' ').unwrap_or((&line, ""));
            if self.titles.lock().unwrap().insert(title.to_owned()) {
                write.put(title.as_bytes(), text.as_bytes());
            }
        }
        write.flush().await
    }
}

#[test]
fn the_check_says_what_is_wrong() {
    let run = || {
        check(FirstWins::default)
            .ops("[a-c] [a-z]{1,5}".prop_map(String::into_bytes))
            .name("first wins")
            .run();
    };
    let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    println!("{text}");
    assert!(
        text.contains("apply is a function of what it is handed"),
        "{text}"
    );
}
