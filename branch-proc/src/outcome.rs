//! How a group ended and what it used.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::usage::Usage;

/// How the program ended (`wait(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It exited with this code, 0 to 255.
    Code(i32),
    /// It was killed by this signal number.
    Signal(i32),
}

impl Exit {
    /// Decodes a wait status as `waitpid(2)` gives it for a process that has ended.
    pub(crate) fn from_wait_status(status: i32) -> Exit {
        if libc::WIFSIGNALED(status) {
            Exit::Signal(libc::WTERMSIG(status))
        } else {
            Exit::Code(libc::WEXITSTATUS(status))
        }
    }

    /// The code a shell would give: the exit code, or 128 + n for signal n.
    pub(crate) fn shell_code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// Everything there is to say of a group that has ended: how, what it used, what it was not allowed to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How the program ended. [`Exit::Signal`] with 9 when the group was killed before the program ended.
    pub exit: Exit,
    /// Whether it was stopped because its time was up: by [`crate::CaptureOptions::timeout`],
    /// [`crate::Call::timeout`] or [`crate::Group::time_out`]. How it took that, `exit` tells.
    pub timed_out: bool,
    /// From the spawn to the program's end (or to the group's, when it was killed).
    pub wall: Duration,
    /// User CPU time of the program and its reaped descendants (`getrusage(2)`); what was still running
    /// when the group died is not counted, and all is zero if other code of this process waited with
    /// `__WALL`.
    pub user: Duration,
    /// System CPU time, counted as `user` is.
    pub sys: Duration,
    /// Largest resident set of any one process, in bytes (`ru_maxrss`). The caller's own resident size when
    /// it spawned is a floor, because the kernel counts what a process had before `execve(2)`.
    pub max_rss: u64,
    /// What the group's control group has counted by its end; all None where it had none.
    pub usage: Usage,
    /// What was denied to it, with how often: of the network the latest where there were many different ones, of
    /// files and system calls the first ([`crate::DENIALS_MAX`]). Who is looked at and what is told: [`crate::Observe`].
    pub denials: Vec<Denial>,
    /// How many different denials were too many to be kept.
    pub denials_dropped: u64,
}

/// Something a group tried and was not allowed to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// What was tried: `connect`, the name of an [`crate::Op`], `move`, or that of a system call.
    pub op: String,
    /// On what: a host and port, or a path (`FROM -> TO` for a move); empty for
    /// a system call.
    pub object: String,
    /// The part of the policy that would have to allow it.
    pub rule: String,
    /// Why not, and what would allow it, in plain words.
    pub words: String,
    /// How often.
    pub count: u64,
    /// The program that tried it first, and its thread in the caller's pid namespace; None where only the
    /// group is known.
    pub by: Option<(String, u32)>,
}

impl Outcome {
    /// The code a shell would give: the exit code, or 128 + n for signal n.
    pub fn shell_code(&self) -> i32 {
        self.exit.shell_code()
    }

    /// The number of the signal that killed the program; None if it exited.
    pub fn signal(&self) -> Option<i32> {
        match self.exit {
            Exit::Signal(signal) => Some(signal),
            Exit::Code(_) => None,
        }
    }

    /// Whether the kernel has killed something of it because the group's memory was used up. Only a control group
    /// counts that: where a limit is held for each process by itself, allocating fails in the program, and this is
    /// false.
    pub fn out_of_memory(&self) -> bool {
        self.usage.oom_kills.is_some_and(|kills| kills > 0)
    }

    /// Whether the program exited with code 0.
    pub fn success(&self) -> bool {
        self.exit == Exit::Code(0)
    }
}
