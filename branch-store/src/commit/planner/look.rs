//! The first walk: what the base has under each name the tree speaks of, and what becomes of it.

use std::sync::Arc;

use super::ahead::{Looked, Named, Names};
use super::permit::Change;
use super::{Fate, Planner, Seen};
use crate::base::Found;
use crate::base::history::{Displaced, ObjectWas, Was};
use crate::commit::clash::{Clash, Subject, Why};
use crate::error::Result;
use crate::ids::NodeId;
use crate::node::{Body, Content, Entry, Fingerprint, HostKey, Kind, Lower, Meta, Node, Slot};
use crate::plan::Step;

impl Planner<'_> {
    /// First walk, part one: what is in the base under each name, and whether it still is what the branch
    /// saw when it first changed the name (S15).
    pub(super) fn look_at(
        &mut self,
        names: &Names<'_>,
        named: &Named<'_>,
        found: Option<&Arc<Looked>>,
    ) -> Result<()> {
        let Named { slot, entry, .. } = named;
        let print = found.map(|found| &found.print);
        if let Some(why) = clash(entry, print).or(self.lost(slot, entry, print)?) {
            self.clash_at(&names.path(named), why, slot, entry);
        }
        if let Some(found) = found {
            if found.print.dev != self.base.root_print().dev {
                self.clash_at(&names.path(named), Why::OtherFilesystem, slot, entry);
            }
            self.permit_change(names, named, found)?;
            if found.print.kind == Kind::Dir {
                self.look_in_removed(found, &names.path(named))?;
            }
            self.links.insert(found.print.key(), found.links());
            self.seen_at.insert(found.print.key(), slot.clone());
        }
        Ok(())
    }

    pub(super) fn clash_at(&mut self, path: &[u8], why: Why, slot: &Slot, entry: &Entry) {
        let saw = entry.over.clone();
        self.conflicts.push(Clash { saw, ..Clash::new(path.to_vec(), why, Subject::Name(slot.clone())) });
    }

    /// Both took the name away, but one of us gave the object another: removed there and moved here, or the
    /// other way round.
    pub(super) fn lost(
        &self,
        slot: &Slot,
        entry: &Entry,
        found: Option<&Fingerprint>,
    ) -> Result<Option<Why>> {
        let Some(over) = entry.over.as_ref().filter(|_| entry.child.is_none() && found.is_none()) else {
            return Ok(None);
        };
        let here = self.tree.get(self.base.id_of(over, self.tree)?).is_some_and(|node| {
            let origin = node.inode.origin.as_deref();
            node.inode.meta.nlink > 0
                && origin.is_some_and(|o| o.slot.as_ref() == Some(slot) && o.print.same_object(over))
        });
        let there = self.base.find_moved(over)?.is_some();
        Ok(match (here, there) {
            (true, false) => Some(Why::GoneBelow),
            (false, true) => Some(Why::MovedAndRemoved),
            (true, true) => Some(Why::BothChanged),
            (false, false) => None,
        })
    }

    /// What has further links and whose own entry is gone with its directory: files are still to be rewritten in place,
    /// anything else is to be moved and not to be made anew.
    pub(super) fn look_at_origins(&mut self) -> Result<()> {
        for (_, node) in self.tree.nodes() {
            let Some(origin) = &node.inode.origin else { continue };
            match &node.inode.body {
                Body::File(Content::Own(_)) | Body::Symlink(_) | Body::Special(_) => {}
                Body::File(Content::Base(_)) | Body::Dir { .. } => continue,
            }
            let Some(slot) = origin.slot.as_ref().filter(|_| node.inode.meta.nlink > 0) else { continue };
            if self.links.contains_key(&origin.print.key()) {
                continue;
            }
            let found = self.base.resolve(slot, self.head)?.filter(|found| found.print == origin.print);
            if let Some(found) = found.filter(|found| found.links() > 1) {
                self.links.insert(found.print.key(), found.links());
            }
        }
        Ok(())
    }

    /// First walk, part two: which base objects the branch still has, wherever.
    pub(super) fn collect_reused(&mut self, nodes: &[(NodeId, &Node)]) {
        let keys = nodes.iter().filter_map(|(_, node)| self.identity(node));
        self.reused = keys.collect();
    }

    /// The base object a node goes on being; `None` for what is made anew.
    pub(super) fn identity(&self, node: &Node) -> Option<HostKey> {
        let key = node.inode.origin.as_ref()?.print.key();
        match &node.inode.body {
            Body::File(Content::Base(_)) => Some(key),
            // Cheap to make anew when the directory it was in is gone and nobody says where it was.
            Body::Symlink(_) | Body::Special(_) => self.links.contains_key(&key).then_some(key),
            // Replacing one name of several would break the others off: such a file is rewritten in place.
            Body::File(Content::Own(_)) => self.links.get(&key).is_some_and(|n| *n > 1).then_some(key),
            Body::Dir { lower, .. } => (*lower == Lower::Merged).then_some(key),
        }
    }

    /// First walk, part three: the fate of a name's base object.
    pub(super) fn decide(&mut self, named: &Named<'_>, found: Option<Arc<Looked>>) -> Result<()> {
        let Named { slot, entry, .. } = named;
        let Some(found) = found else {
            if entry.child.is_some() {
                self.permit_names(slot.dir, Change::Added)?;
                self.drawn.displaced.push(Displaced::Entry { slot: slot.clone(), was: Was::Absent });
            }
            return Ok(());
        };
        let fate = self.fate(named, &found);
        if fate != Fate::Stays {
            self.displace(slot, &found)?;
        }
        match (fate, entry.child) {
            (Fate::Exchanged, _) => self.permit_leaving(slot, &found)?,
            (Fate::Detached, _) => self.detach(slot, &found)?,
            (Fate::Stays, Some(child)) => {
                self.staying.insert(child, slot.clone());
            }
            _ => {}
        }
        self.seen.insert(slot.clone(), Seen { found, fate });
        Ok(())
    }

    fn fate(&self, named: &Named<'_>, found: &Found) -> Fate {
        let key = found.print.key();
        let Some(node) = named.child else { return Fate::Detached };
        let identity = self.identity(node);
        if identity == Some(key) {
            return Fate::Stays;
        }
        let fresh = identity.is_none();
        let single = node.inode.kind() == Kind::Dir || node.inode.meta.nlink <= 1;
        let exchange = fresh && single && !self.reused.contains(&key);
        if exchange { Fate::Exchanged } else { Fate::Detached }
    }

    /// Older snapshots must go on seeing the object under this name.
    pub(super) fn displace(&mut self, slot: &Slot, found: &Looked) -> Result<()> {
        let was = Was::Object(found.print.key());
        self.drawn.displaced.push(Displaced::Entry { slot: slot.clone(), was });
        if let Some(id) = self.dir_id(&found.print)? {
            self.drawn.displaced.push(Displaced::Dir { id, slot: slot.clone() });
        }
        // Moving it stamps its change time, and one name less is seen through the others.
        let meta = found.meta(self.base)?;
        self.displace_object(found, meta)
    }

    /// Older snapshots must go on seeing the object as it was.
    pub(super) fn displace_object(&mut self, found: &Found, meta: Meta) -> Result<()> {
        let key = found.print.key();
        let path =
            if key == self.base.root_print().key() { Vec::new() } else { self.base_path(&found.place)? };
        self.drawn.plan.before.push((path, key));
        let was = ObjectWas { birth: found.print.birth, meta, size: found.statx.stx_size, content: None };
        self.drawn.displaced.push(Displaced::Object { key, was });
        Ok(())
    }

    pub(super) fn detach(&mut self, slot: &Slot, found: &Found) -> Result<()> {
        self.permit_leaving(slot, found)?;
        let park = self.new_park();
        let key = found.print.key();
        let path = self.base_path(slot)?;
        let dir = self.dir_id(&found.print)?;
        self.parked.entry(key).or_default().push(park);
        let from = match self.base.places.dir(slot.dir) {
            Some((_, print)) => print.key(),
            None => self.base.root_print().key(),
        };
        self.detaches.push(Step::Detach { path, from, park, object: key, dir });
        Ok(())
    }
}

/// Whether the base went on under a name that the branch changed.
pub(super) fn clash(entry: &Entry, found: Option<&Fingerprint>) -> Option<Why> {
    match (&entry.over, found) {
        (None, None) => None,
        (Some(over), Some(found)) => (!over.is_unedited(found)).then_some(Why::BaseEdited),
        // Both removed it: equal changes never conflict (S14).
        (Some(_), None) => entry.child.is_some().then_some(Why::GoneBelow),
        (None, Some(_)) => Some(Why::BothCreated),
    }
}
