//! The ladder: what holds a group together on each rung, forced.
#![allow(clippy::unwrap_used)] // also in helpers

mod common;

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use branch_proc::{
    Command, Control, Enforced, Exit, Group, Limit, Limits, Requirement, Rung, Scope, SpawnError, Stdio,
    Step, kill_pidfd,
};
use common::{ESCAPES, ESCAPES_COUNT, PATIENCE, Seen, Witness, alone, run, sh, stdout_of};

const RUNGS: [Rung; 4] = [Rung::CgroupV2, Rung::CgroupHybrid, Rung::PidNamespace, Rung::Subreaper];

const NOBODY: u32 = 65534;
/// Set in the environment of this test binary where it runs in a [`Delegated`] part.
const DELEGATED: &str = "BRANCH_PROC_TEST_DELEGATED";

/// Takes 300 MB.
const HUNGRY: &str = "head -c 300000000 /dev/zero | tail -c 300000000";

fn escaped(rung: Rung) -> (Group, File, Witness) {
    let alone = alone();
    let (mut witness, write) = Witness::new();
    let (read, stdin) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let command =
        sh(&format!("{ESCAPES}\nread line")).stdin(read).stdout(Stdio::Null).fd(write, 9).at_most(rung);
    let group = command.spawn().unwrap();
    drop(alone);
    witness.wait_for(ESCAPES_COUNT);
    (group, File::from(stdin), witness)
}

/// Not while a witness's writing end is open here.
fn spawn(command: Command) -> Result<Group, SpawnError> {
    let _alone = alone();
    command.spawn()
}

fn all_gone(mut witness: Witness) {
    assert_eq!(witness.look(Duration::ZERO), Seen::AllGone);
}

fn mib(count: u64) -> u64 {
    count << 20
}

/// Whether this host bounds the memory of a group; says so if not.
fn bounds_memory() -> bool {
    let limits = Limits { memory_max: Some(mib(64)), ..Limits::default() };
    let group = spawn(sh("").limits(limits)).unwrap();
    let fully = group.level().limits == [(Limit::MemoryMax, Enforced::Fully)];
    if !fully {
        println!("SKIPPED: no memory controller for this user");
    }
    fully
}

#[test]
fn everything_here_holds_for_an_ordinary_user_too() {
    common::again_as_an_ordinary_user("everything_here_holds_for_an_ordinary_user_too");
}

#[test]
fn no_rung_is_better_than_asked_for_and_each_passes_the_exit_code_on() {
    for rung in RUNGS {
        let mut group = spawn(sh("exit 7").at_most(rung)).unwrap();
        assert!(group.level().rung >= rung, "{rung:?}: {:?}", group.level());
        assert_eq!(group.wait().unwrap().exit, Exit::Code(7), "{rung:?}");
    }
}

#[test]
fn nothing_survives_a_kill_on_any_rung() {
    for rung in RUNGS {
        let (mut group, _stdin, witness) = escaped(rung);
        assert_eq!(group.kill().unwrap().exit, Exit::Signal(libc::SIGKILL), "{rung:?}");
        all_gone(witness);
    }
}

#[test]
fn nothing_survives_the_programs_own_end_on_any_rung() {
    for rung in RUNGS {
        let (mut group, stdin, witness) = escaped(rung);
        drop(stdin);
        assert_eq!(group.wait().unwrap().exit, Exit::Code(1), "{rung:?}: read fails at the end of its input");
        all_gone(witness);
    }
}

#[test]
fn nothing_survives_a_kill_by_pidfd_or_a_drop_on_any_rung() {
    for rung in RUNGS {
        let (group, _stdin, witness) = escaped(rung);
        kill_pidfd(group.pidfd().as_fd(), PATIENCE).unwrap();
        all_gone(witness);
        let (group, _stdin, witness) = escaped(rung);
        drop(group);
        all_gone(witness);
    }
}

#[test]
fn a_frozen_group_stands_still_until_it_is_thawed_and_can_be_killed() {
    for rung in RUNGS {
        let (mut group, _stdin, _witness) = escaped(rung);
        let control = Control::of(group.pidfd()).unwrap();
        control.freeze().unwrap();
        let before: Vec<_> = group.processes().into_iter().map(|p| (p.pid, p.cpu)).collect();
        assert!(before.len() > ESCAPES_COUNT, "{rung:?}: {before:?}");
        for _ in 0..100 {
            std::thread::yield_now();
        }
        let after: Vec<_> = group.processes().into_iter().map(|p| (p.pid, p.cpu)).collect();
        // What had ended may be reaped: the init is not frozen.
        let moved: Vec<_> = after.iter().filter(|process| !before.contains(process)).collect();
        assert!(moved.is_empty() && after.len() > ESCAPES_COUNT, "{rung:?}: {moved:?} of {before:?}");
        group.thaw().unwrap();
        group.freeze().unwrap();
        assert_eq!(group.kill().unwrap().exit, Exit::Signal(libc::SIGKILL), "{rung:?}");
        assert_eq!(group.processes(), vec![]);
    }
}

