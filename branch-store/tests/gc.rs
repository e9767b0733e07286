//! How much of the past is kept, and what a collection frees.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;
use std::time::Duration;

use branch_store::*;
use common::{Paths, Workspace};

const NOTHING: Keep = Keep { commits: 0, age: Some(Duration::ZERO), bytes: Some(0) };
const ALL: Keep = Keep { commits: 1000, age: None, bytes: None };

fn commit(workspace: &Workspace, n: usize, bytes: usize) {
    let branch = workspace.fork("main", &format!("c{n}"));
    branch.put("file", &n.to_string().repeat(bytes)).unwrap();
    workspace.store().commit(&branch).unwrap();
}

/// Six commits, each of which replaced so many bytes.
fn history(bytes: usize) -> Workspace {
    let workspace = Workspace::new(&[("file", &"x".repeat(bytes))]);
    workspace.store().set_keep(ALL).unwrap();
    (0..6).for_each(|n| commit(&workspace, n, bytes));
    workspace.store().reclaim().unwrap();
    workspace
}

fn undone(workspace: &Workspace) -> usize {
    (0..).take_while(|_| workspace.store().undo().is_ok()).count()
}

fn numbers(collected: &Collected) -> Vec<u64> {
    collected.commits.iter().map(|commit| commit.0).collect()
}

/// Bytes of files below a directory.
fn on_disk(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let bytes = |entry: std::fs::DirEntry| {
        let found = entry.metadata().unwrap();
        found.blocks() * 512 + if found.is_dir() { on_disk(&entry.path()) } else { 0 }
    };
    entries.map(bytes).sum()
}

#[test]
fn so_many_commits_are_kept_and_what_goes_is_told_before() {
    let workspace = history(100_000);
    let (store, keep) = (workspace.store(), Keep { commits: 2, ..ALL });
    let park = workspace.base().join(".branchfs/preimage");
    let before = on_disk(&park);
    let collectable = store.collectable(&keep).unwrap();
    assert_eq!(numbers(&collectable), [1, 2, 3, 4]);
    assert_eq!((before, store.collectable(&keep).unwrap()), (on_disk(&park), collectable.clone()));
    assert_eq!(store.collect(&keep).unwrap(), collectable);
    assert_eq!(before - on_disk(&park), collectable.preimage_bytes);
    assert_eq!(on_disk(&park), collectable.kept_bytes);
    assert_eq!(undone(&workspace), 2);
    assert_eq!(store.keep(), ALL, "for once");
}

#[test]
fn what_is_too_old_goes_but_for_the_newest() {
    let workspace = history(10);
    let collected = workspace.store().collect(&Keep { age: Some(Duration::ZERO), ..ALL }).unwrap();
    assert_eq!(numbers(&collected), [1, 2, 3, 4, 5]);
    assert_eq!(undone(&workspace), 1);
    let old = Duration::from_secs(3600);
    assert_eq!(workspace.store().collect(&Keep { age: Some(old), ..ALL }).unwrap().commits, []);
}

#[test]
fn what_is_too_large_goes_the_oldest_first() {
    let workspace = history(100_000);
    let all = workspace.store().collectable(&ALL).unwrap().kept_bytes;
    assert!(all > 600_000);
    let keep = Keep { bytes: Some(all / 2), ..ALL };
    let collected = workspace.store().collect(&keep).unwrap();
    assert_eq!(numbers(&collected), [1, 2, 3]);
    assert_eq!(collected.kept_bytes, all / 2);
    // Undoing moves bytes from one commit's preimages to another's.
    workspace.store().undo().unwrap();
    let now = workspace.store().collectable(&ALL).unwrap().kept_bytes;
    assert_eq!(now, on_disk(&workspace.base().join(".branchfs/preimage")));
    assert_eq!(numbers(&workspace.store().collect(&Keep { bytes: Some(0), ..ALL }).unwrap()), [4, 5, 6, 7]);
    assert_eq!(undone(&workspace), 0);
}

#[test]
fn what_a_live_branch_sees_stays_whatever_the_policy() {
    let workspace = Workspace::new(&[("file", "before")]);
    let old = workspace.fork("main", "old");
    (0..3).for_each(|n| commit(&workspace, n, 10));
    workspace.store().set_keep(NOTHING).unwrap();
    assert_eq!(workspace.store().collect(&NOTHING).unwrap().commits, []);
    assert_eq!(old.read_all("file").unwrap(), "before");
    workspace.store().abort(&old, Children::Refuse).unwrap();
    assert_eq!(numbers(&workspace.store().collect(&NOTHING).unwrap()), [1, 2, 3]);
    assert_eq!(undone(&workspace), 0);
}

