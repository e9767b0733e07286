//! Between the kernel's words and ours.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use branch_store::{AttrChange, Kind, RenameMode, Time};
use fuser::{FileAttr, FileType, INodeNo, RenameFlags, Request, TimeOrNow};
use rustix::io::Errno;

use crate::vfs::{Attr, Caller, Left, Rename};

const PERMISSIONS: u32 = 0o7777;
const BLOCK_SIZE: u32 = 4096;

pub(super) fn caller(request: &Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid(), pid: request.pid() }
}

pub(super) fn file_attr(attr: &Attr) -> FileAttr {
    let stat = &attr.stat;
    FileAttr {
        ino: INodeNo(attr.ino),
        size: stat.size,
        blocks: stat.blocks,
        atime: system_time(stat.atime),
        mtime: system_time(stat.mtime),
        ctime: system_time(stat.ctime),
        crtime: UNIX_EPOCH,
        kind: file_type(stat.kind),
        perm: (stat.mode & PERMISSIONS) as u16,
        nlink: stat.nlink,
        uid: stat.uid,
        gid: stat.gid,
        rdev: encode_device(stat.rdev),
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

/// The reply to a lookup that found nothing, so that the kernel remembers it: inode number 0.
pub(super) fn absent() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Dir => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::Char => FileType::CharDevice,
        Kind::Block => FileType::BlockDevice,
    }
}

pub(super) fn rename(flags: RenameFlags) -> Result<Rename, Errno> {
    let whiteout = flags.contains(RenameFlags::RENAME_WHITEOUT);
    let left = if whiteout { Left::Whiteout } else { Left::Nothing };
    let mode = match (flags - RenameFlags::RENAME_WHITEOUT).bits() {
        0 => RenameMode::Replace,
        libc::RENAME_NOREPLACE => RenameMode::NoReplace,
        libc::RENAME_EXCHANGE if !whiteout => RenameMode::Exchange,
        _ => return Err(Errno::INVAL),
    };
    Ok(Rename { mode, left })
}

pub(super) struct Changes {
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) size: Option<u64>,
    pub(super) atime: Option<TimeOrNow>,
    pub(super) mtime: Option<TimeOrNow>,
}

impl From<Changes> for AttrChange {
    fn from(changes: Changes) -> AttrChange {
        AttrChange {
            mode: changes.mode.map(|mode| mode & PERMISSIONS),
            uid: changes.uid,
            gid: changes.gid,
            size: changes.size,
            atime: changes.atime.map(wanted_time),
            mtime: changes.mtime.map(wanted_time),
        }
    }
}

/// The kernel's 32 bits of a device number, as the engine's `major << 32 | minor`.
pub(super) fn decode_device(dev: u32) -> u64 {
    let (major, minor) = (dev >> 8 & 0xfff, dev & 0xff | dev >> 12 & 0xfff00);
    u64::from(major) << 32 | u64::from(minor)
}

fn encode_device(rdev: u64) -> u32 {
    let (major, minor) = ((rdev >> 32) as u32, rdev as u32);
    minor & 0xff | (major & 0xfff) << 8 | (minor & 0xfff00) << 12
}

fn wanted_time(time: TimeOrNow) -> Time {
    match time {
        TimeOrNow::Now => Time::now(),
        TimeOrNow::SpecificTime(time) => time_of(time),
    }
}

/// The crate decodes `(-s, n)`, which is n nanoseconds *after* -s, as n before it. Both halves survive, so
/// they are taken as they came.
fn time_of(time: SystemTime) -> Time {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => {
            Time { sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX), nsec: after.subsec_nanos() }
        }
        Err(before) => {
            let before = before.duration();
            let sec = i64::try_from(before.as_secs()).map_or(i64::MIN, |sec| -sec);
            Time { sec, nsec: before.subsec_nanos() }
        }
    }
}

fn system_time(time: Time) -> SystemTime {
    let whole = Duration::from_secs(time.sec.unsigned_abs());
    let second = if time.sec < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    let nanos = Duration::from_nanos(u64::from(time.nsec));
    second.and_then(|second| second.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive_the_kernels_encoding() {
        for (major, minor) in [(1, 3), (8, 255), (8, 256), (4095, 0xfffff), (0, 0)] {
            let rdev = u64::from(major as u32) << 32 | u64::from(minor as u32);
            assert_eq!(decode_device(encode_device(rdev)), rdev, "{major}:{minor}");
        }
        assert_eq!(encode_device(1 << 32 | 3), 0x103, "/dev/null");
    }

    #[test]
    fn times_before_1970_are_not_mirrored() {
        let as_decoded_by_the_crate = UNIX_EPOCH - Duration::new(2, 500_000_000);
        assert_eq!(time_of(as_decoded_by_the_crate), Time { sec: -2, nsec: 500_000_000 });
        let shown = system_time(Time { sec: -2, nsec: 500_000_000 });
        assert_eq!(UNIX_EPOCH.duration_since(shown).unwrap(), Duration::from_millis(1500));
    }

    #[test]
    fn no_time_is_too_far_to_convert() {
        for sec in [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX] {
            for nsec in [0, 1, 999_999_999, u32::MAX] {
                let shown = system_time(Time { sec, nsec });
                time_of(shown);
            }
        }
    }

    #[test]
    fn flags_that_exclude_each_other_are_refused() {
        use RenameFlags as F;
        assert!(matches!(rename(F::RENAME_NOREPLACE | F::RENAME_EXCHANGE), Err(Errno::INVAL)));
        assert!(matches!(rename(F::RENAME_WHITEOUT | F::RENAME_EXCHANGE), Err(Errno::INVAL)));
        assert!(matches!(rename(F::from_bits_retain(64)), Err(Errno::INVAL)));
        let both = Rename { mode: RenameMode::NoReplace, left: Left::Whiteout };
        assert_eq!(rename(F::RENAME_WHITEOUT | F::RENAME_NOREPLACE), Ok(both));
    }
}
