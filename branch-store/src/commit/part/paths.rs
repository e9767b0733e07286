//! Where a tree has what it has. Pure.

use std::collections::HashMap;

use crate::commit::part::is_dir;
use crate::ids::NodeId;
use crate::node::Slot;
use crate::plan::join;
use crate::tree::Tree;

/// Where a tree has its directories, and the names of what else it has.
pub(super) struct Paths {
    /// Of directories, but the root.
    pub(super) slots: HashMap<NodeId, Slot>,
    dirs: HashMap<NodeId, Vec<u8>>,
    others: HashMap<NodeId, Vec<Slot>>,
}

impl Paths {
    pub(super) fn of(tree: &Tree) -> Paths {
        let mut paths = Paths { slots: HashMap::new(), dirs: HashMap::new(), others: HashMap::new() };
        let mut todo = Vec::new();
        if tree.get(NodeId::ROOT).is_some() {
            paths.dirs.insert(NodeId::ROOT, Vec::new());
            todo.push(NodeId::ROOT);
        }
        while let Some(dir) = todo.pop() {
            let Some(node) = tree.get(dir) else { continue };
            let path = paths.dirs.get(&dir).cloned().unwrap_or_default();
            for (name, child) in node.entries.iter().filter_map(|(name, entry)| Some((name, entry.child?))) {
                let slot = Slot { dir, name: name.clone() };
                if tree.get(child).is_some_and(|node| is_dir(node)) {
                    if paths.dirs.insert(child, join(&path, name.as_bytes())).is_none() {
                        todo.push(child);
                    }
                    paths.slots.insert(child, slot);
                } else {
                    paths.others.entry(child).or_default().push(slot);
                }
            }
        }
        paths
    }

    pub(super) fn of_dir(&self, id: NodeId) -> Option<&Vec<u8>> {
        self.dirs.get(&id)
    }

    pub(super) fn of_name(&self, slot: &Slot) -> Option<Vec<u8>> {
        self.of_dir(slot.dir).map(|dir| join(dir, slot.name.as_bytes()))
    }

    pub(super) fn of_object(&self, id: NodeId) -> Vec<Vec<u8>> {
        match self.of_dir(id) {
            Some(path) => vec![path.clone()],
            None => {
                self.others.get(&id).into_iter().flatten().filter_map(|slot| self.of_name(slot)).collect()
            }
        }
    }

    /// The directories that lead to something, itself too if it is one.
    pub(super) fn way_to(&self, id: NodeId) -> Vec<NodeId> {
        let mut way = Vec::new();
        let mut at = match self.dirs.contains_key(&id) {
            true => id,
            false => match self.others.get(&id).and_then(|names| names.first()) {
                Some(slot) => slot.dir,
                None => return way,
            },
        };
        way.push(at);
        while let Some(slot) = self.slots.get(&at) {
            at = slot.dir;
            way.push(at);
        }
        way
    }

    pub(super) fn depth(&self, id: NodeId) -> (usize, NodeId) {
        (self.way_to(id).len(), id)
    }
}