#[test]
fn a_thawed_group_goes_on() {
    for rung in RUNGS {
        let _alone = alone();
        let (mut witness, write) = Witness::new();
        let group =
            sh("while echo >&9; do :; done").stdin(Stdio::Null).fd(write, 9).at_most(rung).spawn().unwrap();
        witness.wait_for(100);
        group.freeze().unwrap();
        // What it wrote before is in the pipe; then nothing comes any more.
        while witness.look(Duration::ZERO) != Seen::Nothing {}
        group.thaw().unwrap();
        witness.wait_for(1 << 17);
    }
}

#[test]
fn the_lowest_rung_starts_in_the_views_own_path() {
    let dir = tempfile::tempdir().unwrap();
    let (base, view) = (dir.path().join("base"), dir.path().join("view"));
    for (path, content) in [(&base, "base"), (&view, "view")] {
        fs::create_dir_all(path.join("sub")).unwrap();
        fs::write(path.join("sub/file"), content).unwrap();
    }
    let command = sh("pwd; cat file").bind(&view, &base).current_dir(base.join("sub"));
    let _alone = alone();
    let seen = stdout_of(command.at_most(Rung::Subreaper));
    assert_eq!(seen, format!("{}\nview", view.join("sub").display()));
}

#[test]
fn what_is_required_and_not_there_is_an_error() {
    let refused = |command: Command| spawn(command).unwrap_err();
    let error = refused(sh("").at_most(Rung::Subreaper).require(Requirement::InescapableKill));
    assert_eq!((error.step, error.errno), (Step::Require, libc::ENOTSUP), "{error}");
    let limits = Limits { memory_max: Some(mib(64)), ..Limits::default() };
    let limited = sh("").limits(limits).at_most(Rung::PidNamespace);
    let error = refused(limited.require(Requirement::EnforcedLimits));
    assert_eq!(error.step, Step::Require, "{error}");
    assert!(error.to_string().contains("MemoryMax"), "{error}");
}

#[test]
fn without_control_groups_memory_is_bounded_for_each_process_and_the_level_says_so() {
    let limits = Limits { memory_max: Some(mib(64)), open_files: Some(17), ..Limits::default() };
    let limited = sh("test $(ulimit -n) = 17 && test $(ulimit -d) = 65536").limits(limits);
    let mut group = spawn(limited.at_most(Rung::PidNamespace)).unwrap();
    let held = [(Limit::MemoryMax, Enforced::EachProcess), (Limit::OpenFiles, Enforced::Fully)];
    assert_eq!(group.level().limits, held);
    assert!(group.wait().unwrap().success());
}

#[test]
fn a_group_that_uses_up_its_memory_is_told_so_and_others_live() {
    if !bounds_memory() {
        return;
    }
    let limits = Limits { memory_max: Some(mib(64)), ..Limits::default() };
    let mut beside = spawn(sh("exec sleep 60")).unwrap();
    let hungry = sh(HUNGRY).limits(limits).stdout(Stdio::Null);
    let outcome = spawn(hungry).unwrap().wait().unwrap();
    assert_eq!(outcome.exit, Exit::Code(128 + libc::SIGKILL));
    assert!(outcome.out_of_memory(), "{outcome:?}");
    assert!(outcome.usage.memory_peak.is_some_and(|peak| peak > mib(48) && peak <= mib(64)), "{outcome:?}");
    assert_eq!(beside.wait_timeout(Duration::ZERO).unwrap(), None);
}

#[test]
fn a_fork_storm_stops_at_its_limit() {
    let limits = Limits { pids_max: Some(20), ..Limits::default() };
    let storm = "i=0; while [ $i -lt 60 ]; do sleep 30 & i=$((i+1)); done; echo all; wait";
    let group = || sh(storm).limits(limits.clone());
    if spawn(group()).unwrap().level().limits != [(Limit::PidsMax, Enforced::Fully)] {
        println!("SKIPPED: nothing counts processes for this user");
        return;
    }
    let captured = {
        let _alone = alone();
        run(group())
    };
    assert!(!captured.outcome.success());
    let said = String::from_utf8_lossy(&captured.stderr.bytes).to_lowercase();
    assert!(said.contains("fork"), "{said}");
}

