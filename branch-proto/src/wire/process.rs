//! The processes of branches.

use serde::{Deserialize, Serialize};

use super::ViewKind;

/// What is to be done with all process groups of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupAction {
    /// Kill them, whatever they do. The branch lives on.
    Kill,
    /// Stop them until they are thawed.
    Freeze,
    /// Let them go on.
    Thaw,
}

/// One process group attached to a branch. `null` is unknown on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupInfo {
    /// Name of the branch.
    pub branch: String,
    /// Process id of its init, in the daemon's pid namespace.
    pub pid: i32,
    /// Seconds since the epoch of its attachment.
    pub since: i64,
    /// What it works on.
    #[serde(default, skip_serializing_if = "ViewKind::is_fuse")]
    pub view: ViewKind,
    /// Whether it has been frozen.
    pub frozen: bool,
    /// CPU time used, user and system together, in microseconds; without a control group only of what still lives.
    pub cpu_us: Option<u64>,
    /// Bytes of memory now.
    pub memory: Option<u64>,
    /// The most bytes of memory so far.
    pub memory_peak: Option<u64>,
    /// Processes and threads now.
    pub pids: Option<u64>,
    /// Bytes read from block devices.
    pub io_read: Option<u64>,
    /// Bytes written to block devices.
    pub io_written: Option<u64>,
    /// Everything in it but its init, parents before children.
    pub processes: Vec<ProcessInfo>,
}

/// One process of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Process id in the daemon's pid namespace.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its arguments; its name in brackets if it has none. What is not UTF-8 in them is replaced.
    pub command: Vec<String>,
    /// The state letter of proc(5): R, S, D, T, Z and so on.
    pub state: char,
    /// Threads.
    pub threads: u64,
    /// CPU time so far, in microseconds.
    pub cpu_us: u64,
    /// Resident memory in bytes.
    pub resident: u64,
}
