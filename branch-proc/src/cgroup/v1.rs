//! The files of cgroup v1's controllers (kernel documentation, `admin-guide/cgroup-v1`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::files::{self, Setting};
use super::hierarchy::Controller;
use crate::limits::{Limit, Limits};
use crate::usage::Usage;

/// The file that a thread enters a directory by.
pub(super) const ENTRANCE: &str = "tasks";
/// The accounting period of `cpu.cfs_quota_us`, in microseconds (the kernel's own default).
const CPU_PERIOD: u64 = 100_000;
/// `cpu.shares` of a `cpu.weight` of 100.
const SHARES_DEFAULT: u64 = 1024;
const WEIGHT_DEFAULT: u64 = 100;

/// What to write where for these limits. `memory.high` and `memory.low` have no counterpart.
pub(super) fn settings(limits: &Limits) -> Vec<(Controller, Setting)> {
    let mut settings = Vec::new();
    let mut add = |controller, limit, file, value: u64| {
        settings.push((controller, Setting::new(limit, file, value.to_string())));
    };
    if let Some(bytes) = limits.memory_max {
        add(Controller::Memory, Limit::MemoryMax, "memory.limit_in_bytes", bytes);
    }
    if let (Some(bytes), Some(swap)) = (limits.memory_max, limits.swap_max) {
        add(Controller::Memory, Limit::SwapMax, "memory.memsw.limit_in_bytes", bytes.saturating_add(swap));
    }
    if let Some(pids) = limits.pids_max {
        add(Controller::Pids, Limit::PidsMax, "pids.max", pids.into());
    }
    if let Some(milli) = limits.cpu_max {
        add(Controller::Cpu, Limit::CpuMax, "cpu.cfs_quota_us", files::cpu_quota(milli, CPU_PERIOD));
    }
    if let Some(weight) = limits.cpu_weight {
        let shares = u64::from(weight) * SHARES_DEFAULT / WEIGHT_DEFAULT;
        add(Controller::Cpu, Limit::CpuWeight, "cpu.shares", shares);
    }
    for io in &limits.io_max {
        let rates = [("read", io.read), ("write", io.write)];
        for (direction, rate) in rates.into_iter().filter_map(|(d, rate)| Some((d, rate?))) {
            let file = format!("blkio.throttle.{direction}_bps_device");
            let line = format!("{}:{} {rate}", io.major, io.minor);
            settings.push((Controller::Blkio, Setting::new(Limit::IoMax, file, line)));
        }
    }
    settings
}

/// What the directories' files tell.
pub(super) fn usage(directories: &[(Controller, PathBuf)]) -> Usage {
    let file = |controller: Controller, name: &str| {
        directories.iter().find(|(of, _)| *of == controller).map(|(_, directory)| directory.join(name))
    };
    let number = |controller, name: &str| files::number(&file(controller, name)?);
    let nanos = |name| number(Controller::Cpuacct, name).map(Duration::from_nanos);
    let traffic = file(Controller::Blkio, "blkio.throttle.io_service_bytes")
        .and_then(|path| std::fs::read_to_string(path).ok());
    let moved = |direction: &str| traffic.as_deref().map(|text| files::sum_of_direction(text, direction));
    Usage {
        user: nanos("cpuacct.usage_user"),
        sys: nanos("cpuacct.usage_sys"),
        memory: number(Controller::Memory, "memory.usage_in_bytes"),
        memory_peak: number(Controller::Memory, "memory.max_usage_in_bytes"),
        pids: number(Controller::Pids, "pids.current"),
        pids_peak: number(Controller::Pids, "pids.peak"),
        io_read: moved("Read"),
        io_written: moved("Write"),
        oom_kills: file(Controller::Memory, "memory.oom_control").and_then(|f| files::keyed(&f, "oom_kill")),
    }
}

/// As [`super::Cgroup::memory_in_use`].
pub(super) fn memory_in_use(directory: &Path, rough: u64) -> Option<u64> {
    let used = files::number(&directory.join("memory.usage_in_bytes"))?;
    let cache = ["total_inactive_file", "total_active_file"];
    Some(files::without(used, rough, &directory.join("memory.stat"), cache))
}
