//! Extended attributes. What belongs to the mount has none and takes none.

use branch_store::{AttrChange, XattrMode};
use rustix::io::Errno;

use super::{Known, Place, Vfs, acl, errno};

/// Flags of setxattr(2), decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrFlags {
    /// Create or replace.
    Any,
    /// Fail with EEXIST if it exists.
    Create,
    /// Fail with ENODATA if it does not.
    Replace,
}

impl XattrFlags {
    /// From the raw flags.
    ///
    /// # Errors
    /// EINVAL for flags setxattr(2) does not have, or both at once.
    pub fn decode(raw: i32) -> Result<XattrFlags, Errno> {
        match raw {
            0 => Ok(XattrFlags::Any),
            libc::XATTR_CREATE => Ok(XattrFlags::Create),
            libc::XATTR_REPLACE => Ok(XattrFlags::Replace),
            _ => Err(Errno::INVAL),
        }
    }
}

impl Vfs {
    /// Value of an extended attribute.
    ///
    /// # Errors
    /// The store's; ENODATA if there is none.
    pub fn xattr(&self, ino: u64, name: &[u8]) -> Result<Vec<u8>, Errno> {
        match self.place(ino)? {
            Place::Node(known) => known.branch.xattr(&known.object, name).map_err(errno),
            Place::MountRoot | Place::Link(_) | Place::Control(_) => Err(Errno::NODATA),
        }
    }

    /// Names of all extended attributes, each followed by NUL, as listxattr(2) wants them.
    ///
    /// # Errors
    /// The store's.
    pub fn xattr_names(&self, ino: u64) -> Result<Vec<u8>, Errno> {
        match self.place(ino)? {
            Place::Node(known) => Ok(nul_separated(&known.branch.xattrs(&known.object).map_err(errno)?)),
            Place::MountRoot | Place::Link(_) | Place::Control(_) => Ok(Vec::new()),
        }
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// The store's; EPERM on what belongs to the mount.
    pub fn set_xattr(&self, ino: u64, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<(), Errno> {
        let mode = match flags {
            XattrFlags::Any => XattrMode::Any,
            XattrFlags::Create => XattrMode::Create,
            XattrFlags::Replace => XattrMode::Replace,
        };
        let known = self.node(ino, Errno::PERM)?;
        if name == acl::ACCESS {
            return set_access_acl(&known, value);
        }
        known.branch.set_xattr(&known.object, name, Some(value), mode).map_err(errno)
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// The store's; ENODATA if there is none; EPERM on what belongs to the mount.
    pub fn remove_xattr(&self, ino: u64, name: &[u8]) -> Result<(), Errno> {
        let known = self.node(ino, Errno::PERM)?;
        known.branch.set_xattr(&known.object, name, None, XattrMode::Replace).map_err(errno)
    }
}

/// An ACL that is no more than a mode becomes the mode; one that is more sets it, too.
fn set_access_acl(known: &Known, value: &[u8]) -> Result<(), Errno> {
    let Known { branch, object } = known;
    let meaning = acl::decode(value)?;
    let kept = meaning.extended.then_some(value);
    match branch.set_xattr(object, acl::ACCESS, kept, XattrMode::Any).map_err(errno) {
        Err(Errno::NODATA) if kept.is_none() => {}
        done => done?,
    }
    let special = branch.stat(object).map_err(errno)?.mode & 0o7000;
    let change = AttrChange { mode: Some(special | meaning.permissions), ..AttrChange::default() };
    branch.set_attr(object, &change).map(drop).map_err(errno)
}

fn nul_separated(names: &[Vec<u8>]) -> Vec<u8> {
    let mut list = Vec::with_capacity(names.iter().map(|name| name.len() + 1).sum());
    for name in names {
        list.extend_from_slice(name);
        list.push(0);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_each_with_its_nul() {
        assert_eq!(nul_separated(&[b"user.a".to_vec(), b"user.b".to_vec()]), b"user.a\0user.b\0");
        assert_eq!(nul_separated(&[]), b"");
    }

    #[test]
    fn create_and_replace_exclude_each_other() {
        assert_eq!(XattrFlags::decode(0), Ok(XattrFlags::Any));
        assert_eq!(XattrFlags::decode(libc::XATTR_CREATE | libc::XATTR_REPLACE), Err(Errno::INVAL));
        assert_eq!(XattrFlags::decode(64), Err(Errno::INVAL));
    }
}
