//! A scope from the user's systemd, from a real one: how an ordinary user in a login session comes by control groups.
#![allow(clippy::unwrap_used)] // also in helpers

#[path = "../common/mod.rs"]
mod common;
mod container;

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Stdio as StdStdio;

use branch_proc::{
    Command, Control, Enforced, Group, Limit, Limits, Requirement, Rung, Scope, Stdio, Step, SystemdScope,
    allow_systemd_scope,
};
use common::{copy_for_everyone, sh};

/// Which part of the story this process is to play, in the session: `moved`, or how the reason begins why it is not.
const PART: &str = "BRANCH_PROC_TEST_SESSION_PART";

/// First one that gets a scope, then two that get none: in a pid namespace of its own, where its number is another's to
/// the manager, and without a bus. The scope ends with its process; a question to the manager takes some milliseconds.
const STORY: &str = r#"
export BRANCH_PROC_TEST_SESSION_PART=moved
@PROGRAM --exact @NAME --nocapture && echo moved: well
unset BRANCH_PROC_TEST_SESSION_PART
scopes() { find /sys/fs/cgroup -name 'branchfs-*.scope'; }
tries=0
while [ "$(scopes)" ] && [ $tries -lt 500 ]; do
    tries=$((tries+1)); XDG_RUNTIME_DIR=/run/user/65534 systemctl --user --quiet is-active test.target
done
scopes; echo no scope is left
export BRANCH_PROC_TEST_SESSION_PART='the user'
unshare --user --map-current-user --pid --fork @PROGRAM --exact @NAME --nocapture && echo elsewhere: well
rm /run/user/65534/bus
export BRANCH_PROC_TEST_SESSION_PART=/run/user/65534/bus
@PROGRAM --exact @NAME --nocapture && echo refused: well
"#;

#[test]
fn an_ordinary_user_in_a_session_gets_control_groups_from_systemd() {
    match std::env::var(PART).as_deref() {
        Ok("moved") => return moved(),
        Ok(why) => return refused(why),
        Err(_) => {}
    }
    if let Some(why) = container::missing() {
        println!("SKIPPED: {why}");
        return;
    }
    let (dir, copy) = copy_for_everyone();
    let name = "an_ordinary_user_in_a_session_gets_control_groups_from_systemd";
    let script = STORY.replace("@PROGRAM", copy.to_str().unwrap()).replace("@NAME", name);
    let (said, console) = container::run_in_session(dir.path(), &script);
    for line in ["moved: well", "no scope is left", "elsewhere: well", "refused: well"] {
        assert!(said.lines().any(|said| said == line), "{line:?} is not in\n{said}\nconsole:\n{console}");
    }
    assert!(!said.contains(".scope\nno scope"), "{said}");
}

/// The directory of this process in cgroup v2, or of another.
fn cgroup_of(process: &str) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap();
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    PathBuf::from("/sys/fs/cgroup").join(path)
}

fn sleeper() -> Command {
    sh("exec sleep 60").stdin(Stdio::Null)
}

fn limited() -> Command {
    sleeper().limits(Limits { memory_max: Some(64 << 20), ..Limits::default() })
}

fn systemd(group: &Group) -> SystemdScope {
    group.level().systemd.clone()
}

/// In a session, with a manager.
fn moved() {
    let before = cgroup_of("self");
    let mut earlier = std::process::Command::new("sleep").arg("60").stdin(StdStdio::null()).spawn().unwrap();
    let stays = |command: Command| {
        let group = command.spawn().unwrap();
        assert_eq!((systemd(&group), group.level().rung), (SystemdScope::NotAsked, Rung::PidNamespace));
        assert_eq!(cgroup_of("self"), before);
    };
    // Nobody is moved who has not allowed it, nor for a group that needs nothing.
    stays(limited());
    allow_systemd_scope();
    stays(sleeper());
    stays(sleeper().limits(Limits { open_files: Some(64), ..Limits::default() }));
    stays(limited().at_most(Rung::PidNamespace));

    // Several threads at once: one scope.
    let groups: Vec<Group> = std::thread::scope(|threads| {
        let spawned: Vec<_> = (0..4).map(|_| threads.spawn(|| limited().spawn().unwrap())).collect();
        spawned.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let own = cgroup_of("self");
    let scope = own.parent().unwrap().to_owned();
    let unit = scope.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(unit.starts_with("branchfs-") && unit.ends_with(".scope"), "{}", own.display());
    assert_eq!(fs::read_to_string(scope.join("cgroup.procs")).unwrap(), "", "all are below it");
    for thread in fs::read_dir("/proc/self/task").unwrap() {
        assert_eq!(cgroup_of(&format!("self/task/{}", thread.unwrap().file_name().display())), own);
    }
    assert_eq!(cgroup_of(&earlier.id().to_string()), before, "what was started before is left alone");
    earlier.kill().unwrap();
    earlier.wait().unwrap();
    for group in &groups {
        assert_eq!(systemd(group), SystemdScope::Entered { unit: unit.clone() });
        assert!(group.level().rung <= Rung::CgroupHybrid, "{:?}", group.level());
        assert_eq!(cgroup_of(&group.pid().to_string()).parent(), Some(&*scope));
        holds_what_it_can(group, &scope);
    }
    drop(groups);
    // One without limits is there, too, now that there is a place; and so are scopes of ours.
    let group = sleeper().spawn().unwrap();
    assert!(group.level().rung <= Rung::CgroupHybrid);
    let shared = Scope::new(&Limits::default()).unwrap();
    let inside = limited().within(&shared).spawn().unwrap();
    assert!(cgroup_of(&inside.pid().to_string()).starts_with(&scope));
    drop((group, inside, shared));
    let left: Vec<_> = fs::read_dir(&scope).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| !name.as_encoded_bytes().starts_with(b"branchfs.")), "{left:?}");
}

/// Freezing at once needs no controller; a limit does.
fn holds_what_it_can(group: &Group, scope: &std::path::Path) {
    let offered = fs::read_to_string(scope.join("cgroup.controllers")).unwrap();
    let has_memory = offered.split_whitespace().any(|name| name == "memory");
    let how = if has_memory { Enforced::Fully } else { Enforced::EachProcess };
    assert_eq!(group.level().limits, [(Limit::MemoryMax, how)], "controllers: {offered}");
    Control::of(group.pidfd().as_fd()).unwrap().freeze().unwrap();
    let inner = cgroup_of(&group.pid().to_string()).join("run");
    assert_eq!(fs::read_to_string(inner.join("cgroup.freeze")).unwrap(), "1\n");
    group.thaw().unwrap();
}

/// In a session, with a reason to get none that begins like this.
fn refused(reason: &str) {
    let before = cgroup_of("self");
    allow_systemd_scope();
    let group = limited().spawn().unwrap();
    let SystemdScope::Refused { why } = systemd(&group) else { panic!("{:?}", group.level()) };
    assert!(why.starts_with(reason), "{why}");
    assert_eq!(group.level().limits, [(Limit::MemoryMax, Enforced::EachProcess)]);
    let error = limited().require(Requirement::EnforcedLimits).spawn().unwrap_err();
    assert_eq!(error.step, Step::Require);
    assert!(error.to_string().contains(&why), "{error}");
    let error = Scope::new(&Limits::default()).unwrap_err();
    assert!(error.errno == libc::ENOTSUP && error.to_string().contains(&why), "{error}");
    assert_eq!(cgroup_of("self"), before);
}
