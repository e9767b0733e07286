//! What a branch is, through the engine alone.

mod common;

use branch_store::*;
use common::{Paths, Workspace, errno};
use rustix::io::Errno;

fn sample() -> Workspace {
    Workspace::new(&[
        ("README", "hello\n"),
        ("src/main.rs", "fn main() {}\n"),
        ("src/lib.rs", "// lib\n"),
        ("docs/a/b/c.txt", "deep\n"),
        ("empty", ""),
    ])
}

#[test]
fn a_fresh_branch_sees_the_base_and_not_the_store() {
    let w = sample();
    let a = w.fork("main", "a");
    assert_eq!(a.tree(), w.base_tree());
    assert_eq!(errno(a.at(".branchfs")), Errno::NOENT);
    assert_eq!(errno(a.make_dir(".branchfs")), Errno::PERM);
}

#[test]
fn writes_stay_in_the_branch_and_survive_a_kill() {
    let mut w = sample();
    let before = w.base_tree();
    let a = w.fork("main", "a");
    a.overwrite("README", "HELLO").unwrap();
    a.put("new", "new file").unwrap();
    a.make_dir("dir").unwrap();
    a.put("dir/x", "x").unwrap();
    a.remove("empty").unwrap();
    a.mv("src", "source").unwrap();
    a.ln("README", "docs/link").unwrap();
    let seen = a.tree();
    assert_eq!(a.read_all("README").unwrap(), "HELLO\n");
    assert_eq!(a.read_all("source/main.rs").unwrap(), "fn main() {}\n");
    assert_eq!(errno(a.at("src")), Errno::NOENT);
    assert_eq!(w.base_tree(), before);
    drop(a);
    w.reopen();
    assert_eq!(w.branch("a").tree(), seen);
    assert_eq!(w.base_tree(), before);
}

#[test]
fn a_commit_into_the_base_leaves_exactly_what_the_branch_showed() {
    let mut w = sample();
    let a = w.fork("main", "a");
    a.overwrite("README", "HELLO").unwrap();
    a.put("new", "new file").unwrap();
    a.make_dir("dir").unwrap();
    a.make_dir("dir/empty").unwrap();
    a.put("dir/x", "x").unwrap();
    a.ln("dir/x", "dir/y").unwrap();
    a.ln("dir/x", "z").unwrap();
    a.remove("empty").unwrap();
    a.mv("src", "dir/source").unwrap();
    a.overwrite("dir/source/lib.rs", "//").unwrap();
    a.mv("docs/a/b/c.txt", "c.txt").unwrap();
    a.remove_dir("docs/a/b").unwrap();
    let seen = a.tree();
    let done = w.store().commit(&a).unwrap();
    assert_eq!(done.commit, Some(CommitId(1)));
    assert_eq!(done.warnings, Vec::<String>::new());
    assert_eq!(w.base_tree(), seen);
    assert_eq!(w.store().main().tree(), seen);
    assert_eq!(errno(a.stat(&a.root())), Errno::STALE);
    drop((a, done));
    w.reopen();
    assert_eq!(w.store().main().tree(), seen);
    assert_eq!(w.base_tree(), seen);
}

#[test]
fn the_first_commit_wins_and_siblings_become_stale() {
    let w = sample();
    let branches = w.fork_as("main", &["a", "b", "c"], GroupKind::Exclusive);
    for branch in &branches {
        branch.put("who", branch.name()).unwrap();
    }
    let done = w.store().commit(&branches[1]).unwrap();
    assert_eq!(done.stale.len(), 2);
    assert!(matches!(w.store().commit(&branches[0]), Err(Error::Stale(_))));
    assert_eq!(errno(branches[2].at("who")), Errno::STALE);
    assert_eq!(std::fs::read_to_string(w.base().join("who")).unwrap(), "b");
}

#[test]
fn independent_siblings_keep_their_snapshot_when_another_commits() {
    let mut w = sample();
    let branches = w.fork_as("main", &["a", "b"], GroupKind::Independent);
    let before = branches[1].tree();
    let a = &branches[0];
    a.overwrite("README", "HELLO").unwrap();
    a.remove("empty").unwrap();
    a.put("new", "n").unwrap();
    a.mv("docs/a", "moved").unwrap();
    a.mv("src/lib.rs", "lib.rs").unwrap();
    a.set_attr(&a.at("src/main.rs").unwrap().0, &AttrChange { mode: Some(0o755), ..AttrChange::default() })
        .unwrap();
    let after = a.tree();
    w.store().commit(a).unwrap();
    assert_eq!(w.base_tree(), after);
    assert_eq!(branches[1].tree(), before, "b still sees the base as it was at the fork (S2)");
    drop(branches);
    w.reopen();
    assert_eq!(w.branch("b").tree(), before);
    w.branch("b").put("b", "disjoint").unwrap();
    w.store().commit(&w.branch("b")).unwrap();
    let mut both = after;
    both.insert("b".into(), "File 644 x1 disjoint".into());
    assert_eq!(w.base_tree(), both);
}

