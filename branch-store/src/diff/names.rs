//! Files with several names: one that changed has changed under all of them, also under those that neither tree
//! speaks of, because only the base has them.

use std::collections::{HashMap, HashSet};

use crate::diff::{At, Diff, look};
use crate::error::Result;
use crate::ids::NodeId;
use crate::node::{Body, Kind, Object};
use crate::plan::join;
use crate::tree::{Change, Tree};

/// What has been looked at on each side.
#[derive(Default)]
pub(super) struct Both {
    pub(super) old: Seen,
    pub(super) new: Seen,
}

/// Files that have been looked at; of those with several names, where.
#[derive(Default)]
pub(super) struct Seen(HashMap<NodeId, HashSet<Vec<u8>>>);

impl Seen {
    pub(super) fn note(&mut self, at: &At) {
        if at.stat.kind != Kind::File {
            return;
        }
        let paths = self.0.entry(at.object.id).or_default();
        if at.stat.nlink > 1 {
            paths.insert(at.path.clone());
        }
    }

    /// Whether a file with so many names has been looked at under all of them.
    fn has_all(&self, id: NodeId, links: usize) -> bool {
        self.0.get(&id).map_or(links == 0, |paths| links <= 1 || paths.len() >= links)
    }

    fn has(&self, id: NodeId, path: &[u8]) -> bool {
        self.0.get(&id).is_some_and(|paths| paths.contains(path))
    }
}

impl Diff<'_> {
    /// Compares the names that have not been seen. They can be anywhere, so this lists the whole new side; only if
    /// there are some, or the base's filesystem has some outside of the base.
    pub(super) fn other_names(&mut self) -> Result<()> {
        let several = self.with_more_names();
        if several.is_empty() {
            return Ok(());
        }
        let mut open = vec![(Vec::new(), Object { id: NodeId::ROOT, slot: None })];
        while let Some((dir_path, dir)) = open.pop() {
            for entry in self.new.read_dir(&dir)? {
                let path = join(&dir_path, entry.name.as_bytes());
                let id = entry.object.id;
                if entry.kind == Kind::Dir {
                    open.push((path, entry.object));
                } else if several.contains(&id) && !self.seen.new.has(id, &path) {
                    let old = look(&self.old, dir.id, &entry.name, &path)?;
                    let new = look(&self.new, dir.id, &entry.name, &path)?;
                    self.name(old, new)?;
                }
            }
        }
        Ok(())
    }

    /// Files whose nodes differ and that have more names than have been seen.
    fn with_more_names(&self) -> HashSet<NodeId> {
        let more = |change: &Change| match change {
            Change::Put { id, .. } => has_more(self.new.tree, &self.seen.new, *id).then_some(*id),
            // The base's own file on the new side, under those of its names that are not gone.
            Change::Drop { id } => has_more(self.old.tree, &self.seen.old, *id).then_some(*id),
            Change::Link { .. } | Change::Unlink { .. } | Change::Touch { .. } => None,
        };
        self.old.tree.diff(self.new.tree).iter().filter_map(more).collect()
    }
}

fn has_more(tree: &Tree, seen: &Seen, id: NodeId) -> bool {
    tree.get(id).is_some_and(|node| {
        matches!(node.inode.body, Body::File(_)) && !seen.has_all(id, node.inode.meta.nlink as usize)
    })
}
