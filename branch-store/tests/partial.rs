//! Part of a branch is committed and the rest stays in it: together they are what it was.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;

use branch_store::*;
use common::gate::Fuse;
use common::random::{Random, Tree, assert_same, sample, step};
use common::{Paths, Workspace, errno, refuse};
use rustix::io::Errno;

/// The paths, and what is below them.
fn only<'a>(paths: &'a [&'a str]) -> impl Fn(&[u8]) -> bool + 'a {
    move |path| {
        let path = String::from_utf8_lossy(path).into_owned();
        paths.iter().any(|only| path == **only || path.starts_with(&format!("{only}/")))
    }
}

fn commit_only(w: &Workspace, branch: &Arc<Branch>, paths: &[&str]) -> Result<Committed> {
    w.store().commit_part(branch, &refuse, &only(paths))
}

fn changed(w: &Workspace, branch: &Arc<Branch>) -> Vec<String> {
    let changes = w.store().diff(branch).unwrap();
    changes.into_iter().map(|change| String::from_utf8_lossy(&change.path).into_owned()).collect()
}

/// Both kinds of parents.
fn each_parent(test: impl Fn(Workspace, &str, Arc<Branch>)) {
    for parent in ["main", "parent"] {
        let w = sample();
        w.fork("main", "parent");
        let branch = w.fork_as(parent, &["branch"], GroupKind::Independent).remove(0);
        test(w, parent, branch);
    }
}

#[test]
fn what_is_selected_is_in_the_parent_and_the_rest_in_the_branch() {
    each_parent(|mut w, parent, branch| {
        branch.put("a/b", "changed").unwrap();
        branch.put("b/c", "changed").unwrap();
        branch.remove("e").unwrap();
        branch.put("new", "new").unwrap();
        let whole = branch.tree();
        let done = commit_only(&w, &branch, &["a", "new"]).unwrap();
        assert_eq!((done.changed, done.stays.as_ref().unwrap().changed), (2, 2));
        assert_eq!(done.warnings, Vec::<String>::new());
        drop((done, branch));
        for _ in 0..2 {
            let (branch, above) = (w.branch("branch"), w.branch(parent));
            assert_eq!(above.read_all("a/b").unwrap(), "changed");
            assert_eq!(above.read_all("new").unwrap(), "new");
            assert_eq!(above.read_all("b/c").unwrap(), "3");
            assert_eq!(above.read_all("e").unwrap(), "7");
            assert_same(&branch.tree(), &whole, "the branch shows what it showed");
            assert_eq!(changed(&w, &branch), ["b/c", "e"]);
            drop((branch, above));
            w.store().checkpoint().unwrap();
            w.reopen();
        }
        let branch = w.branch("branch");
        branch.put("new", "newer").unwrap();
        branch.put("b/d", "more").unwrap();
        let whole = branch.tree();
        commit_only(&w, &branch, &["e"]).unwrap();
        w.store().commit(&branch).unwrap();
        drop(branch);
        assert_same(&w.branch(parent).tree(), &whole, "all of it in the end");
    });
}

#[test]
fn directories_on_the_way_come_along_and_what_else_is_in_them_stays() {
    each_parent(|mut w, parent, branch| {
        branch.make_dir("new").unwrap();
        branch.make_dir("new/deep").unwrap();
        branch.put("new/deep/one", "1").unwrap();
        branch.put("new/deep/two", "2").unwrap();
        branch.put("new/three", "3").unwrap();
        branch.mv("b", "new/b").unwrap();
        branch.put("new/b/c", "moved").unwrap();
        let whole = branch.tree();
        commit_only(&w, &branch, &["new/deep/one"]).unwrap();
        assert_eq!(w.branch(parent).read_all("new/deep/one").unwrap(), "1");
        assert_eq!(errno(w.branch(parent).at("new/three")), Errno::NOENT);
        assert_eq!(w.branch(parent).read_all("b/c").unwrap(), "3");
        assert_same(&branch.tree(), &whole, "the branch shows what it showed");
        drop(branch);
        w.reopen();
        let branch = w.branch("branch");
        assert_same(&branch.tree(), &whole, "after a restart");
        branch.put("new/deep/four", "4").unwrap();
        commit_only(&w, &branch, &["new/b", "b"]).unwrap();
        assert_eq!(w.branch(parent).read_all("new/b/c").unwrap(), "moved");
        assert_eq!(w.branch(parent).read_all("new/b/a/d").unwrap(), "4");
        let whole = branch.tree();
        w.store().commit(&branch).unwrap();
        drop(branch);
        assert_same(&w.branch(parent).tree(), &whole, "all of it in the end");
    });
}

#[test]
fn what_goes_together_is_not_torn_apart() {
    each_parent(|w, parent, branch| {
        branch.mv("e", "moved").unwrap();
        branch.overwrite("d", "S").unwrap();
        branch.mv("c/b", "c/b2").unwrap();
        branch.make_dir("x").unwrap();
        let (before, above) = (branch.tree(), w.branch(parent).tree());
        for (paths, with) in [(&["moved"][..], "e"), (&["e"], "moved"), (&["d"], "c/b"), (&["c"], "d")] {
            match commit_only(&w, &branch, paths) {
                Err(Error::Inseparable { with: told, .. }) => {
                    assert!(String::from_utf8_lossy(&told).starts_with(with), "{paths:?} {told:?}");
                }
                other => panic!("{paths:?} {other:?}"),
            }
        }
        assert!(matches!(commit_only(&w, &branch, &["a", "nothing"]), Err(Error::NothingSelected)));
        assert_same(&branch.tree(), &before, "nothing changed");
        assert_same(&w.branch(parent).tree(), &above, "nothing changed above");
        commit_only(&w, &branch, &["moved", "e"]).unwrap();
        commit_only(&w, &branch, &["c", "d"]).unwrap();
        assert_eq!(changed(&w, &branch), ["x"]);
        assert_same(&branch.tree(), &before, "it shows what it showed");
    });
}

#[test]
fn a_removed_directory_goes_as_a_whole_and_attributes_of_one_by_its_own_path() {
    each_parent(|w, parent, branch| {
        branch.remove("b/a/d").unwrap();
        branch.remove_dir("b/a").unwrap();
        branch.remove("b/c").unwrap();
        branch.remove_dir("b").unwrap();
        let set = |path, mode| {
            let change = AttrChange { mode: Some(mode), ..AttrChange::default() };
            branch.set_attr(&branch.at(path).unwrap().0, &change).unwrap();
        };
        set("a", 0o700);
        set("c/d", 0o700);
        branch.put("a/new", "new").unwrap();
        commit_only(&w, &branch, &["a/new"]).unwrap();
        assert_eq!(w.branch(parent).at("a").unwrap().1.mode, 0o755, "its names, not its mode");
        commit_only(&w, &branch, &["b"]).unwrap();
        assert_eq!(errno(w.branch(parent).at("b")), Errno::NOENT);
        let all_but = |path: &[u8]| path != b"c/d";
        w.store().commit_part(&branch, &refuse, &all_but).unwrap();
        assert_eq!(w.branch(parent).at("a").unwrap().1.mode, 0o700);
        assert_eq!(w.branch(parent).at("c/d").unwrap().1.mode, 0o755);
        assert_eq!(changed(&w, &branch), ["c/d"]);
    });
}

#[test]
fn a_sibling_s_commit_shows_in_the_branch_after_a_partial_one_and_a_clash_of_the_rest_refuses_it() {
    each_parent(|w, parent, branch| {
        let sibling = w.fork_as(parent, &["sibling"], GroupKind::Independent).remove(0);
        sibling.put("a/b", "theirs").unwrap();
        branch.put("e", "ours").unwrap();
        branch.put("mine", "ours").unwrap();
        w.store().commit(&sibling).unwrap();
        commit_only(&w, &branch, &["e"]).unwrap();
        assert_eq!(branch.read_all("a/b").unwrap(), "theirs");
        let again = w.fork_as(parent, &["again"], GroupKind::Independent).remove(0);
        again.put("mine", "theirs").unwrap();
        branch.put("e", "ours again").unwrap();
        w.store().commit(&again).unwrap();
        let before = branch.tree();
        match commit_only(&w, &branch, &["e"]) {
            Err(Error::Conflicts(conflicts)) => assert_eq!(conflicts[0].path, b"mine"),
            other => panic!("{other:?}"),
        }
        assert_same(&branch.tree(), &before, "nothing changed");
        w.store().commit_part(&branch, &|_| Choice::Ours, &only(&["e"])).unwrap();
        assert_eq!(w.branch(parent).read_all("mine").unwrap(), "theirs");
        assert_eq!(branch.read_all("mine").unwrap(), "ours");
    });
}

#[test]
fn siblings_of_an_exclusive_group_lose_and_the_branch_goes_on() {
    let w = sample();
    let both = w.fork_as("main", &["one", "two"], GroupKind::Exclusive);
    both[0].put("e", "won").unwrap();
    both[0].put("mine", "won").unwrap();
    let done = commit_only(&w, &both[0], &["e"]).unwrap();
    assert_eq!(done.stale.len(), 1);
    assert!(both[0].is_live() && !both[1].is_live());
    w.store().undo().unwrap();
    assert_eq!(w.store().main().read_all("e").unwrap(), "7");
    assert_eq!(both[0].read_all("e").unwrap(), "won", "it sees the base as of its commit");
    both[0].put("mine", "more").unwrap();
    w.store().commit(&both[0]).unwrap();
    assert_eq!(w.store().main().read_all("mine").unwrap(), "more");
}

#[test]
fn an_open_file_that_was_committed_keeps_its_bytes_and_takes_no_more_for_the_base() {
    let w = sample();
    let branch = w.fork("main", "branch");
    branch.put("new", "first").unwrap();
    branch.put("other", "x").unwrap();
    let (object, _) = branch.at("new").unwrap();
    let file = branch.open(&object, Access::Write).unwrap();
    let done = commit_only(&w, &branch, &["new"]).unwrap();
    assert_eq!(done.stays.unwrap().orphans, [object.id]);
    let mut bytes = [0; 5];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 5);
    assert_eq!(&bytes, b"first");
    file.write_at(b"second", 0).unwrap();
    assert_eq!(branch.read_all("new").unwrap(), "first");
    assert_eq!(std::fs::read(w.base().join("new")).unwrap(), b"first");
    branch.reap(object.id).unwrap();
}

