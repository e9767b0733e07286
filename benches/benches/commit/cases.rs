//! What is measured: each case makes its own workspace and gives the time of one call.

use std::sync::Arc;
use std::time::{Duration, Instant};

use branch_store::{Branch, Children};

use crate::ground::{Ground, create, fill, make_dirs, modify, sync};

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) measure: fn(&Ground, usize) -> Duration,
}

pub(crate) const ALL: &[Case] = &[
    Case { name: "commit into a parent branch", measure: into_branch },
    Case { name: "commit into the base, a new directory", measure: new_directory },
    Case { name: "commit into the base, new files", measure: new_files },
    Case { name: "commit into the base, changed files", measure: changed_files },
    Case { name: "undo, a new directory", measure: undo_new_directory },
    Case { name: "undo, changed files", measure: undo_changed_files },
    Case { name: "abort", measure: abort },
    Case { name: "deleting what an abort left", measure: reclaim },
];

fn timed(act: impl FnOnce()) -> Duration {
    let start = Instant::now();
    act();
    start.elapsed()
}

/// As a branch is some time after its last write: the kernel has written most of it out, or all.
fn commit(ground: &Ground, branch: &Branch) -> Duration {
    sync(ground.path());
    timed(|| _ = ground.store.commit(branch).unwrap())
}

fn into_branch(ground: &Ground, files: usize) -> Duration {
    let parent = ground.fork(&ground.store.main(), "parent");
    let child = ground.fork(&parent, "child");
    create(&child, files, true);
    commit(ground, &child)
}

fn branch_with_new(ground: &Ground, files: usize) -> Arc<Branch> {
    let branch = ground.fork(&ground.store.main(), "branch");
    create(&branch, files, true);
    branch
}

fn branch_with_changed(ground: &Ground, files: usize) -> Arc<Branch> {
    fill(&ground.base(), files);
    let branch = ground.fork(&ground.store.main(), "branch");
    modify(&branch, files);
    branch
}

fn new_directory(ground: &Ground, files: usize) -> Duration {
    commit(ground, &branch_with_new(ground, files))
}

fn new_files(ground: &Ground, files: usize) -> Duration {
    make_dirs(&ground.base(), files);
    let branch = ground.fork(&ground.store.main(), "branch");
    create(&branch, files, false);
    commit(ground, &branch)
}

fn changed_files(ground: &Ground, files: usize) -> Duration {
    commit(ground, &branch_with_changed(ground, files))
}

fn undo_new_directory(ground: &Ground, files: usize) -> Duration {
    ground.store.commit(&branch_with_new(ground, files)).unwrap();
    timed(|| _ = ground.store.undo().unwrap())
}

fn undo_changed_files(ground: &Ground, files: usize) -> Duration {
    ground.store.commit(&branch_with_changed(ground, files)).unwrap();
    timed(|| _ = ground.store.undo().unwrap())
}

fn abort(ground: &Ground, files: usize) -> Duration {
    let branch = branch_with_new(ground, files);
    timed(|| _ = ground.store.abort(&branch, Children::Refuse).unwrap())
}

fn reclaim(ground: &Ground, files: usize) -> Duration {
    let branch = branch_with_new(ground, files);
    ground.store.abort(&branch, Children::Refuse).unwrap();
    timed(|| ground.store.reclaim().unwrap())
}
