//! Two sides and what differs between them: content of the old one is what the fork saw, whatever happened since.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use branch_store::*;
use common::{Paths, Workspace};

fn text(side: &Side, path: &str) -> String {
    let (object, _) = side.resolve(path.as_bytes()).unwrap().unwrap_or_else(|| panic!("no {path}"));
    String::from_utf8(side.read(&object, 1 << 20).unwrap().unwrap()).unwrap()
}

fn lines(changes: &[PathChange]) -> Vec<String> {
    let line = |change: &PathChange| {
        let path = String::from_utf8_lossy(&change.path);
        match &change.kind {
            ChangeKind::Renamed { from } => format!("R {} {path}", String::from_utf8_lossy(from)),
            ChangeKind::Added => format!("A {path}"),
            ChangeKind::Modified => format!("M {path}"),
            ChangeKind::Deleted => format!("D {path}"),
            ChangeKind::Type => format!("T {path}"),
            ChangeKind::Attributes => format!("m {path}"),
        }
    };
    changes.iter().map(line).collect()
}

fn commit(w: &Workspace, name: &str, content: &[(&str, &str)]) {
    let branch = w.fork_as("main", &[name], GroupKind::Independent).remove(0);
    for (path, content) in content {
        branch.overwrite(path, content).or_else(|_| branch.put(path, content)).unwrap();
    }
    w.store().commit(&branch).unwrap();
}

#[test]
fn the_old_side_is_what_the_fork_saw_though_parent_and_base_went_on() {
    let w = Workspace::new(&[("f", "base\n"), ("g", "base\n")]);
    let parent = w.fork_as("main", &["parent"], GroupKind::Independent).remove(0);
    parent.overwrite("f", "parent\n").unwrap();
    let child = w.fork("parent", "child");
    parent.overwrite("f", "parent later\n").unwrap();
    parent.remove("g").unwrap();
    child.overwrite("f", "child!\n").unwrap();
    child.overwrite("g", "child\n").unwrap();
    commit(&w, "other", &[("g", "committed\n")]);
    let (old, new) = w.store().fork_and_now(&child).unwrap();
    assert_eq!((text(&old, "f"), text(&new, "f")), ("parent\n".into(), "child!\n".into()));
    assert_eq!((text(&old, "g"), text(&new, "g")), ("base\n".into(), "child\n".into()));
    assert_eq!(lines(&w.store().diff(&child).unwrap()), ["M f", "M g"]);
}

#[test]
fn the_base_after_each_commit_can_be_read_and_compared() {
    let mut w = Workspace::new(&[("f", "0\n"), ("d/x", "0\n"), ("d/same", "")]);
    std::fs::hard_link(w.base().join("f"), w.base().join("linked")).unwrap();
    commit(&w, "one", &[("f", "1\n"), ("d/new", "1\n")]);
    commit(&w, "two", &[("d/x", "2\n")]);
    let main = w.store().main();
    for round in 0..2 {
        let at = |commit| w.store().base_after(CommitId(commit)).unwrap();
        assert_eq!([0, 1, 2].map(|n| text(&at(n), "f")), ["0\n", "1\n", "1\n"], "round {round}");
        assert_eq!([0, 1, 2].map(|n| text(&at(n), "d/x")), ["0\n", "0\n", "2\n"]);
        assert!(at(0).resolve(b"d/new").unwrap().is_none());
        let compare =
            |old: &Side, new: &Side| lines(&w.store().compare(old, new, Directories::Whole).unwrap());
        // A file with several names is changed in place, so both names tell of it.
        assert_eq!(compare(&at(0), &at(1)), ["A d/new", "M f", "M linked"]);
        assert_eq!(compare(&at(1), &at(2)), ["M d/x"]);
        assert_eq!(compare(&at(2), &at(0)), ["D d/new", "M d/x", "M f", "M linked"]);
        assert_eq!(compare(&at(1), &at(1)), [""; 0]);
        assert_eq!(compare(&at(2), &w.store().side(&w.store().main()).unwrap()), [""; 0]);
        if round == 0 {
            w.store().checkpoint().unwrap();
            drop(w.store().main());
        }
    }
    drop(main);
    w.reopen();
    assert_eq!(text(&w.store().base_after(CommitId(0)).unwrap(), "f"), "0\n");
}

#[test]
fn a_base_that_is_no_longer_kept_is_refused_before_and_after_a_restart() {
    let mut w = Workspace::new(&[("f", "0\n")]);
    for n in 1..=20 {
        commit(&w, &format!("b{n}"), &[("f", &format!("{n}\n"))]);
    }
    let old = w.store().base_after(CommitId(3)).unwrap();
    assert_eq!(text(&old, "f"), "3\n");
    w.store().reclaim().unwrap();
    // Who has it keeps it.
    assert_eq!(text(&old, "f"), "3\n");
    drop(old);
    w.store().reclaim().unwrap();
    let refused = |store: &Store, commit| match store.base_after(CommitId(commit)) {
        Err(Error::NotKept { oldest, newest, .. }) => (oldest, newest),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the base after commit {commit} was given out"),
    };
    for _ in 0..3 {
        assert_eq!(refused(w.store(), 3), (4, 20));
        assert_eq!(refused(w.store(), 21), (4, 20));
        for n in [4, 5, 19, 20] {
            assert_eq!(text(&w.store().base_after(CommitId(n)).unwrap(), "f"), format!("{n}\n"));
        }
        w.reopen();
        w.store().checkpoint().unwrap();
    }
}

