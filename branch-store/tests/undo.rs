//! What a commit did to the base, taken back: everything is as before, to the last attribute (S17).

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use branch_store::*;
use common::gate::Fuse;
use common::picture::{Picture, picture};
use common::{Paths, Workspace, chmod, new};

fn sample() -> Workspace {
    let w = Workspace::new(&[
        ("README", "hello\n"),
        ("src/main.rs", "fn main() {}\n"),
        ("src/lib.rs", "// lib\n"),
        ("docs/a/b/c.txt", "deep\n"),
        ("docs/a/d.txt", "d\n"),
        ("linked", "shared\n"),
        ("x/1", "1"),
        ("y/2", "2"),
        ("y/z/3", "3"),
        ("empty", ""),
        ("tmp/keep", "kept"),
    ]);
    let base = w.base();
    std::fs::hard_link(base.join("linked"), base.join("linked2")).unwrap();
    std::fs::hard_link(base.join("linked"), base.join("docs/a/linked3")).unwrap();
    std::os::unix::fs::symlink("src/main.rs", base.join("link")).unwrap();
    rustix::fs::setxattr(base.join("src"), "user.note", b"kept", rustix::fs::XattrFlags::empty()).ok();
    let past = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_000_000_123);
    for path in ["README", "src", "docs/a", "x", "tmp", "docs/a/b", "linked"] {
        std::fs::File::open(base.join(path)).unwrap().set_modified(past).unwrap();
    }
    w
}

fn remove_all(branch: &Arc<Branch>, path: &str) -> Result<()> {
    for name in branch.names(path)? {
        let path = format!("{path}/{name}");
        match branch.at(&path)?.1.kind {
            Kind::Dir => remove_all(branch, &path)?,
            _ => branch.remove(&path)?,
        }
    }
    branch.remove_dir(path)
}

fn exchange(b: &Arc<Branch>, one: &str, other: &str) -> Result<()> {
    let ((dir, name), (to, to_name)) = (b.parent_of(one)?, b.parent_of(other)?);
    let mode = RenameMode::Exchange;
    assert_eq!(b.rename(&dir, name.as_bytes(), &to, to_name.as_bytes(), mode)?.orphan, None);
    Ok(())
}

type Act = fn(&Arc<Branch>) -> Result<()>;

