//! Reading a tree over the base at an epoch. Pure lookups: nothing here changes anything.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{OFlags, Statx};
use rustix::io::Errno;

use crate::base::{Base, Found, Guard, Listed, stat_fd};
use crate::content::Contents;
use crate::error::{Error, Result};
use crate::ids::{CommitId, NAME_MAX, Name, NodeId};
use crate::node::{
    Body, Content, DirEntry, Fingerprint, Kind, Lower, Node, Object, Owner, Slot, Stat, generation, time_of,
};
use crate::tree::Tree;

/// One picture of a branch.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) base: &'a Base,
    pub(crate) contents: &'a Contents,
    pub(crate) tree: &'a Tree,
    pub(crate) epoch: CommitId,
}

/// What one look at a name found.
pub(crate) struct Look {
    /// `None`: nothing.
    pub(crate) meaning: Option<Meaning>,
    /// What the base has there, where the directory has no entry that says so.
    pub(crate) below: Option<Fingerprint>,
}

/// What a name means.
pub(crate) enum Meaning {
    /// A node of the tree.
    Node(NodeId),
    /// A base object without a node.
    Base(NodeId, Box<Found>),
}

impl View<'_> {
    pub(crate) fn lookup(&self, dir: NodeId, name: &[u8]) -> Result<(Object, Stat)> {
        match self.find(dir, name)? {
            Some(Meaning::Node(id)) => {
                let object = self.own_object(id);
                let stat = self.stat(&object)?;
                Ok((object, stat))
            }
            Some(Meaning::Base(id, found)) => {
                let slot = Slot { dir, name: Name::trusted(name) };
                Ok((Object { id, slot: Some(slot) }, found.stat(id)))
            }
            None => Err(Error::Posix(Errno::NOENT)),
        }
    }

    /// What a name in a directory means; `None`: nothing.
    fn find(&self, dir: NodeId, name: &[u8]) -> Result<Option<Meaning>> {
        Ok(self.look(dir, name)?.meaning)
    }

    /// What a name in a directory means, and what whoever changes it has to know of it: the host is asked once at most.
    pub(crate) fn look(&self, dir: NodeId, name: &[u8]) -> Result<Look> {
        let told = |meaning| Look { meaning, below: None };
        if name.len() > NAME_MAX {
            return Err(Error::Posix(Errno::NAMETOOLONG));
        }
        if !Name::is_valid(name) {
            return Err(Error::Posix(Errno::INVAL));
        }
        if let Some(node) = self.tree.get(dir) {
            let lower = lower_of(node)?;
            match node.entries.get(name) {
                Some(entry) => return Ok(told(entry.child.map(Meaning::Node))),
                None if lower == Lower::Opaque => return Ok(told(None)),
                None => {}
            }
        }
        self.look_in_base(dir, name)
    }

    /// An object with a node, and where the base has what it was adopted from: a restore may take the node away.
    fn own_object(&self, id: NodeId) -> Object {
        let origin = self.tree.get(id).and_then(|node| node.inode.origin.as_deref());
        Object { id, slot: origin.and_then(|origin| origin.slot.clone()) }
    }

    /// The same as if the tree had no entry for it.
    pub(crate) fn look_in_base(&self, dir: NodeId, name: &[u8]) -> Result<Look> {
        let slot = Slot { dir, name: Name::trusted(name) };
        let Some(found) = self.base.resolve(&slot, self.epoch)? else {
            return Ok(Look { meaning: None, below: None });
        };
        let below = Some(found.seen_print());
        let id = self.base.id_of(&found.print, self.tree)?;
        if self.tree.get(id).is_some() {
            return Ok(Look { meaning: Some(Meaning::Node(id)), below });
        }
        self.note_dir(id, &found);
        Ok(Look { meaning: Some(Meaning::Base(id, Box::new(found))), below })
    }

    fn note_dir(&self, id: NodeId, found: &Found) {
        if found.print.kind == Kind::Dir {
            self.base.places.note_dir(id, &found.place, found.print);
        }
    }

    pub(crate) fn stat(&self, object: &Object) -> Result<Stat> {
        match self.tree.get(object.id) {
            Some(node) => self.stat_node(object.id, node),
            None => Ok(self.found(object)?.stat(object.id)),
        }
    }

    /// The base object behind an object that has no node.
    pub(crate) fn found(&self, object: &Object) -> Result<Found> {
        if object.id == NodeId::ROOT {
            return self.base.resolve_root(self.epoch);
        }
        let slot = self.slot_of(object)?;
        let found = self.base.resolve(&slot, self.epoch)?.ok_or(Error::Posix(Errno::STALE))?;
        if self.base.id_of(&found.print, self.tree)? != object.id {
            return Err(Error::Posix(Errno::STALE));
        }
        self.note_dir(object.id, &found);
        Ok(found)
    }

    /// What the base forbids to do to an object. What the branch has a copy of, or made, it may change.
    pub(crate) fn guard(&self, object: &Object) -> Result<Guard> {
        let Some(node) = self.tree.get(object.id) else { return Ok(self.found(object)?.guard()) };
        match &node.inode.body {
            Body::File(Content::Base(slot)) => {
                Ok(self.base.resolve(slot, self.epoch)?.map_or(Guard::None, |found| found.guard()))
            }
            Body::Dir { lower: Lower::Merged, .. } => match self.base.places.open(object.id) {
                Ok(dir) => Ok(Guard::of(&stat_fd(&*dir)?)),
                // Gone from the base: a commit will say so.
                Err(Errno::STALE | Errno::NOENT) => Ok(Guard::None),
                Err(e) => Err(e.into()),
            },
            _ => Ok(Guard::None),
        }
    }

    /// The base name an object without a node has in this view. Directories are also known by id alone.
    pub(crate) fn slot_of(&self, object: &Object) -> Result<Slot> {
        match &object.slot {
            Some(slot) => Ok(slot.clone()),
            None => self.base.dir_slot(object.id, self.epoch),
        }
    }

    fn stat_node(&self, id: NodeId, node: &Node) -> Result<Stat> {
        match &node.inode.body {
            Body::File(Content::Own(layer)) => {
                let mut stat = stat_own(id, node, &self.contents.stat(*layer, id)?);
                // What it borrows is no hole.
                let borrowed = self.contents.loan(*layer, id).map_or(0, |loan| loan.missing());
                stat.blocks += borrowed.div_ceil(512);
                Ok(stat)
            }
            Body::File(Content::Base(slot)) => {
                let found = self.base.resolve(slot, self.epoch)?.ok_or(Error::Posix(Errno::STALE))?;
                let Stat { size, blocks, .. } = found.stat(id);
                // The bytes of the base may be edited from outside.
                Ok(Stat { size, blocks, owner: Owner::Elsewhere, ..stat_known(id, node) })
            }
            Body::Dir { .. } | Body::Symlink(_) | Body::Special(_) => Ok(stat_known(id, node)),
        }
    }

    pub(crate) fn read_dir(&self, dir: &Object) -> Result<Vec<DirEntry>> {
        let node = self.tree.get(dir.id);
        let merged = match node {
            Some(node) => lower_of(node)? == Lower::Merged,
            None => {
                if dir.id != NodeId::ROOT && self.found(dir)?.print.kind != Kind::Dir {
                    return Err(Error::Posix(Errno::NOTDIR));
                }
                true
            }
        };
        let mut out = Vec::new();
        if merged {
            for (name, listed) in self.base.list(dir.id, self.epoch)? {
                if node.is_none_or(|node| !node.entries.contains_key(&name)) {
                    out.extend(self.listed_entry(dir.id, name, listed)?);
                }
            }
        }
        let own = node.into_iter().flat_map(|node| node.entries.iter());
        for (name, id) in own.filter_map(|(name, entry)| entry.child.map(|id| (name, id))) {
            let child = self.tree.get(id).ok_or(Error::Posix(Errno::IO))?;
            out.push(DirEntry { name: name.clone(), object: self.own_object(id), kind: child.inode.kind() });
        }
        out.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(out)
    }

    fn listed_entry(&self, dir: NodeId, name: Name, listed: Listed) -> Result<Option<DirEntry>> {
        if let Listed::Now { ino, kind: Some(kind) } = listed
            && let Some(id) = self.base.listed_id(ino, self.tree)
        {
            let slot = Slot { dir, name: name.clone() };
            return Ok(Some(DirEntry { name, object: Object { id, slot: Some(slot) }, kind }));
        }
        // Gone between listing and look: not there.
        match self.lookup(dir, name.as_bytes()) {
            Ok((object, stat)) => Ok(Some(DirEntry { name, object, kind: stat.kind })),
            Err(e) if e.errno() == Errno::NOENT => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The base's directory below one of this view.
    pub(crate) fn base_below(&self, dir: NodeId) -> Result<Option<Arc<OwnedFd>>> {
        match self.tree.get(dir).map(|node| lower_of(node)).transpose()? {
            Some(Lower::Opaque) => Ok(None),
            Some(Lower::Merged) | None => Ok(Some(self.base.places.open(dir)?)),
        }
    }

    pub(crate) fn parent_of(&self, dir: &Object) -> Result<NodeId> {
        match self.tree.get(dir.id).map(|node| &node.inode.body) {
            Some(Body::Dir { parent, .. }) => Ok(*parent),
            Some(Body::File(_) | Body::Symlink(_) | Body::Special(_)) => Err(Error::Posix(Errno::NOTDIR)),
            None if dir.id == NodeId::ROOT => Ok(dir.id),
            None => Ok(self.slot_of(dir)?.dir),
        }
    }

    pub(crate) fn read_link(&self, object: &Object) -> Result<Vec<u8>> {
        match self.tree.get(object.id) {
            Some(node) => match &node.inode.body {
                Body::Symlink(target) => Ok(target.clone()),
                Body::File(_) | Body::Dir { .. } | Body::Special(_) => Err(Error::Posix(Errno::INVAL)),
            },
            None => self.base.read_link(&self.found(object)?),
        }
    }

    /// Opens a regular file's bytes for reading.
    ///
    /// # Errors
    /// EISDIR, EINVAL for what has no bytes, ESTALE for what is no more, and the host's.
    pub(crate) fn open(&self, object: &Object) -> Result<File> {
        match self.tree.get(object.id).map(|node| &node.inode.body) {
            Some(Body::File(Content::Own(layer))) => self.contents.open(*layer, object.id, OFlags::RDONLY),
            Some(Body::File(Content::Base(slot))) => self.open_in_base(object, slot),
            Some(Body::Dir { .. }) => Err(Error::Posix(Errno::ISDIR)),
            Some(Body::Symlink(_) | Body::Special(_)) => Err(Error::Posix(Errno::INVAL)),
            None => self.open_in_base(object, &self.slot_of(object)?),
        }
    }

    fn open_in_base(&self, object: &Object, slot: &Slot) -> Result<File> {
        let found = self.base.resolve(slot, self.epoch)?.ok_or(Error::Posix(Errno::STALE))?;
        if self.base.id_of(&found.print, self.tree)? != object.id {
            return Err(Error::Posix(Errno::STALE));
        }
        self.base.open_file(&found)
    }

    pub(crate) fn is_empty_dir(&self, dir: &Object) -> Result<bool> {
        Ok(self.read_dir(dir)?.is_empty())
    }
}

/// Attributes of a node that has its own bytes, of which the host says this.
pub(crate) fn stat_own(id: NodeId, node: &Node, content: &Statx) -> Stat {
    let meta = &node.inode.meta;
    let mut stat = stat_known(id, node);
    (stat.size, stat.blocks) = (content.stx_size, content.stx_blocks);
    stat.mtime = meta.mtime.unwrap_or(time_of(&content.stx_mtime));
    // While the file knows its times (mtime None), a write also changed ctime.
    if meta.mtime.is_none() {
        stat.ctime = meta.ctime.max(time_of(&content.stx_ctime));
    }
    stat
}

/// Attributes of a node, as far as the host need not be asked.
pub(crate) fn stat_known(id: NodeId, node: &Node) -> Stat {
    let inode = &node.inode;
    let meta = &inode.meta;
    let (size, blocks) = match &inode.body {
        Body::Dir { .. } => (4096, 8),
        Body::Symlink(target) => (target.len() as u64, 0),
        Body::File(_) | Body::Special(_) => (0, 0),
    };
    Stat {
        id,
        generation: inode.origin.as_ref().map_or(0, |o| generation(o.print.birth)),
        owner: Owner::Branch,
        kind: inode.kind(),
        mode: meta.mode,
        uid: meta.uid,
        gid: meta.gid,
        nlink: meta.nlink,
        rdev: meta.rdev,
        size,
        blocks,
        atime: meta.atime,
        mtime: meta.mtime.unwrap_or_default(),
        ctime: meta.ctime,
    }
}

pub(crate) fn lower_of(node: &Node) -> Result<Lower> {
    match &node.inode.body {
        Body::Dir { lower, .. } => Ok(*lower),
        Body::File(_) | Body::Symlink(_) | Body::Special(_) => Err(Error::Posix(Errno::NOTDIR)),
    }
}