#[test]
fn a_branch_below_a_branch_is_a_snapshot_of_it() {
    let mut w = sample();
    let a = w.fork("main", "a");
    a.put("f", "1").unwrap();
    let b = w.fork("a", "b");
    a.put("f", "2").unwrap();
    a.remove("README").unwrap();
    b.put("g", "from b").unwrap();
    assert_eq!(b.read_all("f").unwrap(), "1");
    assert_eq!(b.read_all("README").unwrap(), "hello\n");
    assert_eq!(errno(a.at("g")), Errno::NOENT);
    w.store().commit(&b).unwrap();
    assert_eq!(a.read_all("g").unwrap(), "from b");
    assert_eq!(a.read_all("f").unwrap(), "2");
    assert_eq!(errno(a.at("README")), Errno::NOENT);
    let seen = a.tree();
    drop((a, b));
    w.reopen();
    assert_eq!(w.branch("a").tree(), seen);
    w.store().commit(&w.branch("a")).unwrap();
    assert_eq!(w.base_tree(), seen);
}

#[test]
fn both_sides_changing_a_file_is_a_conflict_and_changes_nothing() {
    let w = sample();
    let a = w.fork("main", "a");
    a.put("f", "0").unwrap();
    let b = w.fork("a", "b");
    a.put("f", "a").unwrap();
    b.put("f", "b").unwrap();
    let Err(Error::Conflicts(conflicts)) = w.store().commit(&b) else { panic!("no conflict") };
    assert_eq!(conflicts.iter().map(|c| c.path.clone()).collect::<Vec<_>>(), [b"f".to_vec()]);
    assert_eq!(a.read_all("f").unwrap(), "a");
    assert_eq!(b.read_all("f").unwrap(), "b", "the branch goes on");
    b.put("h", "still works").unwrap();
}

#[test]
fn an_edit_of_the_base_behind_our_back_is_a_conflict_never_a_loss() {
    let w = sample();
    let a = w.fork("main", "a");
    a.overwrite("README", "MINE!").unwrap();
    a.remove("empty").unwrap();
    a.put("both", "branch").unwrap();
    std::fs::write(w.base().join("README"), "edited outside\n").unwrap();
    std::fs::write(w.base().join("empty"), "not empty\n").unwrap();
    std::fs::write(w.base().join("both"), "outside").unwrap();
    let before = w.base_tree();
    let Err(Error::Conflicts(conflicts)) = w.store().commit(&a) else { panic!("no conflict") };
    let paths: Vec<_> = conflicts.iter().map(|c| String::from_utf8_lossy(&c.path).into_owned()).collect();
    assert_eq!(paths, ["README", "both", "empty"]);
    assert_eq!(w.base_tree(), before);
}

#[test]
fn an_untouched_file_shows_outside_edits() {
    let w = sample();
    let a = w.fork("main", "a");
    std::fs::write(w.base().join("README"), "edited outside\n").unwrap();
    assert_eq!(a.read_all("README").unwrap(), "edited outside\n");
}

#[test]
fn hard_links_of_the_base_stay_one_file() {
    let w = Workspace::new(&[("f", "shared\n")]);
    std::fs::hard_link(w.base().join("f"), w.base().join("g")).unwrap();
    let a = w.fork("main", "a");
    a.overwrite("f", "SHARED").unwrap();
    assert_eq!(a.read_all("g").unwrap(), "SHARED\n");
    assert_eq!(a.at("g").unwrap().1.nlink, 2);
    let seen = a.tree();
    let other = w.fork_as("main", &["other"], GroupKind::Independent).remove(0);
    w.store().commit(&a).unwrap();
    assert_eq!(w.base_tree(), seen);
    assert_eq!(other.read_all("g").unwrap(), "shared\n", "an older snapshot keeps the old bytes");
}

#[test]
fn a_name_once_deleted_can_be_made_again() {
    let w = sample();
    let a = w.fork("main", "a");
    for i in 0..3 {
        a.remove("README").unwrap();
        a.put("README", &format!("round {i}")).unwrap();
    }
    a.put("tmp", "atomic save").unwrap();
    a.mv("tmp", "README").unwrap();
    assert_eq!(a.read_all("README").unwrap(), "atomic save");
    let seen = a.tree();
    w.store().commit(&a).unwrap();
    assert_eq!(w.base_tree(), seen);
}

