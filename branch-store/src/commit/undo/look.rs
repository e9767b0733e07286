//! What the base has where undoing looks, and where it must stop. Reads only.

use std::sync::Arc;

use super::invert::{At, Inverter};
use super::met::{met, nothing_there};
use super::paths::split;
use crate::base::{Found, Guard};
use crate::conflict::ConflictKind;
use crate::error::{Error, Result};
use crate::ids::{CommitId, Name, NodeId};
use crate::node::{Fingerprint, HostKey, Kind, Meta, Slot};
use crate::plan::{Park, join};
use crate::tree::Tree;

impl Inverter<'_> {
    /// A name that the commit took away, by itself or with its directory, where it is now.
    pub(super) fn parked_name(&mut self, object: HostKey) -> Result<Option<(Slot, Found)>> {
        let direct = self.taken.get(&object).copied().and_then(|park| {
            let dir = self.park_id(park.commit)?;
            Some(Slot { dir, name: Name::trusted(&park.name()) })
        });
        let along = || self.forward.plan.along.iter().find(|(key, _)| *key == object);
        let Some(slot) = direct.or_else(|| along().map(|(_, slot)| slot.clone())) else { return Ok(None) };
        Ok(self.base.resolve_now(&slot)?.map(|found| (slot, found)))
    }

    /// The preimage directory of a commit, asked for once.
    fn park_id(&mut self, commit: CommitId) -> Option<NodeId> {
        if let Some(known) = self.park_ids.get(&commit) {
            return Some(*known);
        }
        let id = self.base.places.park_id(commit)?;
        self.park_ids.insert(commit, id);
        Some(id)
    }

    pub(super) fn preimage(&mut self, park: Park) -> Result<Found> {
        let gone = || Error::NotAllowed("a preimage of that commit is gone: it cannot be taken back");
        let dir = self.park_id(park.commit).ok_or_else(gone)?;
        self.base.resolve_now(&Slot { dir, name: Name::trusted(&park.name()) })?.ok_or_else(gone)
    }

    /// The object that must be at a path; a conflict if it is not.
    pub(super) fn expect(&mut self, path: &[u8], object: HostKey) -> Result<Option<At>> {
        let Some(at) = self.at(path)? else {
            self.gone(path);
            return Ok(None);
        };
        if at.found.print.key() != object {
            self.edited(path, &at.found)?;
            return Ok(None);
        }
        if at.found.guard() != Guard::None || at.parent.guard() != Guard::None {
            self.conflicts.push(met(self.base, path, ConflictKind::Immutable, Some(&at.found))?);
        }
        Ok(Some(at))
    }

    /// Everything the commit put there must be as it put it, at any depth; what it moved there is looked at apart.
    pub(super) fn check_untouched(&mut self, found: &Found, path: &[u8]) -> Result<()> {
        let mut stack = vec![(found.clone(), path.to_vec())];
        while let Some((found, path)) = stack.pop() {
            let holds = self.closed.holds(&found, &self.base.history.read());
            if !holds {
                self.edited(&path, &found)?;
            }
            let Some(dir) = self.dir_id(&found.print)? else { continue };
            self.base.places.note_dir(dir, &found.place, found.print);
            for name in self.base.list(dir, self.head)?.into_keys() {
                let path = join(&path, name.as_bytes());
                let slot = Slot { dir, name };
                if !self.paths.is_given(&path)
                    && let Some(found) = self.base.resolve(&slot, self.head)?
                {
                    stack.push((found, path));
                }
            }
        }
        Ok(())
    }

    pub(super) fn at(&mut self, path: &[u8]) -> Result<Option<At>> {
        let (above, name) = split(path);
        let Some((dir, parent)) = self.dir(above)? else { return Ok(None) };
        let slot = Slot { dir, name: Name::trusted(name) };
        Ok(self.base.resolve(&slot, self.head)?.map(|found| At { slot, found, parent }))
    }

    pub(super) fn dir_at(&mut self, path: &[u8]) -> Result<Option<NodeId>> {
        Ok(self.dir(path)?.map(|(id, _)| id))
    }

    /// A directory by its path, looked at once.
    fn dir(&mut self, path: &[u8]) -> Result<Option<(NodeId, Arc<Found>)>> {
        if let Some(known) = self.dirs.get(path) {
            return Ok(Some(known.clone()));
        }
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        let (mut at, mut start) = (NodeId::ROOT, 0);
        let mut found = Arc::new(self.base.resolve_root(self.head)?);
        for end in ends.chain([path.len()]).filter(|end| *end > 0) {
            (at, found) = match self.dirs.get(&path[..end]) {
                Some(known) => known.clone(),
                None => {
                    let slot = Slot { dir: at, name: Name::trusted(&path[start..end]) };
                    let Some(found) = self.base.resolve(&slot, self.head)? else { return Ok(None) };
                    let Some(id) = self.dir_id(&found.print)? else { return Ok(None) };
                    self.base.places.note_dir(id, &found.place, found.print);
                    (id, Arc::new(found))
                }
            };
            self.dirs.insert(path[..end].to_vec(), (at, found.clone()));
            start = end + 1;
        }
        self.dirs.insert(path.to_vec(), (at, found.clone()));
        Ok(Some((at, found)))
    }

    pub(super) fn dir_id(&self, print: &Fingerprint) -> Result<Option<NodeId>> {
        if print.kind == Kind::Dir { self.id(print).map(Some) } else { Ok(None) }
    }

    pub(super) fn id(&self, print: &Fingerprint) -> Result<NodeId> {
        if print.key() == self.base.root_print().key() {
            return Ok(NodeId::ROOT);
        }
        self.base.id_of(print, &Tree::default())
    }

    pub(super) fn meta(&self, found: &Found) -> Result<Meta> {
        let root = found.print.key() == self.base.root_print().key();
        Ok(found.meta(self.base.xattrs(found, root)?))
    }

    /// What the commit put there was changed since.
    pub(super) fn edited(&mut self, path: &[u8], found: &Found) -> Result<()> {
        let dir = found.print.kind == Kind::Dir;
        let kind = if dir { ConflictKind::Attributes } else { ConflictKind::Content };
        self.conflicts.push(met(self.base, path, kind, Some(found))?);
        Ok(())
    }

    /// What the commit put there, or a directory above, was removed or moved since.
    pub(super) fn gone(&mut self, path: &[u8]) {
        self.conflicts.push(nothing_there(path));
    }
}