#[test]
fn groups_in_a_scope_share_its_limit() {
    if !bounds_memory() {
        return;
    }
    let scope = Scope::new(&Limits { memory_max: Some(mib(96)), ..Limits::default() }).unwrap();
    assert_eq!(scope.limits(), [(Limit::MemoryMax, Enforced::Fully)]);
    let beside = spawn(sh("exec sleep 60").within(&scope)).unwrap();
    assert!(scope.usage().pids.is_none_or(|pids| pids >= 2), "{:?}", scope.usage());
    let outcome = spawn(sh(HUNGRY).stdout(Stdio::Null).within(&scope)).unwrap().wait();
    assert_eq!(outcome.unwrap().exit, Exit::Code(128 + libc::SIGKILL));
    assert!(scope.usage().memory_peak.is_some_and(|peak| peak <= mib(96)), "{:?}", scope.usage());
    drop(beside);
}

#[test]
fn what_a_group_uses_is_counted_while_it_runs() {
    for rung in RUNGS {
        let _alone = alone();
        let (mut witness, write) = Witness::new();
        let script = "sleep 60 & sleep 60 & echo >&9; wait";
        let group = sh(script).stdin(Stdio::Null).fd(write, 9).at_most(rung).spawn().unwrap();
        witness.wait_for(1);
        let usage = group.usage();
        assert!(usage.pids.is_some_and(|pids| pids >= 3), "{rung:?}: {usage:?}");
        assert!(usage.memory.is_some_and(|bytes| bytes > 0), "{rung:?}: {usage:?}");
        let processes = group.processes();
        assert_eq!((processes.len(), processes[0].command.join(" ")), (3, format!("/bin/sh -c {script}")));
    }
}

#[test]
fn nothing_of_a_groups_control_groups_is_left() {
    let limits = Limits { pids_max: Some(20), memory_max: Some(mib(64)), ..Limits::default() };
    let mut group = spawn(sh("exec sleep 60").limits(limits)).unwrap();
    let init = group.pid();
    let of_init = || fs::read_to_string(format!("/proc/{init}/cgroup")).unwrap();
    let directories: Vec<String> =
        of_init().lines().filter_map(|line| Some(line.split_once("branchfs.")?.1.to_owned())).collect();
    if directories.is_empty() {
        println!("SKIPPED: no control groups for this user");
    }
    group.kill().unwrap();
    let left =
        std::process::Command::new("find").args(["/sys/fs/cgroup", "-name", "branchfs.*"]).output().unwrap();
    let left = String::from_utf8_lossy(&left.stdout);
    for directory in directories {
        assert!(!left.contains(&directory), "{directory} is left:\n{left}");
    }
}

/// Owned by nobody, for the life of one process of theirs in it.
struct Delegated(PathBuf);

impl Delegated {
    /// In the hierarchy of a controller of cgroup v1; None where there is no such hierarchy, or it is not ours.
    fn new(controller: &str) -> Option<Delegated> {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.split_once(&format!(":{controller}:")))?.1.to_owned();
        let home = Path::new("/sys/fs/cgroup").join(controller).join(own.trim_start_matches('/'));
        let directory = home.join(format!("branch-proc-test.{}", std::process::id()));
        fs::create_dir(&directory).ok()?;
        for file in ["", "cgroup.procs", "tasks"] {
            chown(directory.join(file), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        Some(Delegated(directory))
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).unwrap();
    }
}

/// Runs by itself as what the next test starts.
#[test]
fn in_a_delegated_part_of_cgroup_v1_processes_are_bounded() {
    if std::env::var_os(DELEGATED).is_none() {
        return;
    }
    let limits = Limits { pids_max: Some(8), ..Limits::default() };
    let command =
        sh("grep -q pids:.*branchfs /proc/self/cgroup && cat /proc/1/cgroup | grep -c pids:.*branchfs");
    let mut group = command.limits(limits.clone()).stdin(Stdio::Null).spawn().unwrap();
    assert_eq!(group.level().rung, Rung::CgroupHybrid);
    assert_eq!(group.level().limits, [(Limit::PidsMax, Enforced::Fully)]);
    assert!(group.wait().unwrap().success());
    assert!(group.usage().pids_peak.is_some_and(|peak| peak >= 2), "{:?}", group.usage());
}

#[test]
fn an_ordinary_users_init_enters_what_is_delegated_to_them_in_cgroup_v1() {
    if !rustix::process::geteuid().is_root() || std::env::var_os(DELEGATED).is_some() {
        return;
    }
    let Some(delegated) = Delegated::new("pids") else {
        println!("SKIPPED: no pids controller of cgroup v1");
        return;
    };
    let (_dir, copy) = common::copy_for_everyone();
    let test = "in_a_delegated_part_of_cgroup_v1_processes_are_bounded";
    let become_nobody =
        "echo 0 > \"$0/cgroup.procs\" && exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"";
    let mut shell = std::process::Command::new("/bin/sh");
    shell.args(["-c", become_nobody]).arg(&delegated.0).arg(&copy).args(["--exact", test, "--nocapture"]);
    let output = {
        let _alone = alone();
        shell.env(DELEGATED, "1").current_dir("/").output().unwrap()
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}{complained}");
}
