//! What the base has where undoing looks, and where it must stop. Reads only.

use super::invert::{At, Inverter};
use super::met::{met, nothing_there};
use crate::base::{Found, Guard};
use crate::conflict::ConflictKind;
use crate::error::{Error, Result};
use crate::ids::{Name, NodeId};
use crate::node::{Fingerprint, HostKey, Kind, Meta, Slot};
use crate::plan::{Park, join};
use crate::tree::Tree;

impl Inverter<'_> {
    /// A name that the commit took away, by itself or with its directory, where it is now.
    pub(super) fn parked_name(&self, object: HostKey) -> Result<Option<(Slot, Found)>> {
        let direct = self.taken.get(&object).and_then(|park| {
            let dir = self.base.places.park_id(park.commit)?;
            Some(Slot { dir, name: Name::trusted(&park.name()) })
        });
        let along = || self.forward.plan.along.iter().find(|(key, _)| *key == object);
        let Some(slot) = direct.or_else(|| along().map(|(_, slot)| slot.clone())) else { return Ok(None) };
        Ok(self.base.resolve_now(&slot)?.map(|found| (slot, found)))
    }

    pub(super) fn preimage(&self, park: Park) -> Result<Found> {
        let gone = || Error::NotAllowed("a preimage of that commit is gone: it cannot be taken back");
        let dir = self.base.places.park_id(park.commit).ok_or_else(gone)?;
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

    pub(super) fn at(&self, path: &[u8]) -> Result<Option<At>> {
        let mut dir = NodeId::ROOT;
        let mut above = self.base.resolve_root(self.head)?;
        let mut names = path.split(|byte| *byte == b'/').peekable();
        while let Some(name) = names.next() {
            let slot = Slot { dir, name: Name::trusted(name) };
            let Some(found) = self.base.resolve(&slot, self.head)? else { return Ok(None) };
            if names.peek().is_none() {
                return Ok(Some(At { slot, found, parent: above }));
            }
            let Some(id) = self.dir_id(&found.print)? else { return Ok(None) };
            self.base.places.note_dir(id, &found.place, found.print);
            (dir, above) = (id, found);
        }
        Ok(None)
    }

    pub(super) fn dir_at(&self, path: &[u8]) -> Result<Option<NodeId>> {
        let Some(at) = self.at(path)? else { return Ok(None) };
        let id = self.dir_id(&at.found.print)?;
        if let Some(id) = id {
            self.base.places.note_dir(id, &at.found.place, at.found.print);
        }
        Ok(id)
    }

    pub(super) fn dir_id(&self, print: &Fingerprint) -> Result<Option<NodeId>> {
        if print.kind == Kind::Dir { self.id(print).map(Some) } else { Ok(None) }
    }

    pub(super) fn id(&self, print: &Fingerprint) -> Result<NodeId> {
        if *print == self.base.root_print() {
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
