//! Operations on names: link, unlink, rmdir, rename.

use rustix::io::Errno;

use crate::branch::making::{New, check_target, put_new, refuse_existing};
use crate::branch::view::{Look, Meaning};
use crate::branch::{Branch, Draft, Names};
use crate::error::{Error, Result};
use crate::ids::{LINK_MAX, Name, NodeId};
use crate::node::{Body, Kind, Object, Slot, Stat};

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
    /// Gives a file another name.
    ///
    /// # Errors
    /// EPERM for directories, EEXIST, EMLINK, ENOENT, and those of [`Branch::create`].
    pub fn link(&self, object: &Object, dir: &Object, name: &[u8]) -> Result<Stat> {
        self.mutate(|draft| {
            let name = check_target(dir, name)?;
            let look = refuse_existing(draft, dir, &name)?;
            let id = draft.change(object)?;
            draft.change_names(dir, Names::Added)?;
            let inode = &draft.node(id)?.inode;
            match (inode.kind(), inode.meta.nlink) {
                (Kind::Dir, _) => return Err(Error::Posix(Errno::PERM)),
                (_, 0) => return Err(Error::Posix(Errno::NOENT)),
                (_, LINK_MAX..) => return Err(Error::Posix(Errno::MLINK)),
                _ => {}
            }
            draft.set_entry(dir.id, &name, &look, id)?;
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
            let look = draft.view().look(dir.id, name)?;
            let (id, kind) = existing(draft, dir, name, &look)?;
            if kind == Kind::Dir {
                return Err(Error::Posix(Errno::ISDIR));
            }
            draft.clear_entry(dir.id, name, &look)?;
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
            let look = draft.view().look(dir.id, name)?;
            let (id, _) = existing(draft, dir, name, &look)?;
            remove_dir(draft, dir.id, name, &look, id)?;
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
            let (look, to_look) = (draft.view().look(dir.id, name)?, draft.view().look(to.id, &to_name)?);
            if mode != RenameMode::NoReplace && is_same(&look, &to_look) {
                return Ok(Removed { orphan: None });
            }
            let (id, kind) = existing(draft, dir, name, &look)?;
            // Whose names may go may get some, too.
            if to.id != dir.id {
                let how = if to_look.meaning.is_some() { Names::Removed } else { Names::Added };
                draft.change_names(to, how)?;
            }
            let target = adopt_looked(draft, to.id, &to_name, &to_look)?;
            check_rename(draft, (dir.id, id), (to.id, target.map(|(other, _)| other)), mode)?;
            match (mode, target) {
                (RenameMode::Exchange, _) if left.is_some() => Err(Error::Posix(Errno::INVAL)),
                (RenameMode::Exchange, Some((other, _))) => {
                    exchange(draft, (dir.id, name, &look, id), (to.id, &to_name, &to_look, other))?;
                    Ok(Removed { orphan: None })
                }
                (_, target) => {
                    let orphan = match target {
                        Some(other) => clear_target(draft, kind, (to.id, &to_name, &to_look), other)?,
                        None => None,
                    };
                    draft.set_entry(to.id, &to_name, &to_look, id)?;
                    leave(draft, dir.id, name, &look, left)?;
                    moved(draft, id, dir.id, to.id)?;
                    draft.touch(dir.id)?;
                    draft.touch(to.id)?;
                    Ok(Removed { orphan })
                }
            }
        })
    }
}

/// The adopted node behind a name that must exist, in a directory that gets a node, too.
fn existing(draft: &mut Draft<'_>, dir: &Object, name: &[u8], look: &Look) -> Result<(NodeId, Kind)> {
    // Asked first: a name that is not there must not adopt the directory.
    if look.meaning.is_none() {
        return Err(Error::Posix(Errno::NOENT));
    }
    draft.change_names(dir, Names::Removed)?;
    adopt_looked(draft, dir.id, name, look)?.ok_or(Error::Posix(Errno::NOENT))
}

/// The node behind a name that is about to change its meaning.
fn adopt_looked(
    draft: &mut Draft<'_>,
    dir: NodeId,
    name: &[u8],
    look: &Look,
) -> Result<Option<(NodeId, Kind)>> {
    let id = match &look.meaning {
        None => return Ok(None),
        Some(Meaning::Node(id)) => draft.change(&Object { id: *id, slot: None })?,
        Some(Meaning::Base(id, found)) => {
            // Not the other way round: the id is an inode number, and the host may have given that of a
            // directory that is gone to a file.
            debug_assert!(found.print.kind != Kind::Dir || draft.shared.base.places.dir(*id).is_some());
            let slot = Slot { dir, name: Name::trusted(name) };
            draft.change_found(&Object { id: *id, slot: Some(slot) }, found)?
        }
    };
    let kind = draft.node(id)?.inode.kind();
    Ok(Some((id, kind)))
}

/// What a moved object leaves at its old name.
fn leave(draft: &mut Draft<'_>, dir: NodeId, name: &[u8], look: &Look, left: Option<&New>) -> Result<()> {
    match left {
        Some(new) => put_new(draft, dir, name, look, new).map(drop),
        None => draft.clear_entry(dir, name, look),
    }
}

fn remove_dir(draft: &mut Draft<'_>, dir: NodeId, name: &[u8], look: &Look, id: NodeId) -> Result<()> {
    if draft.node(id)?.inode.kind() != Kind::Dir {
        return Err(Error::Posix(Errno::NOTDIR));
    }
    if !draft.view().is_empty_dir(&Object { id, slot: None })? {
        return Err(Error::Posix(Errno::NOTEMPTY));
    }
    draft.clear_entry(dir, name, look)?;
    bury_dir(draft, id)?;
    draft.relink(dir, -1)?;
    Ok(())
}

/// A removed directory stays for those inside it, empty for ever.
fn bury_dir(draft: &mut Draft<'_>, id: NodeId) -> Result<()> {
    let now = draft.now();
    draft.update(id, |inode| {
        inode.lose_names();
        inode.meta.ctime = now;
    })
}

/// Removes what rename is about to replace, if it may be replaced.
fn clear_target(
    draft: &mut Draft<'_>,
    kind: Kind,
    (dir, name, look): (NodeId, &[u8], &Look),
    (target, target_kind): (NodeId, Kind),
) -> Result<Option<NodeId>> {
    match (kind, target_kind) {
        (Kind::Dir, Kind::Dir) => remove_dir(draft, dir, name, look, target).map(|()| Some(target)),
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
    (dir, name, look, id): (NodeId, &[u8], &Look, NodeId),
    (to, to_name, to_look, other): (NodeId, &[u8], &Look, NodeId),
) -> Result<()> {
    draft.set_entry(dir, name, look, other)?;
    draft.set_entry(to, to_name, to_look, id)?;
    moved(draft, id, dir, to)?;
    moved(draft, other, to, dir)?;
    draft.touch(dir)?;
    draft.touch(to)
}

/// Book-keeping of an object that went from one directory to another.
fn moved(draft: &mut Draft<'_>, id: NodeId, from: NodeId, to: NodeId) -> Result<()> {
    let now = draft.now();
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
fn is_same(one: &Look, other: &Look) -> bool {
    let id = |look: &Look| {
        look.meaning.as_ref().map(|meaning| match meaning {
            Meaning::Node(id) | Meaning::Base(id, _) => *id,
        })
    };
    id(one).is_some() && id(one) == id(other)
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
