//! Extended attributes of host objects, named by directory and name so that no symlink is followed and no
//! descriptor on a device or FIFO is opened.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use crate::error::Result;
use crate::ids::XATTR_SIZE_MAX;
use crate::node::Xattrs;

/// Longest list of names Linux returns.
const LIST_MAX: usize = 65536;

/// Any filesystem that has attributes has room for so many bytes of them, names included.
const FITS_EVERYWHERE: usize = 512;
/// Free bytes with which one more attribute does not fail for want of space.
const SPACE_ENOUGH: u64 = 1 << 20;
/// Room for most values; longer ones take a second call.
const VALUE_USUAL: usize = 256;

/// `/proc/self/fd/N/name`: the l*xattr calls take no directory descriptor.
fn path_of(dir: impl AsFd, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

/// All attributes this process may see. Filesystems without attributes have none.
pub(crate) fn read_all(dir: impl AsFd, name: &[u8]) -> Result<Xattrs> {
    let path = path_of(dir, name);
    let mut list = vec![0u8; 256];
    let len = loop {
        match rustix::fs::llistxattr(&path[..], &mut list[..]) {
            Ok(len) => break len,
            Err(Errno::RANGE) if list.len() < LIST_MAX => list.resize(LIST_MAX, 0),
            Err(Errno::NOTSUP) => break 0,
            Err(e) => return Err(e.into()),
        }
    };
    if len == 0 {
        return Ok(Arc::default());
    }
    let mut all = BTreeMap::new();
    for attribute in list[..len].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        // Listed but not readable for us (trusted.*), or gone since, is not there.
        if let Some(value) = value_of(&path, attribute)? {
            all.insert(attribute.to_vec(), value);
        }
    }
    Ok(Arc::new(all))
}

/// One attribute, if it is there and this process may see it.
pub(crate) fn read_one(dir: impl AsFd, name: &[u8], attribute: &[u8]) -> Result<Option<Vec<u8>>> {
    value_of(&path_of(dir, name), attribute)
}

fn value_of(path: &[u8], attribute: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut value = vec![0u8; VALUE_USUAL];
    loop {
        match rustix::fs::lgetxattr(path, attribute, &mut value[..]) {
            Ok(len) => {
                value.truncate(len);
                return Ok(Some(value));
            }
            Err(Errno::RANGE) if value.len() < XATTR_SIZE_MAX => value.resize(XATTR_SIZE_MAX, 0),
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS | Errno::NOTSUP) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Whether the host would take these on one object, asked with a nameless file in `dir`: what does not fit has to
/// be refused when it is set, not when the branch commits. A host that cannot be asked is believed to.
///
/// # Errors
/// ENOSPC, EDQUOT, E2BIG or ERANGE, as the host's.
pub(crate) fn check_room(dir: impl AsFd, wanted: &Xattrs) -> Result<()> {
    if wanted.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() <= FITS_EVERYWHERE {
        return Ok(());
    }
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let Ok(probe) = rustix::fs::openat(dir, c".", flags, Mode::RUSR | Mode::WUSR) else { return Ok(()) };
    for (name, value) in wanted.iter() {
        // What is refused for another reason is kept, and the commit says so.
        if let Err(e @ (Errno::NOSPC | Errno::DQUOT | Errno::TOOBIG | Errno::RANGE)) =
            rustix::fs::fsetxattr(&probe, &name[..], value, XattrFlags::empty())
        {
            return Err(e.into());
        }
    }
    Ok(())
}

/// What [`write_all`] came to.
pub(crate) struct Written {
    /// Names that could not be set or removed, and why.
    pub(crate) refused: Vec<(Vec<u8>, Errno)>,
    /// Whether anything was done: an ACL changes the mode.
    pub(crate) touched: bool,
}

/// Makes the object's attributes equal to `wanted`.
///
/// # Errors
/// The host's that say nothing about the attribute.
pub(crate) fn write_all(dir: impl AsFd, name: &[u8], wanted: &Xattrs) -> Result<Written> {
    let present = read_all(&dir, name)?;
    if present == *wanted {
        return Ok(Written { refused: Vec::new(), touched: false });
    }
    let path = path_of(&dir, name);
    let mut refused = Vec::new();
    for gone in present.keys().filter(|k| !wanted.contains_key(*k)) {
        if let Err(e) = rustix::fs::lremovexattr(&path[..], &gone[..]) {
            refused.push((gone.clone(), refusal(e)?));
        }
    }
    for (key, value) in wanted.iter().filter(|(k, v)| present.get(*k) != Some(v)) {
        match rustix::fs::lsetxattr(&path[..], &key[..], value, XattrFlags::empty()) {
            Ok(()) => {}
            // Not for want of space, then: there is no other time at which it would fit.
            Err(Errno::NOSPC) if has_space(&dir)? => refused.push((key.clone(), Errno::TOOBIG)),
            Err(e) => refused.push((key.clone(), refusal(e)?)),
        }
    }
    Ok(Written { refused, touched: true })
}

/// A host has no to say to an attribute, or no room.
fn refusal(errno: Errno) -> Result<Errno> {
    match errno {
        Errno::PERM | Errno::ACCESS | Errno::NOTSUP | Errno::NODATA | Errno::INVAL => Ok(errno),
        Errno::NOSPC | Errno::DQUOT | Errno::TOOBIG | Errno::RANGE => Ok(errno),
        other => Err(other.into()),
    }
}

/// ENOSPC of an attribute means a full disk, or no room for good: ext4 keeps all of an object's in one block.
fn has_space(dir: impl AsFd) -> Result<bool> {
    let numbers = rustix::fs::fstatvfs(dir)?;
    Ok(numbers.f_bavail.saturating_mul(numbers.f_frsize) > SPACE_ENOUGH)
}
