//! Making, removing and renaming names: mknod, mkdir, symlink, link, unlink, rmdir, rename, readlink.

use branch_store::{Kind, New, NewKind, RenameMode};
use rustix::io::Errno;

use super::{Attr, Caller, Known, Place, Vfs, errno};

const S_ISGID: u32 = 0o2000;
const PERMISSIONS: u32 = 0o7777;

impl Vfs {
    /// Makes a regular file, FIFO, socket or device node, as the type bits of `mode` say.
    ///
    /// # Errors
    /// The store's; EPERM for a directory and in the mount root; EINVAL for type bits Linux does not have.
    pub fn make_node(
        &self,
        parent: u64,
        name: &[u8],
        caller: Caller,
        mode: u32,
        rdev: u64,
    ) -> Result<Attr, Errno> {
        let kind = match Kind::of_mode(mode) {
            Some(Kind::File) => NewKind::File,
            None if mode & !PERMISSIONS == 0 => NewKind::File,
            Some(kind @ (Kind::Char | Kind::Block)) => NewKind::Special { kind, rdev },
            Some(kind @ (Kind::Fifo | Kind::Socket)) => NewKind::Special { kind, rdev: 0 },
            Some(Kind::Dir) => return Err(Errno::PERM),
            Some(Kind::Symlink) | None => return Err(Errno::INVAL),
        };
        self.make(parent, name, caller, mode, kind)
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// The store's; EPERM in the mount root: branches are made by fork.
    pub fn make_dir(&self, parent: u64, name: &[u8], caller: Caller, mode: u32) -> Result<Attr, Errno> {
        self.make(parent, name, caller, mode, NewKind::Dir)
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// The store's; EPERM in the mount root.
    pub fn make_symlink(
        &self,
        parent: u64,
        name: &[u8],
        caller: Caller,
        target: &[u8],
    ) -> Result<Attr, Errno> {
        self.make(parent, name, caller, 0o777, NewKind::Symlink(target.to_vec()))
    }

    /// Target of a symbolic link.
    ///
    /// # Errors
    /// The store's; EINVAL for what is none.
    pub fn read_link(&self, ino: u64) -> Result<Vec<u8>, Errno> {
        match self.place(ino)? {
            Place::Node(known) => known.branch.read_link(&known.object).map_err(errno),
            Place::Link(branch) => Ok(branch.name().as_bytes().to_vec()),
            Place::MountRoot | Place::Control(_) => Err(Errno::INVAL),
        }
    }

    /// Gives an object another name.
    ///
    /// # Errors
    /// The store's; EXDEV between branches; EPERM for a control file and in the mount root.
    pub fn link(&self, ino: u64, parent: u64, name: &[u8]) -> Result<Attr, Errno> {
        let target = self.node(ino, Errno::PERM)?;
        let dir = self.parent_of(parent, name)?;
        same_branch(&target, &dir)?;
        let stat = dir.branch.link(&target.object, &dir.object, name).map_err(errno)?;
        Ok(self.remember(&target.branch, target.object, stat, parent))
    }

    /// Removes a name that is not a directory's.
    ///
    /// # Errors
    /// The store's; EPERM for the control file and in the mount root.
    pub fn unlink(&self, parent: u64, name: &[u8]) -> Result<(), Errno> {
        let dir = self.parent_of(parent, name)?;
        let removed = dir.branch.unlink(&dir.object, name).map_err(errno)?;
        self.orphaned(&dir.branch, removed.orphan);
        Ok(())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// The store's; EPERM in the mount root: branches end by commit and abort.
    pub fn remove_dir(&self, parent: u64, name: &[u8]) -> Result<(), Errno> {
        let dir = self.parent_of(parent, name)?;
        let removed = dir.branch.rmdir(&dir.object, name).map_err(errno)?;
        self.orphaned(&dir.branch, removed.orphan);
        Ok(())
    }

    /// Renames within a branch.
    ///
    /// # Errors
    /// The store's; EXDEV between branches; EPERM for the control file and in the mount root.
    pub fn rename(
        &self,
        parent: u64,
        name: &[u8],
        to: u64,
        to_name: &[u8],
        mode: RenameMode,
    ) -> Result<(), Errno> {
        let from = self.parent_of(parent, name)?;
        let to = self.parent_of(to, to_name)?;
        same_branch(&from, &to)?;
        let removed = from.branch.rename(&from.object, name, &to.object, to_name, mode).map_err(errno)?;
        self.orphaned(&from.branch, removed.orphan);
        Ok(())
    }

    pub(super) fn make(
        &self,
        parent: u64,
        name: &[u8],
        caller: Caller,
        mode: u32,
        kind: NewKind,
    ) -> Result<Attr, Errno> {
        let dir = self.parent_of(parent, name)?;
        let above = dir.branch.stat(&dir.object).map_err(errno)?;
        let (mode, gid) = inherit(above.mode, above.gid, caller.gid, mode & PERMISSIONS, &kind);
        let new = New { kind, mode, uid: caller.uid, gid, xattrs: Default::default() };
        let (object, stat) = dir.branch.create(&dir.object, name, new).map_err(errno)?;
        Ok(self.remember(&dir.branch, object, stat, parent))
    }
}

/// Mode and group of a new object: in a set-group-ID directory the directory's group, and new directories also
/// get the bit (inode(7)).
fn inherit(above_mode: u32, above_gid: u32, own_gid: u32, mode: u32, kind: &NewKind) -> (u32, u32) {
    match kind {
        _ if above_mode & S_ISGID == 0 => (mode, own_gid),
        NewKind::Dir => (mode | S_ISGID, above_gid),
        NewKind::File | NewKind::Symlink(_) | NewKind::Special { .. } => (mode, above_gid),
    }
}

fn same_branch(a: &Known, b: &Known) -> Result<(), Errno> {
    if a.branch.id() == b.branch.id() { Ok(()) } else { Err(Errno::XDEV) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setgid_directory_hands_its_group_down() {
        assert_eq!(inherit(0o755, 5, 9, 0o644, &NewKind::File), (0o644, 9));
        assert_eq!(inherit(0o2755, 5, 9, 0o644, &NewKind::File), (0o644, 5));
        assert_eq!(inherit(0o2755, 5, 9, 0o755, &NewKind::Dir), (0o2755, 5));
        assert_eq!(inherit(0o755, 5, 9, 0o755, &NewKind::Dir), (0o755, 9));
    }
}
