//! A tree together with who names what in it, kept up to date change by change: a thousand conflicts that are decided
//! in one commit must not look at every node for each of them.

use std::collections::{BTreeSet, HashMap};

use crate::commit::applied;
use crate::ids::NodeId;
use crate::node::{Body, Entry, Node, Slot};
use crate::plan::join;
use crate::tree::{Change, Tree};

/// Who names each node, and which nodes were adopted from under which name of the base.
#[derive(Default)]
pub(crate) struct Index {
    names: HashMap<NodeId, BTreeSet<Slot>>,
    origins: HashMap<Slot, BTreeSet<NodeId>>,
    /// The same by the directory of the name.
    origins_in: HashMap<NodeId, BTreeSet<NodeId>>,
}

/// A tree with its index.
pub(crate) struct Indexed {
    tree: Tree,
    index: Index,
}

impl Index {
    pub(crate) fn of(tree: &Tree) -> Index {
        let mut index = Index::default();
        for (id, node) in tree.nodes() {
            index.add_origin(id, node);
            for (name, entry) in &node.entries {
                index.add_name(Slot { dir: id, name: name.clone() }, entry);
            }
        }
        index
    }

    /// The names of a node, in order.
    pub(crate) fn names(&self, id: NodeId) -> impl Iterator<Item = &Slot> {
        self.names.get(&id).into_iter().flatten()
    }

    /// Nodes that were adopted from under a name of the base.
    pub(crate) fn adopted_at(&self, slot: &Slot) -> impl Iterator<Item = NodeId> {
        self.origins.get(slot).into_iter().flatten().copied()
    }

    /// Nodes that were adopted from a directory of the base.
    pub(crate) fn adopted_in(&self, dir: NodeId) -> impl Iterator<Item = NodeId> {
        self.origins_in.get(&dir).into_iter().flatten().copied()
    }

    /// Some name of a node; of a directory the one it knows itself.
    pub(crate) fn holder(&self, tree: &Tree, id: NodeId) -> Option<Slot> {
        let of_dir = |slot: &&Slot| match &tree.get(id)?.inode.body {
            Body::Dir { parent, .. } => Some(slot.dir == *parent),
            Body::File(_) | Body::Symlink(_) | Body::Special(_) => Some(true),
        };
        self.names(id).find(|slot| of_dir(slot) == Some(true)).cloned()
    }

    /// Some path of a node.
    pub(crate) fn path(&self, tree: &Tree, id: NodeId) -> Option<Vec<u8>> {
        let mut names = Vec::new();
        let mut at = id;
        while at != NodeId::ROOT {
            let holder = self.holder(tree, at)?;
            names.push(holder.name);
            // Directories that two moves have put into each other have no path.
            if names.len() > tree.len() {
                return None;
            }
            at = holder.dir;
        }
        Some(names.iter().rev().fold(Vec::new(), |path, name| join(&path, name.as_bytes())))
    }

    fn add_name(&mut self, slot: Slot, entry: &Entry) {
        if let Some(child) = entry.child {
            self.names.entry(child).or_default().insert(slot);
        }
    }

    fn drop_name(&mut self, slot: &Slot, entry: &Entry) {
        let Some(child) = entry.child else { return };
        if let Some(names) = self.names.get_mut(&child) {
            names.remove(slot);
        }
    }

    fn add_origin(&mut self, id: NodeId, node: &Node) {
        if let Some(slot) = origin_of(node) {
            self.origins_in.entry(slot.dir).or_default().insert(id);
            self.origins.entry(slot.clone()).or_default().insert(id);
        }
    }

    fn drop_origin(&mut self, id: NodeId, node: &Node) {
        let Some(slot) = origin_of(node) else { return };
        for nodes in [self.origins.get_mut(slot), self.origins_in.get_mut(&slot.dir)].into_iter().flatten() {
            nodes.remove(&id);
        }
    }
}

impl Indexed {
    pub(crate) fn new(tree: Tree) -> Indexed {
        Indexed { index: Index::of(&tree), tree }
    }

    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    pub(crate) fn path(&self, id: NodeId) -> Option<Vec<u8>> {
        self.index.path(&self.tree, id)
    }

    pub(crate) fn holder(&self, id: NodeId) -> Option<Slot> {
        self.index.holder(&self.tree, id)
    }

    /// Whether an object has a name here that it had not at the fork.
    pub(crate) fn gave_name(&self, fork: &Indexed, id: NodeId) -> bool {
        let had = |slot: &Slot| match fork.tree.get(id) {
            Some(_) => fork.index.names(id).any(|name| name == slot),
            None => {
                let entry = self.tree.get(slot.dir).and_then(|dir| dir.entries.get(&slot.name));
                let origin = self.tree.get(id).and_then(|node| node.inode.origin.as_deref());
                let over = entry.and_then(|entry| entry.over.as_deref());
                over.zip(origin).is_some_and(|(over, origin)| over.same_object(&origin.print))
            }
        };
        !self.index.names(id).all(had)
    }

    /// All changes or none; `None` if the tree does not take one of them.
    pub(crate) fn apply(&mut self, changes: &[Change]) -> Option<()> {
        applied(&self.tree, changes).ok()?;
        for change in changes {
            self.take(change)?;
        }
        Some(())
    }

    fn take(&mut self, change: &Change) -> Option<()> {
        match change {
            Change::Put { id, .. } => {
                if let Some(node) = self.tree.get(*id) {
                    self.index.drop_origin(*id, node);
                }
                self.tree.apply(change).ok()?;
                self.index.add_origin(*id, self.tree.get(*id)?);
            }
            Change::Drop { id } => {
                let node = self.tree.get(*id)?;
                self.index.drop_origin(*id, node);
                for (name, entry) in &node.entries {
                    self.index.drop_name(&Slot { dir: *id, name: name.clone() }, entry);
                }
                self.tree.apply(change).ok()?;
            }
            Change::Link { dir, name, .. } | Change::Unlink { dir, name } => {
                let slot = Slot { dir: *dir, name: name.clone() };
                if let Some(before) = self.tree.get(*dir)?.entries.get(name) {
                    self.index.drop_name(&slot, before);
                }
                self.tree.apply(change).ok()?;
                if let Change::Link { entry, .. } = change {
                    self.index.add_name(slot, entry);
                }
            }
            Change::Touch { .. } => self.tree.apply(change).ok()?,
        }
        Some(())
    }
}

fn origin_of(node: &Node) -> Option<&Slot> {
    node.inode.origin.as_deref()?.slot.as_ref()
}
