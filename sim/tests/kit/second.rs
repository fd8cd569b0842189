//! What a second process finds, which check it answers, and what is said when it dies or there is none.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use autobee::apply::{ApplyError, Entry};
use autobee_sim::{Check, check};
use proptest::prelude::*;

use super::{Letters, failure, has_all, last_wins, output, text};

fn first_wins(entry: &Entry, is_new: bool) -> Result<String, ApplyError> {
    let taken = || ApplyError::reject("taken");
    is_new.then(|| text(entry)).ok_or_else(taken)
}

/// What is made of a text, or why it is refused.
type Wrong = fn(entry: &Entry, is_new: bool) -> Result<String, ApplyError>;

/// All checks of this file are made at this one place.
fn letters(wrong: Wrong) -> Check {
    check(move || Letters(wrong))
        .ops("[a-d] [x-z]{1,3}".prop_map(String::into_bytes))
        .seeds(0..6)
}

fn is_second() -> bool {
    std::env::var("AUTOBEE_SIM_SECOND").is_ok()
}

#[test]
fn two_checks_of_one_test_and_one_helper_pass() {
    letters(last_wins).run();
    letters(first_wins).run();
    letters(last_wins).name("same").run();
    letters(first_wins).name("same").run();
}

#[test]
fn the_second_check_of_a_test_runs_in_a_second_process() {
    letters(last_wins).run();
    let zone = |_: &Entry, _| Ok(std::env::var("TZ").unwrap_or_default());
    let text = failure(letters(zone));
    has_all(&text, &["second process", "time zone Pacific/Chatham"]);
}

/// Tests at one place, which run at the same time.
mod beside_each_other {
    use super::*;

    #[test]
    fn one() {
        letters(last_wins).run();
    }

    #[test]
    fn other() {
        letters(first_wins).run();
    }

    #[test]
    fn third() {
        letters(last_wins).name("same").run();
    }

    #[test]
    fn fourth() {
        letters(first_wins).name("same").run();
    }
}

#[test]
fn failures_of_one_helper_keep_their_plans_apart() {
    let plan = |wrong: Wrong| {
        let text = failure(letters(wrong));
        let mut lines = text.lines();
        let path = lines.find_map(|line| line.trim().strip_prefix("the plan:"));
        PathBuf::from(path.unwrap().trim())
    };
    let plans = [
        plan(|entry, _| panic!("one: {entry:?}")),
        plan(|_, _| Err(ApplyError::fatal("two"))),
    ];
    let says = plans
        .each_ref()
        .map(|plan| std::fs::read_to_string(plan).unwrap());
    has_all(&says[0], &["does not panic", "failures_of_one_helper"]);
    has_all(&says[1], &["does not give up", "failures_of_one_helper"]);
    assert_ne!(plans[0], plans[1]);
}

#[test]
fn an_apply_that_aborts_there_fails() {
    let text = failure(letters(|entry, _| {
        if is_second() {
            eprintln!("this is the end");
            std::process::abort();
        }
        Ok(text(entry))
    }));
    has_all(
        &text,
        &[
            "second process did not come to its end",
            "SIGABRT",
            "this is the end",
            "time zone",
            "AUTOBEE_SEED=",
        ],
    );
}

#[test]
fn an_apply_that_exits_there_fails() {
    let text = failure(letters(|entry, _| {
        if is_second() {
            std::process::exit(0);
        }
        Ok(text(entry))
    }));
    has_all(
        &text,
        &["second process did not come to its end", "exit status: 0"],
    );
}

#[test]
fn an_apply_that_panics_there_fails() {
    let text = failure(letters(|entry, _| {
        assert!(!is_second(), "not here");
        Ok(text(entry))
    }));
    has_all(
        &text,
        &["second process", "here   wrote", "there  panicked: not here"],
    );
}

#[test]
fn a_property_that_breaks_there_fails() {
    let check = letters(last_wins).always("only once", async |_: &_| {
        if is_second() {
            return Err("broken".into());
        }
        Ok(())
    });
    has_all(
        &failure(check),
        &["second process", "this does not hold: always \"only once\""],
    );
}

#[test]
fn what_reads_the_environment_differs() {
    let text = failure(letters(|_, _| {
        let names = ["USER", "LANG", "LC_ALL", "HOME"];
        let values = names.map(|name| std::env::var(name).unwrap_or_default());
        Ok(values.join(" "))
    }));
    has_all(
        &text,
        &[
            "other HOME, USER, LANG and LC_ALL",
            "\"somebody tr_TR.UTF-8 tr_TR.UTF-8 ",
        ],
    );
}

/// Whether an entry was the first of its letter, as it is remembered for ever.
type Memory = BTreeMap<String, bool>;

static PROCESS: Mutex<Memory> = Mutex::new(BTreeMap::new());

thread_local! {
    static THREAD: RefCell<Memory> = const { RefCell::new(BTreeMap::new()) };
}

fn remembered(memory: &mut Memory, entry: &Entry, is_new: bool) -> Result<String, ApplyError> {
    let id = format!("{} {} {}", entry.key, entry.length, entry.timestamp.0);
    first_wins(entry, *memory.entry(id).or_insert(is_new))
}

#[test]
fn what_a_global_remembers_of_an_entry_differs() {
    let text = failure(letters(|entry, is_new| {
        remembered(&mut PROCESS.lock().unwrap(), entry, is_new)
    }));
    has_all(
        &text,
        &["second process", "keeps something for the whole process"],
    );
}

#[test]
fn what_a_thread_remembers_of_an_entry_differs() {
    let text = failure(letters(|entry, is_new| {
        THREAD.with_borrow_mut(|memory| remembered(memory, entry, is_new))
    }));
    has_all(&text, &["second process", "for a thread"]);
}

#[test]
fn what_instances_share_differs() {
    let memory: Arc<Mutex<Memory>> = Arc::default();
    let all_share = move || {
        let memory = Arc::clone(&memory);
        Letters(move |entry: &Entry, is_new| remembered(&mut memory.lock().unwrap(), entry, is_new))
    };
    let check = check(all_share)
        .ops("[a-d] [x-z]{1,3}".prop_map(String::into_bytes))
        .seeds(0..6);
    has_all(&failure(check), &["second process", "came to something else"]);
}

#[test]
fn a_check_within_a_runtime_passes() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { letters(last_wins).run() });
}

/// Run by the test below, in a process of its own.
#[test]
fn on_a_thread_of_its_own() {
    let thread = std::thread::spawn(|| letters(last_wins).name("elsewhere").run());
    thread.join().unwrap();
}

#[test]
fn a_second_process_that_there_is_not_is_told() {
    let text = output("second::on_a_thread_of_its_own", &[]);
    has_all(
        &text,
        &[
            "elsewhere: 6 seeds in",
            "elsewhere: no second process: the check runs on a thread",
        ],
    );
    let text = output("second::beside_each_other::one", &[]);
    has_all(&text, &["one: 6 seeds in"]);
    assert!(!text.contains("no second process"), "{text}");
}
