//! docs/SEMANTICS.md promises nothing without naming the test that would fail.
#![allow(clippy::unwrap_used)] // also in helpers

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A section of definitions, which promise nothing.
const WORDS: &str = "Words";
const TESTS: &str = "Tests:";

#[test]
fn every_paragraph_of_the_semantics_names_tests_and_they_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let known = tests_below(root);
    assert!(known.len() > 300, "found only {}", known.len());
    let page = std::fs::read_to_string(root.join("docs/SEMANTICS.md")).unwrap();
    let (mut wrong, mut paragraphs) = (Vec::new(), 0);
    for paragraph in promises(&page) {
        paragraphs += 1;
        let named = names(paragraph);
        if named.is_empty() {
            wrong.push(format!("names no test: {paragraph}"));
        }
        wrong.extend(named.iter().filter(|name| !exists(&known, name)).map(|name| format!("no test {name}")));
    }
    assert!(paragraphs > 30, "read only {paragraphs} paragraphs");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
}

#[test]
fn a_name_that_is_no_test_is_noticed() {
    let known = BTreeMap::from([("a_test".to_owned(), vec![PathBuf::from("x/tests/rooms/doors.rs")])]);
    assert_eq!(
        names("Text `not::this`.\nTests: `doors::a_test`,\n`rooms::other`."),
        ["doors::a_test", "rooms::other"]
    );
    assert!(exists(&known, "doors::a_test") && exists(&known, "rooms::a_test"));
    assert!(!exists(&known, "doors::another") && !exists(&known, "windows::a_test"));
}

/// Paragraphs but for headings and the definitions: what is between two empty lines.
fn promises(page: &str) -> impl Iterator<Item = &str> {
    let mut heading = "";
    page.split("\n\n").map(str::trim).filter(move |block| {
        if block.starts_with('#') {
            heading = block.trim_start_matches('#').trim();
        }
        !block.is_empty() && !block.starts_with('#') && heading != WORDS
    })
}

/// What stands in backquotes behind `Tests:`.
fn names(paragraph: &str) -> Vec<&str> {
    let Some((_, list)) = paragraph.split_once(TESTS) else { return Vec::new() };
    list.split('`').skip(1).step_by(2).collect()
}

/// `file::test`: a test function in a file of that name, or in one below a directory of that name.
fn exists(known: &BTreeMap<String, Vec<PathBuf>>, name: &str) -> bool {
    let Some((room, function)) = name.split_once("::") else { return false };
    let in_room = |file: &PathBuf| {
        file.file_stem().is_some_and(|stem| stem == room) || file.iter().any(|part| part == room)
    };
    known.get(function).is_some_and(|files| files.iter().any(in_room))
}

/// Functions marked as tests, with the files they are in.
fn tests_below(root: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    let mut found: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for file in rust_files(root) {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut marked = false;
        for line in text.lines().map(str::trim) {
            marked |= line == "#[test]";
            let Some(rest) = line.strip_prefix("fn ").filter(|_| marked) else { continue };
            let name = rest.split('(').next().unwrap().to_owned();
            found.entry(name).or_default().push(file.strip_prefix(root).unwrap().to_owned());
            marked = false;
        }
    }
    found
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.is_dir() && !hidden && !path.ends_with("target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
