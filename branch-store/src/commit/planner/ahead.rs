//! All names that a tree speaks of, and what the base has under them, looked up by several threads where they are
//! many. Looking changes nothing, so the order does not matter; what follows from it is worked out one by one.

use std::ops::Deref;
use std::sync::Arc;

use super::is_merged;
use crate::base::{Base, Found};
use crate::crew;
use crate::error::{Error, Result};
use crate::ids::{CommitId, NodeId};
use crate::node::{Entry, Kind, Meta, Node, Slot, Xattrs};
use crate::plan::{RelPath, join};
use crate::tree::Tree;

/// A name in a directory that the tree shares with the base.
pub(super) struct Named<'a> {
    pub(super) slot: Slot,
    pub(super) entry: &'a Entry,
    pub(super) child: Option<&'a Node>,
    /// The directory, among [`Names::dirs`].
    above: usize,
}

/// Everything that has a name, parents first.
#[derive(Default)]
pub(super) struct Names<'a> {
    pub(super) names: Vec<Named<'a>>,
    /// Nodes, once for each name.
    pub(super) nodes: Vec<(NodeId, &'a Node)>,
    /// Paths of directories.
    dirs: Vec<RelPath>,
}

/// What the base has under a name, and its extended attributes if they could be read at once.
pub(super) struct Looked {
    found: Found,
    xattrs: Option<Xattrs>,
}

impl Deref for Looked {
    type Target = Found;

    fn deref(&self) -> &Found {
        &self.found
    }
}

impl From<Found> for Looked {
    fn from(found: Found) -> Looked {
        Looked { found, xattrs: None }
    }
}

impl Looked {
    /// Its attributes as they are.
    pub(super) fn meta(&self, base: &Base) -> Result<Meta> {
        let xattrs = self.xattrs.clone().map_or_else(|| base.xattrs(&self.found, false), Ok)?;
        Ok(self.found.meta(xattrs))
    }
}

impl<'a> Names<'a> {
    pub(super) fn of(tree: &'a Tree) -> Result<Names<'a>> {
        let mut names = Names::default();
        names.below(tree, NodeId::ROOT, Vec::new())?;
        Ok(names)
    }

    fn below(&mut self, tree: &'a Tree, dir: NodeId, path: RelPath) -> Result<()> {
        let node = node(tree, dir)?;
        let (merged, above) = (is_merged(node), self.dirs.len());
        self.dirs.push(path);
        for (name, entry) in &node.entries {
            let child = entry.child.map(|id| node_of(tree, id)).transpose()?;
            if merged {
                let slot = Slot { dir, name: name.clone() };
                self.names.push(Named { slot, entry, child: child.map(|(_, node)| node), above });
            }
            let Some((id, child)) = child else { continue };
            self.nodes.push((id, child));
            if child.inode.kind() == Kind::Dir {
                let path = join(&self.dirs[above], name.as_bytes());
                self.below(tree, id, path)?;
            }
        }
        Ok(())
    }

    pub(super) fn path(&self, named: &Named<'_>) -> RelPath {
        join(&self.dirs[named.above], named.slot.name.as_bytes())
    }

    /// What the base has now under each name.
    ///
    /// # Errors
    /// The host's.
    pub(super) fn look(&self, base: &Base, head: CommitId) -> Result<Vec<Option<Arc<Looked>>>> {
        let look = |all: &mut Vec<_>, named: &Named<'_>| {
            all.push(looked(base, named, head)?.map(Arc::new));
            Ok::<(), Error>(())
        };
        let (blocks, looked) = crew::each(&self.names, Vec::new, look);
        looked?;
        let mut all = Vec::with_capacity(self.names.len());
        all.extend(blocks.into_iter().flatten());
        debug_assert_eq!(all.len(), self.names.len(), "every name was looked up once");
        Ok(all)
    }
}

fn looked(base: &Base, named: &Named<'_>, head: CommitId) -> Result<Option<Looked>> {
    let Some(found) = base.resolve(&named.slot, head)? else { return Ok(None) };
    // A failure matters only to whoever needs them, and meets it again.
    let xattrs = base.xattrs(&found, false).ok();
    Ok(Some(Looked { found, xattrs }))
}

/// A node that something in the tree speaks of.
pub(super) fn node(tree: &Tree, id: NodeId) -> Result<&Node> {
    tree.get(id).map(|node| &**node).ok_or(Error::Posix(rustix::io::Errno::IO))
}

fn node_of(tree: &Tree, id: NodeId) -> Result<(NodeId, &Node)> {
    Ok((id, node(tree, id)?))
}
