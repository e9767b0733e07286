//! Commits of branches that have nothing to commit.

mod common;

use std::ops::ControlFlow;

use branch_store::*;
use common::gate::Fuse;
use common::{Paths, Workspace, chmod, refuse};
use rustix::io::Errno;

/// Story: a branch in which nobody changed anything made a commit of no path: a line in the log and a step that undo
/// went back without anything happening.
#[test]
fn a_branch_without_changes_ends_committed_and_is_no_commit() {
    let mut w = Workspace::new(&[("a", "a")]);
    let first = w.fork("main", "first");
    first.put("b", "b").unwrap();
    w.store().commit(&first).unwrap();
    let before = (w.base_tree(), w.store().log(9));
    let idle = w.fork("main", "idle");
    let done = w.store().commit(&idle).unwrap();
    assert_eq!((done.commit, done.changed), (None, 0));
    assert_eq!(done.warnings, Vec::<String>::new());
    assert!(matches!(idle.at("a"), Err(Error::Ended(_) | Error::Posix(_))), "it has ended");
    drop((first, idle, done));
    for _ in 0..2 {
        assert!(matches!(w.store().branch("idle"), Err(Error::NoSuchBranch(_))));
        assert_eq!((w.base_tree(), w.store().log(9)), before);
        assert_eq!(w.store().usage().unwrap().commits, 1);
        w.reopen();
    }
    let parks = std::fs::read_dir(w.base().join(".branchfs/preimage")).unwrap().count();
    assert_eq!(parks, 1, "of the first commit");
    assert_eq!(w.store().undo().unwrap().action, Action::Undo(CommitId(1)));
}

#[test]
fn what_was_undone_can_be_redone_after_a_commit_of_nothing() {
    let w = Workspace::new(&[("a", "a")]);
    let first = w.fork("main", "first");
    first.put("b", "b").unwrap();
    w.store().commit(&first).unwrap();
    w.store().undo().unwrap();
    w.store().commit(&w.fork("main", "idle")).unwrap();
    w.store().redo().unwrap();
    assert!(w.base().join("b").exists());
}

#[test]
fn a_commit_of_nothing_wins_over_its_siblings_also_after_a_restart() {
    let mut w = Workspace::new(&[("a", "a")]);
    let group = w.fork_as("main", &["idle", "busy"], GroupKind::Exclusive);
    group[1].put("b", "b").unwrap();
    let done = w.store().commit(&group[0]).unwrap();
    let stale: Vec<&str> = done.stale.iter().map(|branch| branch.name()).collect();
    assert_eq!(stale, ["busy"]);
    assert!(matches!(w.store().commit(&group[1]), Err(Error::Stale(_))));
    drop((group, done));
    w.reopen();
    assert!(matches!(w.store().branch("busy"), Err(Error::Stale(_))));
    w.store().checkpoint().unwrap();
    w.reopen();
    assert_eq!(w.store().branches().len(), 1);
    let group = w.fork_as("main", &["idle", "busy"], GroupKind::Independent);
    w.store().commit(&group[0]).unwrap();
    group[1].put("b", "b").unwrap();
    assert_eq!(w.store().commit(&group[1]).unwrap().commit, Some(CommitId(1)));
}

#[test]
fn what_was_changed_back_or_left_to_the_parent_is_nothing() {
    let w = Workspace::new(&[("d/a", "a")]);
    let back = w.fork("main", "back");
    let (mode, there) = (back.at("d").unwrap().1.mode, w.base_tree());
    chmod(&back, "d", 0o700).unwrap();
    chmod(&back, "d", mode).unwrap();
    assert_eq!(w.store().commit(&back).unwrap().commit, None);
    let theirs = w.fork_as("main", &["one", "other"], GroupKind::Independent);
    for (branch, text) in theirs.iter().zip(["one", "other"]) {
        branch.overwrite("d/a", text).unwrap();
    }
    w.store().commit(&theirs[0]).unwrap();
    let done = w.store().commit_with(&theirs[1], &|_| Choice::Theirs).unwrap();
    assert_eq!((done.commit, done.changed, done.resolved.len()), (None, 0, 1));
    assert_eq!(w.store().log(9).len(), 1);
    assert_ne!(w.base_tree(), there);
}

#[test]
fn a_directory_s_attributes_alone_are_something() {
    let w = Workspace::new(&[("d/a", "a")]);
    let b = w.fork("main", "b");
    chmod(&b, "d", 0o700).unwrap();
    assert_eq!(w.store().commit(&b).unwrap().commit, Some(CommitId(1)));
}

#[test]
fn a_commit_of_nothing_is_refused_and_called_off_like_any() {
    let w = Workspace::new(&[("a", "a")]);
    let b = w.fork("main", "b");
    let child = w.fork("b", "child");
    assert!(matches!(w.store().commit(&b), Err(Error::HasChildren { .. })));
    w.store().commit(&child).unwrap();
    let no = |at: Progress| match at.phase {
        Phase::Deciding => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let off = w.store().commit_watched(&b, &refuse, None, &Note::default(), &no);
    assert!(matches!(off, Err(Error::Cancelled)), "{off:?}");
    b.put("b", "still there").unwrap();
}

#[test]
fn a_death_at_any_call_of_a_commit_of_nothing_leaves_it_done_or_not() {
    let (mut done, mut not) = (0, 0);
    for calls in 0.. {
        let mut w = Workspace::new(&[("a", "a")]);
        w.fork_as("main", &["idle", "busy"], GroupKind::Exclusive);
        w.branch("busy").put("b", "b").unwrap();
        let fuse = Fuse::new(u64::MAX, Errno::IO, false);
        w.reopen_on(Disk::guarded(fuse.clone())).unwrap();
        fuse.set(calls);
        let idle = w.branch("idle");
        let result = w.store().commit(&idle).map(drop);
        let died = fuse.calls() > calls;
        drop(idle);
        w.reopen();
        let is_done = match (w.store().branch("idle"), w.store().branch("busy")) {
            (Ok(_), Ok(busy)) => busy.read_all("b").unwrap() != "b",
            (Err(Error::NoSuchBranch(_)), Err(Error::Stale(_))) => true,
            (idle, busy) => panic!("half: {:?}, {:?}", idle.err(), busy.err()),
        };
        assert!(is_done || result.is_err(), "call {calls}");
        assert!(w.store().log(1).is_empty());
        *(if is_done { &mut done } else { &mut not }) += 1;
        if !died {
            break;
        }
    }
    assert!(done > 0 && not > 0, "{done} done, {not} not");
}
