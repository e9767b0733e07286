//! What a new object gets from its directory: group, permissions, ACLs.

use std::collections::BTreeMap;

use branch_store::{New, NewKind};
use rustix::io::Errno;

use super::acl::{self, Acl};
use super::{Caller, Known, errno};

const S_ISGID: u32 = 0o2000;
const PERMISSIONS: u32 = 0o7777;
const UMASK: u32 = 0o777;

/// The permission bits asked for at a creation, and the creator's umask, which a default ACL makes ineffective.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewMode {
    /// Permission bits; others are ignored.
    pub mode: u32,
    /// Bits to take away.
    pub umask: u32,
}

/// The object as it is to be made in `dir`.
pub(super) fn born(dir: &Known, caller: Caller, mode: NewMode, kind: NewKind) -> Result<New, Errno> {
    let above = dir.branch.stat(&dir.object).map_err(errno)?;
    let default = match &kind {
        NewKind::Symlink(_) => None,
        NewKind::File | NewKind::Dir | NewKind::Special { .. } => dir.acl(acl::DEFAULT)?,
    };
    let (mode, xattrs) = permissions(mode, default, &kind);
    let (mode, gid) = group(above.mode, above.gid, caller.gid, mode, &kind);
    Ok(New { kind, mode, uid: caller.uid, gid, xattrs })
}

/// Mode and ACLs: those of the directory's default ACL, if it has one, else the mode without the umask.
fn permissions(asked: NewMode, default: Option<Acl>, kind: &NewKind) -> (u32, BTreeMap<Vec<u8>, Vec<u8>>) {
    let mut xattrs = BTreeMap::new();
    let mode = asked.mode & PERMISSIONS;
    if matches!(kind, NewKind::Symlink(_)) {
        return (mode, xattrs);
    }
    let Some(default) = default else { return (mode & !(asked.umask & UMASK), xattrs) };
    if *kind == NewKind::Dir {
        xattrs.insert(acl::DEFAULT.to_vec(), default.encode());
    }
    let (access, mode) = default.inherited(mode);
    if access.is_extended() {
        xattrs.insert(acl::ACCESS.to_vec(), access.encode());
    }
    (mode, xattrs)
}

/// Mode and group: in a set-group-ID directory the directory's group, and new directories also get the bit
/// (inode(7)).
fn group(above_mode: u32, above_gid: u32, own_gid: u32, mode: u32, kind: &NewKind) -> (u32, u32) {
    match kind {
        _ if above_mode & S_ISGID == 0 => (mode, own_gid),
        NewKind::Dir => (mode | S_ISGID, above_gid),
        NewKind::File | NewKind::Symlink(_) | NewKind::Special { .. } => (mode, above_gid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UMASK_022: NewMode = NewMode { mode: 0o777, umask: 0o022 };

    fn acl(entries: &[(u16, u16)]) -> Acl {
        let mut value = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions) in entries {
            value.extend(tag.to_le_bytes());
            value.extend(permissions.to_le_bytes());
            value.extend(5_u32.to_le_bytes());
        }
        Acl::decode(&value).unwrap().unwrap()
    }

    #[test]
    fn a_setgid_directory_hands_its_group_down() {
        assert_eq!(group(0o755, 5, 9, 0o644, &NewKind::File), (0o644, 9));
        assert_eq!(group(0o2755, 5, 9, 0o644, &NewKind::File), (0o644, 5));
        assert_eq!(group(0o2755, 5, 9, 0o755, &NewKind::Dir), (0o2755, 5));
        assert_eq!(group(0o755, 5, 9, 0o755, &NewKind::Dir), (0o755, 9));
    }

    #[test]
    fn the_umask_counts_where_there_is_no_default_acl() {
        let made = |kind| permissions(UMASK_022, None, &kind);
        assert_eq!(made(NewKind::File), (0o755, BTreeMap::new()));
        assert_eq!(made(NewKind::Symlink(b"x".to_vec())), (0o777, BTreeMap::new()));
        let special = NewMode { mode: 0o4777, umask: 0o7777 };
        assert_eq!(permissions(special, None, &NewKind::File).0, 0o4000, "a umask has nine bits");
    }

    #[test]
    fn a_default_acl_is_handed_down_and_the_umask_ignored() {
        let default = acl(&[(1, 7), (2, 7), (4, 5), (16, 7), (32, 0)]);
        let (mode, xattrs) = permissions(UMASK_022, Some(default.clone()), &NewKind::Dir);
        assert_eq!(mode, 0o770);
        assert_eq!(xattrs[acl::DEFAULT], default.encode());
        assert_eq!(xattrs[acl::ACCESS], default.encode());
        let (mode, xattrs) = permissions(UMASK_022, Some(acl(&[(1, 7), (4, 7), (32, 5)])), &NewKind::File);
        assert_eq!((mode, xattrs), (0o775, BTreeMap::new()), "no more than a mode: nothing to keep");
    }
}
