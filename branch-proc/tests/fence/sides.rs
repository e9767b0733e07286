//! The groups of both sides: one in which things are offered, one from which they are tried to be reached.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;

use branch_proc::{Command, Group, Net, Policy, Rung, Stdio};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::attempts::{Attempt, PIDFD};
use crate::common::{alone, stdout_of};
use crate::offer::{Offer, Target};

/// Says to a copy of this binary what it is.
const ROLE: &str = "BRANCH_PROC_TEST_FENCE";
/// Before each line that is meant for the test: the harness writes to the same stream.
const TOLD: &str = "told: ";

/// How a group is spawned.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    pub(crate) rung: Rung,
    pub(crate) policy: Option<Policy>,
    pub(crate) net: Net,
}

impl Default for Side {
    fn default() -> Side {
        Side { rung: Rung::CgroupV2, policy: None, net: Net::Open }
    }
}

pub(crate) type Answers = BTreeMap<Attempt, i32>;

impl Side {
    fn program(&self, role: &str) -> Command {
        let exe = std::env::current_exe().unwrap();
        let arguments = ["--exact", "the_programs_themselves", "--nocapture"].map(Into::into);
        let command = Command::new(std::iter::once(exe.into_os_string()).chain(arguments))
            .env(ROLE, role)
            .env("RUST_BACKTRACE", "0")
            .current_dir("/")
            .stdin(Stdio::Null)
            .net(self.net.clone())
            .at_most(self.rung);
        match &self.policy {
            Some(policy) => command.policy(policy.clone()),
            None => command,
        }
    }
}

/// A group whose program offers everything until it is killed.
pub(crate) struct Inside {
    _group: Group,
    target: Target,
}

impl Inside {
    pub(crate) fn start(side: &Side) -> Inside {
        let alone = alone();
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let group = side.program("offer").stdout(write).spawn().unwrap();
        drop(alone);
        let lines = BufReader::new(File::from(read)).lines().map_while(Result::ok);
        let told = lines.filter_map(|line| line.split_once(TOLD).map(|(_, words)| words.to_owned())).next();
        let mut target = Target::parse(&told.expect("nothing is offered"));
        // As it is called from outside: the harness runs the program in a process of its own.
        let program = group.processes().into_iter().next().unwrap();
        target.pid = program.pid;
        Inside { _group: group, target }
    }

    pub(crate) fn target(&self) -> Target {
        self.target.clone()
    }
}

fn answers(command: Command) -> Answers {
    let told = {
        let _alone = alone();
        stdout_of(command)
    };
    let lines = told.lines().filter_map(|line| line.split_once(TOLD));
    let answers: Answers = lines
        .map(|(_, line)| {
            let (name, answer) = line.split_once(' ').unwrap();
            let attempt = Attempt::ALL.into_iter().find(|attempt| format!("{attempt:?}") == name);
            (attempt.unwrap(), answer.parse().unwrap())
        })
        .collect();
    assert_eq!(answers.len(), Attempt::ALL.len(), "{told}");
    answers
}

/// Every attempt, from a new group.
pub(crate) fn try_all(side: &Side, target: &Target) -> Answers {
    answers(side.program(&format!("try {}", target.words())).fd(pidfd(target.pid), PIDFD))
}

/// Every attempt of a new group's program on another process of that group.
pub(crate) fn try_own(side: &Side) -> Answers {
    answers(side.program("own"))
}

/// The descriptors that a program finds open, with one passed and one of the caller's that every child inherits.
pub(crate) fn descriptors_of(side: &Side) -> Vec<i32> {
    let _alone = alone();
    let kept = File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&kept, rustix::io::FdFlags::empty()).unwrap();
    let passed = OwnedFd::from(File::open("/dev/null").unwrap());
    let told = stdout_of(side.program("descriptors").fd(passed, PIDFD));
    let lines = told.lines().filter_map(|line| line.split_once(TOLD));
    lines.map(|(_, number)| number.parse().unwrap()).collect()
}

fn pidfd(pid: i32) -> OwnedFd {
    pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap()
}

/// Does nothing unless this process was started as one of a group's programs; then it never returns.
pub(crate) fn be_what_was_asked_for() {
    let Ok(role) = std::env::var(ROLE) else {
        println!("skipped: this is what the groups of the other tests run");
        return;
    };
    match role.split_once(' ') {
        Some(("try", words)) => tell_all(&Target::parse(words)),
        _ if role == "own" => own(),
        _ if role == "descriptors" => {
            (0..1024).filter(|fd| is_open(*fd)).for_each(|fd| println!("{TOLD}{fd}"))
        }
        _ => {
            let offer = Offer::make("group");
            println!("{TOLD}{}", offer.target().words());
            loop {
                std::thread::park();
            }
        }
    }
    std::process::exit(0)
}

fn is_open(fd: i32) -> bool {
    // SAFETY: plain system call; that it is not open is one of its answers.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

fn tell_all(target: &Target) {
    for attempt in Attempt::ALL {
        println!("{TOLD}{attempt:?} {}", attempt.make(target));
    }
}

/// A child is a process as any other of the group; what is offered is in its memory, too.
fn own() {
    let offer = Offer::make("own");
    // SAFETY: the child makes plain system calls only.
    let child = unsafe { libc::fork() };
    if child == 0 {
        loop {
            // SAFETY: plain system call.
            unsafe { libc::pause() };
        }
    }
    let child_pidfd = pidfd(child);
    // SAFETY: two descriptors, of which the second is free or was passed for this.
    assert_eq!(unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&child_pidfd), PIDFD) }, PIDFD);
    tell_all(&Target { pid: child, ..offer.target() });
    drop(offer);
    // SAFETY: plain system call. The child goes with the group.
    unsafe { libc::kill(child, libc::SIGKILL) };
}