const DEEDS: &[(&str, Act)] = &[
    ("a new file", |b| b.put("new", "new")),
    ("a new file deep", |b| b.put("docs/a/b/new", "new")),
    ("an edit", |b| b.put("src/main.rs", "fn main() { todo }\n")),
    ("an edit of all names of a file", |b| b.overwrite("linked2", "SHARED")),
    ("a removal", |b| b.remove("src/lib.rs")),
    ("removal of one name of several", |b| b.remove("linked")),
    ("a name of several replaced", |b| b.remove("linked").and_then(|()| b.put("linked", "new"))),
    ("removal of all names", |b| b.remove("linked").and(b.remove("linked2")).and(b.remove("docs/a/linked3"))),
    ("removal of a tree", |b| remove_all(b, "docs")),
    ("removal of everything", |b| {
        ["src", "docs", "x", "y", "tmp"].iter().try_for_each(|dir| remove_all(b, dir))?;
        ["README", "linked", "linked2", "empty", "link"].iter().try_for_each(|name| b.remove(name))
    }),
    ("modes", |b| {
        chmod(b, "src", 0o700)?;
        chmod(b, "README", 0o600)?;
        chmod(b, "linked2", 0o640)?;
        chmod(b, "", 0o711)
    }),
    ("the mode of one name and removal of another with its directory", |b| {
        chmod(b, "linked", 0o600)?;
        remove_all(b, "docs")
    }),
    ("the mode of one name after removal of another with its directory", |b| {
        remove_all(b, "docs")?;
        chmod(b, "linked", 0o600)
    }),
    ("bytes through a name that is removed", |b| {
        b.overwrite("linked", "SHARED").and_then(|()| b.remove("linked"))
    }),
    ("bytes through a name that is removed with its directory", |b| {
        b.overwrite("docs/a/linked3", "SHARED")?;
        remove_all(b, "docs")
    }),
    ("bytes of a file of several names, one of which becomes a directory", |b| {
        b.put("linked", "SHARED")?;
        b.remove("linked")?;
        b.make_dir("linked")
    }),
    ("bytes through a name that is moved", |b| {
        b.overwrite("docs/a/linked3", "SHARED")?;
        b.mv("docs/a", "src/a")
    }),
    ("attributes", |b| {
        b.set_xattr(&b.at("src")?.0, b"user.note", Some(b"changed"), XattrMode::Any)?;
        b.set_xattr(&b.at("README")?.0, b"user.new", Some(b"x"), XattrMode::Any)
    }),
    ("a new tree", |b| {
        b.make_dir("dir")?;
        b.make_dir("dir/sub")?;
        b.put("dir/sub/f", "f")?;
        b.ln("dir/sub/f", "dir/g")?;
        b.ln("dir/g", "outside")
    }),
    ("a file moved", |b| b.mv("docs/a/b/c.txt", "src/c.txt")),
    ("a file moved and edited", |b| {
        b.mv("README", "docs/README").and_then(|()| b.put("docs/README", "other"))
    }),
    ("a directory moved", |b| b.mv("docs/a", "src/a")),
    ("a directory moved, and work in it", |b| {
        b.mv("docs/a", "src/a")?;
        b.put("src/a/b/c.txt", "changed")?;
        b.put("src/a/b/new", "new")?;
        b.remove("src/a/d.txt")?;
        b.overwrite("src/a/linked3", "SHARED")
    }),
    ("moved out of what is removed", |b| {
        b.mv("docs/a/b", "b")?;
        b.mv("docs/a/linked3", "linked4")?;
        remove_all(b, "docs")
    }),
    ("moved into what is new", |b| {
        b.make_dir("dir")?;
        b.mv("src", "dir/src")?;
        b.put("dir/src/main.rs", "changed")?;
        b.ln("linked", "dir/linked")
    }),
    ("files swapped", |b| exchange(b, "README", "src/main.rs")),
    ("directories swapped", |b| exchange(b, "x", "y").and_then(|()| b.put("x/z/3", "three"))),
    ("a directory and one in it swapped round", |b| {
        b.mv("y/z", "zz")?;
        b.mv("y", "zz/y")?;
        b.mv("zz", "y")
    }),
    ("a file becomes a directory", |b| {
        b.remove("README")?;
        b.make_dir("README")?;
        b.put("README/f", "f")?;
        b.mv("empty", "README/empty")
    }),
    ("a directory becomes a file", |b| remove_all(b, "docs").and_then(|()| b.put("docs", "a file"))),
    ("a directory is replaced by another", |b| {
        remove_all(b, "x")?;
        b.mv("y", "x")
    }),
    ("a directory is replaced by a new one", |b| {
        b.mv("docs/a/d.txt", "d.txt")?;
        remove_all(b, "docs")?;
        b.make_dir("docs")?;
        b.mv("d.txt", "docs/d.txt")
    }),
    ("links and special files", |b| {
        let (root, _) = b.at("")?;
        b.create(&root, b"fifo", new(NewKind::Special { kind: Kind::Fifo, rdev: 0 }, 0o600))?;
        b.create(&root, b"sym", new(NewKind::Symlink(b"target".to_vec()), 0o777))?;
        b.remove("link")?;
        b.create(&root, b"link", new(NewKind::Symlink(b"elsewhere".to_vec()), 0o777))?;
        b.ln("README", "src/README")
    }),
];

/// Live branches, what each shows, and what it must go on showing.
struct Watch(Vec<(String, BTreeMap<String, String>)>);

impl Watch {
    fn fork(&mut self, w: &Workspace, name: &str) {
        let branch = w.fork_as("main", &[name], GroupKind::Independent).remove(0);
        self.0.push((name.to_owned(), branch.tree()));
    }

