//! A branch's complete difference from the base, as a persistent map. Cloning one is O(1) and shares
//! everything; that is what makes fork O(1) (S1) and a snapshot a snapshot (S2).
//!
//! I-1: every `child` of an entry has a node, and every directory node but the root is the child of an
//! entry of its `parent` or an orphan (nlink 0). I-2: a node's id equals the id of the base object it was
//! adopted from, so hard links of the base meet in one node.

use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use serde::{Deserialize, Serialize};

use crate::ids::{Name, NodeId};
use crate::node::{Body, Entry, Inode, Kind, Lower, Node, Time};

/// One step from one tree to the next. The journal, the checkpoint and merges all speak this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Change {
    /// Set the inode of a node; a directory keeps its entries.
    Put {
        /// The node.
        id: NodeId,
        /// Its new inode.
        inode: Box<Inode>,
    },
    /// Remove a node that no entry names any more.
    Drop {
        /// The node.
        id: NodeId,
    },
    /// Set what a name in a directory means.
    Link {
        /// The directory.
        dir: NodeId,
        /// The name.
        name: Name,
        /// Its new meaning.
        entry: Entry,
    },
    /// Say nothing about a name any more.
    Unlink {
        /// The directory.
        dir: NodeId,
        /// The name.
        name: Name,
    },
    /// An entry of the directory changed: its modification and change times.
    Touch {
        /// The directory.
        dir: NodeId,
        /// When.
        time: Time,
    },
}

/// The persistent tree.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    nodes: OrdMap<NodeId, Arc<Node>>,
}

impl Tree {
    pub(crate) fn get(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(&id)
    }

    pub(crate) fn is_same(&self, other: &Tree) -> bool {
        self.nodes.ptr_eq(&other.nodes)
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = (NodeId, &Arc<Node>)> {
        self.nodes.iter().map(|(id, node)| (*id, node))
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Applies one change.
    ///
    /// # Errors
    /// Names what the change refers to and the tree does not have; live code never produces such a change,
    /// a damaged journal may.
    pub(crate) fn apply(&mut self, change: &Change) -> Result<(), &'static str> {
        match change {
            Change::Put { id, inode } => self.put(*id, inode)?,
            Change::Drop { id } => {
                self.nodes.remove(id).ok_or("drop of a node that does not exist")?;
            }
            Change::Link { dir, name, entry } => {
                if entry.child.is_some_and(|child| !self.nodes.contains_key(&child)) {
                    return Err("link to a node that does not exist (I-1)");
                }
                self.dir_mut(*dir)?.entries.insert(name.clone(), entry.clone());
            }
            Change::Unlink { dir, name } => {
                self.dir_mut(*dir)?.entries.remove(name).ok_or("unlink of an entry that does not exist")?;
            }
            Change::Touch { dir, time } => {
                let node = self.dir_mut(*dir)?;
                node.inode.meta.mtime = Some(*time);
                node.inode.meta.ctime = *time;
            }
        }
        Ok(())
    }

    fn put(&mut self, id: NodeId, inode: &Inode) -> Result<(), &'static str> {
        let known = self.nodes.get_mut(&id);
        let filled = known.as_ref().is_some_and(|node| !node.entries.is_empty());
        if inode.kind() != Kind::Dir && (filled || id == NodeId::ROOT) {
            return Err("a directory becomes something else");
        }
        match known {
            Some(node) => Arc::make_mut(node).inode = inode.clone(),
            None => {
                let node = Node { inode: inode.clone(), entries: OrdMap::new() };
                self.nodes.insert(id, Arc::new(node));
            }
        }
        Ok(())
    }

    fn dir_mut(&mut self, dir: NodeId) -> Result<&mut Node, &'static str> {
        let node = self.nodes.get_mut(&dir).ok_or("entry of a directory that does not exist")?;
        match node.inode.body {
            Body::Dir { .. } => Ok(Arc::make_mut(node)),
            _ => Err("entry of something that is no directory"),
        }
    }

    /// Whether everything that has a name is the same in both. Stops at the first difference.
    pub(crate) fn shows_the_same(&self, other: &Tree) -> bool {
        self.nodes.diff(&other.nodes).all(|item| match item {
            DiffItem::Add(_, node) | DiffItem::Remove(_, node) => node.is_nameless(),
            DiffItem::Update { old: (_, old), new: (_, new) } => old.is_nameless() && new.is_nameless(),
        })
    }

    /// The changes that lead from `self` to `newer`, in an order `apply` accepts. Costs what changed:
    /// shared parts are skipped.
    pub(crate) fn diff(&self, newer: &Tree) -> Vec<Change> {
        let mut puts = Vec::new();
        let mut entries = Vec::new();
        let mut drops = Vec::new();
        let mut replaced = Vec::new();
        for item in self.nodes.diff(&newer.nodes) {
            match item {
                // The host gave the number of what is gone to another object.
                DiffItem::Update { old: (id, old), new: (_, new) }
                    if old.inode.kind() != new.inode.kind() =>
                {
                    replaced.push(Change::Drop { id: *id });
                    puts.push(Change::Put { id: *id, inode: Box::new(new.inode.clone()) });
                    diff_entries(*id, &OrdMap::new(), &new.entries, &mut entries);
                }
                DiffItem::Add(id, node) => {
                    puts.push(Change::Put { id: *id, inode: Box::new(node.inode.clone()) });
                    diff_entries(*id, &OrdMap::new(), &node.entries, &mut entries);
                }
                DiffItem::Update { old: (id, old), new: (_, new) } => {
                    if old.inode != new.inode {
                        puts.push(Change::Put { id: *id, inode: Box::new(new.inode.clone()) });
                    }
                    diff_entries(*id, &old.entries, &new.entries, &mut entries);
                }
                DiffItem::Remove(id, _) => drops.push(Change::Drop { id: *id }),
            }
        }
        replaced.into_iter().chain(puts).chain(entries).chain(drops).collect()
    }
}

