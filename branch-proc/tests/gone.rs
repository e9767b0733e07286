//! Nothing of a group survives its end, however it was started and whichever way the group ends.
#![allow(clippy::unwrap_used)] // also in helpers

mod common;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::process;
use std::time::Duration;

use branch_proc::{Exit, Group, KillError, Stdio, kill_all, kill_pidfd};
use common::{ESCAPES, ESCAPES_COUNT, PATIENCE, Seen, Witness, alone, sh};

const ROUNDS: usize = 20;

/// A running group with all its escaped processes, its stdin, and their witness.
fn escaped() -> (Group, File, Witness) {
    let alone = alone();
    let (mut witness, write) = Witness::new();
    let (read, stdin) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    // It waits for a line on its stdin and exits with 7.
    let group = sh(&format!("{ESCAPES}\nread line\nexit 7"))
        .stdin(read)
        .stdout(Stdio::Null)
        .fd(write, 9)
        .spawn()
        .unwrap();
    drop(alone);
    witness.wait_for(ESCAPES_COUNT);
    (group, File::from(stdin), witness)
}

/// Without any waiting: whoever says the group has ended says that nothing of it is left.
fn assert_all_gone(mut witness: Witness) {
    assert_eq!(witness.look(Duration::ZERO), Seen::AllGone);
}

#[test]
fn everything_here_holds_for_an_ordinary_user_too() {
    common::again_as_an_ordinary_user("everything_here_holds_for_an_ordinary_user_too");
}

#[test]
fn a_held_program_runs_when_it_is_released_and_never_if_it_is_dropped() {
    let _alone = alone();
    let hold = || {
        let (witness, write) = Witness::new();
        let held = sh("echo >&9; exec sleep 60").stdin(Stdio::Null).fd(write, 9).hold().unwrap();
        let children = format!("/proc/{pid}/task/{pid}/children", pid = held.pid());
        assert_eq!(std::fs::read_to_string(children).unwrap(), "");
        (held, witness)
    };
    let (held, mut witness) = hold();
    let group = held.release().unwrap();
    witness.wait_for(1);
    drop(group);
    assert_all_gone(witness);

    let (held, witness) = hold();
    drop(held);
    assert!(witness.text.is_empty());
    assert_all_gone(witness);
}

#[test]
fn a_held_group_that_is_killed_is_told_as_killed() {
    let _alone = alone();
    let held = sh("exit 0").hold().unwrap();
    kill_pidfd(held.pidfd(), PATIENCE).unwrap();
    let mut group = held.release().unwrap();
    assert_eq!(group.wait().unwrap().exit, Exit::Signal(9));
}

#[test]
fn all_are_gone_when_the_program_has_exited() {
    for _ in 0..ROUNDS {
        let (mut group, mut stdin, witness) = escaped();
        stdin.write_all(b"exit\n").unwrap();
        assert_eq!(group.wait().unwrap().exit, Exit::Code(7));
        assert_all_gone(witness);
    }
}

#[test]
fn all_are_gone_when_kill_returns_and_kill_can_be_repeated() {
    for _ in 0..ROUNDS {
        let (mut group, _stdin, witness) = escaped();
        let outcome = group.kill().unwrap();
        assert_eq!(outcome.exit, Exit::Signal(libc::SIGKILL));
        assert_all_gone(witness);
        assert_eq!(group.kill().unwrap(), outcome);
    }
}

#[test]
fn all_are_gone_when_a_group_has_been_dropped() {
    for _ in 0..ROUNDS {
        let (group, _stdin, witness) = escaped();
        drop(group);
        assert_all_gone(witness);
    }
}

#[test]
fn all_of_many_groups_are_gone_when_kill_all_returns() {
    let mut many: Vec<_> = (0..8).map(|_| escaped()).collect();
    kill_all(many.iter_mut().map(|(group, _, _)| group)).unwrap();
    for (mut group, _stdin, witness) in many {
        assert_all_gone(witness);
        assert_eq!(group.wait().unwrap().exit, Exit::Signal(libc::SIGKILL));
    }
}