#[test]
fn a_death_at_any_call_leaves_the_part_committed_and_the_rest_in_the_branch_or_nothing() {
    let edit = |branch: &Arc<Branch>| {
        branch.overwrite("d", "SHARED").unwrap();
        branch.put("a/b", "changed").unwrap();
        branch.put("b/c", "changed").unwrap();
        branch.make_dir("new").unwrap();
        branch.put("new/one", "1").unwrap();
        branch.put("new/two", "2").unwrap();
        branch.remove("e").unwrap();
    };
    let paths = ["c", "d", "a", "new/one", "e"];
    let before = sample().base_tree();
    let mut finished = false;
    let mut cases = 0;
    for call in 0.. {
        let mut w = sample();
        let fuse = Fuse::counting();
        w.reopen_on(Disk::guarded(fuse.clone())).unwrap();
        let branch = w.fork("main", "branch");
        edit(&branch);
        let whole = branch.tree();
        fuse.set(call);
        let done = commit_only(&w, &branch, &paths).is_ok();
        finished = done && fuse.calls() <= call;
        drop(branch);
        w.reopen();
        let branch = w.branch("branch");
        assert_same(&branch.tree(), &whole, &format!("call {call}: the branch shows what it showed"));
        let base = w.base_tree();
        let committed = base.contains_key("new/one");
        if committed {
            assert!(!base.contains_key("e") && !base.contains_key("new/two"), "call {call}: half");
            assert_eq!(changed(&w, &branch), ["b/c", "new/two"], "call {call}");
        } else {
            assert_same(&base, &before, &format!("call {call}: half"));
            assert!(!done, "call {call}: it was acknowledged");
        }
        w.store().commit(&branch).unwrap();
        drop(branch);
        assert_same(&w.base_tree(), &whole, &format!("call {call}: all of it in the end"));
        cases += 1;
        if finished {
            break;
        }
    }
    assert!(finished && cases > 30, "{cases} cases");
    println!("{cases} cases");
}

