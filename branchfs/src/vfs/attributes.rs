//! getattr, setattr, access, statfs, and how long the kernel may believe an answer.

use std::time::Duration;

use branch_store::{AttrChange, Branch, Kind, NodeId, Owner, Quota, Stat, XattrChange};
use rustix::fs::StatVfs;
use rustix::io::Errno;

use super::belief::checked_by_nobody;
use super::passing::Touched;
use super::{Known, Place, Vfs, acl, errno, ino};

/// Cache time of what only we can change; whoever changes it invalidates.
pub const FOREVER: Duration = Duration::from_secs(24 * 3600);
/// Cache time of what can be edited in the base behind our back, with nobody to tell us: S15 promises a second.
pub const SHORT: Duration = Duration::from_secs(1);

/// Attributes of an inode and how long to believe them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attr {
    /// Inode number.
    pub ino: u64,
    /// The attributes.
    pub stat: Stat,
    /// For how long the attributes hold.
    pub ttl: Duration,
    /// For how long the name it was found under holds.
    pub entry_ttl: Duration,
}

impl Known {
    /// With the mode changes what the access ACL says of it.
    pub(super) fn set_attr(&self, change: &AttrChange) -> Result<Stat, Errno> {
        let acl = match change.mode {
            Some(mode) => self.acl(acl::ACCESS)?.map(|acl| acl.with_mode(mode).encode()),
            None => None,
        };
        let acl = acl.as_deref().map(|value| XattrChange { name: acl::ACCESS, value: Some(value) });
        self.branch.set_attr_and_xattr(&self.object, change, acl).map_err(errno)
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Thread id, as this process sees it; 0 if it does not.
    pub pid: u32,
}

impl Vfs {
    /// Attributes of an inode.
    ///
    /// # Errors
    /// The store's; ESTALE for an unknown inode or a branch that ended.
    pub fn attributes(&self, ino: u64) -> Result<Attr, Errno> {
        match self.place(ino)? {
            Place::MountRoot => Ok(self.mount_root_attr()),
            Place::Link(branch) => self.link_attr(&branch),
            Place::Control(branch) => self.control_attr(&branch),
            Place::Node(known) if self.is_retired(ino) => self.retired_attr(ino, &known),
            Place::Node(known) => self.node_attr(ino, &known),
        }
    }

    /// Changes attributes. A control file accepts truncation, which `echo > file` asks for, and stays as it is.
    ///
    /// # Errors
    /// The store's; EPERM on what belongs to the mount.
    pub fn set_attributes(&self, ino: u64, change: &AttrChange) -> Result<Attr, Errno> {
        match self.place(ino)? {
            Place::Node(known) => {
                let touched = if change.size.is_some() { Touched::Bytes } else { Touched::Attributes };
                self.touch(ino, touched)?;
                Ok(checked_by_nobody(known.ino(), known.set_attr(change)?))
            }
            Place::Control(branch)
                if change.mode.is_none() && change.uid.is_none() && change.gid.is_none() =>
            {
                self.control_attr(&branch)
            }
            Place::Control(_) | Place::MountRoot | Place::Link(_) => Err(Errno::PERM),
        }
    }

    /// Permissions are the kernel's to check; what is left is whether the object still exists.
    ///
    /// # Errors
    /// As [`Vfs::attributes`].
    pub fn access(&self, ino: u64) -> Result<(), Errno> {
        self.attributes(ino).map(drop)
    }

    /// Space of the filesystem the store is on.
    ///
    /// # Errors
    /// The store's; ESTALE for an unknown inode or a branch that ended.
    pub fn statfs(&self, ino: u64) -> Result<StatVfs, Errno> {
        match self.place(ino)? {
            Place::MountRoot => self.store.main().statfs().map_err(errno),
            Place::Link(branch) | Place::Control(branch) => self.space_of(&branch),
            Place::Node(known) => self.space_of(&known.branch),
        }
    }

    /// Of a branch with a limit, what is left when nobody has its files open, so far as nobody has.
    fn space_of(&self, branch: &Branch) -> Result<StatVfs, Errno> {
        if branch.quota() != Quota::Unlimited {
            self.kept.let_go(branch.id());
        }
        branch.statfs().map_err(errno)
    }

    fn mount_root_attr(&self) -> Attr {
        let live = self.store.branches();
        let born = live.iter().map(|branch| branch.created()).max().unwrap_or_default();
        let nlink = 2 + u32::try_from(live.len()).unwrap_or(u32::MAX - 2);
        let stat = Stat { nlink, atime: born, mtime: born, ctime: born, ..self.own_stat(Kind::Dir, 0o555) };
        Attr { ino: ino::MOUNT_ROOT, stat, ttl: SHORT, entry_ttl: SHORT }
    }

    pub(super) fn link_attr(&self, branch: &Branch) -> Result<Attr, Errno> {
        let stat =
            Stat { size: branch.name().len() as u64, ..self.branch_stat(branch, Kind::Symlink, 0o777)? };
        Ok(Attr { ino: ino::of_link(branch.id()), stat, ttl: SHORT, entry_ttl: SHORT })
    }

    pub(super) fn control_attr(&self, branch: &Branch) -> Result<Attr, Errno> {
        let stat = self.branch_stat(branch, Kind::File, 0o200)?;
        Ok(Attr { ino: ino::of_control(branch.id()), stat, ttl: FOREVER, entry_ttl: FOREVER })
    }

    fn branch_stat(&self, branch: &Branch, kind: Kind, mode: u32) -> Result<Stat, Errno> {
        if !branch.is_live() {
            return Err(Errno::STALE);
        }
        let born = branch.created();
        Ok(Stat { atime: born, mtime: born, ctime: born, ..self.own_stat(kind, mode) })
    }

    fn own_stat(&self, kind: Kind, mode: u32) -> Stat {
        Stat {
            id: NodeId::ROOT,
            generation: 0,
            owner: Owner::Branch,
            kind,
            mode,
            uid: self.owner.uid,
            gid: self.owner.gid,
            nlink: 1,
            rdev: 0,
            size: 0,
            blocks: 0,
            atime: Default::default(),
            mtime: Default::default(),
            ctime: Default::default(),
        }
    }
}
