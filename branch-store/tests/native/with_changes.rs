//! Native views of branches that have changes, of their own or of those above them: their upper directory begins with these.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use branch_store::*;
use rustix::io::Errno;

use crate::common::gate::Fuse;
use crate::common::{Paths, Workspace, chmod, link};
use crate::{attach, sample, statuses, whiteout};

type Tree = BTreeMap<String, String>;

/// Changes of a branch, in our words.
fn before(a: &Arc<Branch>) {
    a.put("README", "of the branch\n").unwrap();
    chmod(a, "mode", 0o640).unwrap();
    a.remove("empty").unwrap();
    a.make_dir("own").unwrap();
    a.put("own/x", "x").unwrap();
    a.put("own/gone", "soon").unwrap();
    a.ln("own/x", "y").unwrap();
    link(a, "link", "nowhere").unwrap();
}

/// What a program does then, in those of overlayfs: nobody sees a whiteout where the base has nothing.
fn program(upper: &Path) {
    let at = |path: &str| upper.join(path);
    assert_eq!(fs::read_to_string(at("README")).unwrap(), "of the branch\n");
    assert_eq!(fs::metadata(at("mode")).unwrap().permissions().mode() & 0o777, 0o640);
    fs::write(at("README"), "of the program\n").unwrap();
    fs::remove_file(at("own/gone")).unwrap();
    fs::rename(at("own"), at("moved")).unwrap();
    fs::write(at("y"), "both").unwrap();
    fs::remove_file(at("mode")).unwrap();
    whiteout(&at("mode"));
    fs::remove_file(at("empty")).unwrap();
    fs::write(at("empty"), "not any more").unwrap();
}

/// The same in ours.
fn after(a: &Arc<Branch>) {
    a.put("README", "of the program\n").unwrap();
    a.remove("own/gone").unwrap();
    a.mv("own", "moved").unwrap();
    a.put("y", "both").unwrap();
    a.remove("mode").unwrap();
    a.put("empty", "not any more").unwrap();
}

/// What a branch shows before and after.
fn shown() -> (Tree, Tree) {
    let w = sample();
    let a = w.fork("main", "a");
    before(&a);
    let began = a.tree();
    after(&a);
    (began, a.tree())
}

#[test]
fn what_a_branch_had_is_there_and_stays_what_it_was_whatever_becomes_of_it() {
    for nested in [false, true] {
        let w = sample();
        let above = w.fork("main", "above");
        before(&above);
        let a = if nested { w.fork("above", "a") } else { above.clone() };
        let ids = ["own/x", "README", "own"].map(|path| a.at(path).unwrap().1.id);
        let paths = attach(&w, &a).unwrap();
        assert_eq!(a.marks().len(), usize::from(!nested), "what it was is noted");
        program(&paths.upper);
        for processes in [Processes::Run, Processes::Run, Processes::Ended] {
            w.store().take_in(&a, processes).unwrap();
            assert_eq!(a.tree(), shown().1);
            assert_eq!(["moved/x", "README", "moved"].map(|path| a.at(path).unwrap().1.id), ids);
        }
        assert!(a.marks().is_empty() && !a.is_attached());
        if nested {
            assert_eq!(
                statuses(&w, &a),
                [
                    "Modified README",
                    "Added empty",
                    "Deleted mode",
                    "Renamed { from: [111, 119, 110] } moved",
                    "Deleted moved/gone",
                    "Modified moved/x",
                    "Modified y"
                ]
            );
            w.store().commit(&a).unwrap();
        }
        w.store().commit(&above).unwrap();
        assert_eq!(w.base_tree(), shown().1);
    }
}

#[test]
fn a_view_in_which_nothing_was_done_changes_nothing() {
    let w = sample();
    let a = w.fork("main", "a");
    before(&a);
    let (tree, statuses_before) = (a.tree(), statuses(&w, &a));
    attach(&w, &a).unwrap();
    let taken = w.store().take_in(&a, Processes::Ended).unwrap();
    assert!(taken.invalid.is_empty());
    assert_eq!((a.tree(), statuses(&w, &a)), (tree, statuses_before));
}

