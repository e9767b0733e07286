//! Owning branches, and talking to a daemon over its socket.

#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code)]
mod common;

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use branch_core::{Compared, Error, Failure, GroupKind, LaunchError, Location, Program, Quota, Workspace};

use common::Fake;

struct Scene {
    _temp: tempfile::TempDir,
    base: PathBuf,
    fake: Arc<Fake>,
}

fn scene() -> Scene {
    let temp = tempfile::tempdir().unwrap();
    let base = fs::canonicalize(temp.path()).unwrap().join("base");
    fs::create_dir_all(base.join(".branchfs")).unwrap();
    fs::create_dir(base.join("src")).unwrap();
    fs::write(base.join(".branchfs/format"), "1").unwrap();
    let fake = Arc::new(Fake::new(&base, &temp.path().join("views")));
    Scene { _temp: temp, base, fake }
}

impl Scene {
    fn workspace(&self) -> Workspace {
        Workspace::over(self.fake.clone(), self.base.clone())
    }
}

#[test]
fn a_dropped_branch_is_aborted_with_what_is_below_it() {
    let scene = scene();
    let mut top = scene.workspace().fork("top", GroupKind::Exclusive).unwrap();
    let below = top[0].fork(2, GroupKind::Independent).unwrap();
    assert_eq!(scene.fake.live().len(), 3);
    // The parent goes first: the children's handles find their branches gone, and that is fine.
    drop(top.pop());
    assert!(scene.fake.live().is_empty());
    drop(below);
}

#[test]
fn a_patch_is_read_while_it_is_written_and_its_failure_is_heard_at_the_end() {
    let scene = scene();
    let workspace = scene.workspace();
    let branch = workspace.fork("b", GroupKind::Exclusive).unwrap().remove(0);
    let since_fork = |branch: &str| Compared::SinceFork { branch: branch.to_owned() };
    let read = |compared: &Compared| {
        let mut patch = workspace.patch(compared).unwrap();
        let mut text = String::new();
        patch.read_to_string(&mut text).unwrap();
        (text, patch.finish())
    };
    let (text, finished) = read(&since_fork("b"));
    assert_eq!(text, format!("{:?}\n", since_fork("b")));
    assert_eq!(finished.unwrap(), []);
    let (text, finished) = read(&since_fork("nobody"));
    assert_eq!(text, "");
    assert!(matches!(finished, Err(Error::Failed(Failure::NoSuchBranch { .. }))), "{finished:?}");
    drop(branch);
}

#[test]
fn a_kept_branch_lives_on_and_can_be_adopted() {
    let scene = scene();
    let workspace = scene.workspace();
    for branch in workspace.fork(["a", "b"], GroupKind::Independent).unwrap() {
        branch.keep();
    }
    assert_eq!(scene.fake.live(), ["a", "b"]);
    assert_eq!(workspace.adopt("a").unwrap().abort().unwrap(), ["a"]);
    assert_eq!(scene.fake.live(), ["b"]);
}

#[test]
fn the_first_commit_makes_the_sibling_stale() {
    let scene = scene();
    let workspace = scene.workspace();
    let mut branches = workspace.fork(["a", "b"], GroupKind::Exclusive).unwrap();
    let (b, a) = (branches.pop().unwrap(), branches.pop().unwrap());
    fs::write(a.path().join("new"), "from a").unwrap();
    let report = a.commit().unwrap();
    assert_eq!(report.stale, ["b"]);
    assert_eq!(fs::read_to_string(scene.base.join("new")).unwrap(), "from a");
    let failed = b.commit().unwrap_err();
    assert!(matches!(failed.error.failure(), Some(Failure::Stale { name }) if name == "b"));
    assert!(failed.error.is_gone());
}

#[test]
fn a_failed_commit_gives_the_branch_back() {
    let scene = scene();
    scene.fake.make_commits_conflict("x");
    let branch = scene.workspace().fork("a", GroupKind::Exclusive).unwrap().pop().unwrap();
    let failed = branch.commit().unwrap_err();
    assert!(failed.branch.path().is_dir());
    assert_eq!(failed.branch.name(), "a");
    drop(failed);
    assert!(scene.fake.live().is_empty());
}

#[test]
fn a_program_runs_in_the_branch_and_its_exit_is_told() {
    let scene = scene();
    let branch = scene.workspace().fork("a", GroupKind::Exclusive).unwrap().pop().unwrap();
    let outcome = branch.run(&Program::shell("echo here > made; exit 5").current_dir(scene.base.join("src")));
    assert_eq!(outcome.unwrap().shell_code(), 5);
    assert!(branch.path().join("src/made").is_file());
    assert!(!scene.base.join("src/made").exists());
}

