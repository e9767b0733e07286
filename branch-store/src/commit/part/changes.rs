//! All changes of a branch, one by one, and the directories that lead to them. Pure.

use std::collections::HashSet;

use crate::commit::attributes::agree;
use crate::commit::part::groups::Groups;
use crate::commit::part::paths::Paths;
use crate::commit::part::{attributes_then, is_dir};
use crate::ids::NodeId;
use crate::journal::record::Part;
use crate::node::{Body, Lower, Slot};
use crate::tree::{Change, Tree};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Item {
    Name(Slot),
    Object(NodeId),
}

/// All changes from one tree to another, but names that only came to be because something below changed.
pub(in crate::commit) struct Changes<'a> {
    pub(super) fork: &'a Tree,
    pub(super) ours: &'a Tree,
    pub(super) names: Vec<Slot>,
    objects: Vec<NodeId>,
    pub(super) paths: Paths,
}

impl<'a> Changes<'a> {
    pub(in crate::commit) fn of(fork: &'a Tree, ours: &'a Tree) -> Changes<'a> {
        let paths = Paths::of(ours);
        let mut changes = Changes { fork, ours, names: Vec::new(), objects: Vec::new(), paths };
        for change in fork.diff(ours) {
            match change {
                Change::Link { dir, name, .. } | Change::Unlink { dir, name } => {
                    let slot = Slot { dir, name };
                    if !changes.only_adopts(&slot) {
                        changes.names.push(slot);
                    }
                }
                Change::Put { id, .. } | Change::Drop { id } => changes.objects.push(id),
                Change::Touch { .. } => {}
            }
        }
        changes
    }

    pub(super) fn items(&self) -> impl Iterator<Item = Item> {
        let names = self.names.iter().cloned().map(Item::Name);
        names.chain(self.objects.iter().copied().map(Item::Object))
    }

    /// What a part leaves of names, and of objects that differ in more than what their names make of them.
    pub(in crate::commit) fn left(&self, part: &Part) -> (HashSet<Slot>, HashSet<NodeId>) {
        let names = self.names.iter().filter(|slot| !part.names.contains(slot)).cloned();
        let differs = |id: &&NodeId| !part.objects.contains(id) && self.is_other(**id);
        (names.collect(), self.objects.iter().filter(differs).copied().collect())
    }

    /// A directory of the base that lies where it lay.
    fn only_adopts(&self, slot: &Slot) -> bool {
        let entry = |tree: &Tree| tree.get(slot.dir)?.entries.get(&slot.name).cloned();
        let (None, Some(entry)) = (entry(self.fork), entry(self.ours)) else { return false };
        let Some(node) = entry.child.and_then(|child| self.ours.get(child)).filter(|node| is_dir(node))
        else {
            return false;
        };
        let Some(origin) = node.inode.origin.as_deref() else { return false };
        let merged = matches!(node.inode.body, Body::Dir { lower: Lower::Merged, .. });
        merged
            && origin.slot.as_ref() == Some(slot)
            && entry.over.as_ref().is_some_and(|over| over.same_object(&origin.print))
    }

    /// Whether an object differs by itself, and not only in what its names make of it.
    pub(super) fn is_other(&self, id: NodeId) -> bool {
        let Some(ours) = self.ours.get(id).filter(|node| is_dir(node)) else { return true };
        let then = match self.fork.get(id) {
            Some(node) => Some(node.inode.meta.attributes()),
            None => attributes_then(&ours.inode),
        };
        then.is_none_or(|then| !agree(&then, &ours.inode.meta.attributes()))
    }

    /// Directories that the branch made or moved come along with what is in them.
    pub(super) fn add_ways(&self, groups: &mut Groups, selected: &mut HashSet<usize>) {
        let mut todo: Vec<NodeId> = Vec::new();
        let dir_of = |item: &Item| match item {
            Item::Name(slot) => Some(slot.dir),
            Item::Object(id) => self.paths.slots.get(id).map(|slot| slot.dir),
        };
        for item in self.items().filter(|item| selected.contains(&groups.of_item(item))) {
            todo.extend(dir_of(&item));
        }
        let changed: HashSet<&Slot> = self.names.iter().collect();
        let mut seen = HashSet::new();
        while let Some(dir) = todo.pop() {
            let Some(slot) = self.paths.slots.get(&dir).filter(|_| seen.insert(dir)) else { continue };
            todo.push(slot.dir);
            if changed.contains(slot) && selected.insert(groups.of_item(&Item::Name(slot.clone()))) {
                // What goes together with it has ways of its own.
                let group = groups.of_item(&Item::Name(slot.clone()));
                let others = self.items().filter(|item| groups.of_item(item) == group);
                todo.extend(others.collect::<Vec<_>>().iter().filter_map(dir_of));
            }
        }
    }
}
