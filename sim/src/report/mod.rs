//! A run as one page of HTML that needs nothing else: no network, no other file.
//!
//! The page is written by hand: what it draws (lanes of replicas in virtual time, partitions, crashes, undos, the order beside
//! the links of its entries) fits no chart library without more glue than drawing. `page.html`, `page.css` and `page.js` are
//! in this folder; the data is made here.

mod data;

use serde_json::Value;

use crate::explain::{Explanation, Observed};

/// What stands in the page where the parts go.
const STYLE: &str = "/*STYLE*/";
const SCRIPT: &str = "/*SCRIPT*/";
const DATA: &str = "/*DATA*/";
const TITLE: &str = "<!--TITLE-->";

/// The page of a run, with its explanation. `shrunk` is the smallest plan that fails in the same way, as a file.
#[must_use]
pub fn html(observed: &Observed<'_>, told: &Explanation, shrunk: Option<&str>) -> String {
    let data = data::of(observed, told, shrunk);
    let title = format!("{} seed {}", told.scenario, told.seed);
    include_str!("page.html")
        .replace(TITLE, &escaped(&title))
        .replace(STYLE, include_str!("page.css"))
        .replace(SCRIPT, include_str!("page.js"))
        .replace(DATA, &embedded(&data))
}

/// JSON in a script element: nothing in it may look like the end of that.
fn embedded(data: &Value) -> String {
    data.to_string().replace('<', "\\u003c")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn a_page_needs_nothing_else() {
        let text = "about = \"</script><b>\"\nreplicas = 2\ncrypto = \"stand-in\"\n[[workload]]\nreplicas = [0, 1]\nappends = 4\nto_ms = 500\n\
                    [[event]]\nat_ms = 100\ndo = \"partition\"\ngroups = [[0], [1]]\n[[event]]\nat_ms = 200\ndo = \"crash\"\nreplica = 1\nmode = \"kill\"\n";
        let scenario = Scenario::parse("page", text).unwrap();
        let observed = Observed::run(&scenario, 1);
        let page = html(&observed, &observed.explanation(), None);
        for wanted in ["http://", "https://", "src=", "@import", "url("] {
            let found: Vec<_> = page.match_indices(wanted).collect();
            // The name of the SVG namespace is no address that is asked.
            let asked = found
                .iter()
                .filter(|(at, _)| !page[*at..].starts_with("http://www.w3.org/2000/svg"));
            assert_eq!(asked.count(), 0, "{wanted}");
        }
        assert_eq!(page.matches("</script>").count(), 2);
        assert!(!page.contains(DATA) && !page.contains(STYLE));
        let start = page.find("type=\"application/json\">").unwrap() + 24;
        let end = start + page[start..].find("</script>").unwrap();
        let data: Value = serde_json::from_str(&page[start..end]).unwrap();
        assert_eq!(data["replicas"], serde_json::json!(["r0", "r1"]));
        assert!(!data["splits"].as_array().unwrap().is_empty());
        assert!(!data["downs"].as_array().unwrap().is_empty());
        assert!(data["orders"][0]["entries"].as_array().is_some());
    }
}
