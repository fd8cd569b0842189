//! What is said of failures that chance decides, and of mistakes that are none of apply itself.

use std::sync::atomic::{AtomicU64, Ordering};

use autobee::apply::{Apply, ApplyError, ApplyView, Entry, Host, WriterOptions};
use autobee_sim::{View, check};
use proptest::prelude::*;

use super::{Letters, Mistake, Shelf, failure, has_all, shelf};

/// Says something else each hundredth time.
fn rarely(_: &Entry, _: bool) -> Result<String, ApplyError> {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let said = match CALLS.fetch_add(1, Ordering::Relaxed) % 100 {
        50 => "something else",
        _ => "the same",
    };
    Ok(said.into())
}

#[test]
fn what_happens_rarely_is_no_memory_of_the_instance() {
    let text = failure(check(|| Letters(rarely)).ops("[a-d]".prop_map(String::into_bytes)));
    assert!(!text.contains("it remembers something"), "{text}");
    has_all(&text, &["a clock", "randomness"]);
}

#[test]
fn a_failure_that_does_not_come_again_is_told_so() {
    static LOOKS: AtomicU64 = AtomicU64::new(0);
    let once = async |_: &View| match LOOKS.fetch_add(1, Ordering::Relaxed) {
        300 => Err("now and never again".into()),
        _ => Ok(()),
    };
    let text = failure(shelf(Mistake::None).always("once", once).name("once"));
    has_all(
        &text,
        &[
            "now and never again",
            "was run 3 times more, and did not fail again",
            "what happened, with ",
            "to try it again: AUTOBEE_SEEDS=0..=",
        ],
    );
    assert!(!text.contains("shrunk"), "{text}");
}

/// Adds only those writers whose key begins with an even byte.
struct HalfOpen;

impl Apply for HalfOpen {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        host: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        for entry in entries {
            match super::Op::from_bytes(entry.value()) {
                Some(super::Op::Invite(key)) if key.as_bytes()[0] % 2 == 0 => {
                    host.add_writer(key, WriterOptions::default());
                }
                Some(super::Op::Invite(_)) => {}
                _ => view.write().flush().await?,
            }
        }
        Ok(())
    }
}

#[test]
fn writers_that_apply_does_not_add_are_a_mistake_of_the_app() {
    let check = check(|| HalfOpen)
        .typed_ops(super::Op::any(), |op| op.to_bytes())
        .members_by(super::Op::Invite)
        .replicas(4..=4);
    let text = failure(check);
    has_all(
        &text,
        &[
            "the operations that add writers added ",
            "r0 applied r0:1 Invite(",
            "host.add_writer",
        ],
    );
    assert!(!text.contains("mistake of"), "{text}");
}

#[test]
fn a_factory_that_panics_is_a_mistake_of_the_app() {
    let check = check(|| -> Shelf { panic!("no factory") }).typed_ops(super::Op::any(), |op| op.to_bytes());
    let text = failure(check);
    has_all(
        &text,
        &["the closure that makes apply functions panicked: no factory"],
    );
    assert!(!text.contains("mistake of"), "{text}");
}
