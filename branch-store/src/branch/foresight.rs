//! What a host reserves on its own beyond the end of a file that grows: xfs as much again as the file has. Of a branch
//! with a limit that may be more than it has left, so it is given back there.

use std::fs::File;

use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, ioctl, opcode};

use crate::base::stat_fd;
use crate::content::set_mtime;
use crate::error::Result;
use crate::measuring::allocated;
use crate::node::time_of;

/// `statfs(2)`'s number of xfs.
const XFS: u64 = 0x5846_5342;
/// `FS_XFLAG_PREALLOC` of `ioctl_xfs_fsgetxattr(2)`: somebody asked for space with fallocate(2).
const ASKED_FOR: u32 = 2;

/// `struct fsxattr` of `linux/fs.h`.
#[repr(C)]
struct Flags {
    xflags: u32,
    rest: [u32; 6],
}

/// Gives back what the host reserved unasked beyond the end of a file that is open for writing; how many bytes that
/// were. Nobody else may change the file's size meanwhile. Its modification time stays.
///
/// # Errors
/// The host's.
pub(super) fn give_back(file: &File) -> Result<u64> {
    let before = stat_fd(file)?;
    if allocated(&before) <= before.stx_size || !reserves_unasked(file)? {
        return Ok(0);
    }
    // To the size that it has: that frees what lies beyond.
    rustix::fs::ftruncate(file, before.stx_size)?;
    set_mtime(file, time_of(&before.stx_mtime))?;
    Ok(allocated(&before).saturating_sub(allocated(&stat_fd(file)?)))
}

fn reserves_unasked(file: &File) -> Result<bool> {
    if rustix::fs::fstatfs(file)?.f_type as u64 != XFS {
        return Ok(false);
    }
    const GET: Opcode = opcode::read::<Flags>(b'X', 31);
    // SAFETY: FS_IOC_FSGETXATTR writes one `struct fsxattr`, of which `Flags` has size and alignment.
    match unsafe { ioctl(file, Getter::<GET, Flags>::new()) } {
        Ok(flags) => Ok(flags.xflags & ASKED_FOR == 0),
        Err(Errno::NOTTY | Errno::OPNOTSUPP) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
