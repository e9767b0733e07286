//! One tree with what another has under a name, and below: how a choice takes a path over. Pure.

use std::collections::HashSet;

use crate::commit::index::{Index, Indexed};
use crate::commit::merge::{subdirectories, subdirectory};
use crate::ids::NodeId;
use crate::node::{Body, Entry, Inode, Kind, Lower, Node, Slot};
use crate::tree::{Change, Tree};

/// The changes that give `into` what `from` has under a name, and below. `None` where a part of either has a name
/// elsewhere on any of the sides: then it is not the business of this name alone.
pub(super) fn graft(into: &Indexed, from: &Indexed, slot: &Slot, sides: &[&Indexed]) -> Option<Vec<Change>> {
    let (old, new) = (family(into, slot), family(from, slot));
    let all: HashSet<NodeId> = old.union(&new).copied().collect();
    if !sides.iter().all(|side| separable(side, slot, &all)) {
        return None;
    }
    let (into, from) = (into.tree(), from.tree());
    // Links that only the base counts would be lost, or come from nowhere.
    let counted = |tree: &Tree, id: &NodeId| {
        tree.get(*id).is_none_or(|node| node.inode.kind() == Kind::Dir || node.inode.meta.nlink <= 1)
    };
    if !old.symmetric_difference(&new).all(|id| counted(into, id) && counted(from, id)) {
        return None;
    }
    let known = known_dir(into, from, slot.dir);
    let mut changes = Vec::new();
    changes.extend(dir_with(into, from, slot, known)?);
    let entry = |tree: &Tree| tree.get(slot.dir).and_then(|dir| dir.entries.get(&slot.name).cloned());
    if entry(into).is_some() {
        changes.push(Change::Unlink { dir: slot.dir, name: slot.name.clone() });
    }
    let gone = old.iter().filter(|id| into.get(**id).is_some());
    changes.extend(gone.map(|id| Change::Drop { id: *id }));
    let nodes: Vec<(NodeId, &Node)> = new.iter().filter_map(|id| Some((*id, &**from.get(*id)?))).collect();
    changes.extend(nodes.iter().map(|(id, node)| put(*id, node.inode.clone())));
    for (id, node) in &nodes {
        let names = node.entries.iter();
        changes.extend(names.map(|(name, entry)| link(Slot { dir: *id, name: name.clone() }, entry.clone())));
    }
    changes.extend(entry(from).map(|entry| link(slot.clone(), entry)));
    Some(changes)
}

/// Whether all of a family, and all that was here in the base, is here and nowhere else.
fn separable(side: &Indexed, slot: &Slot, all: &HashSet<NodeId>) -> bool {
    let index = side.index();
    let inside = |name: &Slot| name == slot || all.contains(&name.dir);
    let apart = |id: NodeId| index.names(id).all(inside);
    let was_here = index.adopted_at(slot).chain(all.iter().flat_map(|dir| index.adopted_in(*dir)));
    all.iter().copied().chain(was_here).all(apart)
}

/// The directory that gets or loses the name, if that changes it: it counts its subdirectories. The outer `None` is a
/// count that cannot be.
fn dir_with(into: &Tree, from: &Tree, slot: &Slot, known: Option<Inode>) -> Option<Option<Change>> {
    let Some(was) = known.clone().or_else(|| into.get(slot.dir).map(|node| node.inode.clone())) else {
        return Some(None);
    };
    let adds = |tree: &Tree| {
        let entry = tree.get(slot.dir).and_then(|dir| dir.entries.get(&slot.name));
        entry.map_or(0, |entry| subdirectory(tree, entry))
    };
    let inode = with_subdirectories(was.clone(), adds(from) - adds(into))?;
    Some((known.is_some() || inode != was).then(|| put(slot.dir, inode)))
}

/// A directory that only one side has looked into is there on the other as in the base.
fn known_dir(tree: &Tree, from: &Tree, dir: NodeId) -> Option<Inode> {
    let node = from.get(dir).filter(|_| tree.get(dir).is_none())?;
    let attributes = node.inode.origin.as_deref().and_then(|origin| origin.attributes.clone())?;
    let mut inode = with_subdirectories(as_in_base(&node.inode)?, -subdirectories(from, node))?;
    inode.meta.set_attributes(attributes);
    Some(inode)
}

/// A directory of so many subdirectories more. Some hosts count none: 1, whatever there is.
fn with_subdirectories(mut inode: Inode, more: i64) -> Option<Inode> {
    if inode.kind() == Kind::Dir && inode.meta.nlink > 1 {
        inode.meta.nlink = u32::try_from(i64::from(inode.meta.nlink) + more).ok()?;
    }
    Some(inode)
}

/// A directory that the branch adopted, where it was when it did.
pub(super) fn as_in_base(ours: &Inode) -> Option<Inode> {
    // The root alone has no name, and lies in itself.
    let above = ours.origin.as_deref()?.slot.as_ref().map_or(NodeId::ROOT, |slot| slot.dir);
    Some(Inode { body: Body::Dir { parent: above, lower: Lower::Merged }, ..ours.clone() })
}

pub(super) fn put(id: NodeId, inode: Inode) -> Change {
    Change::Put { id, inode: Box::new(inode) }
}

pub(super) fn link(at: Slot, entry: Entry) -> Change {
    Change::Link { dir: at.dir, name: at.name, entry }
}

/// Nodes at and below a name, and those that removed directories of the base have left there.
fn family(side: &Indexed, slot: &Slot) -> HashSet<NodeId> {
    let (tree, index) = (side.tree(), side.index());
    let is_grave = |id: &NodeId| tree.get(*id).is_some_and(|node| node.is_grave());
    let named = |slot: &Slot| tree.get(slot.dir)?.entries.get(&slot.name)?.child;
    let mut stack: Vec<NodeId> = named(slot).into_iter().collect();
    stack.extend(index.adopted_at(slot).filter(is_grave));
    let mut all = HashSet::new();
    while let Some(id) = stack.pop() {
        if !all.insert(id) {
            continue;
        }
        let Some(node) = tree.get(id) else { continue };
        stack.extend(node.entries.values().filter_map(|entry| entry.child));
        stack.extend(index.adopted_in(id).filter(is_grave));
    }
    all
}

/// Whether every object has as many names as a tree of its own needs: the last check of what was put together.
pub(super) fn is_whole(tree: &Tree) -> bool {
    let index = Index::of(tree);
    tree.nodes().all(|(id, node)| {
        let alone = node.inode.kind() == Kind::Dir || node.inode.meta.nlink <= 1;
        let child_exists =
            node.entries.values().all(|entry| entry.child.is_none_or(|id| tree.get(id).is_some()));
        child_exists && (!alone || index.names(id).count() <= 1)
    })
}
