//! Which host files an open file can be read from without asking, and what becomes of who does.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use branch_store::*;
use common::Workspace;
use rustix::io::Errno;

fn open(branch: &Arc<Branch>, name: &str, access: Access) -> OpenFile {
    let (object, _) = branch.lookup(&branch.root(), name.as_bytes()).unwrap();
    branch.open(&object, access).unwrap()
}

fn stable(branch: &Arc<Branch>, name: &str) -> Option<Stable> {
    open(branch, name, Access::Read).stable().unwrap()
}

fn write(branch: &Arc<Branch>, name: &str, bytes: &[u8]) {
    assert_eq!(open(branch, name, Access::Write).write_at(bytes, 0).unwrap(), bytes.len());
}

fn read(file: &OpenFile) -> Vec<u8> {
    let mut bytes = vec![0; 100];
    let len = file.read_at(&mut bytes, 0).unwrap();
    bytes.truncate(len);
    bytes
}

#[test]
fn what_nothing_changes_in_place_is_stable() {
    let w = Workspace::new(&[("alone", "1"), ("linked", "2"), ("new", "3")]);
    std::fs::hard_link(w.base().join("linked"), w.base().join("other")).unwrap();
    let main = w.store().main();
    let branch = w.fork("main", "one");
    let host = std::fs::metadata(w.base().join("alone")).unwrap();
    for of in [&main, &branch] {
        let found = stable(of, "alone").unwrap();
        assert_eq!(found.identity(), (host.dev(), host.ino()));
        assert_eq!(found.size().unwrap().0, 1);
        assert!(stable(of, "linked").is_none(), "commits rewrite it");
    }
    assert!(open(&branch, "alone", Access::Write).stable().unwrap().is_none(), "about to be written to");
    let (object, _) = branch.lookup(&branch.root(), b"new").unwrap();
    branch.link(&object, &branch.root(), b"second").unwrap();
    assert!(stable(&branch, "new").is_none(), "two names in the branch");
    write(&branch, "alone", b"own");
    assert!(stable(&branch, "alone").is_none(), "in the current layer");
    let child = w.fork("one", "child");
    let frozen = stable(&child, "alone").unwrap();
    assert_eq!(stable(&branch, "alone").unwrap().identity(), frozen.identity(), "one file for both");
    write(&branch, "alone", b"mine");
    assert!(stable(&branch, "alone").is_none());
    assert_eq!(stable(&child, "alone").unwrap().identity(), frozen.identity());
}

#[test]
fn who_is_pinned_reads_the_same_whatever_becomes_of_the_object() {
    let w = Workspace::new(&[("file", "before")]);
    let branch = w.fork("main", "one");
    let (pinned, follows) = (open(&branch, "file", Access::Read), open(&branch, "file", Access::Read));
    pinned.pin(&pinned.stable().unwrap().unwrap());
    write(&branch, "file", b"AFTER");
    assert_eq!((read(&pinned), read(&follows)), (b"before".to_vec(), b"AFTERe".to_vec()));
    assert_eq!(pinned.seek(0, SeekWhat::Hole).unwrap(), 6);
    let copy = {
        let new = New { kind: NewKind::File, mode: 0o600, uid: 0, gid: 0, xattrs: Default::default() };
        branch.create_open(&branch.root(), b"copy", new, Access::Write).unwrap().0
    };
    assert_eq!(copy.copy_from(0, &pinned, 0, 6).unwrap(), 6);
    assert_eq!(read(&open(&branch, "copy", Access::Read)), b"before");
    w.store().commit(&branch).unwrap();
    assert_eq!(pinned.read_at(&mut [0; 1], 0).unwrap_err().errno(), Errno::STALE, "its branch has ended");
}

#[test]
fn what_a_commit_displaced_is_stable_for_those_who_see_it() {
    let w = Workspace::new(&[("file", "before")]);
    let (one, two) = (w.fork("main", "one"), w.fork("main", "two"));
    let before = stable(&two, "file").unwrap();
    write(&one, "file", b"AFTER!");
    w.store().commit(&one).unwrap();
    assert_eq!(stable(&two, "file").unwrap().identity(), before.identity(), "the same, elsewhere");
    let (main, host) = (stable(&w.store().main(), "file").unwrap(), w.base().join("file"));
    assert_ne!(main.identity(), before.identity());
    assert_eq!(main.identity().1, std::fs::metadata(host).unwrap().ino());
}
