//! What in the base an upper directory is about: which directories its own lie over, and which files are copies of which.

use std::collections::HashMap;
use std::fs::File;

use crate::base::{Base, Found};
use crate::branch::OverlayXattrs;
use crate::copying::same_bytes;
use crate::error::Result;
use crate::ids::{CommitId, Name, NodeId};
use crate::native::handle::Handle;
use crate::native::upper::{Entry, Other, Upper};
use crate::node::{Attributes, Kind, Slot};
use crate::tree::Tree;

/// An object of the base that something in the upper directory is, in another state or place.
pub(super) struct Under {
    pub(super) id: NodeId,
    pub(super) slot: Slot,
    pub(super) found: Found,
}

/// The base as an overlayfs sees it: at one epoch, through no tree.
#[derive(Clone, Copy)]
pub(super) struct Lower<'a> {
    pub(super) base: &'a Base,
    pub(super) tree: &'a Tree,
    pub(super) epoch: CommitId,
}

impl Lower<'_> {
    pub(super) fn find(&self, dir: NodeId, name: &[u8]) -> Result<Option<Under>> {
        if !Name::is_valid(name) {
            return Ok(None);
        }
        let slot = Slot { dir, name: Name::trusted(name) };
        let Some(found) = self.base.resolve(&slot, self.epoch)? else { return Ok(None) };
        let id = self.base.id_of(&found.print, self.tree)?;
        if found.print.kind == Kind::Dir {
            self.base.places.note_dir(id, &found.place, found.print);
        }
        Ok(Some(Under { id, slot, found }))
    }

    fn root(&self) -> Result<Under> {
        let found = self.base.resolve_root(self.epoch)?;
        Ok(Under { id: NodeId::ROOT, slot: found.place.clone(), found })
    }

    /// A path from the top of the base.
    fn walk(&self, path: &[u8]) -> Result<Option<Under>> {
        let mut at = self.root()?;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            match self.find(at.id, name)? {
                Some(next) => at = next,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    pub(super) fn attributes(&self, under: &Under) -> Result<Attributes> {
        let xattrs = self.base.xattrs(&under.found, under.id == NodeId::ROOT)?;
        Ok(under.found.meta(xattrs).attributes())
    }

    /// For each directory of the upper the one of the base that shows through it.
    pub(super) fn dirs(&self, upper: &Upper) -> Result<Vec<Option<Under>>> {
        let mut below: Vec<Option<Under>> = vec![Some(self.root()?)];
        for dir in &upper.dirs[1..] {
            let above = below[dir.parent].as_ref().map(|under| under.id);
            let under = match (&dir.redirect, above) {
                // One that was moved is opaque to what lies at its new place, and not to what it was.
                (Some(path), _) if path.starts_with(b"/") => self.walk(path)?,
                (Some(name), Some(above)) => self.find(above, name)?,
                (None, Some(above)) if !dir.opaque => self.find(above, dir.name.as_bytes())?,
                _ => None,
            };
            below.push(under.filter(|under| under.found.print.kind == Kind::Dir));
        }
        Ok(below)
    }

    /// For each other object of the upper the one of the base that it is a copy of.
    pub(super) fn others(
        &self,
        upper: &mut Upper,
        below: &[Option<Under>],
        style: OverlayXattrs,
    ) -> Result<Vec<Option<Under>>> {
        let mut origins = Vec::with_capacity(upper.others.len());
        for index in 0..upper.others.len() {
            let found = match style {
                OverlayXattrs::Trusted => self.in_place(&upper.others[index], below)?,
                OverlayXattrs::User => self.alike(index, upper, below)?,
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

    /// The object that the base has under a name of the copy.
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

    /// In a user namespace overlayfs notes no origins: what is under the base's name and in all but attributes like what is
    /// there counts as a copy of it.
    fn alike(&self, index: usize, upper: &mut Upper, below: &[Option<Under>]) -> Result<Option<Under>> {
        let [(dir, name)] = &upper.others[index].names[..] else { return Ok(None) };
        let Some(above) = &below[*dir] else { return Ok(None) };
        let Some(under) = self.find(above.id, name.as_bytes())? else { return Ok(None) };
        let other = &upper.others[index];
        let kind = other.object.kind;
        if kind != under.found.print.kind || under.found.links() > 1 {
            return Ok(None);
        }
        let same = match kind {
            Kind::File => {
                let file = upper.open_file(index)?;
                self.has_bytes_of(&under, &upper.others[index], || Ok(file))?
            }
            Kind::Symlink => self.base.read_link(&under.found)? == other.target,
            _ => under.found.stat(under.id).rdev == other.object.rdev(),
        };
        Ok(same.then_some(under))
    }

    fn handle(&self, under: &Under) -> Result<Option<Handle>> {
        let dir = self.base.places.open(under.found.place.dir)?;
        Ok(Handle::of(&*dir, under.found.place.name.as_bytes())?)
    }

    /// What of the base the upper hides: the files in it can be elsewhere by now.
    fn hidden(&self, upper: &Upper, below: &[Option<Under>]) -> Result<HashMap<Handle, Under>> {
        let mut covered = Vec::new();
        for (dir, under) in upper.dirs.iter().zip(below) {
            let Some(under) = under else { continue };
            for (name, entry) in &dir.entries {
                let shows = |index: usize| below[index].as_ref().map(|under| under.id);
                let Some(found) = self.find(under.id, name.as_bytes())? else { continue };
                if !matches!(entry, Entry::Dir(index) if shows(*index) == Some(found.id)) {
                    covered.push(found);
                }
            }
        }
        let mut hidden = HashMap::new();
        while let Some(under) = covered.pop() {
            if under.found.print.kind != Kind::Dir {
                if let Some(handle) = self.handle(&under)? {
                    hidden.insert(handle, under);
                }
                continue;
            }
            for name in self.base.list(under.id, self.epoch)?.keys() {
                covered.extend(self.find(under.id, name.as_bytes())?);
            }
        }
        Ok(hidden)
    }

    /// Whether a copy has the bytes that the base has: then it was copied up for nothing, or for its attributes. Times say
    /// nothing of that, as programs set them.
    pub(super) fn has_bytes_of(
        &self,
        under: &Under,
        other: &Other,
        copy: impl FnOnce() -> Result<File>,
    ) -> Result<bool> {
        let same = other.object.statx.stx_size == under.found.stat(under.id).size;
        Ok(same && same_bytes(&copy()?, &self.base.open_file(&under.found)?)?)
    }
}
