//! What the base holds immutable or append-only (chattr +i, +a): refused clearly in a branch, and a commit that
//! finds it so is refused as a whole, or finishes later.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use branch_store::*;
use common::gate::hook;
use common::{Paths, Workspace, errno};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;

/// A flag on a path, taken away again in the end.
struct Flagged(PathBuf, IFlags);

impl Flagged {
    /// `None`, saying so, where only a mightier process or another filesystem has such flags.
    fn new(path: &Path, flag: IFlags) -> Option<Flagged> {
        if let Err(e) = set(path, |flags| flags | flag) {
            println!("SKIPPED: no such flags here: {e}");
            return None;
        }
        Some(Flagged(path.to_owned(), flag))
    }
}

impl Drop for Flagged {
    fn drop(&mut self) {
        set(&self.0, |flags| flags - self.1).unwrap();
    }
}

fn set(path: &Path, f: impl Fn(IFlags) -> IFlags) -> rustix::io::Result<()> {
    let file = std::fs::File::open(path).unwrap();
    ioctl_setflags(&file, f(ioctl_getflags(&file)?))
}

fn sample() -> Workspace {
    Workspace::new(&[("f", "text"), ("d/x", "x"), ("d/sub/deep", "deep"), ("other", "o"), ("e/y", "y")])
}

