//! What an upper directory is about: which directories of the branch, as it was when it got its view, its own are or lie
//! over, and which of its files were those of the branch or are copies of files of the base.

use std::collections::{HashMap, HashSet};
use std::fs::File;

use crate::base::Found;
use crate::branch::view::{Look, Meaning};
use crate::branch::{OverlayXattrs, View};
use crate::copying::same_bytes;
use crate::error::Result;
use crate::ids::{Name, NodeId};
use crate::native::handle::Handle;
use crate::native::upper::{Entry, Object as Upped, Other, Upper};
use crate::node::{Attributes, Kind, Object, Slot, Stat};

/// An object that something in the upper directory is, in another state or place.
pub(super) struct Under {
    pub(super) id: NodeId,
    /// A name that the base has it by, if it was found by that.
    pub(super) slot: Option<Slot>,
    pub(super) stat: Stat,
    /// What the base has; `None` for a node of the tree, and the top.
    found: Option<Box<Found>>,
}

impl Under {
    pub(super) fn object(&self) -> Object {
        Object { id: self.id, slot: self.slot.clone() }
    }
}

/// The branch as it was when it got its view, and the base under it.
#[derive(Clone, Copy)]
pub(super) struct Lower<'a> {
    view: View<'a>,
}

impl<'a> Lower<'a> {
    pub(super) fn new(view: View<'a>) -> Lower<'a> {
        Lower { view }
    }

    /// What the branch had under a name.
    pub(super) fn find(&self, dir: NodeId, name: &[u8]) -> Result<Option<Under>> {
        self.look(dir, name, |name| self.view.look(dir, name))
    }

    /// What the base has under a name in one of its directories: that is where overlayfs looks.
    fn find_in_base(&self, dir: NodeId, name: &[u8]) -> Result<Option<Under>> {
        self.look(dir, name, |name| self.view.look_in_base(dir, name))
    }

    fn look(
        &self,
        dir: NodeId,
        name: &[u8],
        look: impl FnOnce(&[u8]) -> Result<Look>,
    ) -> Result<Option<Under>> {
        if !Name::is_valid(name) {
            return Ok(None);
        }
        let slot = Some(Slot { dir, name: Name::trusted(name) });
        Ok(match look(name)?.meaning {
            None => None,
            Some(Meaning::Node(id)) => Some(Under { slot, ..self.node(id)? }),
            Some(Meaning::Base(id, found)) => {
                Some(Under { id, slot, stat: found.stat(id), found: Some(found) })
            }
        })
    }

    pub(super) fn root(&self) -> Result<Under> {
        self.node(NodeId::ROOT)
    }

    /// A node of the tree, or the top.
    fn node(&self, id: NodeId) -> Result<Under> {
        let stat = self.view.stat(&Object { id, slot: None })?;
        Ok(Under { id, slot: None, stat, found: None })
    }

    /// The node that an object says it is.
    fn tagged(&self, object: &Upped) -> Result<Option<Under>> {
        let known =
            |id: &NodeId| self.view.tree.get(*id).is_some_and(|node| node.inode.kind() == object.kind);
        object.node.filter(known).map(|id| self.node(id)).transpose()
    }

    /// The names that the branch had in a directory, of what has a node.
    pub(super) fn own_names(&self, dir: NodeId) -> impl Iterator<Item = &'a Name> {
        let entries = self.view.tree.get(dir).map(|node| node.entries.iter());
        entries.into_iter().flatten().filter(|(_, entry)| entry.child.is_some()).map(|(name, _)| name)
    }

