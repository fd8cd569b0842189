//! `scenarios.json`: blocks of real peers, in every recorded order of arrival.
//!
//! Order, weights, writer records, info and view must be the recorded ones: by the model from the set, and by the
//! linearizer on every delivery.

use serde_json::{Value, json};

use super::history::{History, fed};
use super::{list, optional};

pub(crate) fn check(case: &Value) -> Result<(), String> {
    let history = History::new(case);
    let expected = &case["final"];
    assert_eq!(
        &pick(&history.declared(&history.all()), expected),
        expected,
        "{}",
        case["name"]
    );
    for delivery in optional(&case["deliveries"]).map_or(&[][..], |all| list(all)) {
        let steps: Vec<Vec<_>> = list(&delivery["delivery"])
            .iter()
            .map(|step| vec![fed(step)])
            .collect();
        assert_eq!(
            &pick(&history.replayed(&steps), expected),
            expected,
            "{}",
            case["name"]
        );
    }
    Ok(())
}

/// The fields that the case has.
fn pick(outcome: &Value, expected: &Value) -> Value {
    let fields = expected.as_object().unwrap().keys();
    json!(
        fields
            .map(|field| (field.clone(), outcome[field].clone()))
            .collect::<serde_json::Map<_, _>>()
    )
}