type Act = (&'static str, fn(&Arc<Branch>) -> Result<()>);

fn attr(b: &Arc<Branch>, path: &str, change: AttrChange) -> Result<()> {
    b.set_attr(&b.at(path)?.0, &change).map(drop)
}

/// Changes of a file `f` itself.
const OF_FILE: [Act; 11] = [
    ("write", |b| b.overwrite("f", "X")),
    ("open for writing", |b| b.open(&b.at("f")?.0, Access::Write).map(drop)),
    ("truncate", |b| attr(b, "f", AttrChange { size: Some(1), ..AttrChange::default() })),
    ("chmod", |b| attr(b, "f", AttrChange { mode: Some(0o600), ..AttrChange::default() })),
    ("utimens", |b| attr(b, "f", AttrChange { mtime: Some(Time::default()), ..AttrChange::default() })),
    ("setxattr", |b| b.set_xattr(&b.at("f")?.0, b"user.a", Some(b"1"), XattrMode::Any)),
    ("unlink", |b| b.remove("f")),
    ("rename", |b| b.mv("f", "g")),
    ("replace by rename", |b| b.mv("other", "f")),
    ("link", |b| b.ln("f", "g")),
    ("exchange", |b| b.rename(&b.root(), b"f", &b.root(), b"other", RenameMode::Exchange).map(drop)),
];

/// Changes of names in a directory `d`; whether an append-only one takes them.
const OF_DIR: [(Act, bool); 9] = [
    (("create", |b| b.put("d/new", "n")), true),
    (("mkdir", |b| b.make_dir("d/new")), true),
    (("link into", |b| b.ln("other", "d/new")), true),
    (("rename into", |b| b.mv("other", "d/new")), true),
    (("unlink", |b| b.remove("d/x")), false),
    (("rename within", |b| b.mv("d/x", "d/z")), false),
    (("rename out of", |b| b.mv("d/x", "z")), false),
    (("replace in", |b| b.mv("other", "d/x")), false),
    (("chmod", |b| attr(b, "d", AttrChange { mode: Some(0o700), ..AttrChange::default() })), false),
];

fn refuses(b: &Arc<Branch>, (name, act): Act) {
    assert_eq!((name, errno(act(b))), (name, Errno::PERM));
    assert_eq!(b.changed(), 0, "{name} leaves no trace");
}

#[test]
fn an_immutable_or_append_only_file_is_not_changed_in_a_branch() {
    for flag in [IFlags::IMMUTABLE, IFlags::APPEND] {
        let w = sample();
        let Some(_flagged) = Flagged::new(&w.base().join("f"), flag) else { return };
        let a = w.fork("main", "a");
        for act in OF_FILE {
            refuses(&a, act);
        }
        assert_eq!(a.read_all("f").unwrap(), "text");
        a.put("other", "all else").unwrap();
        let seen = a.tree();
        assert_eq!(w.store().commit(&a).unwrap().warnings, [""; 0]);
        assert_eq!(w.base_tree(), seen);
    }
}

#[test]
fn an_immutable_directory_keeps_its_names_and_an_append_only_one_gets_more() {
    for flag in [IFlags::IMMUTABLE, IFlags::APPEND] {
        let w = sample();
        let Some(_flagged) = Flagged::new(&w.base().join("d"), flag) else { return };
        for ((name, act), adds) in OF_DIR {
            let a = w.fork("main", "a");
            // A directory that has a node because of what lies below it is no freer.
            a.put("d/sub/deep", "changed below").unwrap();
            let changed = a.changed();
            if adds && flag == IFlags::APPEND {
                act(&a).unwrap_or_else(|e| panic!("{name}: {e}"));
            } else {
                assert_eq!((name, errno(act(&a))), (name, Errno::PERM));
                assert_eq!(a.changed(), changed, "{name}");
            }
            w.store().abort(&a, Children::Refuse).unwrap();
        }
        for act in
            [("rename", (|b| b.mv("d", "moved")) as fn(&Arc<Branch>) -> _), ("rmdir", |b| b.remove_dir("d"))]
        {
            let a = w.fork("main", "a");
            refuses(&a, act);
            w.store().abort(&a, Children::Refuse).unwrap();
        }
        let a = w.fork("main", "a");
        a.put("d/sub/deep", "changed below").unwrap();
        a.put("d/sub/new", "n").unwrap();
        let seen = a.tree();
        assert_eq!(w.store().commit(&a).unwrap().warnings, [""; 0], "what lies below is free");
        assert_eq!(w.base_tree(), seen);
    }
}

/// Turned immutable after the branch changed it: the commit is refused, naming the path, and works afterwards.
#[test]
fn a_commit_of_what_turned_immutable_since_is_refused_as_a_whole() {
    type Case = (&'static str, fn(&Arc<Branch>) -> Result<()>, &'static str);
    let cases: [Case; 12] = [
        ("write", |b| b.overwrite("f", "X"), "f"),
        ("chmod", |b| attr(b, "f", AttrChange { mode: Some(0o600), ..AttrChange::default() }), "f"),
        ("unlink", |b| b.remove("f"), "f"),
        ("rename", |b| b.mv("f", "g"), "f"),
        ("link", |b| b.ln("f", "g"), "f"),
        ("rewrite in place", |b| b.overwrite("e/y", "Y"), "e/y"),
        ("create in", |b| b.put("d/new", "n"), "d"),
        ("write in", |b| b.put("d/x", "new"), "d"),
        ("unlink in", |b| b.remove("d/x"), "d"),
        ("move into", |b| b.mv("other", "d/z"), "d"),
        ("rename of the directory", |b| b.mv("d", "moved"), "d"),
        ("create at the top", |b| b.put("new", "n"), "."),
    ];
    for (name, act, path) in cases {
        for flag in [IFlags::IMMUTABLE, IFlags::APPEND] {
            let w = sample();
            std::fs::hard_link(w.base().join("e/y"), w.base().join("y2")).unwrap();
            let a = w.fork("main", "a");
            act(&a).unwrap();
            a.put("e/fine", "fine").unwrap();
            let (before, seen) = (w.base_tree(), a.tree());
            let Some(flagged) = Flagged::new(&w.base().join(path), flag) else { return };
            let committed = w.store().commit(&a);
            if flag == IFlags::APPEND && ["create in", "move into", "create at the top"].contains(&name) {
                assert!(committed.is_ok(), "{name}: {:?}", committed.err());
            } else {
                // Its change time tells, too, that somebody was there.
                let Err(Error::Conflicts(conflicts)) = committed else { panic!("{name}: {committed:?}") };
                let immutable = |c: &Conflict| c.path == path.as_bytes() && c.kind == ConflictKind::Immutable;
                assert!(conflicts.iter().any(immutable), "{name}: {conflicts:?}");
                assert_eq!((w.base_tree(), a.tree()), (before, seen), "{name}: nothing was changed");
            }
            drop(flagged);
            assert!(a.put("after", "the branch goes on").is_ok() || !a.is_live());
        }
    }
}

/// Turned immutable between the decision and its step: the commit stands, the report says what is in the way, and
/// the next opening without it finishes.
#[test]
fn a_commit_stopped_by_chattr_after_its_decision_is_finished_once_the_flag_is_gone() {
    for (path, flag) in [("d", IFlags::IMMUTABLE), ("d/x", IFlags::IMMUTABLE), ("d", IFlags::APPEND)] {
        let mut w = sample();
        let target = w.base().join(path);
        let at = target.clone();
        let mut steps = 0;
        let gate = hook(move |call, _| {
            if call == "rename" {
                steps += 1;
                if steps == 2 {
                    set(&at, |flags| flags | flag).ok();
                }
            }
            Ok(())
        });
        w.reopen_on(Disk::guarded(gate.clone())).unwrap();
        let a = w.fork("main", "a");
        for name in ["f", "d/x", "e/y", "d/sub/deep", "other"] {
            a.put(name, "changed").unwrap();
        }
        let seen = a.tree();
        gate.armed.store(true, Ordering::SeqCst);
        let committed = w.store().commit(&a);
        gate.armed.store(false, Ordering::SeqCst);
        if set(&target, |flags| flags | flag).is_err() {
            println!("SKIPPED: no such flags here");
            return;
        }
        let flagged = Flagged(target, flag);
        let stopped = committed.err().unwrap();
        assert!(matches!(stopped, Error::Unfinished { commit: 1, .. }), "{stopped:?}");
        assert!(stopped.to_string().contains("d/x"), "it names what is in the way: {stopped}");
        drop(a);
        w.close();
        let still = Unrecovered::open(w.options()).unwrap().recover().err().unwrap();
        assert!(matches!(still, Error::Unfinished { .. }) && still.to_string().contains("d/x"), "{still}");
        drop(flagged);
        w.reopen();
        assert_eq!(w.base_tree(), seen);
        assert_eq!(w.store().branches().len(), 1);
    }
}
