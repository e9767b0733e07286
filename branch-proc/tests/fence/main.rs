//! What one group can do to another, and to the process that spawned it: nothing. The same within a group goes on
//! working, which also shows that the attempts are real ones. A program (this binary again) offers what there is to
//! be reached, another one tries to reach it.
#![allow(clippy::unwrap_used)] // also in helpers

mod attempts;
#[path = "../common/mod.rs"]
mod common;
mod offer;
mod sides;

use attempts::Attempt::{self, *};
use branch_proc::{Ipc, Net, PathPattern, Policy, Preset, Rung};
use offer::Offer;
use sides::{Answers, Inside, Side, try_all, try_own};

/// Everything but sockets, which are a matter of the network.
const FENCED: [Attempt; 10] = [
    Signal,
    PidfdSignal,
    Ptrace,
    ReadMemory,
    ProcMem,
    SysvShm,
    SysvSemaphore,
    SysvQueue,
    PosixShm,
    PosixQueue,
];

#[test]
fn everything_here_holds_for_an_ordinary_user_too() {
    common::again_as_an_ordinary_user("everything_here_holds_for_an_ordinary_user_too");
}

/// Not a test of its own: what the groups of the others run.
#[test]
fn the_programs_themselves() {
    sides::be_what_was_asked_for();
}

/// What this binary needs of a preset: itself, executed.
fn policy() -> Policy {
    let exe = std::env::current_exe().unwrap();
    Policy::preset(Preset::Build, None).unwrap().exec(PathPattern::new(exe.parent().unwrap()).unwrap())
}

/// Whether this kernel enforces policies; without, only namespaces fence.
fn enforced() -> bool {
    branch_proc::Enforcement::of_this_kernel().is_full()
}

fn assert_refused(answers: &Answers, attempts: &[Attempt], whose: &str) {
    for attempt in attempts {
        assert_ne!(answers[attempt], 0, "{attempt:?} reaches {whose}");
    }
}

#[test]
fn within_a_group_everything_works_with_and_without_a_policy() {
    for policy in [None, Some(policy())] {
        let answers = try_own(&Side { policy: policy.clone(), ..Side::default() });
        for attempt in FENCED.into_iter().chain([AbstractSocket]) {
            // Landlock takes a queue for a file that no rule names; so it is not even made.
            let refused = policy.is_some() && attempt == PosixQueue && enforced();
            assert_eq!(answers[&attempt] != 0, refused, "{attempt:?}, policy: {}", policy.is_some());
        }
    }
}

#[test]
fn a_group_reaches_nothing_of_another_group() {
    for rung in [Rung::CgroupV2, Rung::PidNamespace] {
        for policy in [None, Some(policy())] {
            let side = Side { policy, rung, ..Side::default() };
            let other = Inside::start(&side);
            let answers = try_all(&side, &other.target());
            assert_refused(&answers, &FENCED, "another group");
            assert_eq!(
                answers[&AbstractSocket] == 0,
                side.policy.is_none() || !enforced(),
                "as docs/process.md says"
            );
        }
    }
}

#[test]
fn a_group_reaches_nothing_of_its_spawner() {
    let offer = Offer::make("spawner");
    for policy in [None, Some(policy())] {
        let side = Side { policy, ..Side::default() };
        let answers = try_all(&side, &offer.target());
        assert_refused(&answers, &FENCED, "the spawner");
        assert_eq!(
            answers[&AbstractSocket] == 0,
            side.policy.is_none() || !enforced(),
            "as docs/process.md says"
        );
    }
}

#[test]
fn a_network_of_its_own_fences_abstract_sockets_without_a_policy() {
    for net in [Net::None, Net::Loopback] {
        let side = Side { net, ..Side::default() };
        let other = Inside::start(&side);
        assert_refused(&try_all(&side, &other.target()), &[AbstractSocket], "another group");
        assert_eq!(try_own(&side)[&AbstractSocket], 0);
    }
}

#[test]
fn a_policy_that_says_so_leaves_abstract_sockets_of_the_host_open() {
    let offer = Offer::make("host");
    let policy = Policy { ipc: Ipc::Host, net: Net::Open, ..policy() };
    let answers = try_all(&Side { policy: Some(policy), ..Side::default() }, &offer.target());
    assert_eq!(answers[&AbstractSocket], 0);
    assert_refused(&answers, &FENCED, "the spawner");
}

/// The lowest rung has no fences, as its description says.
#[test]
fn without_namespaces_nothing_is_fenced() {
    let offer = Offer::make("lowest");
    let answers = try_all(&Side { rung: Rung::Subreaper, ..Side::default() }, &offer.target());
    for attempt in
        [Signal, PidfdSignal, SysvShm, SysvSemaphore, SysvQueue, PosixShm, PosixQueue, AbstractSocket]
    {
        assert_eq!(answers[&attempt], 0, "{attempt:?}: fenced, and docs/process.md does not say so");
    }
}

#[test]
fn no_descriptor_is_inherited_but_those_that_are_passed() {
    for policy in [None, Some(policy())] {
        assert_eq!(sides::descriptors_of(&Side { policy, ..Side::default() }), [0, 1, 2, 42]);
    }
}

#[test]
fn a_bind_below_dev_shm_keeps_the_callers_and_says_which_is_meant() {
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else {
        println!("SKIPPED: no /dev/shm");
        return;
    };
    let path = dir.path().to_owned();
    let command = |script: &str| common::sh(script).env("D", &path);
    let seen = "test -d $D && echo there || echo not there";
    let _alone = common::alone();
    assert_eq!(common::stdout_of(command(seen).current_dir("/")), "not there\n");
    assert_eq!(common::stdout_of(command(seen).current_dir("/").bind(&path, &path)), "there\n");
    assert_eq!(common::stdout_of(command(seen).current_dir(&path)), "there\n");
    assert_eq!(common::stdout_of(command(seen).current_dir("/").bind("/dev/shm", "/dev/shm")), "there\n");
}

#[test]
fn the_private_dev_shm_is_writable_for_all_and_no_place_for_programs_of_other_users_or_devices() {
    if !std::path::Path::new("/dev/shm").is_dir() {
        println!("SKIPPED: no /dev/shm");
        return;
    }
    let _alone = common::alone();
    let told = common::stdout_of(common::sh(
        "stat -c %a /dev/shm; grep ' /dev/shm ' /proc/self/mounts | tail -1; ls -A /dev/shm",
    ));
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!((lines[0], lines.len()), ("1777", 2), "{told}");
    assert!(lines[1].contains("tmpfs") && lines[1].contains("nosuid,nodev"), "{told}");
}
