//! The page that shows a run.

use autobee_sim::explain::Observed;
use autobee_sim::{Scenario, report};
use serde_json::Value;

#[test]
fn a_page_needs_nothing_else() {
    let text = "about = \"</script><b>\"\nreplicas = 2\ncrypto = \"stand-in\"\n[[workload]]\nreplicas = [0, 1]\nappends = 4\nto_ms = 500\n\
                [[event]]\nat_ms = 100\ndo = \"partition\"\ngroups = [[0], [1]]\n[[event]]\nat_ms = 200\ndo = \"crash\"\nreplica = 1\nmode = \"kill\"\n";
    let scenario = Scenario::parse("page", text).unwrap();
    let observed = Observed::run(&scenario, 1);
    let page = report::html(&observed, &observed.explanation(), None);
    for wanted in ["http://", "https://", "src=", "@import", "url("] {
        let found: Vec<_> = page.match_indices(wanted).collect();
        // The name of the SVG namespace is no address that is asked.
        let asked = found
            .iter()
            .filter(|(at, _)| !page[*at..].starts_with("http://www.w3.org/2000/svg"));
        assert_eq!(asked.count(), 0, "{wanted}");
    }
    assert_eq!(page.matches("</script>").count(), 2);
    assert!(!page.contains("/*DATA*/") && !page.contains("/*STYLE*/"));
    let start = page.find("type=\"application/json\">").unwrap() + 24;
    let end = start + page[start..].find("</script>").unwrap();
    let data: Value = serde_json::from_str(&page[start..end]).unwrap();
    assert_eq!(data["replicas"], serde_json::json!(["r0", "r1"]));
    assert!(!data["splits"].as_array().unwrap().is_empty());
    assert!(!data["downs"].as_array().unwrap().is_empty());
    assert!(data["orders"][0]["entries"].as_array().is_some());
}
