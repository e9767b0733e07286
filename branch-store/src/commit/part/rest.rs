//! What a partial commit into the base leaves in the branch: the tree without the part, over the base that has it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::base::{Base, Found};
use crate::commit::part::Changes;
use crate::commit::refit::refit;
use crate::error::{Error, Result};
use crate::ids::{CommitId, NodeId};
use crate::journal::record::{DirPlace, Part};
use crate::node::{Body, Entry, Inode, Kind, Lower, Node, Origin, Slot};
use crate::tree::{Change, Tree};

/// The tree, and base directories that it now refers to. `head` is the partial commit.
///
/// # Errors
/// The host's; EIO where somebody changed the base on these paths since.
pub(in crate::commit) fn rest(
    base: &Base,
    tree: &Tree,
    part: &Part,
    head: CommitId,
) -> Result<(Tree, Vec<DirPlace>)> {
    let (names, objects) = Changes::of(&Tree::default(), tree).left(part);
    let mut rest = Rest {
        base,
        tree,
        part,
        head,
        needed: needed(tree, &names, &objects),
        nodes: HashMap::new(),
        links: Vec::new(),
        dirs: Vec::new(),
    };
    rest.named()?;
    rest.nameless();
    let puts = rest.nodes.into_iter().map(|(id, inode)| Change::Put { id, inode: Box::new(inode) });
    let mut left = Tree::default();
    for change in puts.collect::<Vec<_>>().iter().chain(&rest.links) {
        left.apply(change).map_err(|_| Error::Posix(rustix::io::Errno::IO))?;
    }
    Ok((refit(base, &left, head)?, rest.dirs))
}

/// Directories at or below which something is left.
fn needed(tree: &Tree, names: &HashSet<Slot>, objects: &HashSet<NodeId>) -> HashSet<NodeId> {
    let mut needed = HashSet::new();
    let holders = tree.nodes().filter(|(_, node)| {
        let holds = |entry: &Entry| entry.child.is_some_and(|child| objects.contains(&child));
        node.entries.values().any(holds)
    });
    let mut todo: Vec<NodeId> = holders.map(|(id, _)| id).collect();
    todo.extend(names.iter().map(|slot| slot.dir).chain(objects.iter().copied()));
    while let Some(id) = todo.pop() {
        let Some(Body::Dir { parent, .. }) = tree.get(id).map(|node| &node.inode.body) else { continue };
        if needed.insert(id) {
            todo.push(*parent);
        }
    }
    needed
}

struct Rest<'a> {
    base: &'a Base,
    tree: &'a Tree,
    part: &'a Part,
    head: CommitId,
    needed: HashSet<NodeId>,
    nodes: HashMap<NodeId, Inode>,
    links: Vec<Change>,
    dirs: Vec<DirPlace>,
}

impl Rest<'_> {
    /// Everything that has a name, parents first: they may have got another id.
    fn named(&mut self) -> Result<()> {
        let Some(root) = self.tree.get(NodeId::ROOT) else { return Ok(()) };
        self.nodes.insert(NodeId::ROOT, root.inode.clone());
        let mut todo = vec![(NodeId::ROOT, NodeId::ROOT)];
        while let Some((old, dir)) = todo.pop() {
            let Some(node) = self.tree.get(old) else { continue };
            for (name, entry) in &node.entries {
                let (from, to) = (Slot { dir: old, name: name.clone() }, Slot { dir, name: name.clone() });
                let taken = self.part.names.contains(&from);
                let child = entry.child.and_then(|id| Some((id, self.tree.get(id)?)));
                match child {
                    Some((id, node)) if node.inode.kind() == Kind::Dir => {
                        if !taken {
                            self.keep_dir(id, node, to, entry.clone());
                            todo.push((id, id));
                        } else if self.needed.contains(&id) {
                            todo.push((id, self.stand_on(id, node, to)?));
                        }
                    }
                    _ if taken => {}
                    Some((id, node)) => {
                        self.nodes.insert(id, node.inode.clone());
                        self.link(to, entry.clone());
                    }
                    None => self.link(to, entry.clone()),
                }
            }
        }
        Ok(())
    }

    fn keep_dir(&mut self, id: NodeId, node: &Node, at: Slot, entry: Entry) {
        let mut inode = node.inode.clone();
        if let Body::Dir { parent, .. } = &mut inode.body {
            *parent = at.dir;
        }
        self.nodes.insert(id, inode);
        self.link(at, entry);
    }

    /// A directory that the part put into the base, with what is left in it. It is the base's now, and so is its id.
    fn stand_on(&mut self, id: NodeId, node: &Node, at: Slot) -> Result<NodeId> {
        let found = self.base.resolve(&at, self.head)?.filter(|found| found.print.kind == Kind::Dir);
        let Some(found) = found else {
            // Somebody took it away again: then it is still to be made.
            self.keep_dir(id, node, at, Entry { child: Some(id), over: None });
            return Ok(id);
        };
        let new = self.base.id_of(&found.print, self.tree)?;
        self.base.places.note_dir(new, &found.place, found.print);
        self.dirs.push(DirPlace { id: new, slot: found.place.clone(), object: found.print });
        self.nodes.insert(new, self.as_found(&found, &at)?);
        self.link(at, Entry { child: Some(new), over: Some(Arc::new(found.print)) });
        Ok(new)
    }

    fn as_found(&self, found: &Found, at: &Slot) -> Result<Inode> {
        let meta = found.meta(self.base.xattrs(found, false)?);
        let attributes = Some(meta.attributes());
        let origin = Origin { print: found.print, slot: Some(at.clone()), attributes };
        let body = Body::Dir { parent: at.dir, lower: Lower::Merged };
        Ok(Inode { meta, origin: Some(Arc::new(origin)), body })
    }

    /// Removed directories of the base, files of which only others have names, and what is open without one.
    fn nameless(&mut self) {
        let mut named = HashSet::new();
        for entry in self.tree.nodes().flat_map(|(_, node)| node.entries.values()) {
            named.extend(entry.child);
        }
        let nameless = |id: &NodeId| *id != NodeId::ROOT && !named.contains(id);
        for (id, node) in self.tree.nodes().filter(|(id, _)| nameless(id)) {
            if self.part.objects.contains(&id) && node.inode.origin.is_some() {
                continue;
            }
            self.nodes.insert(id, node.inode.clone());
            for (name, entry) in node.entries.iter().filter(|(_, entry)| entry.child.is_none()) {
                self.link(Slot { dir: id, name: name.clone() }, entry.clone());
            }
        }
    }

    fn link(&mut self, at: Slot, entry: Entry) {
        self.links.push(Change::Link { dir: at.dir, name: at.name, entry });
    }
}
