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
