//! Operations on names: create, link, unlink, rmdir, rename, reap.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustix::io::Errno;

use crate::branch::draft::check_new_name;
use crate::branch::view::Meaning;
use crate::branch::{Branch, Draft, Names};
use crate::error::{Error, Result};
use crate::ids::{LINK_MAX, Name, NodeId, STORE_DIR, SYMLINK_MAX};
use crate::node::{Body, Content, Inode, Kind, Lower, Meta, Node, Object, Slot, Stat, Time};
use crate::tree::Change;

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

/// What a removal left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "an orphan lives until it is reaped"]
pub struct Removed {
    /// The object whose last link is gone. It lives, for those who have it open, until [`Branch::reap`].
    pub orphan: Option<NodeId>,
}

/// What rename does with an existing target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameMode {
    /// Replace it.
    Replace,
    /// Refuse with EEXIST.
    NoReplace,
    /// Swap the two.
    Exchange,
}

impl Branch {
    /// Makes an object.
    ///
    /// # Errors
    /// EEXIST, ENOENT, ENOTDIR, ENAMETOOLONG, EROFS, EBUSY, ESTALE, ENOSPC and the host's.
    pub fn create(&self, dir: &Object, name: &[u8], new: New) -> Result<(Object, Stat)> {
        self.mutate(|draft| {
            let name = check_target(dir, name)?;
            refuse_existing(draft, dir, &name)?;
            draft.change_names(dir, Names::Added)?;
            let id = put_new(draft, dir.id, &name, &new)?;
            if new.kind == NewKind::Dir {
                draft.relink(dir.id, 1)?;
            }
            draft.touch(dir.id)?;
            let object = Object { id, slot: None };
            let stat = draft.view().stat(&object)?;
            Ok((object, stat))
        })
    }

    /// Gives a file another name.
    ///
    /// # Errors
    /// EPERM for directories, EEXIST, EMLINK, ENOENT, and those of [`Branch::create`].
    pub fn link(&self, object: &Object, dir: &Object, name: &[u8]) -> Result<Stat> {
        self.mutate(|draft| {
            let name = check_target(dir, name)?;
            refuse_existing(draft, dir, &name)?;
            let id = draft.change(object)?;
            draft.change_names(dir, Names::Added)?;
            let inode = &draft.node(id)?.inode;
            match (inode.kind(), inode.meta.nlink) {
                (Kind::Dir, _) => return Err(Error::Posix(Errno::PERM)),
                (_, 0) => return Err(Error::Posix(Errno::NOENT)),
                (_, LINK_MAX..) => return Err(Error::Posix(Errno::MLINK)),
                _ => {}
            }
            draft.set_entry(dir.id, &name, id)?;
            draft.relink(id, 1)?;
            draft.touch(dir.id)?;
            draft.view().stat(&Object { id, slot: None })
        })
    }

