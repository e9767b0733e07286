//! A branch's tree over a newer base: what it means stays the same, what it remembers of the base is brought up to
//! date. To be called only with a tree that the base does not clash with (a plan of it can be drawn): then files and
//! links are as the branch saw them, and what is left are directories and counts. Reads the base, changes nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::base::Base;
use crate::commit::attributes;
use crate::commit::merge::{applied, subdirectories};
use crate::error::{Error, Result};
use crate::ids::{CommitId, NodeId};
use crate::node::{Body, HostKey, Kind, Lower, Node, Origin, Slot};
use crate::tree::{Change, Tree};

/// The tree over the base as of `head`.
///
/// # Errors
/// The host's; EIO for a tree that clashes with the base after all.
pub(super) fn refit(base: &Base, tree: &Tree, head: CommitId) -> Result<Tree> {
    let refit = Refit { base, tree, head };
    let mut changes = Vec::new();
    let named: HashSet<NodeId> = tree.nodes().flat_map(|(_, node)| children(node)).collect();
    for (id, node) in tree.nodes() {
        match node.inode.kind() {
            Kind::Dir => refit.names(id, node, &mut changes)?,
            _ if named.contains(&id) => {}
            _ => changes.extend(refit.nameless(id, node)?),
        }
    }
    let tree = after(tree, &changes)?;
    let refit = Refit { base, tree: &tree, head };
    let names = Names::of(&tree);
    let mut changes = Vec::new();
    for (id, node) in tree.nodes() {
        match node.inode.kind() {
            Kind::Dir if is_merged(node) => changes.extend(refit.directory(id, node)?),
            Kind::Dir => {}
            _ => changes.extend(refit.links(id, node, &names)?),
        }
    }
    after(&tree, &changes)
}

struct Refit<'a> {
    base: &'a Base,
    tree: &'a Tree,
    head: CommitId,
}

impl Refit<'_> {
    /// Names, and whole directories, that both the branch and others removed are no change of the branch any more.
    fn names(&self, id: NodeId, dir: &Node, changes: &mut Vec<Change>) -> Result<()> {
        if dir.is_grave() && self.is_gone(dir)? {
            changes.push(Change::Drop { id });
            return Ok(());
        }
        if !is_merged(dir) {
            return Ok(());
        }
        for (name, _) in dir.entries.iter().filter(|(_, entry)| entry.child.is_none()) {
            let slot = Slot { dir: id, name: name.clone() };
            if self.base.resolve(&slot, self.head)?.is_none() {
                changes.push(Change::Unlink { dir: id, name: slot.name });
            }
        }
        Ok(())
    }

    /// A file of the base that the branch removed a name of and has no other name for. What it did to it was dropped by
    /// a choice if the base has gone on there; the base's further names show the base's file.
    fn nameless(&self, id: NodeId, node: &Node) -> Result<Option<Change>> {
        let Some(origin) = node.inode.origin.as_deref().filter(|_| node.inode.meta.nlink > 0) else {
            return Ok(None);
        };
        let Some(slot) = &origin.slot else { return Ok(None) };
        let found = self.base.resolve(slot, self.head)?;
        let stands = found.is_some_and(|found| found.print == origin.print);
        Ok((!stands).then_some(Change::Drop { id }))
    }

    /// Whether a directory that the branch removed is no longer in the base either.
    fn is_gone(&self, grave: &Node) -> Result<bool> {
        let Some(origin) = grave.inode.origin.as_deref() else { return Ok(false) };
        let Some(slot) = &origin.slot else { return Ok(false) };
        let found = self.base.resolve(slot, self.head)?;
        Ok(!found.is_some_and(|found| found.print.same_object(&origin.print)))
    }

    /// What others made of a directory's attributes and subdirectories meanwhile is as if it had always been so.
    fn directory(&self, id: NodeId, node: &Node) -> Result<Option<Change>> {
        let (Some(found), Some(origin)) =
            (self.base.resolve_dir(id, self.head)?, node.inode.origin.as_deref())
        else {
            return Err(clashes());
        };
        let meta = found.meta(self.base.xattrs(&found, id == NodeId::ROOT)?);
        let now = meta.attributes();
        let then = origin.attributes.clone().unwrap_or_else(|| now.clone());
        let mut inode = node.inode.clone();
        let merged = attributes::merge(&then, &now, &inode.meta.attributes()).ok_or_else(clashes)?;
        inode.meta.set_attributes(merged);
        inode.meta.ctime = inode.meta.ctime.max(meta.ctime);
        // Some hosts count no subdirectories: 1, whatever there is.
        if meta.nlink > 1 {
            let count = i64::from(meta.nlink) + subdirectories(self.tree, node);
            inode.meta.nlink = u32::try_from(count).map_err(|_| clashes())?;
        }
        inode.origin = Some(Arc::new(Origin { attributes: Some(now), ..origin.clone() }));
        Ok((inode != node.inode).then(|| Change::Put { id, inode: Box::new(inode) }))
    }

    /// Names that others gave an object of the base, or took from it, count.
    fn links(&self, id: NodeId, node: &Node, names: &Names) -> Result<Option<Change>> {
        let Some(origin) = node.inode.origin.as_deref().filter(|_| node.inode.meta.nlink > 0) else {
            return Ok(None);
        };
        let found = match &origin.slot {
            Some(slot) => self.base.resolve(slot, self.head)?,
            None => None,
        };
        let own = i64::from(names.given.get(&id).copied().unwrap_or_default());
        let covered = names.covered.get(&origin.print.key()).copied().unwrap_or_default();
        let nlink = match found.filter(|found| found.print.same_object(&origin.print)) {
            Some(found) => i64::from(found.links()) - i64::from(covered) + own,
            None => own,
        };
        let mut inode = node.inode.clone();
        inode.meta.nlink = u32::try_from(nlink).map_err(|_| clashes())?;
        Ok((inode != node.inode).then(|| Change::Put { id, inode: Box::new(inode) }))
    }
}

/// How often a tree names each node, and how many names of each object of the base it covers.
#[derive(Default)]
struct Names {
    given: HashMap<NodeId, u32>,
    covered: HashMap<HostKey, u32>,
}

impl Names {
    fn of(tree: &Tree) -> Names {
        let mut names = Names::default();
        for entry in tree.nodes().flat_map(|(_, node)| node.entries.values()) {
            if let Some(child) = entry.child {
                *names.given.entry(child).or_default() += 1;
            }
            if let Some(over) = &entry.over {
                *names.covered.entry(over.key()).or_default() += 1;
            }
        }
        names
    }
}

fn children(node: &Node) -> impl Iterator<Item = NodeId> {
    node.entries.values().filter_map(|entry| entry.child)
}

fn is_merged(node: &Node) -> bool {
    node.inode.meta.nlink > 0 && matches!(node.inode.body, Body::Dir { lower: Lower::Merged, .. })
}

fn after(tree: &Tree, changes: &[Change]) -> Result<Tree> {
    applied(tree, changes).map_err(|_| clashes())
}

/// Cannot be: the plan that was drawn first would have said so.
fn clashes() -> Error {
    Error::Posix(rustix::io::Errno::IO)
}
