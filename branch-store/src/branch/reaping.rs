//! Forgetting objects that have no name and that nobody has open.

use crate::branch::{Branch, Draft};
use crate::error::Result;
use crate::ids::{LayerId, NodeId};
use crate::node::{Body, Content, Node};
use crate::tree::Change;

impl Branch {
    /// Forgets an orphan once nobody has it open or looked up. No effect on anything that has a link, nor on what a
    /// commit still has to know.
    ///
    /// # Errors
    /// The host's.
    pub fn reap(&self, id: NodeId) -> Result<()> {
        self.reap_all(&[id])
    }

    /// The same for many in one step: one record of the journal for all of them.
    ///
    /// # Errors
    /// The host's.
    pub fn reap_all(&self, ids: &[NodeId]) -> Result<()> {
        let goes = |id: &NodeId| self.data.read().tree.get(*id).is_some_and(|node| !stays(node));
        if !self.is_live() || !ids.iter().any(goes) {
            return Ok(());
        }
        let own =
            self.mutate_nameless(|draft| ids.iter().map(|id| reap(draft, *id)).collect::<Result<Vec<_>>>())?;
        self.shared.discard_contents(own.into_iter().flatten())
    }
}

/// Drops a node; returns the content that nobody needs any more.
fn reap(draft: &mut Draft<'_>, id: NodeId) -> Result<Option<(LayerId, NodeId)>> {
    let Some(node) = draft.view().tree.get(id).filter(|node| !stays(node)) else { return Ok(None) };
    let own = match node.inode.body {
        Body::File(Content::Own(layer)) if layer == draft.layer => Some((layer, id)),
        _ => None,
    };
    draft.push(Change::Drop { id })?;
    Ok(own)
}

fn stays(node: &Node) -> bool {
    node.inode.meta.nlink > 0 || node.is_grave()
}
