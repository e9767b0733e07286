//! What a branch sees of its parent, and of itself while it copies up.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use branch_proto::GroupKind;
use branchfs_tests::{Times, Workspace, tree};

use crate::list;

fn workspace() -> Option<Workspace> {
    Workspace::over(|base| {
        fs::create_dir(base.join("dir")).unwrap();
        for name in ["one", "two", "dir/three"] {
            fs::write(base.join(name), "base\n").unwrap();
        }
    })
}

/// A branch read through to whatever its parent held at the moment of the read.
#[test]
fn what_the_parent_writes_later_does_not_show_through() {
    let Some(workspace) = workspace() else { return };
    let parent = workspace.branch("parent");
    fs::write(parent.join("two"), "parent, before\n").unwrap();
    workspace.fork(&["child"], "parent", GroupKind::Independent);
    let child = workspace.view("child");
    let before = tree(&child, Times::Compare);
    fs::write(parent.join("one"), "parent, later\n").unwrap();
    fs::write(parent.join("two"), "parent, later\n").unwrap();
    OpenOptions::new().append(true).open(parent.join("dir/three")).unwrap().write_all(b"more").unwrap();
    assert_eq!(tree(&child, Times::Compare), before);
    assert_eq!(fs::read_to_string(child.join("two")).unwrap(), "parent, before\n");
}

#[test]
fn what_the_parent_makes_removes_or_renames_later_does_not_show_through() {
    let Some(workspace) = workspace() else { return };
    let parent = workspace.branch("parent");
    workspace.fork(&["child"], "parent", GroupKind::Independent);
    let child = workspace.view("child");
    fs::write(parent.join("new"), "").unwrap();
    fs::remove_file(parent.join("one")).unwrap();
    fs::rename(parent.join("dir"), parent.join("moved")).unwrap();
    fs::write(parent.join("moved/three"), "parent, later\n").unwrap();
    assert_eq!(list(&child), ["dir", "one", "two"]);
    assert_eq!(fs::read_to_string(child.join("dir/three")).unwrap(), "base\n");
}

/// The base moves under a branch when a sibling commits; the branch must not.
#[test]
fn what_a_sibling_commits_later_does_not_show_through() {
    let Some(workspace) = workspace() else { return };
    workspace.fork(&["first", "second"], "main", GroupKind::Independent);
    let (first, second) = (workspace.view("first"), workspace.view("second"));
    let before = tree(&second, Times::Compare);
    fs::write(first.join("one"), "by first\n").unwrap();
    fs::rename(first.join("dir"), first.join("moved")).unwrap();
    fs::remove_file(first.join("two")).unwrap();
    workspace.commit("first");
    assert_eq!(tree(&second, Times::Compare), before);
    assert_eq!(list(&workspace.base()), [".branchfs", "moved", "one"]);
}

/// The copy was made in place: whoever read meanwhile got a short or half-written file.
#[test]
fn a_reader_during_a_copy_up_sees_the_whole_file() {
    const SIZE: usize = 32 << 20;
    let made = Workspace::over(|base| fs::write(base.join("big"), vec![7_u8; SIZE]).unwrap());
    let Some(workspace) = made else { return };
    let big = workspace.branch("b").join("big");
    let (done, reading) = (AtomicBool::new(false), std::sync::Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            reading.wait();
            let outcome = OpenOptions::new().append(true).open(&big).unwrap().write_all(b"x");
            done.store(true, Ordering::SeqCst);
            outcome.unwrap();
        });
        reading.wait();
        loop {
            let last = done.load(Ordering::SeqCst);
            let file = File::open(&big).unwrap();
            let length = file.metadata().unwrap().len();
            assert!((SIZE as u64..=SIZE as u64 + 1).contains(&length), "{length}");
            for at in [0, SIZE as u64 / 2, SIZE as u64 - 1] {
                let mut byte = [0];
                assert_eq!(file.read_at(&mut byte, at).unwrap(), 1);
                assert_eq!(byte, [7], "at {at}");
            }
            if last {
                break;
            }
        }
    });
    let copied = fs::read(&big).unwrap();
    assert_eq!((copied.len(), copied[SIZE]), (SIZE + 1, b'x'));
    assert!(copied[..SIZE].iter().all(|byte| *byte == 7));
}