/// An undoing exchanges what it takes with the preimage it gives back: what it takes lies among the preimages of the
/// commit it is about, which is older than the branches that see it.
#[test]
fn what_an_undoing_took_is_kept_for_the_branches_that_see_it() {
    let workspace = Workspace::new(&[("file", "before")]);
    commit(&workspace, 0, 10);
    let seeing = workspace.fork("main", "seeing");
    workspace.store().undo().unwrap();
    let again = workspace.fork("main", "again");
    workspace.store().redo().unwrap();
    commit(&workspace, 1, 10);
    assert_eq!(workspace.store().collect(&NOTHING).unwrap().commits, []);
    assert_eq!(seeing.read_all("file").unwrap(), "0".repeat(10));
    workspace.store().abort(&seeing, Children::Refuse).unwrap();
    assert_eq!(workspace.store().collect(&NOTHING).unwrap().commits, []);
    assert_eq!(again.read_all("file").unwrap(), "before");
    workspace.store().abort(&again, Children::Refuse).unwrap();
    assert_eq!(numbers(&workspace.store().collect(&NOTHING).unwrap()), [1, 2, 3, 4]);
}

fn text(side: &Side, path: &str) -> String {
    let (object, _) = side.resolve(path.as_bytes()).unwrap().unwrap();
    String::from_utf8(side.read(&object, 1 << 20).unwrap().unwrap()).unwrap()
}

/// Story: a collection took from under a comparison the base that it was reading; it failed half way, or, of a branch
/// that was rebased meanwhile, told of a base that never was.
#[test]
fn a_comparison_under_way_keeps_what_it_sees_also_of_a_branch_that_is_rebased() {
    let workspace = Workspace::new(&[("file", "before")]);
    let branch = workspace.fork("main", "branch");
    branch.put("own", "own").unwrap();
    (0..3).for_each(|n| commit(&workspace, n, 10));
    let store = workspace.store();
    let (fork, now) = store.fork_and_now(&branch).unwrap();
    let first = store.base_after(CommitId(1)).unwrap();
    store.rebase(&branch, &|_| Choice::Refuse).unwrap();
    assert_eq!(store.collect(&NOTHING).unwrap().commits, []);
    assert_eq!([&fork, &now].map(|side| text(side, "file")), ["before", "before"]);
    assert_eq!(store.compare(&fork, &now, Directories::Whole).unwrap().len(), 1);
    drop(fork);
    assert_eq!(store.collectable(&NOTHING).unwrap().commits, [], "the other side sees the same");
    drop(now);
    assert_eq!(numbers(&store.collect(&NOTHING).unwrap()), [1]);
    assert_eq!(text(&first, "file"), "0".repeat(10));
    assert!(matches!(store.base_after(CommitId(0)), Err(Error::NotKept { oldest: 1, .. })));
    drop(first);
    assert_eq!(numbers(&store.collect(&NOTHING).unwrap()), [2, 3]);
}

#[test]
fn the_policy_is_kept_through_a_restart_and_carried_out_in_the_background() {
    let mut workspace = history(10);
    let keep = Keep { commits: 3, age: Some(Duration::from_secs(86400)), bytes: Some(1 << 40) };
    workspace.store().set_keep(keep).unwrap();
    workspace.reopen();
    assert_eq!(workspace.store().keep(), keep);
    workspace.store().reclaim().unwrap();
    assert_eq!(undone(&workspace), 3);
    workspace.close();
    std::fs::write(workspace.base().join(".branchfs/keep"), "everything\n").unwrap();
    let refused = Unrecovered::open(workspace.options()).unwrap().recover().map(drop);
    assert!(matches!(&refused, Err(Error::Corrupt { file, .. }) if file == "keep"), "{refused:?}");
    std::fs::remove_file(workspace.base().join(".branchfs/keep")).unwrap();
    workspace.reopen();
    assert_eq!(workspace.store().keep(), Keep::default());
}

#[test]
fn what_ended_branches_and_removed_files_left_is_told_and_freed() {
    let workspace = Workspace::new(&[]);
    let branch = workspace.fork("main", "a");
    branch.put("removed", &"r".repeat(200_000)).unwrap();
    branch.put("kept", &"k".repeat(100_000)).unwrap();
    let child = workspace.fork("a", "child");
    child.put("own", &"c".repeat(50_000)).unwrap();
    branch.remove("removed").unwrap();
    let content = workspace.base().join(".branchfs/content");
    let files = |dir: &Path| on_disk(dir);
    let before = files(&content);
    // The child still sees it.
    workspace.store().collect(&ALL).unwrap();
    assert_eq!(files(&content), before);
    assert_eq!(child.read_all("removed").unwrap().len(), 200_000);
    workspace.store().abort(&child, Children::Refuse).unwrap();
    let collected = workspace.store().collect(&ALL).unwrap();
    // The child's layer, and the file.
    let expected = 49 * 4096 + 13 * 4096;
    assert!((expected..=expected + 8192).contains(&collected.remains_bytes), "{collected:?}");
    assert_eq!(collected.layers, 1);
    assert_eq!(workspace.store().collect(&ALL).unwrap().remains_bytes, 0);
    assert_eq!(branch.holdings().unwrap().exclusive, 25 * 4096);
    assert_eq!(branch.read_all("kept").unwrap().len(), 100_000);
}
