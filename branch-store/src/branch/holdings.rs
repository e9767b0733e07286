//! What a branch holds: of its own, and all that its view has copied from the base.

use std::sync::{Arc, OnceLock};

use crate::branch::Branch;
use crate::content::Contents;
use crate::error::Result;
use crate::ids::NodeId;
use crate::node::{Body, Content};
use crate::tree::{Change, Tree, changed};

/// What a branch holds. Bytes are those that the host has allocated (`st_blocks`), not the apparent sizes: a hole
/// counts nothing, the last block of a file counts whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holdings {
    /// Number of objects made, written or removed since the fork.
    pub changed: u64,
    /// Bytes of content in the branch's own layers: what becomes free when it is aborted.
    pub exclusive: u64,
    /// Bytes of all content that its view has apart from the base: its own, and what its ancestors had when it was
    /// forked.
    pub content: u64,
}

/// Bytes of content at the fork, once somebody asked: nothing changes them afterwards (I-4).
#[derive(Debug, Clone, Default)]
pub(crate) struct AtFork(Arc<OnceLock<u64>>);

impl Branch {
    /// What the branch holds.
    ///
    /// # Errors
    /// The host's.
    pub fn holdings(&self) -> Result<Holdings> {
        let at_fork = self.content_at_fork()?;
        let data = self.data.read().clone();
        let contents = &self.shared.contents;
        let changes = data.fork_tree.diff(&data.tree);
        let content = after(contents, at_fork, &data.fork_tree, &changes)?;
        Ok(Holdings { changed: changed(&changes), exclusive: contents.held(&data.layers)?, content })
    }

    /// From the nearest ancestor of which it is known, fork by fork.
    fn content_at_fork(&self) -> Result<u64> {
        let mut forks = Vec::new();
        let (mut tree, mut bytes) = (Tree::default(), 0);
        let mut next = (self.data.read().clone(), self.parent());
        loop {
            let (data, parent) = next;
            if let Some(known) = data.at_fork.0.get() {
                (tree, bytes) = (data.fork_tree, *known);
                break;
            }
            forks.push((data.fork_tree, data.at_fork));
            let above = parent.and_then(|parent| self.shared.registry.read().get(parent));
            let Some(above) = above else { break };
            next = (above.data.read().clone(), above.parent());
        }
        while let Some((fork, at_fork)) = forks.pop() {
            bytes = after(&self.shared.contents, bytes, &tree, &tree.diff(&fork))?;
            bytes = *at_fork.0.get_or_init(|| bytes);
            tree = fork;
        }
        Ok(bytes)
    }
}

/// Bytes of content after changes of a tree that had so many.
fn after(contents: &Contents, before: u64, old: &Tree, changes: &[Change]) -> Result<u64> {
    let held = |id: NodeId, body: &Body| match body {
        Body::File(Content::Own(layer)) => contents.held_by(*layer, id),
        _ => Ok(0),
    };
    let (mut more, mut less) = (before, 0);
    for change in changes {
        let (id, new) = match change {
            Change::Put { id, inode } => (*id, Some(&inode.body)),
            Change::Drop { id } => (*id, None),
            Change::Link { .. } | Change::Unlink { .. } | Change::Touch { .. } => continue,
        };
        more += new.map_or(Ok(0), |body| held(id, body))?;
        less += old.get(id).map_or(Ok(0), |node| held(id, &node.inode.body))?;
    }
    Ok(more.saturating_sub(less))
}
