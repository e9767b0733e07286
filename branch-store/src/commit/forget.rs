//! What views must forget when a tree gets another.

use std::collections::HashSet;

use crate::ids::{BranchId, Name, NodeId};
use crate::tree::{Change, Tree};

/// Something a view of a branch must forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Whose view.
    pub branch: BranchId,
    /// What.
    pub what: Invalidate,
}

/// What to forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalidate {
    /// A name in a directory.
    Entry {
        /// The directory.
        dir: NodeId,
        /// The name.
        name: Name,
    },
    /// Attributes and bytes of an object.
    Inode(NodeId),
}

/// What a view must forget when its tree goes through these changes.
pub(crate) fn invalid(branch: BranchId, changes: &[Change]) -> Vec<Invalid> {
    let forget = |change: &Change| -> Option<Invalidate> {
        Some(match change {
            Change::Put { id, .. } | Change::Touch { dir: id, .. } => Invalidate::Inode(*id),
            Change::Link { dir, name, .. } | Change::Unlink { dir, name } => {
                Invalidate::Entry { dir: *dir, name: name.clone() }
            }
            Change::Drop { id } if *id != NodeId::ROOT => Invalidate::Inode(*id),
            Change::Drop { .. } => return None,
        })
    };
    changes.iter().filter_map(forget).map(|what| Invalid { branch, what }).collect()
}

/// What a view must forget: what the changes are about, all names in directories that have no node any more, and
/// every directory that lists another name.
pub(crate) fn forgotten(branch: BranchId, before: &Tree, changes: &[Change]) -> Vec<Invalid> {
    let mut all = invalid(branch, changes);
    let mut inodes = HashSet::new();
    for change in changes {
        match change {
            Change::Drop { id } => {
                inodes.insert(*id);
                let names = before.get(*id).into_iter().flat_map(|node| node.entries.keys());
                let entry = |name: &Name| Invalidate::Entry { dir: *id, name: name.clone() };
                all.extend(names.map(|name| Invalid { branch, what: entry(name) }));
            }
            Change::Link { dir, .. } | Change::Unlink { dir, .. } => {
                inodes.insert(*dir);
            }
            Change::Put { .. } | Change::Touch { .. } => {}
        }
    }
    for told in &all {
        if let Invalidate::Inode(id) = told.what {
            inodes.remove(&id);
        }
    }
    all.extend(inodes.into_iter().map(|id| Invalid { branch, what: Invalidate::Inode(id) }));
    all
}
