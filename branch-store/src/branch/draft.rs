//! A change in the making: steps are applied to a private clone of the tree as they are collected, so that
//! later steps of the same operation see earlier ones, and an error leaves nothing behind.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::sync::Arc;

use rustix::io::Errno;

use crate::base::places::DEPTH_MAX;
use crate::base::{Found, Guard};
use crate::branch::view::{Look, lower_of};
use crate::branch::{Data, Shared, View};
use crate::error::{Error, Result};
use crate::ids::{BranchId, CommitId, LayerId, NAME_MAX, Name, NodeId};
use crate::journal::record::{DirPlace, Record};
use crate::node::{
    Body, Content, Entry, Fingerprint, Inode, Kind, Lender, Lower, Node, Object, Origin, Slot, Time,
};
use crate::tree::{Change, Tree};

/// What happens to the names in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// Some are new.
    Added,
    /// Some go, or get another meaning.
    Removed,
}

pub(crate) struct Draft<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) layer: LayerId,
    epoch: CommitId,
    tree: Tree,
    changes: Vec<Change>,
    dirs: Vec<DirPlace>,
    copied: Vec<(LayerId, NodeId)>,
    lent: Vec<(LayerId, NodeId, Lender)>,
    /// Directories that `dirs` speaks of.
    placed: HashSet<NodeId>,
    /// When it happens, once somebody asked.
    stamp: OnceCell<Time>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(shared: &'a Shared, data: &Data) -> Draft<'a> {
        Draft {
            shared,
            layer: data.layer,
            epoch: data.epoch,
            tree: data.tree.clone(),
            changes: Vec::new(),
            dirs: Vec::new(),
            copied: Vec::new(),
            lent: Vec::new(),
            placed: HashSet::new(),
            stamp: OnceCell::new(),
        }
    }

    /// The tree, and the record of how it came about, if it did.
    pub(crate) fn finish(self, branch: BranchId) -> (Tree, Option<Record>) {
        let Draft { tree, changes, dirs, copied, lent, .. } = self;
        let changed = !changes.is_empty();
        (tree, changed.then_some(Record::Batch { branch, changes, dirs, copied, lent }))
    }

    /// The time of the whole change: not before any stamp that was seen when it was first asked for.
    pub(crate) fn now(&self) -> Time {
        *self.stamp.get_or_init(Time::now)
    }

    /// The change relies on bytes that were copied and are not durable.
    pub(crate) fn note_copied(&mut self, layer: LayerId, id: NodeId) {
        self.copied.push((layer, id));
    }

    /// A copy of which only what is written will be there.
    pub(crate) fn note_lent(&mut self, layer: LayerId, id: NodeId, lender: Lender) {
        self.lent.push((layer, id, lender));
    }

    pub(crate) fn view(&self) -> View<'_> {
        View { base: &self.shared.base, contents: &self.shared.contents, tree: &self.tree, epoch: self.epoch }
    }

    pub(crate) fn push(&mut self, change: Change) -> Result<()> {
        if let Err(cause) = self.tree.apply(&change) {
            debug_assert!(false, "{cause}: {change:?}");
            return Err(Error::Corrupt { file: "tree".to_owned(), offset: 0, cause: cause.to_owned() });
        }
        self.changes.push(change);
        Ok(())
    }

    pub(crate) fn node(&self, id: NodeId) -> Result<&Arc<Node>> {
        self.tree.get(id).ok_or(Error::Posix(Errno::STALE))
    }

    pub(crate) fn put(&mut self, id: NodeId, inode: Inode) -> Result<()> {
        self.push(Change::Put { id, inode: Box::new(inode) })
    }

    /// Changes the inode of a node that the tree has.
    pub(crate) fn update(&mut self, id: NodeId, f: impl FnOnce(&mut Inode)) -> Result<()> {
        let mut inode = self.node(id)?.inode.clone();
        f(&mut inode);
        self.put(id, inode)
    }

    /// Gives an object that is about to change a node.
    ///
    /// # Errors
    /// EPERM for what the base holds immutable or append-only: a commit would have to replace it.
    pub(crate) fn change(&mut self, object: &Object) -> Result<NodeId> {
        if self.tree.get(object.id).is_none() {
            let found = self.view().found(object)?;
            return self.change_found(object, &found);
        }
        match self.view().guard(object)? {
            Guard::None => Ok(object.id),
            Guard::AppendOnly | Guard::Immutable => Err(Error::Posix(Errno::PERM)),
        }
    }

    /// The same for what the base was just found to have.
    ///
    /// # Errors
    /// Those of [`Draft::change`].
    pub(crate) fn change_found(&mut self, object: &Object, found: &Found) -> Result<NodeId> {
        match found.guard() {
            Guard::None => self.adopt_as(object, Some(found)),
            Guard::AppendOnly | Guard::Immutable => Err(Error::Posix(Errno::PERM)),
        }
    }

    /// Gives a directory whose names are about to change a node.
    ///
    /// # Errors
    /// ENOTDIR, ENOENT for one that was removed, EPERM as of an immutable or append-only one.
    pub(crate) fn change_names(&mut self, dir: &Object, how: Names) -> Result<()> {
        let found = match self.tree.get(dir.id) {
            Some(_) => None,
            None => Some(self.view().found(dir)?),
        };
        let guard = found.as_ref().map_or_else(|| self.view().guard(dir), |found| Ok(found.guard()))?;
        match (guard, how) {
            (Guard::None, _) | (Guard::AppendOnly, Names::Added) => {}
            (Guard::AppendOnly | Guard::Immutable, _) => return Err(Error::Posix(Errno::PERM)),
        }
        self.adopt_as(dir, found.as_ref())?;
        self.check_dir(dir.id)
    }

    /// Gives a base object, and the directories above it, a node.
    pub(crate) fn adopt(&mut self, object: &Object) -> Result<NodeId> {
        self.adopt_as(object, None)
    }

    /// The same for an object that was just looked at.
    fn adopt_as(&mut self, object: &Object, found: Option<&Found>) -> Result<NodeId> {
        // From the object up to what the tree has, then down again: a loop, as the stack is not as deep as a tree
        // of directories can be.
        let mut wanted = vec![object.clone()];
        while let Some(lowest) = wanted.last().filter(|lowest| self.tree.get(lowest.id).is_none())
            && lowest.id != NodeId::ROOT
        {
            let above = self.view().slot_of(lowest)?.dir;
            wanted.push(Object { id: above, slot: None });
            if wanted.len() > DEPTH_MAX {
                return Err(Error::Posix(Errno::LOOP));
            }
        }
        while let Some(object) = wanted.pop() {
            self.adopt_below(&object, found.filter(|_| wanted.is_empty()))?;
        }
        Ok(object.id)
    }

    /// Gives an object a node whose directory has one.
    fn adopt_below(&mut self, object: &Object, found: Option<&Found>) -> Result<NodeId> {
        if self.tree.get(object.id).is_some() {
            return Ok(object.id);
        }
        if object.id == NodeId::ROOT {
            return self.adopt_root();
        }
        let view = self.view();
        let found = found.map_or_else(|| view.found(object), |found| Ok(found.clone()))?;
        let slot = view.slot_of(object)?;
        let inode = adopted(self.shared, &found, &slot)?;
        self.check_dir(slot.dir)?;
        let above = self.node(slot.dir)?;
        if above.entries.contains_key(&slot.name) || lower_of(above)? == Lower::Opaque {
            // The name means something else, or nothing, by now: an object from before that.
            return Err(Error::Posix(Errno::STALE));
        }
        if inode.kind() == Kind::Dir {
            self.record_dir(object.id, &found.place, found.print);
        }
        self.put(object.id, inode)?;
        let print = Arc::new(found.seen_print());
        let entry = Entry { child: Some(object.id), over: Some(print) };
        self.push(Change::Link { dir: slot.dir, name: slot.name, entry })?;
        Ok(object.id)
    }

    /// Gives a file of the base a node without a name: the tree means something else by the name that it had, and
    /// somebody has it open.
    pub(crate) fn adopt_nameless(&mut self, id: NodeId, slot: &Slot, print: &Fingerprint) -> Result<()> {
        let found = self.shared.base.resolve(slot, self.epoch)?;
        let Some(found) = found.filter(|found| found.print.same_object(print)) else { return Ok(()) };
        let mut inode = adopted(self.shared, &found, slot)?;
        inode.meta.nlink = 0;
        self.put(id, inode)
    }

    fn adopt_root(&mut self) -> Result<NodeId> {
        let found = self.shared.base.resolve_root(self.epoch)?;
        let xattrs = self.shared.base.xattrs(&found, true)?;
        let body = Body::Dir { parent: NodeId::ROOT, lower: Lower::Merged };
        let meta = found.meta(xattrs);
        let attributes = Some(meta.attributes());
        let origin = Arc::new(Origin { print: found.print, slot: None, attributes });
        let inode = Inode { meta, origin: Some(origin), body };
        self.put(NodeId::ROOT, inode)?;
        Ok(NodeId::ROOT)
    }

    /// It must be a directory, and still linked.
    fn check_dir(&self, dir: NodeId) -> Result<()> {
        let node = self.node(dir)?;
        if !matches!(node.inode.body, Body::Dir { .. }) {
            return Err(Error::Posix(Errno::NOTDIR));
        }
        if node.inode.meta.nlink == 0 {
            return Err(Error::Posix(Errno::NOENT));
        }
        Ok(())
    }

    /// The journal must know where a base directory is that the tree refers to, and those above it.
    fn record_dir(&mut self, id: NodeId, place: &Slot, object: Fingerprint) {
        self.placed.insert(id);
        self.dirs.push(DirPlace { id, slot: place.clone(), object });
        let mut above = place.dir;
        // What one draft has said already, it has said of all above it.
        while self.placed.insert(above)
            && let Some((slot, object)) = self.shared.base.places.dir(above)
        {
            self.dirs.push(DirPlace { id: above, slot: slot.clone(), object });
            above = slot.dir;
        }
    }

    /// What a name meant in the base when the branch first changed it: now, if the directory has no entry for it.
    fn over(&self, dir: NodeId, name: &[u8], look: &Look) -> Result<Option<Arc<Fingerprint>>> {
        let node = self.node(dir)?;
        if let Some(entry) = node.entries.get(name) {
            return Ok(entry.over.clone());
        }
        match lower_of(node)? {
            Lower::Opaque => Ok(None),
            Lower::Merged => Ok(look.below.map(Arc::new)),
        }
    }

    /// Makes a name mean `child`; `look`: what was found under it before. The directory has a node.
    pub(crate) fn set_entry(&mut self, dir: NodeId, name: &[u8], look: &Look, child: NodeId) -> Result<()> {
        let over = self.over(dir, name, look)?;
        let entry = Entry { child: Some(child), over };
        self.push(Change::Link { dir, name: Name::trusted(name), entry })
    }

    /// Makes a name mean nothing: a whiteout where the base has it, else no entry at all.
    pub(crate) fn clear_entry(&mut self, dir: NodeId, name: &[u8], look: &Look) -> Result<()> {
        let name = Name::trusted(name);
        match self.over(dir, name.as_bytes(), look)? {
            Some(over) => {
                let entry = Entry { child: None, over: Some(over) };
                self.push(Change::Link { dir, name, entry })
            }
            None => self.push(Change::Unlink { dir, name }),
        }
    }

    /// An entry of the directory changed now.
    pub(crate) fn touch(&mut self, dir: NodeId) -> Result<()> {
        self.push(Change::Touch { dir, time: self.now() })
    }

    /// One link more or less. Directories on filesystems that count none stay at 1.
    pub(crate) fn relink(&mut self, id: NodeId, delta: i32) -> Result<u32> {
        let now = self.now();
        self.update(id, |inode| {
            let uncounted = inode.kind() == Kind::Dir && inode.meta.nlink == 1;
            if !uncounted {
                inode.meta.nlink = inode.meta.nlink.saturating_add_signed(delta);
            }
            inode.meta.ctime = now;
        })?;
        Ok(self.node(id)?.inode.meta.nlink)
    }
}

/// What a base object is as a node.
fn adopted(shared: &Shared, found: &Found, slot: &Slot) -> Result<Inode> {
    let dir = found.print.kind == Kind::Dir;
    let body = match found.print.kind {
        Kind::File => Body::File(Content::Base(slot.clone())),
        Kind::Dir => Body::Dir { parent: slot.dir, lower: Lower::Merged },
        Kind::Symlink => Body::Symlink(shared.base.read_link(found)?),
        kind => Body::Special(kind),
    };
    let mut meta = found.meta(shared.base.xattrs(found, false)?);
    meta.nlink = meta.nlink.max(1);
    let attributes = dir.then(|| meta.attributes());
    let origin = Origin { print: found.seen_print(), slot: Some(slot.clone()), attributes };
    Ok(Inode { meta, origin: Some(Arc::new(origin)), body })
}

pub(crate) fn check_new_name(name: &[u8]) -> Result<Name> {
    if name.len() > NAME_MAX {
        return Err(Error::Posix(Errno::NAMETOOLONG));
    }
    if !Name::is_valid(name) {
        return Err(Error::Posix(Errno::INVAL));
    }
    Ok(Name::trusted(name))
}
