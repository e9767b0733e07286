//! Rules of docs/SEMANTICS.md that no other test states alone.

mod common;

use branch_store::*;
use common::{Paths, Workspace, errno};
use rustix::io::Errno;

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n}")).collect()
}

#[test]
fn a_fork_makes_all_of_its_branches_or_none() {
    let w = Workspace::new(&[("a", "a")]);
    let main = w.store().main();
    assert_eq!(w.store().fork(&main, &names("n", 64), GroupKind::Exclusive).unwrap().len(), 64);
    let before = w.store().branches().len();
    let mut last_is_taken = names("m", 63);
    last_is_taken.push("n7".to_owned());
    let mut last_is_bad = names("m", 63);
    last_is_bad.push("a/b".to_owned());
    let mut twice = names("m", 63);
    twice.push("m0".to_owned());
    for wanted in [names("m", 65), names("m", 0), last_is_taken, last_is_bad, twice] {
        let refused = w.store().fork(&main, &wanted, GroupKind::Exclusive);
        assert!(refused.is_err(), "{} names", wanted.len());
        assert_eq!(w.store().branches().len(), before, "{} names", wanted.len());
    }
}

#[test]
fn the_parent_of_a_frozen_group_is_read_only_until_the_group_ends() {
    let mut w = Workspace::new(&[("a", "a")]);
    let parent = w.fork("main", "parent");
    let group = w.fork_as("parent", &["f1", "f2"], GroupKind::Frozen);
    assert_eq!(errno(parent.put("new", "")), Errno::ROFS);
    assert_eq!(errno(parent.overwrite("a", "b")), Errno::ROFS);
    group[0].put("new", "").unwrap();
    w.store().abort(&group[1], Children::Refuse).unwrap();
    assert_eq!(errno(parent.remove("a")), Errno::ROFS, "one is left");
    drop((parent, group));
    w.reopen();
    let parent = w.branch("parent");
    assert_eq!(errno(parent.remove("a")), Errno::ROFS, "after a restart, too");
    w.store().commit(&w.branch("f1")).unwrap();
    parent.remove("a").unwrap();
    assert_eq!(parent.names("").unwrap(), ["new"]);
}

#[test]
fn a_branch_below_a_thousand_others_sees_what_each_of_them_did() {
    let mut w = Workspace::new(&[("base", "base")]);
    let mut above = w.store().main();
    for depth in 0..1000 {
        let name = format!("d{depth}");
        above = w.store().fork(&above, std::slice::from_ref(&name), GroupKind::Exclusive).unwrap().remove(0);
        if depth % 10 == 0 {
            above.put(&name, &name).unwrap();
        }
    }
    let seen = above.tree();
    assert_eq!(seen.len(), 101);
    assert_eq!(above.read_all("d0").unwrap(), "d0");
    assert_eq!(above.read_all("base").unwrap(), "base");
    drop(above);
    w.reopen();
    assert_eq!(w.branch("d999").tree(), seen);
    w.store().commit(&w.branch("d999")).unwrap();
    assert_eq!(w.branch("d998").tree(), seen);
}

#[test]
fn nesting_has_a_limit_that_is_told() {
    let w = Workspace::new(&[]);
    let mut above = w.store().main();
    for depth in 0..4096 {
        above = w.store().fork(&above, &[format!("d{depth}")], GroupKind::Exclusive).unwrap().remove(0);
    }
    let refused = w.store().fork(&above, &["deeper".to_owned()], GroupKind::Exclusive).unwrap_err();
    assert!(matches!(refused, Error::Limit { max: 4096, .. }), "{refused}");
}

#[test]
fn a_branch_with_live_children_is_not_committed_and_they_are_named() {
    let w = Workspace::new(&[("a", "a")]);
    let parent = w.fork("main", "parent");
    parent.put("mine", "").unwrap();
    w.fork_as("parent", &["x", "y"], GroupKind::Independent);
    let Err(Error::HasChildren { name, mut children }) = w.store().commit(&parent) else {
        panic!("it has children")
    };
    children.sort();
    assert_eq!((name.as_str(), children), ("parent", vec!["x".to_owned(), "y".to_owned()]));
    assert!(w.base_tree().keys().all(|path| path != "mine"));
    for name in ["x", "y"] {
        w.store().abort(&w.branch(name), Children::Refuse).unwrap();
    }
    w.store().commit(&parent).unwrap();
    assert!(w.base_tree().keys().any(|path| path == "mine"));
}

#[test]
fn an_abort_touches_nothing_but_the_branch_and_those_below_it() {
    let w = Workspace::new(&[("a", "a")]);
    let base = w.base_tree();
    let parent = w.fork("main", "parent");
    parent.put("p", "p").unwrap();
    let siblings = w.fork_as("parent", &["left", "right"], GroupKind::Independent);
    siblings[0].put("l", "l").unwrap();
    siblings[1].put("r", "r").unwrap();
    let below = w.fork("left", "below");
    let (of_parent, of_right) = (parent.tree(), siblings[1].tree());
    assert!(matches!(w.store().abort(&siblings[0], Children::Refuse), Err(Error::HasChildren { .. })));
    w.store().abort(&siblings[0], Children::Cascade).unwrap();
    for dead in [&siblings[0], &below] {
        assert_eq!(errno(dead.at("a")), Errno::STALE);
    }
    assert_eq!((parent.tree(), siblings[1].tree(), w.base_tree()), (of_parent, of_right, base));
}

/// Story: the content file in the store was one link more than ext4 allows, and the commit, decided, could never be
/// finished.
#[test]
fn a_file_with_as_many_names_as_a_file_can_have_is_committed_with_all_of_them() {
    let w = Workspace::new(&[]);
    let a = w.fork("main", "a");
    a.make_dir("d").unwrap();
    a.put("d/0", "everywhere").unwrap();
    let (dir, (file, _)) = (a.at("d").unwrap().0, a.at("d/0").unwrap());
    for n in 1..65_000 {
        a.link(&file, &dir, n.to_string().as_bytes()).unwrap();
    }
    assert_eq!(errno(a.link(&file, &dir, b"one more")), Errno::MLINK);
    let done = w.store().commit(&a).unwrap();
    assert_eq!(done.warnings, Vec::<String>::new());
    let meta = std::fs::metadata(w.base().join("d/64999")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::nlink(&meta), 65_000);
}