    /// A path from the top of the base.
    fn walk(&self, path: &[u8]) -> Result<Option<Under>> {
        let mut at = self.root()?;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            match self.find_in_base(at.id, name)? {
                Some(next) if next.stat.kind == Kind::Dir => at = next,
                _ => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    pub(super) fn attributes(&self, under: &Under) -> Result<Attributes> {
        let Stat { mode, uid, gid, atime, mtime, .. } = under.stat;
        let base = self.view.base;
        let xattrs = match (self.view.tree.get(under.id), &under.found) {
            (Some(node), _) => node.inode.meta.xattrs.clone(),
            (None, Some(found)) => base.xattrs(found, false)?,
            (None, None) => base.xattrs(&base.resolve_root(self.view.epoch)?, true)?,
        };
        Ok(Attributes { mode, uid, gid, xattrs, atime, mtime: Some(mtime) })
    }

    /// For each directory of the upper the one that shows through it.
    pub(super) fn dirs(&self, upper: &Upper) -> Result<Vec<Option<Under>>> {
        let mut below: Vec<Option<Under>> = vec![Some(self.root()?)];
        for dir in &upper.dirs[1..] {
            let above = below[dir.parent].as_ref().map(|under| under.id);
            let under = match (self.tagged(&dir.object)?, &dir.redirect, above) {
                (Some(under), _, _) => Some(under),
                // One that was moved is opaque to what lies at its new place, and not to what it was.
                (None, Some(path), _) if path.starts_with(b"/") => self.walk(path)?,
                (None, Some(name), Some(above)) => self.find_in_base(above, name)?,
                (None, None, Some(above)) if !dir.opaque => self.find_in_base(above, dir.name.as_bytes())?,
                _ => None,
            };
            below.push(under.filter(|under| under.stat.kind == Kind::Dir));
        }
        Ok(below)
    }

    /// For each other object of the upper the one that it was, or is a copy of.
    pub(super) fn others(
        &self,
        upper: &mut Upper,
        below: &[Option<Under>],
        style: OverlayXattrs,
    ) -> Result<Vec<Option<Under>>> {
        let mut origins = Vec::with_capacity(upper.others.len());
        for index in 0..upper.others.len() {
            let found = match (self.tagged(&upper.others[index].object)?, style) {
                (Some(under), _) => Some(under),
                (None, OverlayXattrs::Trusted) => self.in_place(&upper.others[index], below)?,
                (None, OverlayXattrs::User) => self.alike(index, upper, below)?,
            };
            origins.push(found);
        }
        let is_lost =
            |(index, other): (usize, &Other)| origins[index].is_none() && other.object.origin.is_some();
        if upper.others.iter().enumerate().any(is_lost) {
            let mut hidden = self.hidden(upper, below)?;
            for (origin, other) in
                origins.iter_mut().zip(&upper.others).filter(|(origin, _)| origin.is_none())
            {
                *origin = other.object.origin.as_ref().and_then(|handle| hidden.remove(handle));
            }
        }
        Ok(origins)
    }

    /// The object that there is under a name of the copy.
    fn in_place(&self, other: &Other, below: &[Option<Under>]) -> Result<Option<Under>> {
        let Some(origin) = &other.object.origin else { return Ok(None) };
        for (dir, name) in &other.names {
            let Some(above) = &below[*dir] else { continue };
            if let Some(under) = self.find(above.id, name.as_bytes())?
                && self.handle(&under)?.as_ref() == Some(origin)
            {
                return Ok(Some(under));
            }
        }
        Ok(None)
    }

    /// In a user namespace overlayfs notes no origins: what is under the same name and in all but attributes like what is
    /// there counts as a copy of it.
    fn alike(&self, index: usize, upper: &mut Upper, below: &[Option<Under>]) -> Result<Option<Under>> {
        let [(dir, name)] = &upper.others[index].names[..] else { return Ok(None) };
        let Some(above) = &below[*dir] else { return Ok(None) };
        let Some(under) = self.find(above.id, name.as_bytes())? else { return Ok(None) };
        let other = &upper.others[index];
        let kind = other.object.kind;
        if kind != under.stat.kind || under.stat.nlink > 1 {
            return Ok(None);
        }
        let same = match kind {
            Kind::File => {
                let file = upper.open_file(index)?;
                self.has_bytes_of(&under, &upper.others[index], || Ok(file))?
            }
            Kind::Symlink => self.view.read_link(&under.object())? == other.target,
            _ => under.stat.rdev == other.object.rdev(),
        };
        Ok(same.then_some(under))
    }

    /// What overlayfs notes of a copy of it.
    fn handle(&self, under: &Under) -> Result<Option<Handle>> {
        let Some(found) = &under.found else { return Ok(None) };
        let dir = self.view.base.places.open(found.place.dir)?;
        Ok(Handle::of(&*dir, found.place.name.as_bytes())?)
    }

    /// What the upper hides: the files in it can be elsewhere by now.
    fn hidden(&self, upper: &Upper, below: &[Option<Under>]) -> Result<HashMap<Handle, Under>> {
        let mut covered = Vec::new();
        for (dir, under) in upper.dirs.iter().zip(below) {
            let Some(under) = under else { continue };
            let shows = |index: usize| below[index].as_ref().map(|under| under.id);
            let gone = self.own_names(under.id).filter(|name| !dir.entries.contains_key(*name));
            for (name, entry) in dir
                .entries
                .iter()
                .map(|(name, entry)| (name, Some(entry)))
                .chain(gone.map(|name| (name, None)))
            {
                let Some(found) = self.find(under.id, name.as_bytes())? else { continue };
                if !matches!(entry, Some(Entry::Dir(index)) if shows(*index) == Some(found.id)) {
                    covered.push(found);
                }
            }
        }
        let (mut hidden, mut listed) = (HashMap::new(), HashSet::new());
        while let Some(under) = covered.pop() {
            if under.stat.kind != Kind::Dir {
                if let Some(handle) = self.handle(&under)? {
                    hidden.insert(handle, under);
                }
                continue;
            }
            if listed.insert(under.id) {
                for entry in self.view.read_dir(&Object { id: under.id, slot: None })? {
                    covered.extend(self.find(under.id, entry.name.as_bytes())?);
                }
            }
        }
        Ok(hidden)
    }

    /// Whether a copy has the bytes that there were: then it was copied up for nothing, or for its attributes. Times say
    /// nothing of that, as programs set them.
    pub(super) fn has_bytes_of(
        &self,
        under: &Under,
        other: &Other,
        copy: impl FnOnce() -> Result<File>,
    ) -> Result<bool> {
        let same = other.object.statx.stx_size == under.stat.size;
        Ok(same && same_bytes(&copy()?, &self.view.open(&under.object())?)?)
    }
}
