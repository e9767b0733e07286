//! Commits of so many objects that several threads look at the base and stage (`crew`): the result is that of a small
//! one, and so is what an error, a no or a death in the middle leaves.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use branch_store::*;
use common::{Paths, Workspace};
use rustix::io::Errno;

/// More than one thread does alone (`crew::ALONE_MAX`), and not a whole number of blocks.
const FILES: usize = 1237;

fn old(i: usize) -> String {
    format!("d{}/f{i}", i % 3)
}

/// A base of many files, two of them one, and a branch that changed them all.
fn sample() -> (Workspace, Arc<Branch>) {
    let names: Vec<String> = (0..FILES).map(old).collect();
    let mut files: Vec<(&str, &str)> = names.iter().map(|name| (&name[..], "old")).collect();
    files.push(("gone/a", "removed"));
    let w = Workspace::new(&files);
    std::fs::hard_link(w.base().join(old(5)), w.base().join("linked")).unwrap();
    let branch = w.fork("main", "b");
    edit(&branch);
    (w, branch)
}

fn edit(branch: &Arc<Branch>) {
    branch.make_dir("new").unwrap();
    for i in 0..FILES {
        branch.put(&old(i), &format!("changed {i}")).unwrap();
    }
    // A new file whose first name comes before the new directory in the plan, and one whose first name is in it.
    branch.put("d0/first", "one of two").unwrap();
    branch.ln("d0/first", "new/second").unwrap();
    branch.put("new/inner", "another of two").unwrap();
    branch.ln("new/inner", "z").unwrap();
    branch.put("d1/new", "new").unwrap();
    let link = common::new(NewKind::Symlink(b"../d0".to_vec()), 0o777);
    branch.create(&branch.at("d2").unwrap().0, b"link", link).unwrap();
    let (file, _) = branch.at(&old(7)).unwrap();
    branch.set_attr(&file, &AttrChange { mode: Some(0o400), ..AttrChange::default() }).unwrap();
    branch.set_xattr(&file, b"user.a", Some(b"1"), XattrMode::Any).unwrap();
    branch.remove("gone/a").unwrap();
    branch.remove_dir("gone").unwrap();
}

fn preimages(w: &Workspace) -> usize {
    std::fs::read_dir(w.base().join(".branchfs/preimage")).unwrap().count()
}

fn times(w: &Workspace) -> Vec<std::time::SystemTime> {
    (0..FILES).map(|i| w.base().join(old(i)).metadata().unwrap().modified().unwrap()).collect()
}

#[test]
fn many_changes_are_committed_undone_and_redone_like_few() {
    let (mut w, branch) = sample();
    let (before, before_times) = (w.base_tree(), times(&w));
    let changed: BTreeMap<String, String> = branch.tree();
    let committed = w.store().commit(&branch).unwrap();
    assert_eq!(committed.warnings, [""; 0]);
    assert_eq!(w.base_tree(), changed);
    assert_eq!(w.store().branch("main").unwrap().tree(), changed);
    let mut value = [0; 8];
    let read = rustix::fs::getxattr(w.base().join(old(7)), "user.a", &mut value[..]).unwrap();
    assert_eq!(&value[..read], b"1");
    w.store().undo().unwrap();
    assert_eq!(w.base_tree(), before);
    // Who has something of a store keeps it open.
    drop((branch, committed));
    assert_eq!(times(&w), before_times);
    w.reopen();
    w.store().redo().unwrap();
    assert_eq!(w.base_tree(), changed);
}

/// Answers the nth call of a name (or of any) with an error, and if it is dead all after it, too.
struct Nth {
    call: &'static str,
    seen: AtomicU64,
    n: u64,
    errno: Errno,
    dead: bool,
}

impl Nth {
    fn new(call: &'static str, n: u64, errno: Errno, dead: bool) -> Arc<Nth> {
        Arc::new(Nth { call, seen: AtomicU64::new(0), n, errno, dead })
    }
}

impl Gatekeeper for Nth {
    fn before(&self, call: &'static str) -> std::result::Result<(), Errno> {
        if !self.call.is_empty() && call != self.call {
            return Ok(());
        }
        let seen = self.seen.fetch_add(1, Ordering::SeqCst) + 1;
        if seen == self.n || self.dead && seen > self.n { Err(self.errno) } else { Ok(()) }
    }
}

