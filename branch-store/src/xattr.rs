//! Extended attributes of host objects, named by directory and name so that no symlink is followed and no
//! descriptor on a device or FIFO is opened.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::error::Result;
use crate::ids::XATTR_SIZE_MAX;
use crate::node::Xattrs;

/// Longest list of names Linux returns.
const LIST_MAX: usize = 65536;

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

/// Makes the object's attributes equal to `wanted`; returns the names that could not be set or removed, and why.
///
/// # Errors
/// The host's that say nothing about the attribute.
pub(crate) fn write_all(dir: impl AsFd, name: &[u8], wanted: &Xattrs) -> Result<Vec<(Vec<u8>, Errno)>> {
    let present = read_all(&dir, name)?;
    let path = path_of(dir, name);
    let mut refused = Vec::new();
    for gone in present.keys().filter(|k| !wanted.contains_key(*k)) {
        if let Err(e) = rustix::fs::lremovexattr(&path[..], &gone[..]) {
            refused.push((gone.clone(), refusal(e)?));
        }
    }
    for (key, value) in wanted.iter().filter(|(k, v)| present.get(*k) != Some(v)) {
        if let Err(e) = rustix::fs::lsetxattr(&path[..], &key[..], value, XattrFlags::empty()) {
            refused.push((key.clone(), refusal(e)?));
        }
    }
    Ok(refused)
}

/// A host has no to say to an attribute, or no room: ext4 keeps all of an object's in one block.
fn refusal(errno: Errno) -> Result<Errno> {
    match errno {
        Errno::PERM | Errno::ACCESS | Errno::NOTSUP | Errno::NODATA | Errno::INVAL => Ok(errno),
        Errno::NOSPC | Errno::DQUOT | Errno::TOOBIG | Errno::RANGE => Ok(errno),
        other => Err(other.into()),
    }
}