    fn check(&self, w: &Workspace, when: &str) {
        for (branch, tree) in &self.0 {
            assert_eq!(&w.branch(branch).tree(), tree, "{branch} {when}");
        }
        assert_eq!(w.store().main().tree(), w.base_tree(), "main {when}");
    }
}

#[test]
fn undo_gives_back_everything_and_redo_takes_it_again() {
    for (deed, act) in DEEDS {
        for restart in [false, true] {
            println!("{deed}, restart {restart}");
            let mut w = sample();
            let before = picture(&w.base());
            let mut watch = Watch(Vec::new());
            watch.fork(&w, "before");
            let a = w.fork("main", "a");
            act(&a).unwrap();
            w.store().commit(&a).unwrap();
            drop(a);
            let after = picture(&w.base());
            assert_ne!(before, after, "{deed}");
            watch.fork(&w, "after");
            for round in 0..2 {
                let step = |w: &mut Workspace| {
                    if restart {
                        drop(w.reopen())
                    }
                };
                step(&mut w);
                w.store().undo().unwrap_or_else(|e| panic!("{deed}: {e} {e:?}"));
                assert_eq!(picture(&w.base()), before, "{deed}, undone, round {round}");
                watch.check(&w, &format!("{deed}, undone"));
                step(&mut w);
                w.store().redo().unwrap_or_else(|e| panic!("{deed}: {e} {e:?}"));
                assert_eq!(picture(&w.base()), after, "{deed}, redone, round {round}");
                watch.check(&w, &format!("{deed}, redone"));
            }
            w.reopen();
            watch.check(&w, deed);
        }
    }
}

/// What somebody does in the base after the commit, and where undoing it must stop.
#[test]
fn undo_is_refused_where_the_base_was_changed_since_and_nothing_is_lost() {
    type Outside = fn(&Path) -> std::io::Result<()>;
    let act: Act = |b| {
        b.put("src/main.rs", "changed")?;
        b.make_dir("dir")?;
        b.make_dir("dir/sub")?;
        b.put("dir/sub/f", "f")?;
        b.remove("empty")?;
        b.overwrite("linked", "SHARED")?;
        b.mv("x", "dir/x")?;
        chmod(b, "README", 0o600)?;
        chmod(b, "y", 0o700)
    };
    let cases: &[(&str, Outside, &[&str])] = &[
        ("edits what was edited", |b| std::fs::write(b.join("src/main.rs"), "precious"), &["src/main.rs"]),
        ("edits what is new", |b| std::fs::write(b.join("dir/sub/f"), "precious"), &["dir/sub/f"]),
        (
            "makes something in what is new",
            |b| std::fs::write(b.join("dir/sub/g"), "precious"),
            &["dir/sub", "dir/sub/g"],
        ),
        ("makes what was removed", |b| std::fs::write(b.join("empty"), "precious"), &["empty"]),
        ("edits a file of several names", |b| std::fs::write(b.join("linked2"), "precious"), &["linked"]),
        ("removes what was edited", |b| std::fs::remove_file(b.join("src/main.rs")), &["src/main.rs"]),
        (
            "replaces what was edited",
            |b| {
                std::fs::write(b.join("other"), "precious")?;
                std::fs::rename(b.join("other"), b.join("src/main.rs"))
            },
            &["src/main.rs"],
        ),
        (
            "changes the same mode",
            |b| std::fs::set_permissions(b.join("y"), std::os::unix::fs::PermissionsExt::from_mode(0o711)),
            &["y"],
        ),
        ("edits what was chmodded", |b| std::fs::write(b.join("README"), "precious"), &["README"]),
        ("makes what was moved away", |b| std::fs::write(b.join("x"), "precious"), &["x"]),
    ];
    for (case, outside, expected) in cases {
        for restart in [false, true] {
            let mut w = sample();
            let a = w.fork("main", "a");
            act(&a).unwrap();
            w.store().commit(&a).unwrap();
            drop(a);
            outside(&w.base()).unwrap();
            if restart {
                w.reopen();
            }
            let before = picture(&w.base());
            match w.store().undo() {
                Err(Error::Conflicts(found)) => {
                    let paths: Vec<_> =
                        found.iter().map(|c| String::from_utf8_lossy(&c.path).into_owned()).collect();
                    assert_eq!(&paths, expected, "{case}: {found:?}");
                }
                other => panic!("{case}: {other:?}"),
            }
            assert_eq!(picture(&w.base()), before, "{case}");
        }
    }
}