#[test]
fn branches_of_different_parents_are_compared_by_what_they_hold() {
    let w = Workspace::new(&[("f", "0\n"), ("d/x", "x\n"), ("d/y", "y\n")]);
    let [a, b] = <[_; 2]>::try_from(w.fork_as("main", &["a", "b"], GroupKind::Independent)).unwrap();
    a.mv("d", "e").unwrap();
    a.put("n", "a\n").unwrap();
    b.put("n", "b\n").unwrap();
    b.overwrite("f", "b\n").unwrap();
    let (a, b) = (w.store().side(&a).unwrap(), w.store().side(&b).unwrap());
    let compare = |directories| lines(&w.store().compare(&a, &b, directories).unwrap());
    assert_eq!(compare(Directories::Whole), ["R e d", "M f", "M n"]);
    assert_eq!(compare(Directories::Expanded), ["R e/x d/x", "R e/y d/y", "M f", "M n"]);
}

#[test]
fn a_side_of_a_branch_that_ended_answers_nothing() {
    let w = Workspace::new(&[("f", "0\n")]);
    let a = w.fork("main", "a");
    a.overwrite("f", "a\n").unwrap();
    let (old, new) = w.store().fork_and_now(&a).unwrap();
    w.store().abort(&a, Children::Refuse).unwrap();
    assert!(matches!(new.resolve(b"f"), Err(Error::Ended(_))));
    assert!(matches!(w.store().compare(&old, &new, Directories::Whole), Err(Error::Ended(_))));
}

/// Story: a file with two names that lost both was listed under one of them only.
#[test]
fn each_name_that_a_file_lost_is_listed() {
    let w = Workspace::new(&[("a", "x\n")]);
    std::fs::hard_link(w.base().join("a"), w.base().join("b")).unwrap();
    std::fs::hard_link(w.base().join("a"), w.base().join("c")).unwrap();
    let branch = w.fork("main", "branch");
    branch.remove("a").unwrap();
    branch.remove("b").unwrap();
    branch.mv("c", "d").unwrap();
    let changes = lines(&w.store().diff(&branch).unwrap());
    assert_eq!(changes.iter().filter(|line| line.starts_with('D')).count(), 2, "{changes:?}");
    assert_eq!(changes.iter().filter(|line| line.starts_with('R')).count(), 1, "{changes:?}");
}

/// Story: a directory made anew in the place of another had each name that both hold listed as added and deleted.
#[test]
fn a_directory_made_anew_is_compared_by_its_paths() {
    let w = Workspace::new(&[("d/x", "old\n"), ("d/y", "old\n"), ("d/z", "old\n")]);
    let branch = w.fork("main", "branch");
    branch.mv("d", "before").unwrap();
    branch.make_dir("d").unwrap();
    branch.put("d/x", "new\n").unwrap();
    branch.mv("before/y", "d/y").unwrap();
    branch.remove("before/x").unwrap();
    branch.remove("before/z").unwrap();
    branch.remove_dir("before").unwrap();
    assert_eq!(lines(&w.store().diff(&branch).unwrap()), ["M d/x", "D d/z"]);
}

/// Story: of a file with two names in the base only the one that was written to was listed, and a patch missed the other.
#[test]
fn a_file_that_changed_is_listed_under_all_its_names() {
    let w = Workspace::new(&[("d/a", "x\n"), ("e/b", "other\n"), ("top", "")]);
    for link in ["d/b", "e/a", "a"] {
        std::fs::hard_link(w.base().join("d/a"), w.base().join(link)).unwrap();
    }
    let branch = w.fork("main", "branch");
    branch.overwrite("d/a", "y\n").unwrap();
    assert_eq!(lines(&w.store().diff(&branch).unwrap()), ["M a", "M d/a", "M d/b", "M e/a"]);
    branch.mv("d", "moved").unwrap();
    branch.remove("a").unwrap();
    let whole = lines(&w.store().diff(&branch).unwrap());
    assert_eq!(whole, ["D a", "M e/a", "R d moved", "M moved/a", "M moved/b"]);
    let (old, new) = w.store().fork_and_now(&branch).unwrap();
    let expanded = lines(&w.store().compare(&old, &new, Directories::Expanded).unwrap());
    // Which of three names moved to which of two nobody can say.
    let of = |letter| expanded.iter().filter(|line| line.starts_with(letter)).count();
    assert_eq!((of('D'), of('M'), of('R')), (1, 1, 2), "{expanded:?}");
    // The other way round: the old side has the node, the new one none.
    let back = lines(&w.store().compare(&new, &old, Directories::Whole).unwrap());
    assert_eq!(back, ["A a", "R moved d", "M d/a", "M d/b", "M e/a"]);
}

/// Written through a name that is gone since: nothing in the branch's own directories speaks of the other one.
#[test]
fn a_file_that_lost_the_name_it_was_written_by_is_listed_under_the_other() {
    let w = Workspace::new(&[("d/a", "x\n"), ("e/b", "other\n")]);
    std::fs::hard_link(w.base().join("d/a"), w.base().join("e/a")).unwrap();
    let branch = w.fork("main", "branch");
    branch.overwrite("d/a", "y\n").unwrap();
    branch.remove("d/a").unwrap();
    let changes = lines(&w.store().diff(&branch).unwrap());
    assert_eq!(changes, ["D d/a", "M e/a"]);
}
