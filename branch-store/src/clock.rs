//! The time that changes of nodes are stamped with: the very one the host stamps its files with.

use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::fs::{MemfdFlags, Timespec, Timestamps, UTIME_NOW};
use rustix::time::{ClockId, clock_gettime};

use crate::node::Time;

/// A file of no bytes that the kernel is asked to stamp.
static STAMPED: OnceLock<Option<OwnedFd>> = OnceLock::new();

impl Time {
    /// Never before a stamp that anybody has seen on a file, and never after the next one the host gives. Neither
    /// clock of clock_gettime(2) is that: since Linux 6.13 the kernel stamps with the coarse clock, but with the
    /// fine one what somebody has looked at since its last change, and keeps the order of all stamps.
    pub fn now() -> Time {
        crate::asked::note("clock");
        let stamped = STAMPED.get_or_init(|| rustix::fs::memfd_create(c"clock", MemfdFlags::CLOEXEC).ok());
        stamped.as_ref().and_then(stamp).unwrap_or_else(|| coarse(ClockId::RealtimeCoarse))
    }

    /// Later than every stamp that the host has given so far, also where it stamps by the tick: waits for the next
    /// one there. Where somebody sets the clock back, which must hold nobody up, not before the last one.
    pub(crate) fn later() -> Time {
        let last = Time::now();
        // Moves with the clock that stamps, but nobody sets it.
        let ticks = || coarse(ClockId::MonotonicCoarse);
        let tick = ticks();
        first_after(last, Time::now, || ticks() > tick)
    }
}

/// The first stamp after `last`; `last` if there is none although there was a tick since.
fn first_after(last: Time, mut stamp: impl FnMut() -> Time, mut ticked: impl FnMut() -> bool) -> Time {
    loop {
        // Asked before the stamp is taken, not after: whoever is held up between the two, for as long as the machine
        // pleases, has a stamp of later and not one of the tick before. (By the time that went by nothing can be
        // told: on a machine that stood still it went by without a tick.)
        let late = ticked();
        let now = stamp();
        if now > last || late {
            return now.max(last);
        }
    }
}

fn stamp(file: &OwnedFd) -> Option<Time> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    rustix::fs::futimens(file, &Timestamps { last_access: now, last_modification: now }).ok()?;
    let seen = rustix::fs::fstat(file).ok()?;
    Some(Time { sec: seen.st_ctime, nsec: u32::try_from(seen.st_ctime_nsec).ok()? })
}

/// What hosts without a kernel that stamps for us have: right up to a tick.
fn coarse(clock: ClockId) -> Time {
    let t = clock_gettime(clock);
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

    #[test]
    fn what_is_later_is_after_every_stamp_so_far_and_not_after_the_next() {
        let mut file = tempfile::tempfile().unwrap();
        let mut stamped = || {
            file.write_all(b"x").unwrap();
            let seen = file.metadata().unwrap();
            Time { sec: seen.ctime(), nsec: seen.ctime_nsec() as u32 }
        };
        for round in 0..100 {
            let (before, later, after) = (stamped(), Time::later(), stamped());
            assert!(before < later && later <= after, "round {round}: {before:?}, {later:?}, {after:?}");
        }
    }

    #[test]
    fn who_is_held_up_still_gets_a_later_time() {
        let at = |nsec| Time { sec: 1, nsec };
        // Many ticks pass between `last` and the first look.
        assert_eq!(first_after(at(1), || at(900), || true), at(900));
        // The tick comes between a stamp and the next look, and between a look and its stamp.
        for (looks, stamps) in [([false, false, true], [1, 1, 5]), ([false, false, false], [1, 1, 5])] {
            let (mut looks, mut stamps) = (looks.into_iter(), stamps.into_iter().map(at));
            let time = first_after(at(1), || stamps.next().unwrap(), || looks.next().unwrap());
            assert_eq!(time, at(5));
        }
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nobody_up() {
        let at = |sec| Time { sec, nsec: 0 };
        let mut looks = [false, false, true].into_iter();
        assert_eq!(first_after(at(100), || at(7), || looks.next().unwrap()), at(100));
    }
}
