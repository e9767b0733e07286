//! Bounds on a group, as data, and how well a host holds them.

use serde::{Deserialize, Serialize};

/// Bounds on everything in a group together. None: no bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    /// Bytes of memory, page cache included; beyond it the kernel kills (`memory.max`).
    pub memory_max: Option<u64>,
    /// Bytes of memory beyond which the group is slowed down and made to give back (`memory.high`; cgroup v2
    /// only).
    pub memory_high: Option<u64>,
    /// Bytes of memory that others' need does not take from it (`memory.low`; cgroup v2 only).
    pub memory_low: Option<u64>,
    /// Bytes of swap (`memory.swap.max`).
    pub swap_max: Option<u64>,
    /// Processes and threads.
    pub pids_max: Option<u32>,
    /// Processor time, in thousandths of one processor: 1500 is one and a half.
    pub cpu_max: Option<u32>,
    /// Share of the processor against others that want it, 1 to 10000; without it 100.
    pub cpu_weight: Option<u16>,
    /// Bytes to and from block devices.
    pub io_max: Vec<IoMax>,
    /// Open descriptors of each process (`RLIMIT_NOFILE`).
    pub open_files: Option<u64>,
    /// Bytes of the largest file that a process may write (`RLIMIT_FSIZE`).
    pub file_size: Option<u64>,
}

/// A bound on the traffic with one block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct IoMax {
    /// The device's major number.
    pub major: u32,
    /// The device's minor number.
    pub minor: u32,
    /// Bytes read in a second.
    #[serde(default)]
    pub read: Option<u64>,
    /// Bytes written in a second.
    #[serde(default)]
    pub write: Option<u64>,
}

/// One kind of bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// [`Limits::memory_max`]
    MemoryMax,
    /// [`Limits::memory_high`]
    MemoryHigh,
    /// [`Limits::memory_low`]
    MemoryLow,
    /// [`Limits::swap_max`]
    SwapMax,
    /// [`Limits::pids_max`]
    PidsMax,
    /// [`Limits::cpu_max`]
    CpuMax,
    /// [`Limits::cpu_weight`]
    CpuWeight,
    /// [`Limits::io_max`]
    IoMax,
    /// [`Limits::open_files`]
    OpenFiles,
    /// [`Limits::file_size`]
    FileSize,
}

/// How a bound is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforced {
    /// For the whole group together, or for each process where the bound is meant so.
    Fully,
    /// For each process by itself only (`setrlimit(2)`).
    EachProcess,
    /// Not at all: this host offers no means that the caller may use.
    Not,
}

impl Limits {
    /// Whether nothing is bounded.
    pub fn is_empty(&self) -> bool {
        *self == Limits::default()
    }

    /// Whether anything is bounded that only a control group can hold.
    pub(crate) fn concern_the_group(&self) -> bool {
        self.set().iter().any(|limit| !matches!(limit, Limit::OpenFiles | Limit::FileSize))
    }

    /// The kinds of bounds that are set, in the order of [`Limit`].
    pub fn set(&self) -> Vec<Limit> {
        [
            (Limit::MemoryMax, self.memory_max.is_some()),
            (Limit::MemoryHigh, self.memory_high.is_some()),
            (Limit::MemoryLow, self.memory_low.is_some()),
            (Limit::SwapMax, self.swap_max.is_some()),
            (Limit::PidsMax, self.pids_max.is_some()),
            (Limit::CpuMax, self.cpu_max.is_some()),
            (Limit::CpuWeight, self.cpu_weight.is_some()),
            (Limit::IoMax, !self.io_max.is_empty()),
            (Limit::OpenFiles, self.open_files.is_some()),
            (Limit::FileSize, self.file_size.is_some()),
        ]
        .into_iter()
        .filter_map(|(limit, set)| set.then_some(limit))
        .collect()
    }
}

/// How each limit that is set is held: as `held` says, else not at all.
pub(crate) fn completed(limits: &Limits, held: Vec<(Limit, Enforced)>) -> Vec<(Limit, Enforced)> {
    let how =
        |limit: Limit| held.iter().find(|(kind, _)| *kind == limit).map_or(Enforced::Not, |(_, how)| *how);
    limits.set().into_iter().map(|limit| (limit, how(limit))).collect()
}