#[test]
fn all_are_gone_when_another_holder_of_the_pidfd_has_killed_them() {
    for _ in 0..ROUNDS {
        let (mut group, _stdin, witness) = escaped();
        let copy = group.pidfd().try_clone_to_owned().unwrap();
        std::thread::scope(|scope| {
            let killer = scope.spawn(|| {
                kill_pidfd(copy.as_fd(), PATIENCE).unwrap();
                kill_pidfd(copy.as_fd(), PATIENCE).unwrap();
            });
            assert_eq!(group.wait().unwrap().exit, Exit::Signal(libc::SIGKILL));
            killer.join().unwrap();
        });
        assert_all_gone(witness);
    }
}

#[test]
fn a_descriptor_that_is_no_pidfd_kills_nothing() {
    let file = File::open("/dev/null").unwrap();
    let error = kill_pidfd(file.as_fd(), PATIENCE).unwrap_err();
    assert!(matches!(error, KillError::NotAPidfd { .. }), "{error}");
}

#[test]
fn a_program_cannot_kill_its_init() {
    let _alone = alone();
    let outcome = sh("kill -9 1; kill -STOP 1; kill -TERM 1; exit 3").spawn().unwrap().wait().unwrap();
    // The TERM goes to the init, which forwards it: by then the program may have exited or not.
    assert!(matches!(outcome.exit, Exit::Code(3) | Exit::Signal(libc::SIGTERM)), "{outcome:?}");
}

#[test]
fn a_group_outlives_the_thread_that_spawned_it() {
    // PR_SET_PDEATHSIG would kill it here: it is tied to the spawning thread.
    let (mut group, mut stdin, mut witness) = std::thread::spawn(escaped).join().unwrap();
    assert_eq!(witness.look(Duration::ZERO), Seen::Nothing);
    stdin.write_all(b"exit\n").unwrap();
    assert_eq!(group.wait().unwrap().exit, Exit::Code(7));
    assert_all_gone(witness);
}

/// Set for the copy of this binary that plays the spawner.
const SPAWNER: &str = "BRANCH_PROC_TEST_SPAWNER";
const READY: &str = "the group is running";

#[test]
fn all_are_gone_when_their_spawner_was_killed() {
    let exe = std::env::current_exe().unwrap();
    for _ in 0..ROUNDS {
        let alone = alone();
        let (mut witness, write) = Witness::new();
        let mut spawner = process::Command::new(&exe)
            .args(["--exact", "the_spawner_to_be_killed", "--nocapture"])
            .env(SPAWNER, "1")
            .stdin(process::Stdio::null())
            .stdout(write)
            .spawn()
            .unwrap();
        drop(alone);
        while !String::from_utf8_lossy(&witness.text).contains(READY) {
            assert!(matches!(witness.look(PATIENCE), Seen::Bytes(_)), "the group did not start");
        }
        spawner.kill().unwrap();
        spawner.wait().unwrap();
        // The escaped processes hold this pipe as their descriptor 9. Nothing but the spawner's death ends
        // them: one is stopped, and the program waits for it.
        while let Seen::Bytes(_) = witness.look(PATIENCE) {}
        assert_eq!(witness.look(Duration::ZERO), Seen::AllGone);
    }
}

#[test]
fn the_spawner_to_be_killed() {
    if std::env::var_os(SPAWNER).is_none() {
        println!("skipped: this is the other half of all_are_gone_when_their_spawner_was_killed");
        return;
    }
    let stdout = rustix::io::fcntl_dupfd_cloexec(std::io::stdout(), 3).unwrap();
    // It must not depend on the spawner in any other way: a program reading a pipe of ours would end by itself.
    let script = format!("{ESCAPES}\necho {READY} >&9; wait\nexit 7");
    let mut group = sh(&script).stdin(Stdio::Null).stdout(Stdio::Null).fd(stdout, 9).spawn().unwrap();
    assert_eq!(group.wait().unwrap().exit, Exit::Code(7), "it ends when its children do");
}
