//! Which changes go together: what belongs to one object, and what was in a directory that is gone. Pure.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::commit::part::Selector;
use crate::commit::part::changes::{Changes, Item};
use crate::error::{Error, Result};
use crate::ids::NodeId;
use crate::node::{HostKey, Node, Slot, Time};
use crate::tree::Tree;

/// Changes that go together.
pub(super) struct Groups {
    numbers: HashMap<Item, usize>,
    above: Vec<usize>,
}

impl Groups {
    pub(super) fn of(changes: &Changes<'_>) -> Groups {
        let numbers: HashMap<Item, usize> = changes.items().zip(0..).collect();
        let mut groups = Groups { above: (0..numbers.len()).collect(), numbers };
        let origins = origins(changes.ours);
        let mut covered: HashMap<(HostKey, Time), &Slot> = HashMap::new();
        for slot in &changes.names {
            let entry = |tree: &Tree| tree.get(slot.dir)?.entries.get(&slot.name).cloned();
            let (then, now) = (entry(changes.fork), entry(changes.ours));
            let over = now.as_ref().filter(|_| then.is_none()).and_then(|entry| entry.over.clone());
            let over = over.map(|over| (over.key(), over.birth));
            // Names of one object, of which the branch may have nothing any more.
            if let Some(other) = over.and_then(|over| covered.insert(over, slot)) {
                groups.join(&Item::Name(slot.clone()), &Item::Name(other.clone()));
            }
            let over = over.and_then(|over| origins.get(&over).copied());
            let about = [then.and_then(|entry| entry.child), now.and_then(|entry| entry.child), over];
            for id in about.into_iter().flatten() {
                groups.join(&Item::Name(slot.clone()), &Item::Object(id));
            }
            // What was in a directory that is gone goes with it.
            if changes.paths.of_dir(slot.dir).is_none() {
                groups.join(&Item::Name(slot.clone()), &Item::Object(slot.dir));
            }
        }
        groups
    }

    pub(super) fn of_item(&self, item: &Item) -> usize {
        self.numbers.get(item).map_or(usize::MAX, |number| self.top(*number))
    }

    fn top(&self, mut number: usize) -> usize {
        while self.above[number] != number {
            number = self.above[number];
        }
        number
    }

    fn join(&mut self, one: &Item, other: &Item) {
        if let (Some(one), Some(other)) = (self.numbers.get(one), self.numbers.get(other)) {
            let (one, other) = (self.top(*one), self.top(*other));
            // The later below the earlier, as near to the top as can be: chains stay short.
            self.above[one.max(other)] = one.min(other);
        }
    }

    /// The groups whose paths are all selected.
    pub(super) fn selected(&self, changes: &Changes<'_>, selector: Selector<'_>) -> Result<HashSet<usize>> {
        let mut verdicts: HashMap<usize, (bool, Vec<u8>)> = HashMap::new();
        for item in changes.items() {
            let paths = match &item {
                Item::Name(slot) => changes.paths.of_name(slot).into_iter().collect(),
                Item::Object(id) if changes.is_other(*id) => changes.paths.of_object(*id),
                Item::Object(_) => Vec::new(),
            };
            for path in paths {
                let verdict = selector(&path);
                let (other, with) = verdicts.entry(self.of_item(&item)).or_insert((verdict, path.clone()));
                if *other != verdict {
                    let (path, with) = if verdict { (path, with.clone()) } else { (with.clone(), path) };
                    return Err(Error::Inseparable { path, with });
                }
            }
        }
        Ok(verdicts.into_iter().filter(|(_, (verdict, _))| *verdict).map(|(group, _)| group).collect())
    }
}

/// The nodes that stand for objects of the base.
fn origins(tree: &Tree) -> HashMap<(HostKey, Time), NodeId> {
    let origin = |(id, node): (NodeId, &Arc<Node>)| {
        let print = node.inode.origin.as_deref()?.print;
        Some(((print.key(), print.birth), id))
    };
    tree.nodes().filter_map(origin).collect()
}
