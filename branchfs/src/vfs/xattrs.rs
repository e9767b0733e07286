//! Extended attributes. What belongs to the mount has none and takes none.

use branch_store::{AttrChange, Kind, Stat, XattrChange, XattrMode};
use rustix::io::Errno;

use super::acl::{self, Acl};
use super::passing::Touched;
use super::{Caller, Known, Place, Vfs, errno};

const TRUSTED: &[u8] = b"trusted.";
const NAMESPACES: [&[u8]; 3] = [b"user.", TRUSTED, b"security."];
const SPECIAL: u32 = 0o7000;
const S_ISGID: u32 = 0o2000;

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
    /// The store's; ENODATA if there is none; EOPNOTSUPP for a name no filesystem has.
    pub fn xattr(&self, ino: u64, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let place = self.place(ino)?;
        check_name(name)?;
        match place {
            Place::Node(known) => known.branch.xattr(&known.object, name).map_err(errno),
            Place::MountRoot | Place::Link(_) | Place::Control(_) => Err(Errno::NODATA),
        }
    }

    /// Names of all extended attributes the caller may know of, each followed by NUL, as listxattr(2) wants them.
    ///
    /// # Errors
    /// The store's.
    pub fn xattr_names(&self, ino: u64, caller: Caller) -> Result<Vec<u8>, Errno> {
        let mut names = match self.place(ino)? {
            Place::Node(known) => known.branch.xattrs(&known.object).map_err(errno)?,
            Place::MountRoot | Place::Link(_) | Place::Control(_) => Vec::new(),
        };
        let is_trusted = |name: &Vec<u8>| name.starts_with(TRUSTED);
        if names.iter().any(is_trusted) && !caller.sees_trusted() {
            names.retain(|name| !is_trusted(name));
        }
        Ok(nul_separated(&names))
    }

    /// Sets an extended attribute. For the two that are ACLs the flags have no meaning, as on Linux.
    ///
    /// # Errors
    /// The store's; EPERM on what belongs to the mount; EINVAL for what is no ACL; EACCES for a default ACL on
    /// what is no directory; EOPNOTSUPP for a name no filesystem has.
    pub fn set_xattr(
        &self,
        ino: u64,
        caller: Caller,
        name: &[u8],
        value: &[u8],
        flags: XattrFlags,
    ) -> Result<(), Errno> {
        let known = self.node(ino, Errno::PERM)?;
        check_name(name)?;
        self.touch(ino, Touched::Attributes)?;
        let mode = match flags {
            XattrFlags::Any => XattrMode::Any,
            XattrFlags::Create => XattrMode::Create,
            XattrFlags::Replace => XattrMode::Replace,
        };
        match name {
            acl::ACCESS => known.set_access_acl(caller, value),
            acl::DEFAULT => known.set_default_acl(value),
            _ => known.branch.set_xattr(&known.object, name, Some(value), mode).map_err(errno),
        }
    }

    /// Removes an extended attribute. Without its access ACL an object has the permissions of its mode; that
    /// there is no ACL to remove is no error.
    ///
    /// # Errors
    /// The store's; ENODATA if there is none; EPERM on what belongs to the mount; EOPNOTSUPP for a name no
    /// filesystem has.
    pub fn remove_xattr(&self, ino: u64, name: &[u8]) -> Result<(), Errno> {
        let known = self.node(ino, Errno::PERM)?;
        check_name(name)?;
        self.touch(ino, Touched::Attributes)?;
        match known.branch.set_xattr(&known.object, name, None, XattrMode::Replace).map_err(errno) {
            Err(Errno::NODATA) if name == acl::ACCESS || name == acl::DEFAULT => Ok(()),
            done => done,
        }
    }
}

impl Known {
    /// One of the two ACLs, if there is one.
    pub(super) fn acl(&self, name: &[u8]) -> Result<Option<Acl>, Errno> {
        match self.branch.xattr(&self.object, name).map_err(errno) {
            Ok(value) => Acl::decode(&value),
            Err(Errno::NODATA) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// The mode follows; an ACL that is no more than a mode becomes the mode.
    fn set_access_acl(&self, caller: Caller, value: &[u8]) -> Result<(), Errno> {
        let stat = self.branch.stat(&self.object).map_err(errno)?;
        if stat.kind == Kind::Symlink {
            return Err(Errno::OPNOTSUPP);
        }
        let (acl, mode) = match Acl::decode(value)? {
            Some(acl) => {
                (acl.is_extended().then(|| acl.encode()), Some(acl.permissions() | special(&stat, caller)))
            }
            None => (None, None),
        };
        let change = AttrChange { mode, ..AttrChange::default() };
        let acl = XattrChange { name: acl::ACCESS, value: acl.as_deref() };
        self.branch.set_attr_and_xattr(&self.object, &change, Some(acl)).map(drop).map_err(errno)
    }

    fn set_default_acl(&self, value: &[u8]) -> Result<(), Errno> {
        let acl = Acl::decode(value)?.map(|acl| acl.encode());
        if self.branch.stat(&self.object).map_err(errno)?.kind != Kind::Dir {
            return acl.map_or(Ok(()), |_| Err(Errno::ACCESS));
        }
        let acl = XattrChange { name: acl::DEFAULT, value: acl.as_deref() };
        let same = AttrChange::default();
        self.branch.set_attr_and_xattr(&self.object, &same, Some(acl)).map(drop).map_err(errno)
    }
}

/// The set-ID and sticky bits that stay when the caller sets an access ACL.
fn special(stat: &Stat, caller: Caller) -> u32 {
    let special = stat.mode & SPECIAL;
    if special & S_ISGID != 0 && !caller.keeps_setgid(stat.gid) { special & !S_ISGID } else { special }
}

/// Attributes live in namespaces (xattr(7)); of `system` there are the ACLs only.
fn check_name(name: &[u8]) -> Result<(), Errno> {
    if name == acl::ACCESS || name == acl::DEFAULT {
        return Ok(());
    }
    match NAMESPACES.into_iter().find(|namespace| name.starts_with(namespace)) {
        Some(namespace) if name == namespace => Err(Errno::INVAL),
        Some(_) => Ok(()),
        None => Err(Errno::OPNOTSUPP),
    }
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
    fn a_name_has_a_namespace_and_something_in_it() {
        for good in [&b"user.a"[..], b"user.\xff\n", b"trusted.t", b"security.s", acl::ACCESS, acl::DEFAULT] {
            assert_eq!(check_name(good), Ok(()), "{good:?}");
        }
        for bad in [&b"user."[..], b"trusted.", b"security."] {
            assert_eq!(check_name(bad), Err(Errno::INVAL), "{bad:?}");
        }
        for bad in [&b"user"[..], b"a", b"system.", b"system.posix_acl_accesses", b"User.a", b"btrfs.a"] {
            assert_eq!(check_name(bad), Err(Errno::OPNOTSUPP), "{bad:?}");
        }
    }

    #[test]
    fn create_and_replace_exclude_each_other() {
        assert_eq!(XattrFlags::decode(0), Ok(XattrFlags::Any));
        assert_eq!(XattrFlags::decode(libc::XATTR_CREATE | libc::XATTR_REPLACE), Err(Errno::INVAL));
        assert_eq!(XattrFlags::decode(64), Err(Errno::INVAL));
    }
}
