//! Where merge and planner found the two sides to meet, and what people are told of it: three versions, and a kind
//! in the field's terms. Reads, changes nothing.

use std::sync::Arc;

use rustix::io::Errno;

use crate::branch::{Shared, View};
use crate::commit::index::Indexed;
use crate::conflict::{Conflict, ConflictKind, Target, Version};
use crate::error::{Error, Result};
use crate::ids::{CommitId, NodeId};
use crate::node::{Body, Fingerprint, Kind, Lower, Object, Slot};

/// A conflict as its finder knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Clash {
    pub(crate) path: Vec<u8>,
    pub(crate) why: Why,
    pub(crate) subject: Subject,
    /// What the branch saw of the base when it first changed the name.
    pub(crate) saw: Option<Arc<Fingerprint>>,
}

/// What of the trees is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// What a name means.
    Name(Slot),
    /// What an object is.
    Object(NodeId),
}

/// What a finder sees, at the name or object that it looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Both sides changed it.
    BothChanged,
    /// The other side made something where this branch did, too.
    BothCreated,
    /// The other side removed or replaced what this branch changed.
    GoneBelow,
    /// The other side made something in a directory that this branch removed.
    CreatedInRemoved,
    /// The other side moved what this branch removed.
    MovedAndRemoved,
    /// The base object is not what the branch first changed.
    BaseEdited,
    /// chattr(1).
    Immutable,
    /// Permissions.
    NotPermitted,
    /// Another filesystem.
    OtherFilesystem,
}

impl Clash {
    pub(crate) fn new(path: Vec<u8>, why: Why, subject: Subject) -> Clash {
        Clash { path, why, subject, saw: None }
    }
}

/// The trees of a commit that cannot proceed.
pub(crate) struct Sides<'a> {
    pub(super) fork: SideView<'a>,
    pub(super) theirs: SideView<'a>,
    pub(super) ours: SideView<'a>,
    pub(super) target: Target,
    pub(super) shared: &'a Shared,
}

/// One tree of them, to be read.
pub(crate) struct SideView<'a> {
    pub(super) view: View<'a>,
    pub(super) indexed: &'a Indexed,
}

/// One side's object.
struct Side {
    id: NodeId,
    version: Version,
}