#[test]
fn undo_leaves_alone_what_others_did_elsewhere() {
    let w = sample();
    let before = picture(&w.base());
    let a = w.fork("main", "a");
    a.put("src/main.rs", "changed").unwrap();
    a.mv("x", "src/x").unwrap();
    w.store().commit(&a).unwrap();
    std::fs::write(w.base().join("src/other.rs"), "precious").unwrap();
    std::fs::write(w.base().join("src/x/1"), "precious").unwrap();
    w.store().undo().unwrap();
    let after = picture(&w.base());
    let changed: Vec<_> = after.iter().filter(|(path, seen)| before.get(*path) != Some(seen)).collect();
    let paths: Vec<_> = changed.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["src", "src/other.rs", "x/1"], "the directory has the time of what others did in it");
    assert!(after["x/1"].ends_with("precious") && after["src/other.rs"].ends_with("precious"));
}

/// Story: the root was recognised by its change time as well, which the commit itself had changed, and views of main
/// went on showing the mode that had been taken back.
#[test]
fn views_of_main_are_told_to_forget_every_object_whose_attributes_come_back() {
    let w = sample();
    let a = w.fork("main", "a");
    let root = AttrChange { mode: Some(0o700), ..AttrChange::default() };
    a.set_attr(&a.root(), &root).unwrap();
    chmod(&a, "src", 0o700).unwrap();
    chmod(&a, "README", 0o600).unwrap();
    let ids = [a.root().id, a.at("src").unwrap().0.id, a.at("README").unwrap().0.id];
    w.store().commit(&a).unwrap();
    for turn in [Store::undo, Store::redo] {
        let invalid = turn(w.store()).unwrap().invalid;
        for id in ids {
            let told = Invalid { branch: BranchId::MAIN, what: Invalidate::Inode(id) };
            assert!(invalid.contains(&told), "{id:?}: {invalid:?}");
        }
    }
}

#[test]
fn commits_are_undone_one_after_the_other_and_redone_until_something_new_is_committed() {
    let mut w = sample();
    let mut pictures = vec![picture(&w.base())];
    for (n, (_, act)) in DEEDS.iter().filter(|(deed, _)| deed.starts_with("a")).take(6).enumerate() {
        let a = w.fork("main", &format!("a{n}"));
        if act(&a).is_err() {
            w.store().abort(&a, Children::Refuse).unwrap();
            continue;
        }
        w.store().commit(&a).unwrap();
        pictures.push(picture(&w.base()));
    }
    assert!(pictures.len() > 4);
    for _ in 0..2 {
        for expected in pictures.iter().rev().skip(1) {
            w.store().undo().unwrap();
            assert_eq!(&picture(&w.base()), expected);
            w.reopen();
        }
        assert!(matches!(w.store().undo(), Err(Error::NotAllowed(_))));
        for expected in pictures.iter().skip(1) {
            w.store().redo().unwrap();
            assert_eq!(&picture(&w.base()), expected);
        }
        assert!(matches!(w.store().redo(), Err(Error::NotAllowed(_))));
    }
    w.store().undo().unwrap();
    let b = w.fork("main", "b");
    b.put("something new", "new").unwrap();
    w.store().commit(&b).unwrap();
    assert!(matches!(w.store().redo(), Err(Error::NotAllowed(_))), "what was undone is over");
    let actions: Vec<_> = w.store().log(2).into_iter().map(|line| line.action).collect();
    assert!(matches!(actions[..], [Action::Commit, Action::Undo(_)]), "{actions:?}");
    w.store().undo().unwrap();
    assert_eq!(&picture(&w.base()), &pictures[pictures.len() - 2]);
}