fn one_run(seed: u64, log: &mut Vec<String>) -> bool {
    let mut random = Random(seed);
    let mut w = sample();
    w.fork("main", "parent");
    let parent = ["main", "parent"][random.below(2)];
    if parent == "parent" {
        for _ in 0..random.below(8) {
            step(&w.branch("parent"), &mut random, log);
        }
    }
    let branch = w.fork_as(parent, &["branch"], GroupKind::Independent).remove(0);
    for _ in 0..=random.below(10) {
        step(&branch, &mut random, log);
    }
    let (whole, above) = (branch.tree(), w.branch(parent).tree());
    let names = ["a", "b", "c", "d"];
    let some: Vec<&str> = (0..=random.below(3)).map(|_| names[random.below(4)]).collect();
    let deep = random.below(2) == 0;
    log.push(format!("commit {some:?} {deep}"));
    // By the first component, or by the last.
    let selector = |path: &[u8]| {
        let mut parts = path.split(|byte| *byte == b'/');
        let part = if deep { parts.next_back() } else { parts.next() };
        part.is_some_and(|part| some.iter().any(|name| name.as_bytes() == part))
    };
    let done = match w.store().commit_part(&branch, &refuse, &selector) {
        Ok(done) => done,
        Err(Error::Inseparable { .. } | Error::NothingSelected) => {
            assert_same(&branch.tree(), &whole, "a refused commit changed the branch");
            assert_same(&w.branch(parent).tree(), &above, "a refused commit changed the parent");
            return false;
        }
        Err(e) => panic!("{e:?}"),
    };
    assert_eq!(done.warnings, Vec::<String>::new());
    assert_same(&branch.tree(), &whole, "the branch shows something else");
    if parent == "main" {
        assert_same(&w.base_tree(), &w.store().main().tree(), "main is not the base");
    }
    // What was not selected is as it was above.
    let now = w.branch(parent).tree();
    // (The other names of a file that has several show what was done to it through the selected one.)
    let single = |path: &str| {
        [&now, &above]
            .iter()
            .all(|tree| tree.get(path).is_none_or(|text| !text.contains(" x2") && !text.contains(" x3")))
    };
    let kept = |tree: &Tree| -> Tree {
        let left = |path: &&String| !deep && !selector(path.as_bytes()) && single(path);
        let pairs = tree.iter().filter(|(path, _)| left(path));
        pairs.map(|(path, text)| (path.clone(), text.clone())).collect()
    };
    if !log.iter().any(|line| line.contains("link ") && line.ends_with("true")) {
        assert_same(&kept(&now), &kept(&above), "more was committed than was selected");
    }
    drop((done, branch));
    if random.below(3) == 0 {
        w.store().checkpoint().unwrap();
    }
    if random.below(2) == 0 {
        w.reopen();
    }
    let branch = w.branch("branch");
    assert_same(&branch.tree(), &whole, "a restart changed it");
    for _ in 0..random.below(4) {
        step(&branch, &mut random, log);
    }
    let whole = branch.tree();
    let links = dir_links(&branch);
    log.push("commit".into());
    w.store().commit(&branch).unwrap_or_else(|e| panic!("{e:?}"));
    drop(branch);
    let above = w.branch(parent);
    assert_same(&above.tree(), &whole, "the parent is not what the branch was");
    assert_eq!(dir_links(&above), links, "subdirectories were counted wrongly");
    if parent == "main" {
        assert_same(&w.base_tree(), &whole, "the base is not what the branch was");
    }
    true
}