#[test]
fn swapping_and_replacing_directories_commits_as_seen() {
    let w = Workspace::new(&[("a/1", "1"), ("b/2", "2"), ("c/3", "3"), ("d/4", "4")]);
    let x = w.fork("main", "x");
    let root = x.root();
    let removed = x.rename(&root, b"a", &root, b"b", RenameMode::Exchange).unwrap();
    assert_eq!(removed.orphan, None);
    x.remove("c/3").unwrap();
    x.remove_dir("c").unwrap();
    x.mv("d", "c").unwrap();
    x.put("c/5", "5").unwrap();
    x.mv("c/4", "b/4").unwrap();
    x.make_dir("d").unwrap();
    x.mv("a", "d/a").unwrap();
    let seen = x.tree();
    w.store().commit(&x).unwrap();
    assert_eq!(w.base_tree(), seen);
}

#[test]
fn posix_answers_for_names() {
    let w = sample();
    let a = w.fork("main", "a");
    assert_eq!(errno(a.remove_dir("src")), Errno::NOTEMPTY);
    assert_eq!(errno(a.remove("src")), Errno::ISDIR);
    assert_eq!(errno(a.remove_dir("README")), Errno::NOTDIR);
    assert_eq!(errno(a.remove("nothing")), Errno::NOENT);
    assert_eq!(errno(a.make_dir("src")), Errno::EXIST);
    assert_eq!(errno(a.mv("src", "src/inner")), Errno::INVAL);
    assert_eq!(errno(a.mv("README", "src")), Errno::ISDIR);
    assert_eq!(errno(a.mv("src", "README")), Errno::NOTDIR);
    assert_eq!(errno(a.mv("docs", "src")), Errno::NOTEMPTY);
    assert_eq!(errno(a.put(&"n".repeat(256), "")), Errno::NAMETOOLONG);
    assert_eq!(errno(w.store().main().put("README", "x")), Errno::ROFS);
    let a_root = a.root();
    assert_eq!(errno(a.rename(&a_root, b"README", &a_root, b"empty", RenameMode::NoReplace)), Errno::EXIST);
    assert_eq!(a.changed(), 0, "refused operations leave no trace");
}

#[test]
fn a_diff_says_what_changed() {
    let w = sample();
    let a = w.fork("main", "a");
    a.overwrite("README", "HELLO").unwrap();
    a.put("new/deep", "").unwrap_err();
    a.make_dir("new").unwrap();
    a.put("new/deep", "x").unwrap();
    a.remove("empty").unwrap();
    a.mv("src", "source").unwrap();
    a.put("source/lib.rs", "changed").unwrap();
    let diff = w.store().diff(&a).unwrap();
    let lines: Vec<String> =
        diff.iter().map(|c| format!("{:?} {}", c.kind, String::from_utf8_lossy(&c.path))).collect();
    let from = b"src".to_vec();
    assert_eq!(
        lines,
        [
            "Modified README".to_owned(),
            "Deleted empty".to_owned(),
            "Added new/deep".to_owned(),
            format!("{:?} source", ChangeKind::Renamed { from }),
            "Modified source/lib.rs".to_owned(),
        ]
    );
}

#[test]
fn only_one_process_opens_a_store_and_one_of_another_format_is_left_alone() {
    let mut w = sample();
    assert!(matches!(Unrecovered::open(w.options()), Err(Error::Locked(_))));
    w.close();
    let format = |version: u32| {
        let text = format!("branchfs {version}\n00000000000000000000000000000000\n");
        std::fs::write(w.base().join(".branchfs/format"), text).unwrap();
        Unrecovered::open(w.options()).map(drop)
    };
    let known = match format(u32::MAX) {
        Err(Error::Newer { found: u32::MAX, known }) => known,
        other => panic!("{other:?}"),
    };
    assert!(matches!(format(known - 1), Err(Error::Older { found, .. }) if found == known - 1));
    format(known).unwrap();
}

#[test]
fn a_checkpoint_carries_everything_over() {
    let mut w = sample();
    let a = w.fork("main", "a");
    a.overwrite("README", "HELLO").unwrap();
    a.mv("src", "source").unwrap();
    let b = w.fork("a", "b");
    b.put("b", "b").unwrap();
    a.put("later", "a").unwrap();
    let frozen = w.fork_as("b", &["f1", "f2"], GroupKind::Frozen);
    assert_eq!(errno(b.put("x", "")), Errno::ROFS);
    w.store().checkpoint().unwrap();
    b.at("b").unwrap();
    frozen[0].put("after", "the checkpoint").unwrap();
    let trees = [a.tree(), b.tree(), frozen[0].tree(), frozen[1].tree()];
    drop((a, b, frozen));
    w.reopen();
    let again = ["a", "b", "f1", "f2"].map(|name| w.branch(name).tree());
    assert_eq!(again, trees);
    assert_eq!(errno(w.branch("b").put("x", "")), Errno::ROFS, "frozen parents stay frozen");
    w.store().abort(&w.branch("f1"), Children::Refuse).unwrap();
    w.store().abort(&w.branch("f2"), Children::Refuse).unwrap();
    w.branch("b").put("x", "thawed").unwrap();
}
