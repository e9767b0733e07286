//! The files of a cgroup v2 directory (kernel documentation, `admin-guide/cgroup-v2`).

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::files::{self, Setting};
use crate::limits::{IoMax, Limit, Limits};
use crate::pidfd::time_left;
use crate::usage::{Pressure, Usage};

/// The accounting period of `cpu.max`, in microseconds (the kernel's own default).
const CPU_PERIOD: u64 = 100_000;
/// Longest wait for a group to freeze. More is needed only by processes that hang in the kernel.
const FREEZE_WAIT_MAX: Duration = Duration::from_secs(5);

/// What to write where for these limits.
pub(super) fn settings(limits: &Limits) -> Vec<Setting> {
    let bytes = |limit, file, value: Option<u64>| value.map(|v| Setting::new(limit, file, v.to_string()));
    let mut settings: Vec<Setting> = [
        bytes(Limit::MemoryMax, "memory.max", limits.memory_max),
        bytes(Limit::MemoryHigh, "memory.high", limits.memory_high),
        bytes(Limit::MemoryLow, "memory.low", limits.memory_low),
        bytes(Limit::SwapMax, "memory.swap.max", limits.swap_max),
        bytes(Limit::PidsMax, "pids.max", limits.pids_max.map(u64::from)),
        bytes(Limit::CpuWeight, "cpu.weight", limits.cpu_weight.map(u64::from)),
        limits.cpu_max.map(|milli| {
            let quota = files::cpu_quota(milli, CPU_PERIOD);
            Setting::new(Limit::CpuMax, "cpu.max", format!("{quota} {CPU_PERIOD}"))
        }),
    ]
    .into_iter()
    .flatten()
    .collect();
    settings.extend(limits.io_max.iter().map(|io| Setting::new(Limit::IoMax, "io.max", io_max(io))));
    settings
}

fn io_max(io: &IoMax) -> String {
    let rate = |rate: Option<u64>| rate.map_or("max".to_owned(), |bytes| bytes.to_string());
    format!("{}:{} rbps={} wbps={}", io.major, io.minor, rate(io.read), rate(io.write))
}

/// What the directory's files tell; without controllers that is the processor time.
pub(super) fn usage(directory: &Path) -> Usage {
    let number = |file: &str| files::number(&directory.join(file));
    let keyed = |file: &str, key: &str| files::keyed(&directory.join(file), key);
    let cpu = std::fs::read_to_string(directory.join("cpu.stat")).ok();
    let micros = |key| cpu.as_deref().and_then(|text| files::keyed_in(text, key)).map(Duration::from_micros);
    let io = std::fs::read_to_string(directory.join("io.stat")).ok();
    let traffic = |key: &str| io.as_deref().map(|text| files::sum(text, key));
    Usage {
        user: micros("user_usec"),
        sys: micros("system_usec"),
        memory: number("memory.current"),
        memory_peak: number("memory.peak"),
        pids: number("pids.current"),
        pids_peak: number("pids.peak"),
        io_read: traffic("rbytes="),
        io_written: traffic("wbytes="),
        oom_kills: keyed("memory.events", "oom_kill"),
    }
}

/// As [`super::Cgroup::memory_in_use`].
pub(super) fn memory_in_use(directory: &Path, rough: u64) -> Option<u64> {
    let used = files::number(&directory.join("memory.current"))?;
    Some(files::without(used, rough, &directory.join("memory.stat"), ["inactive_file", "active_file"]))
}

/// How much the group waits for memory; None where the kernel does not account for it.
pub(super) fn pressure(directory: &Path) -> Option<Pressure> {
    Pressure::parse(&std::fs::read_to_string(directory.join("memory.pressure")).ok()?)
}

/// Freezes or thaws all of a directory; returns when it is so.
pub(super) fn freeze(directory: &Path, frozen: bool) -> io::Result<()> {
    // Opened before the change: poll(2) tells of changes since the last read.
    let events = std::fs::File::open(directory.join("cgroup.events"))?;
    let wanted = u64::from(frozen);
    files::write(&directory.join("cgroup.freeze"), &wanted.to_string())?;
    let deadline = Instant::now().checked_add(FREEZE_WAIT_MAX);
    loop {
        let told = files::read_again(&events)?;
        if files::keyed_in(&told, "frozen") == Some(wanted) {
            return Ok(());
        }
        let mut watched = [PollFd::new(&events, PollFlags::PRI)];
        match rustix::event::poll(&mut watched, time_left(deadline).as_ref()) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Whether all of a directory is frozen.
pub(super) fn is_frozen(directory: &Path) -> bool {
    files::keyed(&directory.join("cgroup.events"), "frozen") == Some(1)
}

/// Which controllers serve a directory.
pub(super) fn controllers(directory: &Path) -> String {
    // Unreadable is as good as none.
    std::fs::read_to_string(directory.join("cgroup.controllers")).unwrap_or_default()
}

/// Gives directories below this one every controller that it has; what the kernel refuses they are without.
pub(super) fn delegate(directory: &Path) {
    for controller in controllers(directory).split_whitespace() {
        let line = format!("+{controller}");
        if let Err(error) = files::write(&directory.join("cgroup.subtree_control"), &line) {
            // What it is without shows in the level of each group.
            drop(error);
        }
    }
}

/// The part of a group's directory that its program lives in.
pub(super) fn inner(directory: &Path) -> PathBuf {
    directory.join(super::INNER)
}