/// A file of the base that was changed by one name shows the change under the others, which nobody knows.
#[test]
fn what_overlayfs_could_not_show_is_refused_and_leaves_nothing() {
    let w = sample();
    fs::hard_link(w.base().join("README"), w.base().join("second")).unwrap();
    let a = w.fork("main", "a");
    a.put("README", "changed").unwrap();
    let b = w.fork("main", "b");
    b.mv("docs/a", "moved").unwrap();
    for (branch, said) in [(&a, "several names"), (&b, "moved a directory")] {
        let refused = attach(&w, branch).unwrap_err();
        assert!(matches!(refused, Error::NotAllowed(reason) if reason.contains(said)), "{refused}");
        assert!(branch.marks().is_empty() && !branch.is_attached());
        branch.put("new", "it goes on").unwrap();
    }
    assert_eq!(fs::read_dir(w.options().store.join("native")).unwrap().count(), 0);
}

/// A workspace with a branch that has changes, opened on a disk.
fn changed(disk: Disk) -> Workspace {
    let mut w = sample();
    before(&w.fork("main", "a"));
    w.reopen_on(disk).unwrap();
    w
}

/// Whether the branch got its view, and whether it was committed.
fn run(w: &Workspace) -> (bool, bool) {
    let a = w.branch("a");
    let Ok(paths) = attach(w, &a) else { return (false, false) };
    program(&paths.upper);
    let taken = w.store().take_in(&a, Processes::Run).and_then(|_| w.store().take_in(&a, Processes::Ended));
    (true, taken.is_ok() && w.store().commit(&a).is_ok())
}

#[test]
fn a_death_at_any_call_loses_neither_what_a_branch_had_nor_what_was_done() {
    let counter = Fuse::counting();
    let w = changed(Disk::guarded(counter.clone()));
    counter.set(u64::MAX);
    assert_eq!(run(&w), (true, true));
    let calls = counter.calls();
    assert!(calls > 80, "{calls} calls");
    let (began, done) = shown();
    for k in 0..calls {
        let fuse = Fuse::counting();
        let mut w = changed(Disk::guarded(fuse.clone()));
        let base = w.base_tree();
        fuse.set(k);
        let (attached, committed) = run(&w);
        for _ in 0..2 {
            w.reopen();
            match w.store().branch("a") {
                Ok(a) => {
                    assert!(!a.is_attached() && !committed && w.base_tree() == base, "call {k}");
                    assert_eq!(a.tree(), if attached { done.clone() } else { began.clone() }, "call {k}");
                    assert!(a.marks().is_empty(), "call {k}");
                }
                Err(_) => assert_eq!(w.base_tree(), done, "call {k}"),
            }
            assert_eq!(
                fs::read_dir(w.options().store.join("native")).map_or(0, Iterator::count),
                0,
                "call {k}"
            );
        }
    }
}

#[test]
fn a_full_disk_at_any_call_of_an_attachment_is_an_error_that_leaves_the_branch_as_it_was() {
    let counter = Fuse::counting();
    let w = changed(Disk::guarded(counter.clone()));
    counter.set(u64::MAX);
    attach(&w, &w.branch("a")).unwrap();
    for k in 0..counter.calls() {
        let fuse = Fuse::new(u64::MAX, Errno::NOSPC, true);
        let mut w = changed(Disk::guarded(fuse.clone()));
        fuse.set(k);
        let a = w.branch("a");
        let attached = attach(&w, &a);
        assert!(attached.is_err() || a.is_attached(), "call {k}");
        assert_eq!(a.tree(), shown().0, "call {k}");
        if attached.is_err() && w.store().take_in(&a, Processes::Ended).is_ok() {
            // A failed sync has poisoned the store, perhaps.
            if a.put("own/x", "it goes on").is_ok() {
                a.put("own/x", "x").unwrap();
            }
        }
        drop(a);
        w.reopen();
        assert_eq!(w.branch("a").tree(), shown().0, "call {k}");
        assert!(w.branch("a").marks().is_empty(), "call {k}");
    }
}
