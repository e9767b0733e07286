//! Ways out of a group, taken by a real program on every rung of the ladder, and nothing that is left when the
//! group has ended, whichever way it ends. `BRANCHFS_LONG=1` goes 200 rounds, `BRANCHFS_ROUNDS` as many as it says.
#![allow(clippy::unwrap_used)] // also in helpers

#[path = "../common/mod.rs"]
mod common;
mod escapers;
mod orphans;
mod running;

use std::fs;

use branch_proc::{Exit, Rung};
use escapers::Escaper;
use running::{End, Running, rounds, survivors};

/// The best of the host, then each one below it that is always to be had.
const RUNGS: [Rung; 3] = [Rung::CgroupV2, Rung::PidNamespace, Rung::Subreaper];

#[test]
fn everything_here_holds_for_an_ordinary_user_too() {
    common::again_as_an_ordinary_user("everything_here_holds_for_an_ordinary_user_too");
}

/// Not a test of its own: what the groups of the others run.
#[test]
fn the_programs_themselves() {
    escapers::be_what_was_asked_for();
    orphans::be_a_spawner_if_asked();
}

/// Each round takes another way to the group's end on each rung.
fn nothing_survives(escaper: Escaper) {
    for round in 0..rounds() {
        for (index, rung) in RUNGS.into_iter().enumerate() {
            let running = Running::start(escaper, rung);
            assert!(running.group.level().rung >= rung, "{:?}", running.group.level());
            let end = End::ALL[(round + index) % End::ALL.len()];
            running.end(end);
        }
    }
}

#[test]
fn who_forked_twice_does_not_survive() {
    nothing_survives(Escaper::DoubleFork);
}

#[test]
fn who_is_in_sessions_of_its_own_does_not_survive() {
    nothing_survives(Escaper::Setsid);
}

#[test]
fn who_became_a_daemon_does_not_survive() {
    nothing_survives(Escaper::Daemon);
}

#[test]
fn who_ignores_and_blocks_every_signal_does_not_survive() {
    nothing_survives(Escaper::Deaf);
}

#[test]
fn who_is_stopped_or_traced_does_not_survive() {
    nothing_survives(Escaper::Stopped);
}

#[test]
fn a_storm_of_vforks_at_its_limit_does_not_survive() {
    nothing_survives(Escaper::Storm);
}

#[test]
fn threads_that_fork_while_their_process_is_killed_leave_nobody() {
    nothing_survives(Escaper::Threads);
}

#[test]
fn who_holds_an_open_file_and_a_map_of_the_view_does_not_survive() {
    nothing_survives(Escaper::Mapped);
}

#[test]
fn who_entered_the_view_through_the_root_of_another_process_does_not_survive() {
    nothing_survives(Escaper::Rooted);
}

#[test]
fn who_moved_itself_to_another_control_group_does_not_survive() {
    if !rustix::process::geteuid().is_root() || running::cgroup_roots().is_empty() {
        println!("SKIPPED: this user can move nobody to another control group here");
        return;
    }
    nothing_survives(Escaper::Elsewhere);
}

#[test]
fn who_kills_the_init_does_not_survive_where_a_pid_namespace_is() {
    for _ in 0..rounds() {
        for rung in [Rung::CgroupV2, Rung::PidNamespace] {
            Running::start(Escaper::InitKiller, rung).end(End::Kill);
        }
    }
}

/// What docs/process.md says of the lowest rung. Should this fail, the rung is better than its description.
#[test]
fn who_kills_the_init_survives_on_the_lowest_rung_and_the_spawner_is_told_of_the_inits_death() {
    let mut running = Running::start(Escaper::InitKiller, Rung::Subreaper);
    assert_eq!(running.group.wait().unwrap().exit, Exit::Signal(libc::SIGKILL));
    let left = survivors(&running.marker);
    assert!(!left.is_empty(), "the documented hole is closed: say so in docs/process.md");
    for pid in left {
        // By its number: none of them is this process' child, and each waits for ever.
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    running.wait_until_gone();
}

#[test]
fn nothing_survives_a_spawner_that_was_killed() {
    for round in 0..rounds() {
        for (index, rung) in RUNGS.into_iter().enumerate() {
            let frozen = (round + index) % 2 == 0;
            let spawner = orphans::kill_a_spawner(rung, frozen);
            orphans::assert_next_spawn_tidies_up(spawner);
        }
    }
}

#[test]
fn the_view_is_as_the_group_left_it_and_the_base_as_before() {
    let running = Running::start(Escaper::Mapped, Rung::CgroupV2);
    let (base, view) = (running.base(), running.view());
    running.end_and(End::Kill, || {
        assert_eq!(fs::read_to_string(base.join("file")).unwrap(), "base");
        assert_eq!(fs::read_to_string(view.join("file")).unwrap(), "Miew", "written through the map");
    });
}