/// The daemon was told of a group when its program ran already: an abort in between killed nothing, and a program
/// that committed its own branch at once was killed for it.
#[test]
fn a_program_does_not_run_before_the_daemon_knows_of_its_group() {
    let scene = scene();
    let branch = scene.workspace().fork("a", GroupKind::Exclusive).unwrap().pop().unwrap();
    let group = branch.spawn(branch.command(&Program::new(["sleep", "1000"]))).unwrap();
    assert_eq!(scene.fake.started_before_attach().as_deref(), Some(""));
    drop(group);
}

#[test]
fn a_program_of_a_branch_that_has_ended_is_not_left_running() {
    let scene = scene();
    let branch = scene.workspace().fork("a", GroupKind::Exclusive).unwrap().pop().unwrap();
    let command = branch.command(&Program::new(["sleep", "1000"])).bind("/", "/");
    scene.workspace().adopt("a").unwrap().abort().unwrap();
    let error = branch.spawn(command).map(|_| ()).unwrap_err();
    // Either the view is no more, or the daemon knows no such branch.
    assert!(matches!(error, Error::Spawn { .. } | Error::Failed(Failure::NoSuchBranch { .. })), "{error}");
}

#[test]
fn the_daemon_is_launched_once_and_serves_many_threads() {
    let scene = scene();
    let launches = Arc::new(AtomicUsize::new(0));
    let (counted, fake) = (launches.clone(), scene.fake.clone());
    let launcher = Arc::new(move |location: &Location| {
        counted.fetch_add(1, Ordering::SeqCst);
        common::serve(fake.clone(), &location.socket());
        Ok(())
    });
    // From below the base: the workspace is found upward.
    let workspace = Workspace::open(&scene.base.join("src"), launcher.clone()).unwrap();
    Workspace::open(&scene.base, launcher).unwrap();
    assert_eq!(launches.load(Ordering::SeqCst), 1);
    thread::scope(|scope| {
        for i in 0..16 {
            let workspace = &workspace;
            scope.spawn(move || {
                let name = format!("t{i}");
                let branch = workspace.fork(&*name, GroupKind::Exclusive).unwrap().pop().unwrap();
                assert!(branch.path().join("src").is_dir());
                let outcome = branch.run(&Program::new(["true"])).unwrap();
                assert!(outcome.success());
            });
        }
    });
    assert_eq!(workspace.list().unwrap(), vec![]);
    assert_eq!(workspace.status().unwrap().mode, "copies");
}

#[test]
fn a_failure_of_the_daemon_arrives_typed_through_the_socket() {
    let scene = scene();
    let fake = scene.fake.clone();
    let launcher = Arc::new(move |location: &Location| {
        common::serve(fake.clone(), &location.socket());
        Ok(())
    });
    let workspace = Workspace::open(&scene.base, launcher).unwrap();
    let error = workspace.adopt("nobody").map(|_| ()).unwrap_err();
    assert!(matches!(error.failure(), Some(Failure::NoSuchBranch { name }) if name == "nobody"));
}

#[test]
fn a_daemon_that_does_not_start_is_a_launch_error() {
    let scene = scene();
    let launcher = |_: &Location| Err(LaunchError { reason: "no /dev/fuse".into() });
    let error = Workspace::open(&scene.base, Arc::new(launcher)).unwrap_err();
    assert_eq!(error.to_string(), "the daemon did not start: no /dev/fuse");
    // A launcher that lies is found out too.
    let error = Workspace::open(&scene.base, Arc::new(|_: &Location| Ok(()))).unwrap_err();
    assert!(matches!(error, Error::Daemon(_)), "{error}");
}

#[test]
fn a_limit_is_set_at_the_fork_inherited_and_changed() {
    let scene = scene();
    let workspace = scene.workspace();
    let limit = |name: &str| workspace.backend().inspect(name).unwrap().limit;
    let quota = Some(Quota::Bytes(1 << 20));
    let top = workspace.fork_limited("main", "top", GroupKind::Exclusive, quota).unwrap().remove(0);
    let below = top.fork("below", GroupKind::Exclusive).unwrap();
    assert_eq!((limit("top"), limit("below")), (Some(1 << 20), Some(1 << 20)));
    workspace.backend().set_quota("below", Quota::Unlimited).unwrap();
    assert_eq!((limit("top"), limit("below")), (Some(1 << 20), None));
    drop(below);
}
