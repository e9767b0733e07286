//! A directory that a branch removed takes with it what is in it: all that somebody did there in the meantime is a
//! conflict (S14, S15), and nothing of it is lost.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use branch_store::*;
use common::{Paths, Workspace};

const FILES: &[(&str, &str)] =
    &[("d/f", "f"), ("d/sub/deep/f", "f"), ("d/sub/deep/g", "g"), ("d/sub/h", "h"), ("z", "z")];

fn mode(mode: u32) -> AttrChange {
    AttrChange { mode: Some(mode), ..AttrChange::default() }
}

/// `rm -r`.
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

type Act = fn(&Arc<Branch>) -> Result<()>;

/// What a sibling does, and where the conflict is.
type Where = &'static [(&'static str, ConflictKind)];

const DEEDS: &[(&str, Act, Where)] = &[
    ("edits", |b| b.put("d/f", "precious"), &[("d/f", ConflictKind::DeleteModify)]),
    ("edits deep", |b| b.put("d/sub/deep/f", "precious"), &[("d/sub/deep/f", ConflictKind::DeleteModify)]),
    ("makes", |b| b.put("d/new", "precious"), &[("d/new", ConflictKind::CreatedInRemoved)]),
    (
        "makes deep",
        |b| b.put("d/sub/deep/new", "precious"),
        &[("d/sub/deep/new", ConflictKind::CreatedInRemoved)],
    ),
    ("makes a directory", |b| b.make_dir("d/sub/new"), &[("d/sub/new", ConflictKind::CreatedInRemoved)]),
    (
        "chmods a file",
        |b| b.set_attr(&b.at("d/sub/h")?.0, &mode(0o600)).map(drop),
        &[("d/sub/h", ConflictKind::DeleteModify)],
    ),
    (
        "chmods a directory",
        |b| b.set_attr(&b.at("d/sub")?.0, &mode(0o700)).map(drop),
        &[("d/sub", ConflictKind::DeleteModify)],
    ),
    (
        "names",
        |b| b.set_xattr(&b.at("d/sub")?.0, b"user.x", Some(b"precious"), XattrMode::Any),
        &[("d/sub", ConflictKind::DeleteModify)],
    ),
    ("moves out", |b| b.mv("d/sub/deep/f", "f"), &[("d/sub/deep/f", ConflictKind::DeleteRename)]),
    ("moves a directory out", |b| b.mv("d/sub/deep", "deep"), &[("d/sub/deep", ConflictKind::DeleteRename)]),
    ("moves in", |b| b.mv("z", "d/sub/z"), &[("d/sub/z", ConflictKind::CreatedInRemoved)]),
    ("moves it", |b| b.mv("d", "e"), &[("d", ConflictKind::DeleteRename)]),
    (
        "replaces",
        |b| b.remove("d/f").and_then(|()| b.make_dir("d/f")),
        &[("d/f", ConflictKind::DeleteModify)],
    ),
];

/// Deeds after which nothing is lost: what they did, the removal does, too.
const HARMLESS: &[(&str, Act)] = &[
    ("removes a file", |b| b.remove("d/sub/deep/f")),
    ("removes a directory", |b| remove_all(b, "d/sub/deep")),
    ("removes it", |b| remove_all(b, "d")),
    ("works elsewhere", |b| b.put("z", "zz")),
];

