//! What a store shows, compared with what a model says.

use std::collections::BTreeMap;
use std::sync::Arc;

use branch_store::{Branch, Kind};

use crate::common::{Paths, Workspace};
use crate::model::{Files, Line, Model, in_words};

/// Files that keep their directories from going.
pub const KEPT: [&str; 2] = ["x/kept", "y/kept"];

type Shown = BTreeMap<String, String>;

/// How the store differs from a model, in words.
pub fn difference(w: &Workspace, parent: &str, model: &Model) -> Option<String> {
    let mut wrong: Vec<String> = Vec::new();
    compare(&mut wrong, parent, &files_of(&w.branch(parent).tree()), &model.parent);
    if parent == "main" {
        compare(&mut wrong, "base", &files_of(&w.base_tree()), &model.parent);
    }
    let mut live: Vec<String> = w.store().branches().iter().map(|branch| branch.name().to_owned()).collect();
    live.retain(|name| name.starts_with("line"));
    for line in &model.lines {
        match w.store().branch(&line.name) {
            Ok(branch) => compare_branch(&mut wrong, w, &branch, line),
            Err(e) => wrong.push(format!("{}: {e}", line.name)),
        }
        live.retain(|name| *name != line.name);
    }
    if !live.is_empty() {
        wrong.push(format!("more than there should be: {live:?}"));
    }
    (!wrong.is_empty()).then(|| wrong.join("\n"))
}

fn compare_branch(wrong: &mut Vec<String>, w: &Workspace, branch: &Arc<Branch>, line: &Line) {
    compare(wrong, &line.name, &files_of(&branch.tree()), &line.now);
    let mut marks = marks_of(branch);
    marks.sort();
    if !marks.iter().eq(line.marks.keys()) {
        wrong.push(format!("{} has the marks {marks:?}, not {:?}", line.name, line.marks.keys()));
        return;
    }
    for (name, files) in &line.marks {
        compare(wrong, &format!("{}@{name}", line.name), &marked(w, branch, name), files);
    }
}

pub fn marks_of(branch: &Branch) -> Vec<String> {
    branch.marks().into_iter().map(|mark| mark.name).collect()
}

fn compare(wrong: &mut Vec<String>, name: &str, real: &Shown, files: &Files) {
    let wanted: Shown = files.iter().map(|(path, text)| ((*path).to_owned(), in_words(text))).collect();
    if *real != wanted {
        wrong.push(format!("{name}: {real:?}, not {wanted:?}"));
    }
}

fn files_of(tree: &BTreeMap<String, String>) -> Shown {
    let files = tree.iter().filter(|(path, text)| text.starts_with("File") && !KEPT.contains(&path.as_str()));
    let body = |text: &String| text.splitn(4, ' ').nth(3).unwrap_or_default().to_owned();
    files.map(|(path, text)| (path.clone(), body(text))).collect()
}

/// The files of a mark.
fn marked(w: &Workspace, branch: &Arc<Branch>, name: &str) -> Shown {
    let side = w.store().marked(branch, name).unwrap();
    let mut shown = Shown::new();
    for dir in ["", "x", "y"] {
        let object = side.resolve(dir.as_bytes()).unwrap().unwrap().0;
        for entry in side.read_dir(&object).unwrap().into_iter().filter(|entry| entry.kind == Kind::File) {
            let path = format!("{dir}/{}", entry.name).trim_start_matches('/').to_owned();
            let bytes = side.read(&entry.object, 1 << 20).unwrap().unwrap();
            shown.insert(path, String::from_utf8(bytes).unwrap());
        }
    }
    shown.retain(|path, _| !KEPT.contains(&path.as_str()));
    shown
}
