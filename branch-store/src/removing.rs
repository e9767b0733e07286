//! Deleting what is the store's own, with everything below it.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use crate::disk::{Disk, list, open_dir_readable};
use crate::error::{Error, Result};

/// Deletes everything below a directory of the store, never following a symlink.
pub(crate) fn remove_below(disk: &Disk, dir: impl AsFd) -> Result<()> {
    for name in list(&dir)? {
        remove_tree(disk, &dir, &name)?;
    }
    Ok(())
}

/// Deletes an object of the store, and what is below it.
pub(crate) fn remove_tree(disk: &Disk, dir: impl AsFd, name: &[u8]) -> Result<()> {
    let failed = |op| move |e| Error::host(op, name, e);
    match remove(disk, &dir, name, AtFlags::empty()) {
        Ok(()) => return Ok(()),
        // Linux says the first of a directory, POSIX the second; the second may also be chattr(1)'s.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(failed("remove")(e)),
    }
    let inner = open_dir_readable(&dir, name).or_else(|e| match e {
        Errno::ACCESS => {
            rustix::fs::chmodat(&dir, name, Mode::RWXU, AtFlags::empty())?;
            open_dir_readable(&dir, name)
        }
        Errno::NOTDIR => Err(Errno::PERM),
        other => Err(other),
    });
    // Somebody else is deleting it, too.
    let Some(inner) = there(inner).map_err(failed("open"))? else { return Ok(()) };
    match remove_below(disk, inner) {
        Err(e) if e.errno() == Errno::NOENT => {}
        removed => removed?,
    }
    remove(disk, &dir, name, AtFlags::REMOVEDIR).map_err(failed("remove directory"))
}

fn there<T>(found: std::result::Result<T, Errno>) -> std::result::Result<Option<T>, Errno> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// From a directory that a branch made read-only, too: it is ours to delete.
fn remove(disk: &Disk, dir: impl AsFd, name: &[u8], flags: AtFlags) -> std::result::Result<(), Errno> {
    let removed = match disk.remove(&dir, name, flags) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(&dir, ".", Mode::RWXU, AtFlags::empty())?;
            disk.remove(&dir, name, flags)
        }
        other => other,
    };
    if removed == Err(Errno::NOENT) { Ok(()) } else { removed }
}