type Removal = (&'static str, Act);

/// What the branch does to the directory.
const REMOVALS: &[Removal] = &[
    ("removed", |b| remove_all(b, "d")),
    ("replaced by a file", |b| remove_all(b, "d").and_then(|()| b.put("d", "a file"))),
    ("replaced by a directory", |b| remove_all(b, "d").and_then(|()| b.make_dir("d"))),
    ("removed under another name", |b| b.mv("d", "other").and_then(|()| remove_all(b, "other"))),
];

fn conflicts(result: Result<Committed>) -> Vec<(String, ConflictKind)> {
    match result {
        Err(Error::Conflicts(all)) => {
            all.iter().map(|c| (String::from_utf8_lossy(&c.path).into_owned(), c.kind)).collect()
        }
        other => panic!("no conflict: {other:?}"),
    }
}

#[test]
fn what_a_sibling_did_in_a_directory_that_a_branch_removed_is_a_conflict() {
    for (removal, remove) in REMOVALS {
        for (deed, act, expected) in DEEDS {
            for restart in [false, true] {
                let mut w = Workspace::new(FILES);
                let ab = w.fork_as("main", &["a", "b"], GroupKind::Independent);
                act(&ab[0]).unwrap();
                remove(&ab[1]).unwrap();
                w.store().commit(&ab[0]).unwrap();
                drop(ab);
                if restart {
                    w.reopen();
                }
                let before = w.base_tree();
                let found = conflicts(w.store().commit(&w.branch("b")));
                let expected: Vec<_> = expected.iter().map(|(p, k)| ((*p).to_owned(), *k)).collect();
                // What the branch made in its place clashes with a move in its own way.
                let found: Vec<_> = match expected[0].0.as_str() {
                    "d" if found.len() == 1 && found[0].0 == "d" => expected.clone(),
                    _ => found.into_iter().filter(|(path, _)| path != "d").collect(),
                };
                assert_eq!(found, expected, "{removal}; {deed}; restart {restart}");
                assert_eq!(w.base_tree(), before, "{removal}; {deed}");
            }
        }
    }
}

#[test]
fn what_a_sibling_removed_or_did_elsewhere_does_not_keep_a_directory_from_being_removed() {
    for (deed, act) in HARMLESS {
        let w = Workspace::new(FILES);
        let ab = w.fork_as("main", &["a", "b"], GroupKind::Independent);
        act(&ab[0]).unwrap();
        remove_all(&ab[1], "d").unwrap();
        w.store().commit(&ab[0]).unwrap();
        w.store().commit(&ab[1]).unwrap_or_else(|e| panic!("{deed}: {e}"));
        assert_eq!(w.base_tree().keys().collect::<Vec<_>>(), ["z"], "{deed}");
    }
}

/// The same between branches.
#[test]
fn what_the_parent_did_in_a_directory_that_a_branch_removed_is_a_conflict() {
    for own in [false, true] {
        for (deed, act, _) in DEEDS {
            let w = Workspace::new(FILES);
            let p = w.fork("main", "p");
            if own {
                p.mv("d", "old").unwrap();
                for dir in ["d", "d/sub", "d/sub/deep"] {
                    p.make_dir(dir).unwrap();
                }
                for file in ["d/f", "d/sub/deep/f", "d/sub/deep/g", "d/sub/h"] {
                    p.put(file, "f").unwrap();
                }
            }
            let b = w.fork("p", "b");
            act(&p).unwrap();
            remove_all(&b, "d").unwrap();
            let before = p.tree();
            let found = conflicts(w.store().commit(&b));
            assert!(found.iter().all(|(path, _)| !path.is_empty()), "{deed}: {found:?}");
            assert_eq!(p.tree(), before, "{deed}");
        }
    }
}

/// Somebody edits the base behind the branch's back.
#[test]
fn what_was_done_outside_in_a_directory_that_a_branch_removed_is_a_conflict() {
    type Outside = fn(&std::path::Path) -> std::io::Result<()>;
    let deeds: &[(&str, Outside, &str, ConflictKind)] = &[
        (
            "edit",
            |p| std::fs::write(p.join("d/sub/deep/f"), "precious"),
            "d/sub/deep/f",
            ConflictKind::DeleteModify,
        ),
        (
            "new",
            |p| std::fs::write(p.join("d/sub/deep/new"), ""),
            "d/sub/deep/new",
            ConflictKind::CreatedInRemoved,
        ),
        (
            "a new one, and the clock turned back",
            |p| {
                let times = |path: &std::path::Path| std::fs::metadata(path).and_then(|m| m.modified());
                let sub = p.join("d/sub");
                let before = times(&sub)?;
                std::fs::write(sub.join("new"), "precious")?;
                std::fs::File::open(&sub)?.set_modified(before)
            },
            "d/sub/new",
            ConflictKind::CreatedInRemoved,
        ),
        (
            "another object of the same name",
            |p| {
                std::fs::write(p.join("d/sub/other"), "precious")?;
                std::fs::rename(p.join("d/sub/other"), p.join("d/sub/h"))
            },
            "d/sub/h",
            ConflictKind::DeleteModify,
        ),
    ];
    for (deed, act, path, kind) in deeds {
        let mut w = Workspace::new(FILES);
        let a = w.fork("main", "a");
        remove_all(&a, "d").unwrap();
        drop(a);
        act(&w.base()).unwrap();
        w.reopen();
        let before = w.base_tree();
        assert_eq!(conflicts(w.store().commit(&w.branch("a"))), [((*path).to_owned(), *kind)], "{deed}");
        assert_eq!(w.base_tree(), before, "{deed}");
    }
}

/// A file moved by a sibling and removed here, in a directory that stays.
#[test]
fn a_file_moved_by_a_sibling_and_removed_here_is_a_conflict() {
    for restart in [false, true] {
        let mut w = Workspace::new(FILES);
        let ab = w.fork_as("main", &["a", "b"], GroupKind::Independent);
        ab[0].mv("d/f", "moved").unwrap();
        ab[1].remove("d/f").unwrap();
        w.store().commit(&ab[0]).unwrap();
        drop(ab);
        if restart {
            w.reopen();
        }
        let expected = [("d/f".to_owned(), ConflictKind::DeleteRename)];
        assert_eq!(conflicts(w.store().commit(&w.branch("b"))), expected);
    }
}

/// Story: a name in a removed directory still counted, as a preimage, where the file had others.
#[test]
fn a_link_in_a_removed_directory_is_counted_by_older_snapshots_and_nobody_else() {
    let mut w = Workspace::new(FILES);
    std::fs::hard_link(w.base().join("d/sub/deep/f"), w.base().join("kept")).unwrap();
    let ab = w.fork_as("main", &["a", "b"], GroupKind::Independent);
    remove_all(&ab[0], "d").unwrap();
    w.store().commit(&ab[0]).unwrap();
    drop(ab);
    for restart in [false, true] {
        if restart {
            w.reopen();
        }
        let links = |branch: &str| w.branch(branch).at("kept").unwrap().1.nlink;
        assert_eq!((links("main"), links("b")), (1, 2), "restart {restart}");
        assert_eq!(w.branch("b").at("d/sub/deep/f").unwrap().1.nlink, 2);
    }
    assert_eq!(std::fs::metadata(w.base().join("kept")).unwrap().nlink(), 2, "the preimage is the other");
    // Taken out of the directory, it is a name as before.
    let w = Workspace::new(FILES);
    std::fs::hard_link(w.base().join("d/sub/deep/f"), w.base().join("kept")).unwrap();
    let a = w.fork("main", "a");
    a.mv("d/sub/deep/f", "out").unwrap();
    remove_all(&a, "d").unwrap();
    w.store().commit(&a).unwrap();
    assert_eq!(w.branch("main").at("kept").unwrap().1.nlink, 2);
    assert_eq!(w.branch("main").at("out").unwrap().1.nlink, 2);
}