    /// Removes a name of anything but a directory.
    ///
    /// # Errors
    /// ENOENT, EISDIR, and those of [`Branch::create`].
    pub fn unlink(&self, dir: &Object, name: &[u8]) -> Result<Removed> {
        self.mutate(|draft| {
            let (id, kind) = existing(draft, dir, name)?;
            if kind == Kind::Dir {
                return Err(Error::Posix(Errno::ISDIR));
            }
            draft.clear_entry(dir.id, name)?;
            let nlink = draft.relink(id, -1)?;
            draft.touch(dir.id)?;
            Ok(Removed { orphan: (nlink == 0).then_some(id) })
        })
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// ENOTEMPTY, ENOTDIR, ENOENT, and those of [`Branch::create`].
    pub fn rmdir(&self, dir: &Object, name: &[u8]) -> Result<Removed> {
        self.mutate(|draft| {
            let (id, _) = existing(draft, dir, name)?;
            remove_dir(draft, dir.id, name, id)?;
            draft.touch(dir.id)?;
            Ok(Removed { orphan: Some(id) })
        })
    }

    /// Moves a name.
    ///
    /// # Errors
    /// Those of rename(2).
    pub fn rename(
        &self,
        dir: &Object,
        name: &[u8],
        to: &Object,
        to_name: &[u8],
        mode: RenameMode,
    ) -> Result<Removed> {
        self.rename_leaving(dir, name, to, to_name, mode, None)
    }

    /// Moves a name and has the old one mean a new object in the same step: RENAME_WHITEOUT's device 0:0.
    ///
    /// # Errors
    /// Those of rename(2); EINVAL for an exchange, which leaves no old name.
    pub fn rename_leaving(
        &self,
        dir: &Object,
        name: &[u8],
        to: &Object,
        to_name: &[u8],
        mode: RenameMode,
        left: Option<&New>,
    ) -> Result<Removed> {
        self.mutate(|draft| {
            let to_name = check_target(to, to_name)?;
            if mode != RenameMode::NoReplace && is_same(draft, (dir, name), (to, &to_name))? {
                return Ok(Removed { orphan: None });
            }
            let (id, kind) = existing(draft, dir, name)?;
            draft.change_names(to, Names::Added)?;
            let target = adopt_found(draft, to.id, &to_name)?;
            if target.is_some() {
                draft.change_names(to, Names::Removed)?;
            }
            check_rename(draft, (dir.id, id), (to.id, target.map(|(other, _)| other)), mode)?;
            match (mode, target) {
                (RenameMode::Exchange, _) if left.is_some() => Err(Error::Posix(Errno::INVAL)),
                (RenameMode::Exchange, Some((other, _))) => {
                    exchange(draft, (dir.id, name, id), (to.id, &to_name, other))?;
                    Ok(Removed { orphan: None })
                }
                (_, target) => {
                    let orphan = match target {
                        Some((other, other_kind)) => {
                            clear_target(draft, kind, to.id, &to_name, other, other_kind)?
                        }
                        None => None,
                    };
                    draft.set_entry(to.id, &to_name, id)?;
                    leave(draft, dir.id, name, left)?;
                    moved(draft, id, dir.id, to.id)?;
                    draft.touch(dir.id)?;
                    draft.touch(to.id)?;
                    Ok(Removed { orphan })
                }
            }
        })
    }

    /// Forgets an orphan once nobody has it open or looked up. No effect on anything that has a link, nor on what a
    /// commit still has to know.
    ///
    /// # Errors
    /// The host's.
    pub fn reap(&self, id: NodeId) -> Result<()> {
        let stays = |node: &Node| node.inode.meta.nlink > 0 || node.is_grave();
        if !self.is_live() || self.data.read().tree.get(id).is_none_or(|node| stays(node)) {
            return Ok(());
        }
        let own = self.mutate_nameless(|draft| {
            let Ok(node) = draft.node(id) else { return Ok(None) };
            if stays(node) {
                return Ok(None);
            }
            let own = match node.inode.body {
                Body::File(Content::Own(layer)) if layer == draft.layer => Some(layer),
                _ => None,
            };
            draft.push(Change::Drop { id })?;
            Ok(own)
        })?;
        match own {
            Some(layer) => self.shared.discard_content(layer, id),
            None => Ok(()),
        }
    }
}

/// The name, if it may be made or replaced: the store's own is nobody's.
fn check_target(dir: &Object, name: &[u8]) -> Result<Vec<u8>> {
    let name = check_new_name(name)?;
    if crate::base::is_hidden(&Slot { dir: dir.id, name: name.clone() }) {
        return Err(Error::Posix(Errno::PERM));
    }
    debug_assert!(dir.id != NodeId::ROOT || name.as_bytes() != STORE_DIR.as_bytes());
    Ok(name.as_bytes().to_vec())
}

/// Asked first: that a name is taken is what a caller hears of a directory that cannot be changed, too.
fn refuse_existing(draft: &Draft<'_>, dir: &Object, name: &[u8]) -> Result<()> {
    if draft.view().find(dir.id, name)?.is_some() { Err(Error::Posix(Errno::EXIST)) } else { Ok(()) }
}

/// The adopted node behind a name that must exist, in a directory that gets a node, too.
fn existing(draft: &mut Draft<'_>, dir: &Object, name: &[u8]) -> Result<(NodeId, Kind)> {
    // Looked up first: a name that is not there must not adopt the directory.
    if draft.view().find(dir.id, name)?.is_none() {
        return Err(Error::Posix(Errno::NOENT));
    }
    draft.change_names(dir, Names::Removed)?;
    adopt_found(draft, dir.id, name)?.ok_or(Error::Posix(Errno::NOENT))
}

/// The node behind a name that is about to change its meaning.
fn adopt_found(draft: &mut Draft<'_>, dir: NodeId, name: &[u8]) -> Result<Option<(NodeId, Kind)>> {
    let object = match draft.view().find(dir, name)? {
        None => return Ok(None),
        Some(Meaning::Node(id)) => Object { id, slot: None },
        Some(Meaning::Base(id, found)) => {
            // Not the other way round: the id is an inode number, and the host may have given that of a
            // directory that is gone to a file.
            debug_assert!(found.print.kind != Kind::Dir || draft.shared.base.places.dir(id).is_some());
            Object { id, slot: Some(Slot { dir, name: Name::trusted(name) }) }
        }
    };
    let id = draft.change(&object)?;
    let kind = draft.node(id)?.inode.kind();
    Ok(Some((id, kind)))
}

fn put_new(draft: &mut Draft<'_>, dir: NodeId, name: &[u8], new: &New) -> Result<NodeId> {
    let id = draft.shared.base.allocate_id()?;
    let inode = new_inode(draft, dir, id, new)?;
    draft.put(id, inode)?;
    draft.set_entry(dir, name, id)?;
    Ok(id)
}

/// What a moved object leaves at its old name.
fn leave(draft: &mut Draft<'_>, dir: NodeId, name: &[u8], left: Option<&New>) -> Result<()> {
    match left {
        Some(new) => put_new(draft, dir, name, new).map(drop),
        None => draft.clear_entry(dir, name),
    }
}

fn new_inode(draft: &Draft<'_>, parent: NodeId, id: NodeId, new: &New) -> Result<Inode> {
    let now = Time::now();
    let (body, nlink, rdev) = match &new.kind {
        NewKind::File => {
            draft.shared.contents.create(draft.layer, id, new.mode)?;
            (Body::File(Content::Own(draft.layer)), 1, 0)
        }
        NewKind::Dir => (Body::Dir { parent, lower: Lower::Opaque }, 2, 0),
        NewKind::Symlink(target) => {
            if target.is_empty() || target.len() > SYMLINK_MAX {
                return Err(Error::Posix(if target.is_empty() { Errno::NOENT } else { Errno::NAMETOOLONG }));
            }
            (Body::Symlink(target.clone()), 1, 0)
        }
        NewKind::Special { kind, rdev } => {
            if matches!(kind, Kind::File | Kind::Dir | Kind::Symlink) {
                return Err(Error::Posix(Errno::INVAL));
            }
            (Body::Special(*kind), 1, *rdev)
        }
    };
    let mtime = if new.kind == NewKind::File { None } else { Some(now) };
    let meta = Meta {
        mode: new.mode & 0o7777,
        uid: new.uid,
        gid: new.gid,
        nlink,
        rdev,
        atime: now,
        mtime,
        ctime: now,
        xattrs: Arc::new(new.xattrs.clone()),
    };
    Ok(Inode { meta, origin: None, body })
}

fn remove_dir(draft: &mut Draft<'_>, dir: NodeId, name: &[u8], id: NodeId) -> Result<()> {
    if draft.node(id)?.inode.kind() != Kind::Dir {
        return Err(Error::Posix(Errno::NOTDIR));
    }
    if !draft.view().is_empty_dir(&Object { id, slot: None })? {
        return Err(Error::Posix(Errno::NOTEMPTY));
    }
    draft.clear_entry(dir, name)?;
    bury_dir(draft, id)?;
    draft.relink(dir, -1)?;
    Ok(())
}

/// A removed directory stays for those inside it, empty for ever.
fn bury_dir(draft: &mut Draft<'_>, id: NodeId) -> Result<()> {
    let now = Time::now();
    draft.update(id, |inode| {
        inode.lose_names();
        inode.meta.ctime = now;
    })
}

/// Removes what rename is about to replace, if it may be replaced.
fn clear_target(
    draft: &mut Draft<'_>,
    kind: Kind,
    dir: NodeId,
    name: &[u8],
    target: NodeId,
    target_kind: Kind,
) -> Result<Option<NodeId>> {
    match (kind, target_kind) {
        (Kind::Dir, Kind::Dir) => remove_dir(draft, dir, name, target).map(|()| Some(target)),
        (Kind::Dir, _) => Err(Error::Posix(Errno::NOTDIR)),
        (_, Kind::Dir) => Err(Error::Posix(Errno::ISDIR)),
        _ => {
            let nlink = draft.relink(target, -1)?;
            Ok((nlink == 0).then_some(target))
        }
    }
}

fn exchange(
    draft: &mut Draft<'_>,
    (dir, name, id): (NodeId, &[u8], NodeId),
    (to, to_name, other): (NodeId, &[u8], NodeId),
) -> Result<()> {
    draft.set_entry(dir, name, other)?;
    draft.set_entry(to, to_name, id)?;
    moved(draft, id, dir, to)?;
    moved(draft, other, to, dir)?;
    draft.touch(dir)?;
    draft.touch(to)
}

/// Book-keeping of an object that went from one directory to another.
fn moved(draft: &mut Draft<'_>, id: NodeId, from: NodeId, to: NodeId) -> Result<()> {
    let now = Time::now();
    draft.update(id, |inode| {
        inode.meta.ctime = now;
        if let Body::Dir { parent, .. } = &mut inode.body {
            *parent = to;
        }
    })?;
    if from != to && draft.node(id)?.inode.kind() == Kind::Dir {
        draft.relink(from, -1)?;
        draft.relink(to, 1)?;
    }
    Ok(())
}

/// Whether two names mean one object: then rename(2) does nothing. Asked before anything gets a node.
fn is_same(draft: &Draft<'_>, one: (&Object, &[u8]), other: (&Object, &[u8])) -> Result<bool> {
    let id = |(dir, name): (&Object, &[u8])| -> Result<Option<NodeId>> {
        Ok(draft.view().find(dir.id, name)?.map(|meaning| match meaning {
            Meaning::Node(id) | Meaning::Base(id, _) => id,
        }))
    };
    Ok(id(one)?.is_some_and(|found| id(other).is_ok_and(|other| other == Some(found))))
}

/// What rename(2) refuses whatever the kinds, in Linux's order.
fn check_rename(
    draft: &Draft<'_>,
    (dir, id): (NodeId, NodeId),
    (to, target): (NodeId, Option<NodeId>),
    mode: RenameMode,
) -> Result<()> {
    match (mode, target) {
        (RenameMode::NoReplace, Some(_)) => return Err(Error::Posix(Errno::EXIST)),
        (RenameMode::Exchange, None) => return Err(Error::Posix(Errno::NOENT)),
        _ => {}
    }
    refuse_below(draft, id, to, Errno::INVAL)?;
    let Some(target) = target else { return Ok(()) };
    let nested = if mode == RenameMode::Exchange { Errno::INVAL } else { Errno::NOTEMPTY };
    refuse_below(draft, target, dir, nested)
}

/// Refuses a rename for which one directory must not lie at or below the other.
fn refuse_below(draft: &Draft<'_>, top: NodeId, dir: NodeId, refusal: Errno) -> Result<()> {
    let mut at = dir;
    loop {
        if at == top {
            return Err(Error::Posix(refusal));
        }
        match &draft.node(at)?.inode.body {
            Body::Dir { parent, .. } if *parent != at => at = *parent,
            _ => return Ok(()),
        }
    }
}
