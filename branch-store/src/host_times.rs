//! Times that the host's filesystem cannot hold become the nearest that it can, there and so here: a time must not
//! change when a file is copied up or committed.

use std::fs::File;
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::base::stat_fd;
use crate::node::{Time, time_of};

/// Every filesystem in use holds these: nothing has to be asked for them.
const ANYWHERE: RangeInclusive<i64> = 0..=i32::MAX as i64;

/// The seconds a filesystem can hold, asked for once.
#[derive(Default)]
pub(crate) struct HostTimes {
    seconds: OnceLock<RangeInclusive<i64>>,
}

impl HostTimes {
    /// The time as the filesystem of `dir` would keep it. At the ends of its range there are only whole seconds.
    ///
    /// # Errors
    /// The host's.
    pub(crate) fn nearest(&self, dir: impl AsFd, time: Time) -> Result<Time, Errno> {
        if ANYWHERE.contains(&time.sec) {
            return Ok(time);
        }
        let seconds = match self.seconds.get() {
            Some(known) => known,
            None => {
                let asked = probe(dir)?;
                self.seconds.get_or_init(|| asked)
            }
        };
        let inside = *seconds.start() < time.sec && time.sec < *seconds.end();
        let sec = time.sec.clamp(*seconds.start(), *seconds.end());
        Ok(Time { sec, nsec: if inside { time.nsec } else { 0 } })
    }
}

/// Sets impossible times on a file without a name and looks what they became. A filesystem without such files is
/// taken to hold every time.
fn probe(dir: impl AsFd) -> Result<RangeInclusive<i64>, Errno> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(dir, ".", flags, Mode::from_raw_mode(0o600)) {
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => return Ok(i64::MIN..=i64::MAX),
        file => File::from(file?),
    };
    let at = |tv_sec| Timespec { tv_sec, tv_nsec: 0 };
    rustix::fs::futimens(&file, &Timestamps { last_access: at(i64::MIN), last_modification: at(i64::MAX) })?;
    let seen = stat_fd(&file)?;
    let (earliest, latest) = (time_of(&seen.stx_atime).sec, time_of(&seen.stx_mtime).sec);
    Ok(if earliest < latest { earliest..=latest } else { i64::MIN..=i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_kept_as_the_host_would() {
        let dir = tempfile::tempdir().unwrap();
        let fd = File::open(dir.path()).unwrap();
        let times = HostTimes::default();
        for sec in [i64::MIN, -3_000_000_000, -1, 0, 1 << 31, 1 << 34, i64::MAX] {
            let file = tempfile::tempfile_in(&dir).unwrap();
            let wanted = Timespec { tv_sec: sec, tv_nsec: 7 };
            rustix::fs::futimens(&file, &Timestamps { last_access: wanted, last_modification: wanted })
                .unwrap();
            let kept = time_of(&stat_fd(&file).unwrap().stx_mtime);
            assert_eq!(times.nearest(&fd, Time { sec, nsec: 7 }), Ok(kept), "{sec}");
        }
    }
}
