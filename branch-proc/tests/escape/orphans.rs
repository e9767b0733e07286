//! Groups whose spawner is killed, and what the next spawner does about what they have left.

use std::process;
use std::time::{Duration, Instant};

use branch_proc::{Exit, Limits, Rung, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};

use crate::common::{ESCAPES, ESCAPES_COUNT, PATIENCE, Seen, Witness, alone, sh};
use crate::escapers::MARKER;
use crate::running::{marker, survivors};

/// Says to a copy of this binary that it is a spawner, and on which rung; with `+` that it freezes its group.
const SPAWNER: &str = "BRANCH_PROC_TEST_SPAWNER";
const READY: &str = "the group is running";

fn names() -> [(&'static str, Rung); 3] {
    crate::RUNGS.map(|rung| (rung.name(), rung))
}

fn spawner(what: &str, marker: &str) -> process::Command {
    let mut command = process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_programs_themselves", "--nocapture"]);
    command.env(SPAWNER, what).env(MARKER, marker).stdin(process::Stdio::null());
    command
}

/// Kills a spawner of a running group with SIGKILL; nothing of the group is left. The spawner's pid.
pub(crate) fn kill_a_spawner(rung: Rung, frozen: bool) -> u32 {
    let what = format!("{}{}", rung.name(), if frozen { "+" } else { "" });
    let marker = marker();
    let alone = alone();
    let (mut witness, write) = Witness::new();
    let mut spawner = spawner(&what, &marker).stdout(write).spawn().unwrap();
    drop(alone);
    while !String::from_utf8_lossy(&witness.text).contains(READY) {
        assert!(matches!(witness.look(PATIENCE), Seen::Bytes(_)), "{what}: the group did not start");
    }
    assert!(survivors(&marker).len() > ESCAPES_COUNT, "{what}: the look shows nothing");
    spawner.kill().unwrap();
    spawner.wait().unwrap();
    while let Seen::Bytes(_) = witness.look(PATIENCE) {}
    assert_eq!(witness.look(Duration::ZERO), Seen::AllGone, "{what}");
    // The init has no witness, and its end is nobody's to tell.
    for pid in survivors(&marker) {
        wait_for_end(pid);
    }
    assert_eq!(survivors(&marker), Vec::<i32>::new(), "{what}");
    spawner.id()
}

fn wait_for_end(pid: i32) {
    let pid = Pid::from_raw(pid).unwrap();
    // Gone already if it cannot be opened.
    let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return };
    let timeout = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)).unwrap();
}

/// The next process that makes groups removes the directories of one that was killed.
pub(crate) fn assert_next_spawn_tidies_up(killed: u32) {
    let begin = Instant::now();
    loop {
        let alone = alone();
        let next = spawner("next", "none").stdout(process::Stdio::null()).spawn();
        drop(alone);
        assert!(next.unwrap().wait().unwrap().success());
        let left = directories_of(killed);
        if left.is_empty() {
            return;
        }
        // The last of the group closes the witness a moment before it leaves its control group.
        assert!(begin.elapsed() < PATIENCE, "left by {killed}:\n{left}");
    }
}

fn directories_of(spawner: u32) -> String {
    let _alone = alone();
    let name = format!("branchfs.{spawner}.*");
    let found = process::Command::new("find").args(["/sys/fs/cgroup", "-name", &name]).output().unwrap();
    String::from_utf8(found.stdout).unwrap()
}

/// Does nothing unless this process was started as a spawner.
pub(crate) fn be_a_spawner_if_asked() {
    let Ok(what) = std::env::var(SPAWNER) else { return };
    if what == "next" {
        assert!(sh("").stdin(Stdio::Null).spawn().unwrap().wait().unwrap().success());
        return;
    }
    let frozen = what.ends_with('+');
    let (_, rung) = names().into_iter().find(|(name, _)| *name == what.trim_end_matches('+')).unwrap();
    let stdout = rustix::io::fcntl_dupfd_cloexec(std::io::stdout(), 3).unwrap();
    let (mut seen, theirs) = Witness::new();
    // Two numbers: what the escapes say comes here, and the test sees who holds its own pipe.
    let limits = Limits { pids_max: Some(60), ..Limits::default() };
    let command =
        sh(&format!("{ESCAPES}\nwait")).stdin(Stdio::Null).stdout(Stdio::Null).limits(limits).at_most(rung);
    let mut group = command.fd(theirs, 9).fd(stdout, 10).spawn().unwrap();
    seen.wait_for(ESCAPES_COUNT);
    if frozen {
        group.freeze().unwrap();
    }
    println!("{READY}");
    assert_eq!(group.wait().unwrap().exit, Exit::Code(0), "it ends when its children do");
}