/// Story: the change time of a file that a later commit touched, and gave back, says nothing about who edited it in
/// between.
#[test]
fn an_edit_between_two_commits_is_found_when_the_first_is_undone() {
    let w = sample();
    let a = w.fork("main", "a");
    a.put("README", "first").unwrap();
    w.store().commit(&a).unwrap();
    std::fs::write(w.base().join("README"), "precious").unwrap();
    let b = w.fork("main", "b");
    b.put("README", "second").unwrap();
    w.store().commit(&b).unwrap();
    w.store().undo().unwrap();
    assert_eq!(std::fs::read_to_string(w.base().join("README")).unwrap(), "precious");
    assert!(matches!(w.store().undo(), Err(Error::Conflicts(_))));
    assert_eq!(std::fs::read_to_string(w.base().join("README")).unwrap(), "precious");
}

#[test]
fn a_death_at_any_call_of_an_undo_leaves_it_done_or_not() {
    let all: Act = |b| {
        for (deed, act) in DEEDS {
            if [
                "an edit",
                "an edit of all names of a file",
                "a new tree",
                "a directory moved, and work in it",
            ]
            .contains(deed)
            {
                act(b)?;
            }
        }
        remove_all(b, "y")?;
        exchange(b, "README", "empty")
    };
    let prepare = || {
        let w = sample();
        let before = picture(&w.base());
        let a = w.fork("main", "a");
        all(&a).unwrap();
        w.store().commit(&a).unwrap();
        drop(a);
        let after = picture(&w.base());
        (w, before, after)
    };
    let calls = {
        let (mut w, before, _) = prepare();
        let fuse = Fuse::counting();
        w.reopen_on(Disk::guarded(fuse.clone())).unwrap();
        fuse.set(u64::MAX);
        w.store().undo().unwrap();
        let calls = fuse.calls();
        assert_eq!(picture(&w.base()), before);
        calls
    };
    println!("{calls} calls, each a crash point");
    assert!(calls > 20);
    let without_inodes = |p: &Picture| -> Vec<String> {
        p.iter()
            .map(|(path, seen)| format!("{path} {}", seen.split(" (").nth(1).unwrap_or_default()))
            .collect()
    };
    let (mut done, mut not) = (0, 0);
    for k in 0..calls {
        let (mut w, before, after) = prepare();
        let fuse = Fuse::counting();
        w.reopen_on(Disk::guarded(fuse.clone())).unwrap();
        fuse.set(k);
        let result = w.store().undo();
        assert!(
            result.is_err() || !result.unwrap().warnings.is_empty(),
            "call {k} failed and nobody heard of it"
        );
        w.reopen();
        let now = picture(&w.base());
        assert!(now == before || now == after, "died at call {k}: {:#?}", without_inodes(&now));
        assert_eq!(w.store().main().tree(), w.base_tree());
        if now == before {
            done += 1;
            w.store().redo().unwrap();
            assert_eq!(picture(&w.base()), after, "died at call {k}");
        } else {
            not += 1;
            w.store().undo().unwrap();
            assert_eq!(picture(&w.base()), before, "died at call {k}");
        }
    }
    assert!(done > 5 && not > 5, "{done} {not}");
}

#[test]
fn what_can_be_undone_is_bounded_and_said() {
    let w = sample();
    for n in 0..20 {
        let a = w.fork("main", &format!("a{n}"));
        a.put("README", &format!("{n}")).unwrap();
        w.store().commit(&a).unwrap();
        w.store().reclaim().unwrap();
    }
    let mut undone = 0;
    let end = loop {
        match w.store().undo() {
            Ok(_) => {
                undone += 1;
                w.store().reclaim().unwrap();
            }
            Err(e) => break e,
        }
        assert!(undone < 20);
    };
    assert!(matches!(end, Error::NotAllowed(why) if why.contains("no longer kept")), "{end:?}");
    assert_eq!(undone, 16);
    assert_eq!(std::fs::read_to_string(w.base().join("README")).unwrap(), "3");
    for n in 4..20 {
        w.store().redo().unwrap();
        w.store().reclaim().unwrap();
        assert_eq!(std::fs::read_to_string(w.base().join("README")).unwrap(), n.to_string());
    }
}
