//! Making, removing and renaming names: mknod, mkdir, symlink, link, unlink, rmdir, rename, readlink.

use branch_store::{Kind, NewKind, RenameMode};
use rustix::io::Errno;

use super::birth::{self, NewMode};
use super::passing::Touched;
use super::{Attr, Caller, Known, Place, Vfs, errno, ino};

const PERMISSIONS: u32 = 0o7777;

/// The device by which overlayfs says that a name is gone.
const WHITEOUT: NewKind = NewKind::Special { kind: Kind::Char, rdev: 0 };

/// The flags of renameat2(2), decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rename {
    /// What becomes of an existing target.
    pub mode: RenameMode,
    /// What becomes of the old name.
    pub left: Left,
}

/// What a rename leaves at the old name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// A character device 0:0.
    Whiteout,
}

impl Vfs {
    /// Makes a regular file, FIFO, socket or device node, as the type bits of the mode say.
    ///
    /// # Errors
    /// The store's; EPERM for a directory and in the mount root; EINVAL for type bits Linux does not have.
    pub fn make_node(
        &self,
        parent: u64,
        name: &[u8],
        caller: Caller,
        mode: NewMode,
        rdev: u64,
    ) -> Result<Attr, Errno> {
        let bits = mode.mode;
        let kind = match Kind::of_mode(bits) {
            Some(Kind::File) => NewKind::File,
            None if bits & !PERMISSIONS == 0 => NewKind::File,
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
    pub fn make_dir(&self, parent: u64, name: &[u8], caller: Caller, mode: NewMode) -> Result<Attr, Errno> {
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
        let mode = NewMode { mode: 0o777, umask: 0 };
        self.make(parent, name, caller, mode, NewKind::Symlink(target.to_vec()))
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
        self.touch(ino, Touched::Bytes)?;
        let stat = dir.branch.link(&target.object, &dir.object, name).map_err(errno)?;
        Ok(self.remember_made(&dir, target.object, stat))
    }

    /// Removes a name that is not a directory's.
    ///
    /// # Errors
    /// The store's; EPERM for the control file and in the mount root.
    pub fn unlink(&self, parent: u64, name: &[u8]) -> Result<(), Errno> {
        let dir = self.parent_of(parent, name)?;
        let removed = dir.branch.unlink(&dir.object, name).map_err(errno)?;
        self.removed(&dir.branch, removed.orphan);
        Ok(())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// The store's; EPERM in the mount root: branches end by commit and abort.
    pub fn remove_dir(&self, parent: u64, name: &[u8]) -> Result<(), Errno> {
        let dir = self.parent_of(parent, name)?;
        let removed = dir.branch.rmdir(&dir.object, name).map_err(errno)?;
        self.removed(&dir.branch, removed.orphan);
        Ok(())
    }

    /// Renames within a branch. Returns the directories that lie in another one now: what is kept of their listings
    /// says where they were.
    ///
    /// # Errors
    /// The store's; EXDEV between branches; EPERM for the control file and in the mount root.
    pub fn rename(
        &self,
        (parent, name): (u64, &[u8]),
        (to, to_name): (u64, &[u8]),
        caller: Caller,
        rename: Rename,
    ) -> Result<Vec<u64>, Errno> {
        let from = self.parent_of(parent, name)?;
        let to = self.parent_of(to, to_name)?;
        same_branch(&from, &to)?;
        let left = match rename.left {
            Left::Nothing => None,
            Left::Whiteout => Some(birth::born(&from, caller, NewMode { mode: 0, umask: 0 }, WHITEOUT)?),
        };
        let (branch, mode) = (&from.branch, rename.mode);
        let removed = branch.rename_leaving(&from.object, name, &to.object, to_name, mode, left.as_ref());
        let removed = removed.map_err(errno)?;
        self.removed(&from.branch, removed.orphan);
        if from.object.id == to.object.id {
            return Ok(Vec::new());
        }
        let moved = [Some((&to, to_name)), (mode == RenameMode::Exchange).then_some((&from, name))];
        let found =
            moved.into_iter().flatten().filter_map(|(dir, name)| branch.lookup(&dir.object, name).ok());
        let dirs = found.filter(|(_, stat)| stat.kind == Kind::Dir);
        Ok(dirs.map(|(object, _)| ino::of_node(branch.id(), object.id)).collect())
    }

    pub(super) fn make(
        &self,
        parent: u64,
        name: &[u8],
        caller: Caller,
        mode: NewMode,
        kind: NewKind,
    ) -> Result<Attr, Errno> {
        let dir = self.parent_of(parent, name)?;
        let new = birth::born(&dir, caller, mode, kind)?;
        let (object, stat) = dir.branch.create(&dir.object, name, new).map_err(errno)?;
        Ok(self.remember_made(&dir, object, stat))
    }
}

fn same_branch(a: &Known, b: &Known) -> Result<(), Errno> {
    if a.branch.id() == b.branch.id() { Ok(()) } else { Err(Errno::XDEV) }
}