impl<'a> Sides<'a> {
    /// The trees of a commit into `target`, each over the base as a commit left it: fork, theirs, ours.
    pub(crate) fn new(shared: &'a Shared, target: Target, trees: [(&'a Indexed, CommitId); 3]) -> Sides<'a> {
        let side = |(indexed, epoch): (&'a Indexed, CommitId)| {
            let (base, contents, tree) = (&shared.base, &shared.contents, indexed.tree());
            SideView { view: View { base, contents, tree, epoch }, indexed }
        };
        let [fork, theirs, ours] = trees.map(side);
        Sides { fork, theirs, ours, target, shared }
    }

    /// One of them as data.
    ///
    /// # Errors
    /// The host's.
    pub(crate) fn conflict(&self, clash: &Clash) -> Result<Conflict> {
        let at = |side: &SideView<'_>| self.side(&side.view, &clash.subject);
        let (mut fork, mut theirs, mut ours) = (at(&self.fork)?, at(&self.theirs)?, at(&self.ours)?);
        let named = [&fork, &ours, &theirs].into_iter().flatten().next().map(|side| side.id);
        let mut others = Vec::new();
        let (mut here, mut there) = (false, false);
        if let Some(object) = named {
            let subject = Subject::Object(object);
            let was = self.was_at(object);
            if fork.is_none() {
                fork = self.side(&self.fork.view, &subject)?;
            }
            for (of, side, moved) in
                [(&self.ours, &mut ours, &mut here), (&self.theirs, &mut theirs, &mut there)]
            {
                let Some(path) = was.as_ref().and_then(|was| moved_to(of.indexed, object, was)) else {
                    continue;
                };
                *moved = true;
                others.push(path);
                if side.is_none() {
                    *side = self.side(&of.view, &subject)?;
                }
            }
        }
        if let (Target::Base, false, Some(saw)) = (self.target, there, &clash.saw)
            && let Some(slot) = self.theirs.view.base.find_moved(saw)?
        {
            there = true;
            theirs = self.side(&self.theirs.view, &Subject::Name(slot.clone()))?;
            others.push(self.theirs.view.base.path_of(&slot, self.theirs.view.epoch)?);
        }
        if self.target == Target::Base {
            fork = match clash.why {
                // The view of the base at the fork shows what came later from outside.
                Why::BothCreated | Why::CreatedInRemoved => None,
                _ => self.as_first_seen(clash, named, fork.as_ref()).or(fork),
            };
        }
        let kind = kind(clash.why, [&fork, &ours, &theirs].map(Option::as_ref), here, there);
        if let Some(was) = named.and_then(|object| self.was_at(object)) {
            others.extend(
                self.fork.indexed.path(was.dir).map(|dir| crate::plan::join(&dir, was.name.as_bytes())),
            );
        }
        others.sort();
        others.dedup();
        others.retain(|path| *path != clash.path);
        let version = |side: Option<Side>| side.map(|side| side.version);
        Ok(Conflict {
            path: clash.path.clone(),
            others: if here || there { others } else { Vec::new() },
            kind,
            target: self.target,
            unmerged: None,
            base: version(fork),
            ours: version(ours),
            theirs: version(theirs),
        })
    }

    fn side(&self, view: &View<'_>, subject: &Subject) -> Result<Option<Side>> {
        let found = match subject {
            Subject::Object(id) if *id == NodeId::ROOT => Ok(Object { id: *id, slot: None }),
            Subject::Object(id) if view.tree.get(*id).is_some() => Ok(Object { id: *id, slot: None }),
            Subject::Object(id) => match self.origin_of(*id) {
                Some(slot) => self.named(view, &slot).map(|object| Object { id: *id, ..object }),
                None => Err(Error::Posix(Errno::NOENT)),
            },
            Subject::Name(slot) => self.named(view, slot),
        };
        let stat = found.and_then(|object| Ok((view.stat(&object)?, object)));
        match stat {
            Ok((stat, _)) if stat.nlink == 0 => Ok(None),
            Ok((stat, object)) => {
                let target = match stat.kind {
                    Kind::Symlink => Some(view.read_link(&object)?),
                    _ => None,
                };
                let version = Version {
                    kind: stat.kind,
                    mode: stat.mode,
                    uid: stat.uid,
                    gid: stat.gid,
                    size: (stat.kind == Kind::File).then_some(stat.size),
                    mtime: Some(stat.mtime),
                    target,
                };
                Ok(Some(Side { id: object.id, version }))
            }
            Err(Error::Posix(Errno::NOENT | Errno::STALE | Errno::NOTDIR)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub(super) fn named(&self, view: &View<'_>, slot: &Slot) -> Result<Object> {
        if view.tree.get(slot.dir).is_some_and(|dir| dir.inode.meta.nlink == 0) {
            return Err(Error::Posix(Errno::NOENT));
        }
        view.lookup(slot.dir, slot.name.as_bytes()).map(|(object, _)| object)
    }

    fn origin_of(&self, id: NodeId) -> Option<Slot> {
        [&self.ours, &self.theirs, &self.fork].into_iter().find_map(|side| {
            let origin = side.indexed.tree().get(id)?.inode.origin.as_deref()?;
            origin.slot.clone()
        })
    }

    /// The name an object had at the fork.
    fn was_at(&self, id: NodeId) -> Option<Slot> {
        match self.fork.indexed.tree().get(id) {
            Some(_) => self.fork.indexed.holder(id),
            None => self.origin_of(id),
        }
    }

    /// The base has no copy of itself as it was before somebody edited it: the branch remembers its fingerprint.
    fn as_first_seen(&self, clash: &Clash, named: Option<NodeId>, fork: Option<&Side>) -> Option<Side> {
        let id = named.unwrap_or(NodeId::ROOT);
        let origin = self.ours.indexed.tree().get(id).and_then(|node| node.inode.origin.as_deref());
        let print = match (&clash.subject, clash.saw.as_deref(), origin) {
            (_, Some(saw), _) => *saw,
            (Subject::Object(_), None, Some(origin)) => origin.print,
            _ => return None,
        };
        let then = origin.and_then(|origin| origin.attributes.as_ref());
        let (mode, uid, gid) =
            then.map_or((print.mode, print.uid, print.gid), |then| (then.mode, then.uid, then.gid));
        let unedited = |side: &&Side| side.version.mtime == Some(print.mtime);
        let version = Version {
            kind: print.kind,
            mode,
            uid,
            gid,
            size: (print.kind == Kind::File).then_some(print.size),
            mtime: match then {
                Some(then) => then.mtime,
                None => (print.kind != Kind::Dir).then_some(print.mtime),
            },
            target: fork.filter(unedited).and_then(|side| side.version.target.clone()),
        };
        Some(Side { id, version })
    }
}

/// Sorted, one for a path and kind.
pub(crate) fn in_order(mut conflicts: Vec<Conflict>) -> Vec<Conflict> {
    conflicts.sort_by(|a, b| (&a.path, a.kind).cmp(&(&b.path, b.kind)));
    conflicts.dedup_by(|a, b| (&a.path, a.kind) == (&b.path, b.kind));
    conflicts
}

/// Where a side has an object that was somewhere else.
fn moved_to(side: &Indexed, id: NodeId, was: &Slot) -> Option<Vec<u8>> {
    let tree = side.tree();
    let alive = tree.get(id)?.inode.meta.nlink > 0;
    let stayed = tree.get(was.dir).is_none_or(|dir| match dir.entries.get(&was.name) {
        Some(entry) => entry.child == Some(id),
        // The base's name shows through.
        None => matches!(dir.inode.body, Body::Dir { lower: Lower::Merged, .. }),
    });
    if alive && !stayed { side.path(id) } else { None }
}

/// The kind in the field's terms, from what the finder saw and what the sides have.
fn kind(why: Why, [base, ours, theirs]: [Option<&Side>; 3], here: bool, there: bool) -> ConflictKind {
    let types = ours.zip(theirs).is_some_and(|(ours, theirs)| ours.version.kind != theirs.version.kind);
    match why {
        Why::Immutable => ConflictKind::Immutable,
        Why::NotPermitted => ConflictKind::NotPermitted,
        Why::OtherFilesystem => ConflictKind::OtherFilesystem,
        Why::CreatedInRemoved => ConflictKind::CreatedInRemoved,
        Why::MovedAndRemoved => ConflictKind::DeleteRename,
        _ if here && there => ConflictKind::RenameRename,
        _ if types => ConflictKind::Type,
        Why::BothCreated if base.is_none() => ConflictKind::CreateCreate,
        _ if theirs.is_none() && here => ConflictKind::RenameDelete,
        _ if ours.is_none() && there => ConflictKind::DeleteRename,
        _ if theirs.is_none() && base.is_none() => ConflictKind::RemovedAround,
        _ if theirs.is_none() => ConflictKind::ModifyDelete,
        _ if ours.is_none() => ConflictKind::DeleteModify,
        Why::BothChanged | Why::BothCreated | Why::BaseEdited | Why::GoneBelow => {
            both_changed(base, ours, theirs)
        }
    }
}

fn both_changed(base: Option<&Side>, ours: Option<&Side>, theirs: Option<&Side>) -> ConflictKind {
    let Some(base) = base else { return ConflictKind::CreateCreate };
    let content = |side: Option<&Side>| {
        side.is_some_and(|side| {
            let facts = |version: &Version| (version.size, version.mtime, version.target.clone());
            let dir = side.version.kind == Kind::Dir;
            !dir && (side.id != base.id || facts(&side.version) != facts(&base.version))
        })
    };
    if content(ours) && content(theirs) { ConflictKind::Content } else { ConflictKind::Attributes }
}