fn dir_links(branch: &Arc<Branch>) -> std::collections::BTreeMap<String, u32> {
    let dirs = branch.tree().into_iter().filter(|(_, text)| text.starts_with("Dir")).map(|(path, _)| path);
    dirs.map(|path| (path.clone(), branch.at(&path).unwrap().1.nlink)).collect()
}

#[test]
fn whatever_part_is_committed_branch_and_parent_together_are_what_the_branch_was() {
    let number =
        |name: &str, default| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (first, rounds): (u64, u64) = (number("BRANCHFS_SEED", 1), number("BRANCHFS_ROUNDS", 400));
    let mut parted = 0;
    for seed in first..first + rounds {
        let mut log = Vec::new();
        let run = std::panic::AssertUnwindSafe(|| one_run(seed, &mut log));
        match std::panic::catch_unwind(run) {
            Ok(done) => parted += u64::from(done),
            Err(cause) => {
                println!("{}", log.join("\n"));
                println!("seed {seed} failed; BRANCHFS_SEED={seed} BRANCHFS_ROUNDS=1 repeats it");
                std::panic::resume_unwind(cause);
            }
        }
    }
    println!("{parted} of {rounds} partly committed");
    assert!(rounds < 100 || parted * 5 > rounds, "most random parts were refused: {parted} of {rounds}");
}
