//! The time that changes of nodes are stamped with: the very one the host stamps its files with.

use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::fs::{MemfdFlags, Timespec, Timestamps, UTIME_NOW};

use crate::node::Time;

/// A file of no bytes that the kernel is asked to stamp.
static STAMPED: OnceLock<Option<OwnedFd>> = OnceLock::new();

impl Time {
    /// Never before a stamp that anybody has seen on a file, and never after the next one the host gives. Neither
    /// clock of clock_gettime(2) is that: since Linux 6.13 the kernel stamps with the coarse clock, but with the
    /// fine one what somebody has looked at since its last change, and keeps the order of all stamps.
    pub fn now() -> Time {
        let stamped = STAMPED.get_or_init(|| rustix::fs::memfd_create(c"clock", MemfdFlags::CLOEXEC).ok());
        stamped.as_ref().and_then(stamp).unwrap_or_else(coarse)
    }
}

fn stamp(file: &OwnedFd) -> Option<Time> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    rustix::fs::futimens(file, &Timestamps { last_access: now, last_modification: now }).ok()?;
    let seen = rustix::fs::fstat(file).ok()?;
    Some(Time { sec: seen.st_ctime, nsec: u32::try_from(seen.st_ctime_nsec).ok()? })
}

/// What hosts without a kernel that stamps for us have: right up to a tick.
fn coarse() -> Time {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    Time { sec: t.tv_sec, nsec: u32::try_from(t.tv_nsec).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn stamps_and_those_of_files_come_in_the_order_in_which_they_were_given() {
        let mut file = tempfile::tempfile().unwrap();
        let mut last = Time::now();
        for round in 0..2000 {
            file.write_all(b"x").unwrap();
            if round % 3 > 0 {
                let seen = file.metadata().unwrap();
                let written = Time { sec: seen.mtime(), nsec: seen.mtime_nsec() as u32 };
                assert!(written >= last, "round {round}: a file written after {last:?} says {written:?}");
                last = written;
            }
            let stamp = Time::now();
            assert!(stamp >= last, "round {round}: {stamp:?} after {last:?} was seen");
            last = stamp;
        }
    }
}