fn goes_on(w: &Workspace, branch: &Arc<Branch>, before: &BTreeMap<String, String>) {
    assert_eq!(&w.base_tree(), before, "the base is as it was");
    assert_eq!(preimages(w), 0, "nothing is left of what was staged");
    assert!(branch.is_live());
    // Also in files that had been staged.
    for i in [0, 1, FILES / 2, FILES - 1] {
        branch.put(&old(i), "changed again").unwrap();
    }
    let changed = branch.tree();
    w.store().commit(branch).unwrap();
    assert_eq!(w.base_tree(), changed);
}

#[test]
fn a_host_that_fails_for_one_of_many_objects_leaves_nothing_behind() {
    for (call, errno) in
        [("link", Errno::IO), ("link", Errno::NOSPC), ("set_meta", Errno::IO), ("symlink", Errno::DQUOT)]
    {
        let n = if call == "symlink" { 1 } else { FILES as u64 / 2 };
        let (mut w, branch) = sample();
        let (before, changed) = (w.base_tree(), branch.tree());
        drop(branch);
        w.reopen_on(Disk::guarded(Nth::new(call, n, errno, false))).unwrap();
        let branch = w.branch("b");
        let failed = w.store().commit(&branch).unwrap_err();
        assert_eq!(failed.errno(), errno, "{call}: {failed}");
        assert_eq!(branch.tree(), changed);
        goes_on(&w, &branch, &before);
    }
}

#[test]
fn a_commit_of_many_objects_is_called_off_in_the_middle() {
    for at in [PROGRESS_EVERY, 2 * PROGRESS_EVERY] {
        let (w, branch) = sample();
        let before = w.base_tree();
        let watch = |progress: Progress| {
            assert!(progress.phase <= Phase::Staging, "went on with {:?}", progress.phase);
            if progress.phase == Phase::Staging && progress.done == at {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let refuse = |_: &Conflict| Choice::Refuse;
        let called_off = w.store().commit_watched(&branch, &refuse, None, &Note::default(), &watch);
        assert!(matches!(called_off, Err(Error::Cancelled)));
        goes_on(&w, &branch, &before);
    }
}

#[test]
fn progress_of_many_objects_is_told_in_order_and_to_the_last() {
    let (w, branch) = sample();
    let staging = std::sync::Mutex::new(Vec::new());
    let watch = |progress: Progress| {
        if progress.phase == Phase::Staging {
            staging.lock().unwrap().push((progress.done, progress.of));
        }
        ControlFlow::Continue(())
    };
    let refuse = |_: &Conflict| Choice::Refuse;
    w.store().commit_watched(&branch, &refuse, None, &Note::default(), &watch).unwrap();
    let told = staging.into_inner().unwrap();
    let of = told[0].1;
    assert!(of > FILES as u64);
    let mut expected: Vec<(u64, u64)> =
        (0..of).step_by(PROGRESS_EVERY as usize).map(|done| (done, of)).collect();
    expected.push((of, of));
    assert_eq!(told, expected);
}

#[test]
fn a_death_among_many_objects_leaves_all_or_nothing() {
    let calls = 5 * FILES as u64;
    let (mut old_states, mut new_states) = (0, 0);
    for n in (1..=6).map(|sixth| calls * sixth / 6) {
        let (mut w, branch) = sample();
        let (before, changed) = (w.base_tree(), branch.tree());
        drop(branch);
        w.reopen_on(Disk::guarded(Nth::new("", n, Errno::IO, true))).unwrap();
        let done = w.store().commit(&w.branch("b")).is_ok();
        w.reopen();
        let now = w.base_tree();
        if now == before {
            assert!(!done, "{n}: it was said to have happened");
            assert_eq!(w.branch("b").tree(), changed);
            assert_eq!(preimages(&w), 0);
            old_states += 1;
        } else {
            assert_eq!(now, changed, "{n}: half a commit");
            new_states += 1;
        }
    }
    assert!(old_states > 1 && new_states > 1, "{old_states} before the decision, {new_states} after it");
}