/// How many objects changes are about, as a person counts: what was made, written, or removed, but not the
/// directories that only hold it.
pub(crate) fn changed(changes: &[Change]) -> u64 {
    let counts = |change: &&Change| match change {
        Change::Put { inode, .. } => {
            inode.meta.nlink > 0 && !matches!(inode.body, Body::Dir { lower: Lower::Merged, .. })
        }
        Change::Link { entry, .. } => entry.child.is_none(),
        Change::Drop { .. } | Change::Unlink { .. } | Change::Touch { .. } => false,
    };
    changes.iter().filter(counts).count() as u64
}

fn diff_entries(dir: NodeId, old: &OrdMap<Name, Entry>, new: &OrdMap<Name, Entry>, out: &mut Vec<Change>) {
    for item in old.diff(new) {
        out.push(match item {
            DiffItem::Add(name, entry) | DiffItem::Update { new: (name, entry), .. } => {
                Change::Link { dir, name: name.clone(), entry: entry.clone() }
            }
            DiffItem::Remove(name, _) => Change::Unlink { dir, name: name.clone() },
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::node::Meta;

    fn inode(mode: u32, dir: bool) -> Box<Inode> {
        let meta = Meta {
            mode,
            uid: 0,
            gid: 0,
            nlink: 1,
            rdev: 0,
            atime: Time::default(),
            mtime: Some(Time::default()),
            ctime: Time::default(),
            xattrs: Arc::default(),
        };
        let body = if dir {
            Body::Dir { parent: NodeId::ROOT, lower: Lower::Opaque }
        } else {
            Body::Special(Kind::Fifo)
        };
        Box::new(Inode { meta, origin: None, body })
    }

    fn change() -> impl Strategy<Value = Change> {
        let id = (1u32..12).prop_map(NodeId);
        let name = "[a-d]".prop_map(|s: String| Name::trusted(s.as_bytes()));
        prop_oneof![
            (1u32..12, 0u32..4)
                .prop_map(|(i, mode)| Change::Put { id: NodeId(i), inode: inode(mode, i % 2 == 1) }),
            id.clone().prop_map(|id| Change::Drop { id }),
            (id.clone(), name.clone(), prop::option::of(id.clone())).prop_map(|(dir, name, child)| {
                Change::Link { dir, name, entry: Entry { child, over: None } }
            }),
            (id.clone(), name).prop_map(|(dir, name)| Change::Unlink { dir, name }),
            (id, 0i64..5).prop_map(|(dir, sec)| Change::Touch { dir, time: Time { sec, nsec: 0 } }),
        ]
    }

    /// Found by `fuzz/recover`: the tree took it, and the next checkpoint could not be read.
    #[test]
    fn a_directory_that_is_filled_or_the_root_becomes_nothing_else() {
        let mut tree = Tree::default();
        let put = |id: u32, dir| Change::Put { id: NodeId(id), inode: inode(0, dir) };
        let entry = Entry { child: None, over: None };
        let link = Change::Link { dir: NodeId(3), name: Name::trusted(b"a"), entry };
        assert_eq!([put(3, true), put(3, false), put(3, true), link].map(|c| tree.apply(&c)), [Ok(()); 4]);
        assert!(tree.apply(&put(3, false)).is_err());
        assert!(tree.apply(&put(1, false)).is_err());
    }

    proptest! {
        /// The checkpoint and merge rest on this: applying a diff gives the other tree.
        #[test]
        fn applying_the_diff_of_two_trees_leads_from_one_to_the_other(
            first in prop::collection::vec(change(), 0..60),
            second in prop::collection::vec(change(), 0..60),
        ) {
            let mut old = Tree::default();
            for change in &first {
                // A refused change leaves the tree as it was; the random sequence has many.
                if old.apply(change).is_err() { continue }
            }
            let mut new = old.clone();
            for change in &second {
                if new.apply(change).is_err() { continue }
            }
            let mut replayed = old.clone();
            let dangling = new.nodes().any(|(_, n)| n.entries.values().any(|e| e.child.is_some_and(|c| new.get(c).is_none())));
            prop_assume!(!dangling);
            for change in old.diff(&new) {
                prop_assert_eq!(replayed.apply(&change), Ok(()));
            }
            prop_assert_eq!(&replayed.nodes, &new.nodes);
        }
    }
}
