//! Native views, as far as the engine goes: what an overlayfs leaves in its upper directory, taken in, and every death on
//! the way. The upper directory is written by hand, as overlayfs in a user namespace writes it; what a real one leaves
//! is in `tests/tests/native_view.rs`.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;
mod with_changes;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use branch_store::*;
use common::gate::Fuse;
use common::{Paths, Workspace, refuse};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};
use rustix::io::Errno;

type Tree = BTreeMap<String, String>;

fn sample() -> Workspace {
    Workspace::new(&[
        ("README", "hello\n"),
        ("src/main.rs", "fn main() {}\n"),
        ("src/lib.rs", "// lib\n"),
        ("docs/a/b/c.txt", "deep\n"),
        ("docs/a/d", "d"),
        ("empty", ""),
        ("mode", "mode\n"),
        ("left/alone", "left alone\n"),
    ])
}

fn attach(w: &Workspace, branch: &Arc<Branch>) -> Result<NativePaths> {
    w.store().attach(branch, OverlayXattrs::User)
}

fn whiteout(path: &Path) {
    mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

/// A directory through which nothing shows.
fn opaque(path: &Path) {
    fs::create_dir(path).unwrap();
    setxattr(path, "user.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
}

/// What a program did, in overlayfs' words.
fn program(upper: &Path) {
    let at = |path: &str| upper.join(path);
    fs::write(at("README"), "changed\n").unwrap();
    fs::write(at("new"), "new file").unwrap();
    opaque(&at("made"));
    fs::write(at("made/x"), "x").unwrap();
    fs::hard_link(at("made/x"), at("z")).unwrap();
    std::os::unix::fs::symlink("made", at("link")).unwrap();
    whiteout(&at("empty"));
    opaque(&at("src"));
    fs::write(at("src/only"), "only").unwrap();
    fs::create_dir_all(at("docs/a")).unwrap();
    whiteout(&at("docs/a/b"));
}

/// What the branch shows then.
fn after(w: &Workspace) -> Tree {
    let plain = tempfile::tempdir().unwrap();
    let at = |path: &str| plain.path().join(path);
    for dir in ["src", "docs/a", "made", "left"] {
        fs::create_dir_all(at(dir)).unwrap();
    }
    let files = [("README", "changed\n"), ("new", "new file"), ("made/x", "x"), ("src/only", "only")];
    for (path, text) in
        files.into_iter().chain([("docs/a/d", "d"), ("mode", "mode\n"), ("left/alone", "left alone\n")])
    {
        fs::write(at(path), text).unwrap();
    }
    fs::hard_link(at("made/x"), at("z")).unwrap();
    std::os::unix::fs::symlink("made", at("link")).unwrap();
    assert!(w.base().exists());
    common::host_tree(plain.path())
}

fn statuses(w: &Workspace, branch: &Arc<Branch>) -> Vec<String> {
    let changes = w.store().diff(branch).unwrap();
    changes
        .iter()
        .map(|change| format!("{:?} {}", change.kind, String::from_utf8_lossy(&change.path)))
        .collect()
}

#[test]
fn what_an_overlayfs_leaves_is_the_branch_s_and_commits_as_that() {
    let w = sample();
    let a = w.fork("main", "a");
    let paths = attach(&w, &a).unwrap();
    program(&paths.upper);
    let taken = w.store().take_in(&a, Processes::Ended).unwrap();
    assert!(!taken.invalid.is_empty());
    assert_eq!(a.tree(), after(&w));
    assert!(!a.is_attached() && !paths.upper.exists());
    a.put("later", "the branch is its own again").unwrap();
    a.remove("later").unwrap();
    w.store().commit(&a).unwrap();
    assert_eq!(w.base_tree(), after(&w));
    let mut marks = vec![0; 1024];
    let left = rustix::fs::listxattr(w.base().join("src"), &mut marks[..]).unwrap();
    assert_eq!(String::from_utf8_lossy(&marks[..left]), "", "overlayfs' own attributes stay out of the base");
}

/// A program that opens a file for writing has it copied up, and one that sets attributes has, too.
#[test]
fn a_copy_that_is_as_it_was_is_no_change_and_one_of_other_mode_a_change_of_mode() {
    let w = sample();
    let a = w.fork("main", "a");
    let paths = attach(&w, &a).unwrap();
    for name in ["README", "mode"] {
        let copied =
            std::process::Command::new("cp").arg("-a").arg(w.base().join(name)).arg(&paths.upper).status();
        assert!(copied.unwrap().success());
    }
    rustix::fs::chmod(paths.upper.join("mode"), Mode::from_raw_mode(0o600)).unwrap();
    // As overlayfs does after a copy-up.
    let touched = std::process::Command::new("touch").arg("-r").arg(w.base()).arg(&paths.upper).status();
    assert!(touched.unwrap().success());
    w.store().take_in(&a, Processes::Ended).unwrap();
    assert_eq!(statuses(&w, &a), ["Attributes mode"]);
    assert_eq!(a.changed(), 1);
}

#[test]
fn a_look_while_it_runs_takes_in_what_is_there_and_the_next_one_what_is_there_then() {
    let w = sample();
    let a = w.fork("main", "a");
    let paths = attach(&w, &a).unwrap();
    fs::write(paths.upper.join("new"), "one").unwrap();
    fs::write(paths.upper.join("passing"), "soon gone").unwrap();
    whiteout(&paths.upper.join("empty"));
    w.store().take_in(&a, Processes::Run).unwrap();
    assert_eq!(statuses(&w, &a), ["Deleted empty", "Added new", "Added passing"]);
    let first = a.at("new").unwrap().1.id;
    fs::write(paths.upper.join("new"), "longer than one").unwrap();
    fs::remove_file(paths.upper.join("passing")).unwrap();
    w.store().take_in(&a, Processes::Run).unwrap();
    assert_eq!(statuses(&w, &a), ["Deleted empty", "Added new"]);
    assert_eq!(a.read_all("new").unwrap(), "longer than one");
    assert_eq!(a.at("new").unwrap().1.id, first, "it is the same file");
    assert_eq!(
        fs::metadata(paths.upper.join("new"))
            .map(|seen| std::os::unix::fs::MetadataExt::nlink(&seen))
            .unwrap(),
        1
    );
    fs::write(paths.upper.join("new"), "last").unwrap();
    w.store().take_in(&a, Processes::Ended).unwrap();
    assert_eq!(a.read_all("new").unwrap(), "last");
}

#[test]
fn nobody_else_changes_forks_or_commits_a_branch_with_a_native_view_or_the_base_under_it() {
    let w = sample();
    let [a, b] = &w.fork_as("main", &["a", "b"], GroupKind::Independent)[..] else { unreachable!() };
    let paths = attach(&w, a).unwrap();
    assert_eq!(a.put("README", "no").unwrap_err().errno(), Errno::BUSY);
    b.put("b", "b").unwrap();
    let attached = |error: Error| matches!(&error, Error::Attached(names) if *names == ["a"]);
    assert!(attached(attach(&w, a).unwrap_err()));
    assert!(attached(w.store().fork(a, &["c".to_owned()], GroupKind::Exclusive).unwrap_err()));
    assert!(attached(w.store().commit(a).unwrap_err()));
    assert!(attached(w.store().rebase(a, &refuse).unwrap_err()));
    assert!(attached(w.store().mark(a, None).unwrap_err()));
    assert!(attached(w.store().commit(b).unwrap_err()));
    assert_eq!(w.store().attached().len(), 1);
    w.store().abort(a, Children::Refuse).unwrap();
    w.store().commit(b).unwrap();
    assert!(paths.upper.exists());
    w.store().reclaim().unwrap();
    assert!(!paths.upper.exists());
}

#[test]
fn a_sibling_of_an_exclusive_group_wins_over_a_native_view() {
    let w = sample();
    let [a, b] = &w.fork_as("main", &["a", "b"], GroupKind::Exclusive)[..] else { unreachable!() };
    attach(&w, a).unwrap();
    b.put("b", "b").unwrap();
    w.store().commit(b).unwrap();
    assert_eq!(a.state(), State::Stale);
    assert!(matches!(w.store().take_in(a, Processes::Ended), Err(e) if e.errno() == Errno::STALE));
}

#[test]
fn a_branch_behind_the_base_or_with_a_limit_gets_no_native_view() {
    let w = sample();
    let [a, b] = &w.fork_as("main", &["a", "b"], GroupKind::Independent)[..] else { unreachable!() };
    a.put("new", "x").unwrap();
    w.store().commit(a).unwrap();
    assert!(matches!(attach(&w, b), Err(Error::NotAllowed(_))), "the base has changed since");
    let limited = &w.store().fork_limited(
        &w.branch("main"),
        &["l".to_owned()],
        GroupKind::Independent,
        Some(Quota::Bytes(1 << 20)),
    );
    assert!(matches!(attach(&w, &limited.as_ref().unwrap()[0]), Err(Error::NotAllowed(_))), "it has a limit");
    assert_eq!(w.store().attached().len(), 0);
}

/// The branch saw the base as it was attached: what somebody did behind the view is not silently lost (S15).
#[test]
fn an_edit_of_the_base_behind_a_native_view_is_a_conflict() {
    for edited in ["README", "empty", "docs/a/b/c.txt", "new"] {
        let w = sample();
        let a = w.fork("main", "a");
        let paths = attach(&w, &a).unwrap();
        program(&paths.upper);
        // A time of its own, on a clock that ticks slowly.
        while fs::metadata(w.base().join("tick"))
            .and_then(|seen| seen.modified())
            .unwrap_or(std::time::UNIX_EPOCH)
            <= fs::metadata(paths.work.parent().unwrap().join("view")).unwrap().modified().unwrap()
        {
            fs::write(w.base().join("tick"), "").unwrap();
        }
        fs::write(w.base().join(edited), "somebody else's\n").unwrap();
        w.store().take_in(&a, Processes::Ended).unwrap();
        let conflicts = match w.store().commit(&a) {
            Err(Error::Conflicts(conflicts)) => conflicts,
            other => panic!("{edited}: {other:?}"),
        };
        let about = |path: &[u8]| edited.as_bytes().starts_with(path) || path.starts_with(edited.as_bytes());
        assert!(conflicts.iter().any(|conflict| about(&conflict.path)), "{edited}: {conflicts:?}");
        assert_eq!(fs::read_to_string(w.base().join(edited)).unwrap(), "somebody else's\n");
    }
}

/// How far a run came.
#[derive(Default)]
struct Came {
    attached: bool,
    committed: bool,
}

fn run(w: &Workspace) -> Came {
    let mut came = Came::default();
    let main = w.branch("main");
    let Ok(forked) = w.store().fork(&main, &["a".to_owned()], GroupKind::Exclusive) else { return came };
    let a = &forked[0];
    let Ok(paths) = attach(w, a) else { return came };
    came.attached = true;
    program(&paths.upper);
    if w.store().take_in(a, Processes::Run).is_err() || w.store().take_in(a, Processes::Ended).is_err() {
        return came;
    }
    came.committed = w.store().commit(a).is_ok();
    came
}

#[test]
fn a_death_at_any_call_of_a_taking_in_loses_nothing_of_a_native_view() {
    let counter = Fuse::counting();
    let mut w = sample();
    w.reopen_on(Disk::guarded(counter.clone())).unwrap();
    counter.set(u64::MAX);
    assert!(run(&w).committed);
    let calls = counter.calls();
    assert!(calls > 40, "{calls} calls");
    for k in 0..calls {
        let fuse = Fuse::counting();
        let mut w = sample();
        let before = w.base_tree();
        w.reopen_on(Disk::guarded(fuse.clone())).unwrap();
        fuse.set(k);
        let came = run(&w);
        for _ in 0..2 {
            w.reopen();
            let base = w.base_tree();
            match w.store().branch("a") {
                Ok(a) => {
                    assert!(!a.is_attached() && base == before && !came.committed, "call {k}");
                    let shown = a.tree();
                    assert_eq!(shown, if came.attached { after(&w) } else { before.clone() }, "call {k}");
                }
                Err(_) => assert!(base == before && !came.attached || base == after(&w), "call {k}"),
            }
        }
    }
}

#[test]
fn the_recovery_of_a_native_view_can_be_interrupted_at_every_call() {
    let left = || {
        let mut w = sample();
        let a = w.fork("main", "a");
        program(&attach(&w, &a).unwrap().upper);
        drop(a);
        w.close();
        w
    };
    let counter = Fuse::counting();
    let mut w = left();
    let report = w.reopen_on(Disk::guarded(counter.clone())).unwrap();
    assert!(report.lines.iter().any(|line| line.contains("native view")), "{:?}", report.lines);
    for k in 0..counter.calls() {
        for answer in [Errno::IO, Errno::NOSPC] {
            let mut w = left();
            let opened = w.reopen_on(Disk::guarded(Fuse::new(k, answer, answer == Errno::NOSPC)));
            if opened.is_ok() && w.branch("a").is_attached() {
                // It waits for whoever wants the branch next.
                assert!(matches!(
                    w.store().commit(&w.branch("a")),
                    Err(Error::Attached(_)) | Err(Error::Poisoned)
                ));
            }
            w.reopen();
            assert_eq!(w.branch("a").tree(), after(&w), "call {k}");
            assert!(!w.branch("a").is_attached());
            w.store().commit(&w.branch("a")).unwrap();
            assert_eq!(w.base_tree(), after(&w), "call {k}");
        }
    }
}
