//! Making objects: create, mkdir, mknod, symlink.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use rustix::io::Errno;

use crate::base::stat_fd;
use crate::branch::draft::check_new_name;
use crate::branch::open_file::{Access, OpenFile};
use crate::branch::view::{Look, stat_known, stat_own};
use crate::branch::{Branch, Draft, Names};
use crate::error::{Error, Result};
use crate::ids::{NodeId, STORE_DIR, SYMLINK_MAX};
use crate::node::{Body, Content, Inode, Kind, Lower, Meta, Object, Slot, Stat, Time, time_of};

/// An object to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct New {
    /// What it is.
    pub kind: NewKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes it is born with: name to value.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Kinds of objects to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewKind {
    /// Empty regular file.
    File,
    /// Empty directory.
    Dir,
    /// Symbolic link with this target.
    Symlink(Vec<u8>),
    /// FIFO, socket or device node.
    Special {
        /// Which.
        kind: Kind,
        /// Device number, `major << 32 | minor`.
        rdev: u64,
    },
}

impl Branch {
    /// Makes an object.
    ///
    /// # Errors
    /// EEXIST, ENOENT, ENOTDIR, ENAMETOOLONG, EROFS, EBUSY, ESTALE, ENOSPC and the host's.
    pub fn create(&self, dir: &Object, name: &[u8], new: New) -> Result<(Object, Stat)> {
        let made = self.mutate(|draft| make(draft, dir, name, &new))?;
        Ok((Object { id: made.id, slot: None }, made.stat))
    }

    /// Makes a regular file with these attributes and opens it.
    ///
    /// # Errors
    /// Those of [`Branch::create`]; EINVAL for any other kind.
    pub fn create_open(
        self: &Arc<Self>,
        dir: &Object,
        name: &[u8],
        new: New,
        access: Access,
    ) -> Result<(OpenFile, Stat)> {
        if new.kind != NewKind::File {
            return Err(Error::Posix(Errno::INVAL));
        }
        let (made, layer, replaced) =
            self.mutate(|draft| Ok((make(draft, dir, name, &new)?, draft.layer, self.replaced())))?;
        let object = Object { id: made.id, slot: None };
        let content = made.content.map(|file| (layer, file));
        Ok((OpenFile::new(self, object, access, content, replaced), made.stat))
    }
}

/// What was made.
pub(super) struct Made {
    id: NodeId,
    stat: Stat,
    /// The bytes of a regular file, open for reading and writing.
    content: Option<File>,
}

fn make(draft: &mut Draft<'_>, dir: &Object, name: &[u8], new: &New) -> Result<Made> {
    let name = check_target(dir, name)?;
    let look = refuse_existing(draft, dir, &name)?;
    draft.change_names(dir, Names::Added)?;
    let made = put_new(draft, dir.id, &name, &look, new)?;
    if new.kind == NewKind::Dir {
        draft.relink(dir.id, 1)?;
    }
    draft.touch(dir.id)?;
    Ok(made)
}

pub(super) fn put_new(
    draft: &mut Draft<'_>,
    dir: NodeId,
    name: &[u8],
    look: &Look,
    new: &New,
) -> Result<Made> {
    let number = || draft.shared.base.allocate_id();
    let (id, inode, content) = match new.kind {
        NewKind::File => {
            let (id, file) = draft.shared.contents.make(draft.layer, new.mode, number)?;
            // Its times are those of the bytes. Looked at, so that the kernel gives the next change a time of its own
            // (see `clock`).
            let stat = stat_fd(&file)?;
            let body = Body::File(Content::Own(draft.layer));
            let meta = new_meta(new, time_of(&stat.stx_ctime));
            (id, Inode { meta, origin: None, body }, Some((file, stat)))
        }
        _ => (number()?, new_inode(draft, dir, new)?, None),
    };
    draft.put(id, inode)?;
    draft.set_entry(dir, name, look, id)?;
    let node = draft.node(id)?;
    let stat = content.as_ref().map_or_else(|| stat_known(id, node), |(_, stat)| stat_own(id, node, stat));
    Ok(Made { id, stat, content: content.map(|(file, _)| file) })
}

/// Anything but a regular file.
fn new_inode(draft: &Draft<'_>, parent: NodeId, new: &New) -> Result<Inode> {
    let body = match &new.kind {
        NewKind::Dir => Body::Dir { parent, lower: Lower::Opaque },
        NewKind::Symlink(target) => {
            if target.is_empty() || target.len() > SYMLINK_MAX {
                return Err(Error::Posix(if target.is_empty() { Errno::NOENT } else { Errno::NAMETOOLONG }));
            }
            Body::Symlink(target.clone())
        }
        NewKind::Special { kind, .. } if !matches!(kind, Kind::File | Kind::Dir | Kind::Symlink) => {
            Body::Special(*kind)
        }
        NewKind::Special { .. } | NewKind::File => return Err(Error::Posix(Errno::INVAL)),
    };
    Ok(Inode { meta: new_meta(new, draft.now()), origin: None, body })
}

fn new_meta(new: &New, now: Time) -> Meta {
    Meta {
        mode: new.mode & 0o7777,
        uid: new.uid,
        gid: new.gid,
        nlink: if new.kind == NewKind::Dir { 2 } else { 1 },
        rdev: if let NewKind::Special { rdev, .. } = new.kind { rdev } else { 0 },
        atime: now,
        mtime: (new.kind != NewKind::File).then_some(now),
        ctime: now,
        xattrs: Arc::new(new.xattrs.clone()),
    }
}

/// The name, if it may be made or replaced: the store's own is nobody's.
pub(super) fn check_target(dir: &Object, name: &[u8]) -> Result<Vec<u8>> {
    let name = check_new_name(name)?;
    if crate::base::is_hidden(&Slot { dir: dir.id, name: name.clone() }) {
        return Err(Error::Posix(Errno::PERM));
    }
    debug_assert!(dir.id != NodeId::ROOT || name.as_bytes() != STORE_DIR.as_bytes());
    Ok(name.as_bytes().to_vec())
}

/// Asked first: that a name is taken is what a caller hears of a directory that cannot be changed, too.
pub(super) fn refuse_existing(draft: &Draft<'_>, dir: &Object, name: &[u8]) -> Result<Look> {
    let look = draft.view().look(dir.id, name)?;
    if look.meaning.is_some() { Err(Error::Posix(Errno::EXIST)) } else { Ok(look) }
}
