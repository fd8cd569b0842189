//! Links of the pages: each leads somewhere, and the book has all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::{relative, root};

#[test]
fn links_of_pages_lead_somewhere() {
    let pages = pages();
    let (mut wrong, mut followed) = (Vec::new(), 0);
    for page in &pages {
        let text = fs::read_to_string(page).expect("pages can be read");
        let is_in_book = page.starts_with(root().join("docs"));
        for (line, target) in links(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            followed += 1;
            if let Err(why) = follow(page, &target, is_in_book) {
                wrong.push(format!("{}:{line}: {target}: {why}", relative(page)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(followed > 60, "only {followed} links were found");
}

#[test]
fn the_book_has_every_page_once() {
    let docs = root().join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).expect("the book has a summary");
    let mut listed = BTreeMap::<PathBuf, usize>::new();
    for (_, target) in links(&summary)
        .into_iter()
        .filter(|(_, target)| !target.is_empty())
    {
        *listed.entry(docs.join(target)).or_default() += 1;
    }
    let twice: Vec<_> = listed.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let there = pages().into_iter().filter(|page| page.starts_with(&docs));
    let there: BTreeSet<PathBuf> = there.filter(|page| !page.ends_with("SUMMARY.md")).collect();
    assert_eq!(
        listed.into_keys().collect::<BTreeSet<_>>(),
        there,
        "pages that the summary has (left), and pages in the tree (right)"
    );
}

#[test]
fn links_and_headings_are_read() {
    let text = "# A `b` C, d!\n\n[x](y.md#z) and `[no](link)` and\n![i](a b.png \"title\")\n```\n# no heading\n[no](link)\n```\n\
                ## Twice\n## Twice\n[f][r]\n\n[r]: r.md\n<!-- [no](link) -->\n";
    let expected = [(3, "y.md#z"), (4, "a b.png"), (13, "r.md")];
    let expected: Vec<_> = expected.map(|(line, target)| (line, target.to_owned())).into();
    assert_eq!(links(text), expected);
    assert_eq!(
        anchors(text),
        ["a-b-c-d", "twice", "twice-1"].map(str::to_owned).into()
    );
    assert!(has_tag("x array<link>") && !has_tag("x array\\<link>, 1 < 2"));
    let page = root().join("docs/tutorial.md");
    assert_eq!(follow(&page, "#4-check-it", true), Ok(()));
    assert_eq!(follow(&page, "how-to.md#encryption", true), Ok(()));
    for target in ["#nothing", "how-to.md#nothing", "nothing.md", "../README.md", ""] {
        assert!(follow(&page, target, true).is_err(), "{target}");
    }
}

/// `array<link>` is a tag to whoever shows a page, and then nothing: it is code, or its bracket is escaped.
#[test]
fn brackets_of_pages_are_no_tags() {
    let mut wrong = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).expect("pages can be read");
        for (number, line) in prose(&text) {
            if has_tag(&without_code(&line)) {
                wrong.push(format!("{}:{number}", relative(&page)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// All pages of the repository.
fn pages() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![root().to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).expect("folders can be listed") {
            let path = entry.expect("folders can be listed").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                // What is built, and what belongs to others.
                if !name.starts_with('.') && !["target", "node_modules", "out"].contains(&&*name) {
                    waiting.push(path);
                }
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Where a link leads, from a page. The book has the pages below `docs` alone, so those link nothing else.
fn follow(page: &Path, target: &str, is_in_book: bool) -> Result<(), String> {
    let (path, anchor) = target
        .split_once('#')
        .map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    // A chapter of the book that is only a title.
    if target.is_empty() && page.ends_with("SUMMARY.md") {
        return Ok(());
    }
    if target.is_empty() {
        return Err("it leads nowhere".into());
    }
    let file = match path {
        "" => page.to_owned(),
        path => normal(&page.parent().unwrap_or(page).join(path)),
    };
    if !file.exists() {
        return Err("there is no such file".into());
    }
    if is_in_book && file.ends_with("README.md") && !page.ends_with("SUMMARY.md") {
        return Err("the book calls it index.html: link the folder".into());
    }
    if is_in_book && !file.starts_with(root().join("docs")) {
        return Err("it leads out of the book".into());
    }
    let Some(anchor) = anchor else { return Ok(()) };
    let text = fs::read_to_string(&file).map_err(|error| error.to_string())?;
    if !anchors(&text).contains(anchor) {
        return Err("there is no such heading".into());
    }
    Ok(())
}

/// A path without the steps back.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => _ = normal.pop(),
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

/// The lines of a page that are no code and no comment, with their numbers and without code inside of them.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut is_code = false;
    let mut prose = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code && !line.starts_with("<!--") {
            prose.push((number + 1, line.to_owned()));
        }
    }
    prose
}

/// A line without the code inside of it: every second part.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// An angle bracket that is not escaped stands before a letter.
fn has_tag(line: &str) -> bool {
    let mut parts = line.split('<').peekable();
    while let Some(before) = parts.next() {
        let is_name = parts
            .peek()
            .is_some_and(|after| after.starts_with(|c: char| c.is_alphabetic()));
        if is_name && !before.ends_with('\\') {
            return true;
        }
    }
    false
}

/// Targets of the links of a page, with the lines that have them.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let line = without_code(&line);
        if let Some((_, target)) = line.split_once("]: ").filter(|(name, _)| name.starts_with('[')) {
            found.push((number, target.trim().to_owned()));
        }
        for rest in line.split("](").skip(1) {
            let target = rest.split(')').next().unwrap_or_default();
            let target = target.split(" \"").next().unwrap_or_default();
            found.push((number, target.to_owned()));
        }
    }
    found
}

/// What the headings of a page are called in links.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut counts = BTreeMap::<String, usize>::new();
    let mut found = BTreeSet::new();
    for (_, line) in prose(text) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title
            .trim()
            .chars()
            .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        let name: String = kept.collect::<String>().to_lowercase().replace(' ', "-");
        let count = counts.entry(name.clone()).or_default();
        found.insert(match *count {
            0 => name,
            count => format!("{name}-{count}"),
        });
        *count += 1;
    }
    found
}
