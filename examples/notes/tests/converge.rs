use autobee_notes::Notes;
use autobee_sim::check;
use proptest::prelude::*;

fn line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof!["note [a-c] [a-z]{1,5}", "forget [a-c]"].prop_map(String::into_bytes)
}

#[test]
fn notes_converge() {
    check(|| Notes)
        .ops(line())
        .members_by(|key| format!("device {key}").into_bytes())
        .run();
}
