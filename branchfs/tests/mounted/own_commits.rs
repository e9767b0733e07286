//! A commit into the base is no news to the branches that do not see it.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use branchfs::watch::{How, Wish};

use crate::fixture::{Fixture, list, mounted, mounted_watching};

const FILES: usize = 200;
const PATIENCE: Duration = Duration::from_secs(30);

/// Another process makes a file in the base; returns when a branch that knew it absent shows it: everything heard
/// before has been passed on by then.
fn settle(fx: &Fixture, branch: &str) {
    let (seen, name) = (fx.at(branch).join("dir/late"), fx.base.path().join("dir/late"));
    fs::symlink_metadata(&seen).unwrap_err();
    assert!(Command::new("touch").arg(&name).status().unwrap().success());
    let begin = Instant::now();
    while fs::symlink_metadata(&seen).is_err() {
        assert!(begin.elapsed() < PATIENCE, "the edit is not shown");
    }
}

/// Notifications that a commit of new files takes while some other branches are warm.
fn notifications(others: usize) -> u64 {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir(base.path().join("dir")).unwrap();
    (0..FILES).for_each(|n| fs::write(base.path().join(format!("dir/{n}")), "x").unwrap());
    let fx = mounted_watching(base, Wish::Best);
    let others: Vec<String> = (0..others).map(|n| format!("other{n}")).collect();
    others.iter().for_each(|name| drop(fx.fork(name)));
    for n in 0..FILES {
        fs::write(fx.one(&format!("dir/new {n}")), "new").unwrap();
    }
    for name in &others {
        assert_eq!(list(&fx.at(name).join("dir")).len(), FILES);
        assert!((0..FILES).all(|n| fx.at(name).join(format!("dir/{n}")).exists()));
    }
    let before = fx.mounted().notifier().sent();
    fx.commit("one");
    assert_eq!(fs::read(fx.base.path().join("dir/new 7")).unwrap(), b"new");
    settle(&fx, &others[0]);
    assert_eq!(list(&fx.at(&others[0]).join("dir")).len(), FILES + 1, "isolated from the commit");
    fx.mounted().notifier().sent() - before
}

#[test]
fn a_commit_is_not_told_to_branches_that_do_not_see_it() {
    let Some(fx) = mounted() else { return };
    drop(fx);
    if mounted_watching(tempfile::tempdir().unwrap(), Wish::Best).vfs.told().how() != How::Fanotify {
        return eprintln!("SKIPPED: without fanotify nobody knows whose changes they are");
    }
    let (few, many) = (notifications(1), notifications(9));
    // The edit from outside is told to each. Of the branch that ended all inodes are told of that the kernel has not
    // forgotten by itself, which is none of them or all.
    assert!(many <= few + 8 * 10 + FILES as u64, "{few} with one other branch, {many} with nine");
}
