//! Death at every namespace and durability call: everything before happened, nothing after. The process is
//! then started again on whatever is on the disk.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use branch_store::*;
use common::gate::Fuse;
use common::{Paths, Workspace};
use rustix::io::Errno;

fn sample() -> Workspace {
    let w = Workspace::new(&[
        ("README", "hello\n"),
        ("src/main.rs", "fn main() {}\n"),
        ("src/lib.rs", "// lib\n"),
        ("docs/a/b/c.txt", "deep\n"),
        ("linked", "shared\n"),
        ("x/1", "1"),
        ("y/2", "2"),
        ("empty", ""),
        ("cut", "to be cut\n"),
    ]);
    std::fs::hard_link(w.base().join("linked"), w.base().join("linked2")).unwrap();
    w
}

/// Every kind of change; stops at the first refusal.
fn edit(a: &Arc<Branch>) -> Result<()> {
    a.overwrite("README", "HELLO")?;
    a.overwrite("linked", "SHARED")?;
    a.set_attr(&a.at("cut")?.0, &AttrChange { size: Some(5), ..AttrChange::default() })?;
    a.put("new", "new file")?;
    a.make_dir("dir")?;
    a.put("dir/x", "x")?;
    a.ln("dir/x", "z")?;
    a.remove("empty")?;
    a.mv("src", "dir/source")?;
    a.put("dir/source/lib.rs", "// changed")?;
    a.mv("docs/a/b/c.txt", "c.txt")?;
    a.remove_dir("docs/a/b")?;
    let root = a.root();
    assert_eq!(a.rename(&root, b"x", &root, b"y", RenameMode::Exchange)?.orphan, None);
    Ok(())
}

/// Copies from older layers, whole and cut, in a child.
fn edit_below(b: &Arc<Branch>) -> Result<()> {
    b.overwrite("new", "NEW")?;
    b.overwrite("linked2", "CHILD")?;
    b.put("README", "shorter")?;
    b.set_attr(&b.at("cut")?.0, &AttrChange { size: Some(2), ..AttrChange::default() })?;
    b.remove("z")
}

type Tree = BTreeMap<String, String>;

/// What the crashed run knew when it died.
#[derive(Default)]
struct Known {
    /// What the branch may be after the last acknowledged operation; nothing: in the middle of one.
    acknowledged: Vec<Tree>,
    committed: bool,
}

fn run(w: &Workspace) -> Known {
    let mut known = Known::default();
    let Ok(main) = w.store().branch("main") else { return known };
    let Ok(forked) = w.store().fork(&main, &["a".to_owned(), "loser".to_owned()], GroupKind::Exclusive)
    else {
        return known;
    };
    let [a, _loser] = &forked[..] else { unreachable!() };
    if edit(a).is_err() {
        return known;
    }
    let before = a.tree();
    known.acknowledged = vec![before.clone()];
    let Ok(below) = w.store().fork(a, &["b".to_owned()], GroupKind::Independent) else { return known };
    if edit_below(&below[0]).is_err() {
        return known;
    }
    let after = below[0].tree();
    // A commit that was not acknowledged may have happened, whole.
    known.acknowledged = vec![before, after.clone()];
    if w.store().commit(&below[0]).is_err() {
        return known;
    }
    known.acknowledged = vec![after];
    known.committed = w.store().commit(a).is_ok();
    known
}

#[test]
fn a_death_at_any_call_leaves_all_or_nothing_and_every_acknowledged_operation() {
    let (before, after, calls) = reference();
    println!("{calls} calls, each a crash point");
    assert!(calls > 50, "the scenario reaches the disk");
    for k in 0..calls {
        let mut w = sample();
        w.reopen_on(Disk::guarded(Fuse::counting())).unwrap();
        let fuse = Fuse::new(k, Errno::IO, false);
        if w.reopen_on(Disk::guarded(fuse)).is_err() {
            w.reopen();
            assert_eq!(w.base_tree(), before, "died at call {k}, while opening");
            continue;
        }
        let known = run(&w);
        w.reopen();
        check(&w, &known, &before, &after, k);
        w.reopen();
        check(&w, &known, &before, &after, k);
    }
}

#[test]
fn a_full_disk_at_any_call_is_an_error_and_never_a_loss() {
    let (before, after, calls) = reference();
    for k in 0..calls {
        let mut w = sample();
        w.reopen_on(Disk::guarded(Fuse::new(k, Errno::NOSPC, true))).unwrap_or_else(|e| {
            assert_eq!(e.errno(), Errno::NOSPC, "call {k}");
            w.reopen()
        });
        let known = run(&w);
        w.reopen();
        check(&w, &known, &before, &after, k);
    }
}

/// The base before, the base after, and how many calls lie between.
fn reference() -> (Tree, Tree, u64) {
    let mut w = sample();
    let before = w.base_tree();
    let fuse = Fuse::counting();
    w.reopen_on(Disk::guarded(fuse.clone())).unwrap();
    let known = run(&w);
    assert!(known.committed);
    assert_eq!(vec![w.base_tree()], known.acknowledged);
    let calls = fuse.calls();
    w.reopen();
    (before, w.base_tree(), calls)
}

fn check(w: &Workspace, known: &Known, before: &Tree, after: &Tree, k: u64) {
    let base = w.base_tree();
    let alive = w.store().branch("a");
    if known.committed {
        assert_eq!(&base, after, "died at call {k}, after the commit was acknowledged");
    }
    if &base == after {
        assert!(alive.is_err(), "died at call {k}: committed, so the branch has ended");
        assert!(w.store().branch("loser").is_err(), "died at call {k}: the sibling is stale");
        assert_eq!(&w.store().main().tree(), after);
        return;
    }
    assert_eq!(&base, before, "died at call {k}: neither all nor nothing");
    if !known.acknowledged.is_empty() {
        let seen = alive.unwrap().tree();
        assert!(
            known.acknowledged.contains(&seen),
            "died at call {k}: an acknowledged operation is lost: {seen:#?}"
        );
    }
}
