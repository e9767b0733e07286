//! Three-way merge of a child into a parent that changed since the fork (S14). Pure: trees in, changes or
//! conflicts out.

mod taken_back;

use std::cell::OnceCell;
use std::collections::HashSet;
use std::ops::Deref;

use crate::commit::attributes::{self, pick};
use crate::commit::clash::{Clash, Subject, Why};
use crate::commit::index::Index;
use crate::ids::{Name, NodeId};
use crate::node::{Body, Entry, Inode, Kind, Lower, Node, Slot};
use crate::tree::{Change, Tree};

/// What the parent has to go through to hold the child's changes, too.
///
/// # Errors
/// Every conflicting path.
pub(crate) fn merge(fork: &Tree, theirs: &Tree, ours: &Tree) -> Result<Vec<Change>, Vec<Clash>> {
    let touched = Touched::of(&fork.diff(theirs));
    let [of_fork, of_theirs, of_ours] = [fork, theirs, ours].map(Side::of);
    let merge = Merge { fork: of_fork, theirs: of_theirs, ours: of_ours, touched };
    let mut changes = Vec::new();
    let mut conflicts = Vec::new();
    for change in fork.diff(ours) {
        match merge.one(change) {
            Ok(change) => changes.extend(change),
            Err(conflict) => conflicts.push(conflict),
        }
    }
    let merged = applied(theirs, &changes);
    if let (true, Ok(merged)) = (conflicts.is_empty(), &merged) {
        conflicts = merge.misplaced(merged, &changes);
    }
    if let (true, Ok(merged)) = (conflicts.is_empty(), &merged) {
        changes.extend(merge.recounted(merged));
        changes.extend(merge.forsaken(merged));
    }
    if conflicts.is_empty() { Ok(changes) } else { Err(conflicts) }
}

/// What the parent changed since the fork.
#[derive(Default)]
struct Touched {
    nodes: HashSet<NodeId>,
    entries: HashSet<(NodeId, Name)>,
    /// Objects that got a name.
    named: HashSet<NodeId>,
}

impl Touched {
    fn of(changes: &[Change]) -> Touched {
        let mut touched = Touched::default();
        for change in changes {
            match change {
                Change::Put { id, .. } | Change::Drop { id } | Change::Touch { dir: id, .. } => {
                    touched.nodes.insert(*id);
                }
                Change::Link { dir, name, .. } | Change::Unlink { dir, name } => {
                    // Within one tick of the clock the times of the directory do not show it.
                    touched.nodes.insert(*dir);
                    touched.entries.insert((*dir, name.clone()));
                    if let Change::Link { entry: Entry { child: Some(child), .. }, .. } = change {
                        touched.named.insert(*child);
                    }
                }
            }
        }
        touched
    }
}

/// A tree after changes.
///
/// # Errors
/// What the tree does not have.
pub(crate) fn applied(tree: &Tree, changes: &[Change]) -> Result<Tree, &'static str> {
    let mut tree = tree.clone();
    changes.iter().try_for_each(|change| tree.apply(change))?;
    Ok(tree)
}

struct Merge<'a> {
    fork: Side<'a>,
    theirs: Side<'a>,
    ours: Side<'a>,
    touched: Touched,
}

/// A tree, and its index as soon as somebody has to search: most merges have nothing to look for.
struct Side<'a> {
    tree: &'a Tree,
    index: OnceCell<Index>,
}

impl Side<'_> {
    fn of(tree: &Tree) -> Side<'_> {
        Side { tree, index: OnceCell::new() }
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| Index::of(self.tree))
    }
}

impl Deref for Side<'_> {
    type Target = Tree;

    fn deref(&self) -> &Tree {
        self.tree
    }
}

impl Merge<'_> {
    fn one(&self, change: Change) -> Result<Option<Change>, Clash> {
        match &change {
            Change::Put { id, inode } => self.put(*id, inode),
            Change::Link { dir, name, .. } | Change::Unlink { dir, name } => {
                self.entry(*dir, name, change.clone())
            }
            Change::Drop { id } => {
                // What had no name at the fork was only open, and here it no longer is.
                if self.fork.get(*id).is_some_and(|node| node.is_nameless()) {
                    return Ok(None);
                }
                // What has no name there either lives on for whoever has it open.
                if self.theirs.get(*id).is_none_or(|node| node.inode.meta.nlink == 0) {
                    return Ok(None);
                }
                // Edited there, removed here: the entry's own check reports it if a name is involved.
                let edited = self.touched.nodes.contains(id) || self.touched.named.contains(id);
                if edited { Err(self.conflict(*id, Why::BothChanged)) } else { Ok(Some(change)) }
            }
            Change::Touch { .. } => Ok(Some(change)),
        }
    }

    fn put(&self, id: NodeId, ours: &Inode) -> Result<Option<Change>, Clash> {
        let put = |inode: Inode| Ok(Some(Change::Put { id, inode: Box::new(inode) }));
        if !self.touched.nodes.contains(&id) {
            let lost = ours.meta.nlink > 0 && self.removed_from_base(id);
            return if lost { Err(self.conflict(id, Why::GoneBelow)) } else { put(ours.clone()) };
        }
        let Some(theirs) = self.theirs.get(id) else {
            // It was only open at the fork, and is no more: a branch that was told to win over its removal brings it
            // back.
            return match self.fork.get(id).is_some_and(|node| node.is_nameless()) {
                true if ours.meta.nlink > 0 => put(ours.clone()),
                true => Ok(None),
                false => Err(self.conflict(id, Why::GoneBelow)),
            };
        };
        if theirs.inode == *ours {
            return Ok(None);
        }
        // Of directories attributes merge one by one.
        if (ours.kind() != Kind::Dir || ours.meta.nlink == 0) && self.is_untouched(id) {
            return put(ours.clone());
        }
        if ours.meta.nlink == 0 && theirs.inode.meta.nlink == 0 {
            return Ok(None);
        }
        // It is only open here, which is no change: it goes on as it is there.
        let is_open = |tree: &Tree| tree.get(id).is_none_or(|node| node.is_nameless());
        if is_open(&self.fork) && is_open(&self.ours) {
            return Ok(None);
        }
        // It is only open there: a branch that was told to win over its removal brings it back.
        let known_removed = self.fork.get(id).is_none_or(|node| node.is_nameless());
        if theirs.is_nameless() && known_removed && !self.removed_from_base(id) {
            return put(ours.clone());
        }
        if ours.kind() != Kind::Dir || theirs.inode.kind() != Kind::Dir {
            return Err(self.conflict(id, Why::BothChanged));
        }
        if (ours.meta.nlink == 0) != (theirs.inode.meta.nlink == 0) {
            return Err(self.conflict(id, Why::BothChanged));
        }
        let fork = self.fork.get(id).map(|node| &node.inode);
        match merge_dir(fork, &theirs.inode, ours) {
            Some(inode) => put(inode),
            None => Err(self.conflict(id, Why::BothChanged)),
        }
    }

    fn entry(&self, dir: NodeId, name: &Name, change: Change) -> Result<Option<Change>, Clash> {
        let is_gone = |tree: &Tree| tree.get(dir).is_some_and(|node| node.inode.meta.nlink == 0);
        // A branch that was told to win over that brings the directory back.
        let brought_back = is_gone(&self.fork) && !is_gone(&self.ours);
        let gone = is_gone(&self.theirs) && !brought_back;
        if gone && is_gone(&self.ours) {
            // Both removed the directory: what it held is of no more interest than before.
            let known = self.theirs.get(dir).is_some_and(|node| node.entries.contains_key(name));
            return Ok((!known).then_some(change));
        }
        let dropped = self.theirs.get(dir).is_none() && self.touched.nodes.contains(&dir);
        if gone || dropped || self.is_gone(&change) {
            return Err(self.conflict_at(dir, name, Why::GoneBelow));
        }
        if !self.touched.entries.contains(&(dir, name.clone())) {
            return Ok(Some(change));
        }
        // One side only changed the object or what is below, the other moved it: both may stand.
        if let Some(child) =
            child_of(&self.theirs, dir, name).filter(|_| self.adopts(&self.theirs, dir, name))
            && (self.lives(&self.ours, Some(child)) || self.is_untouched(child))
        {
            return Ok(Some(change));
        }
        if self.adopts(&self.ours, dir, name) && self.lives(&self.theirs, child_of(&self.ours, dir, name)) {
            return Ok(None);
        }
        let [fork_child, their_child, our_child] =
            [&self.fork, &self.theirs, &self.ours].map(|side| child_of(side, dir, name));
        if their_child == our_child {
            let moved = our_child.is_none() && (self.moved_there(dir, name) || self.base_is_back(dir, name));
            return if moved { Err(self.conflict_at(dir, name, Why::BothChanged)) } else { Ok(None) };
        }
        let why = match (their_child, our_child) {
            (None, _) => Why::GoneBelow,
            (Some(_), Some(_)) if fork_child.is_none() => Why::BothCreated,
            _ => Why::BothChanged,
        };
        Err(self.conflict_at(dir, name, why))
    }

    /// Whether an entry only came to be because something at or below it changed: it means what it meant.
    fn adopts(&self, tree: &Tree, dir: NodeId, name: &Name) -> bool {
        let entry = |tree: &Tree| tree.get(dir).and_then(|node| node.entries.get(name).cloned());
        let (None, Some(entry)) = (entry(&self.fork), entry(tree)) else { return false };
        let child = entry.child.and_then(|child| tree.get(child));
        let origin = child.and_then(|node| node.inode.origin.as_deref());
        entry.over.zip(origin).is_some_and(|(over, origin)| origin.print.same_object(&over))
    }

    /// Whether an object of the base that we made our own since the fork was removed there, which leaves nothing
    /// of it in that tree but what the name it had means now, and what somebody has open.
    fn removed_from_base(&self, id: NodeId) -> bool {
        if self.fork.get(id).is_some() || self.lives(&self.theirs, Some(id)) {
            return false;
        }
        let origin = self.ours.get(id).and_then(|node| node.inode.origin.as_deref());
        let Some(slot) = origin.and_then(|origin| origin.slot.as_ref()) else { return false };
        // What the fork knew of, a branch that was told to win over it brings back.
        let gone = |dir: &Node| dir.inode.meta.nlink == 0 || dir.entries.contains_key(&slot.name);
        match self.theirs.get(slot.dir) {
            Some(dir) => gone(dir) && !self.fork.get(slot.dir).is_some_and(|dir| gone(dir)),
            None => self.removed_from_base(slot.dir),
        }
    }

    /// Whether the base object that both took this name from has another there, and none here.
    fn moved_there(&self, dir: NodeId, name: &Name) -> bool {
        let slot = Slot { dir, name: name.clone() };
        self.theirs.index().adopted_at(&slot).any(|id| {
            let since = self.fork.get(id).is_none() && self.lives(&self.theirs, Some(id));
            since && !self.lives(&self.ours, Some(id))
        })
    }

    fn lives(&self, tree: &Tree, id: Option<NodeId>) -> bool {
        id.and_then(|id| tree.get(id)).is_some_and(|node| node.inode.meta.nlink > 0)
    }

    /// Whether the change names an object that was there at the fork and that the parent has removed since. (A
    /// rename within one tick of the clock leaves no other trace on the object.)
    fn is_gone(&self, change: &Change) -> bool {
        let Change::Link { dir, name, entry } = change else { return false };
        let Some(child) = entry.child.filter(|child| self.lives(&self.fork, Some(*child))) else {
            return false;
        };
        if self.theirs.get(child).is_none_or(|node| node.inode.meta.nlink == 0) {
            return true;
        }
        // Both took a name of it away and we give it another: its inode may not show that, either.
        let names = |tree: &Tree, dir: NodeId, name: &Name| child_of(tree, dir, name) == Some(child);
        let lost =
            |(dir, name): &(NodeId, Name)| names(&self.fork, *dir, name) && !names(&self.theirs, *dir, name);
        !names(&self.fork, *dir, name)
            && !names(&self.theirs, *dir, name)
            && self.touched.entries.iter().any(lost)
    }

    /// Directories that moves of both sides together would give two names, or none below the root.
    fn misplaced(&self, merged: &Tree, changes: &[Change]) -> Vec<Clash> {
        let mut out = Vec::new();
        for change in changes {
            let Change::Link { dir, name, entry } = change else { continue };
            let Some(id) = entry.child else { continue };
            if parent_of(merged, id).is_none() {
                continue;
            }
            let twice = parent_of(&self.theirs, id).is_some_and(|above| {
                let entries = merged.get(above).into_iter().flat_map(|node| node.entries.iter());
                entries.into_iter().any(|(n, e)| e.child == Some(id) && (above, n) != (*dir, name))
            });
            if twice || !reaches_root(merged, id) {
                out.push(self.conflict_at(*dir, name, Why::BothChanged));
            }
        }
        out
    }

    /// Link counts of directories that both sides changed: what the base has, and what the entries of both add to
    /// it and take from it.
    fn recounted(&self, merged: &Tree) -> Vec<Change> {
        let recount = |id: &NodeId| {
            let (ours, node) = (self.ours.get(*id)?, merged.get(*id)?);
            let counts =
                node.inode.kind() == Kind::Dir && ours.inode.meta.nlink > 1 && node.inode.meta.nlink > 0;
            let without = i64::from(ours.inode.meta.nlink) - subdirectories(&self.ours, ours);
            let nlink = u32::try_from(without + subdirectories(merged, node)).ok()?;
            let mut inode = node.inode.clone();
            inode.meta.nlink = nlink;
            (counts && inode != node.inode).then(|| Change::Put { id: *id, inode: Box::new(inode) })
        };
        self.touched.nodes.iter().filter_map(recount).collect()
    }

    fn conflict(&self, id: NodeId, why: Why) -> Clash {
        Clash::new(self.path(id), why, Subject::Object(id))
    }

    fn conflict_at(&self, dir: NodeId, name: &Name, why: Why) -> Clash {
        let path = crate::plan::join(&self.path(dir), name.as_bytes());
        Clash::new(path, why, Subject::Name(Slot { dir, name: name.clone() }))
    }

    /// What one side removed has its path on the other.
    fn path(&self, id: NodeId) -> Vec<u8> {
        let mut sides = [&self.ours, &self.theirs, &self.fork].into_iter();
        sides.find_map(|side| side.index().path(side, id)).unwrap_or_default()
    }
}

/// How many subdirectories the entries of a directory add to those that the base has in it.
pub(super) fn subdirectories(tree: &Tree, dir: &Node) -> i64 {
    dir.entries.values().map(|entry| subdirectory(tree, entry)).sum()
}

/// What one entry adds.
pub(super) fn subdirectory(tree: &Tree, entry: &Entry) -> i64 {
    let is_dir = |id| tree.get(id).is_some_and(|node| node.inode.kind() == Kind::Dir);
    let added = entry.child.is_some_and(is_dir);
    let had = entry.over.as_ref().is_some_and(|over| over.kind == Kind::Dir);
    i64::from(added) - i64::from(had)
}

/// The node a tree gives a name.
fn child_of(tree: &Tree, dir: NodeId, name: &Name) -> Option<NodeId> {
    tree.get(dir)?.entries.get(name)?.child
}

fn parent_of(tree: &Tree, dir: NodeId) -> Option<NodeId> {
    match tree.get(dir)?.inode.body {
        Body::Dir { parent, .. } => Some(parent),
        Body::File(_) | Body::Symlink(_) | Body::Special(_) => None,
    }
}

fn reaches_root(tree: &Tree, dir: NodeId) -> bool {
    let (mut at, mut seen) = (dir, HashSet::new());
    while at != NodeId::ROOT {
        match parent_of(tree, at) {
            Some(above) if seen.insert(at) => at = above,
            _ => return false,
        }
    }
    true
}

/// Directories merge attribute by attribute; their times follow the later side.
fn merge_dir(fork: Option<&Inode>, theirs: &Inode, ours: &Inode) -> Option<Inode> {
    let mut merged = ours.clone();
    // A directory that neither had changed at the fork was there as in the base.
    let adopted = || ours.origin.as_ref().and_then(|origin| origin.attributes.clone());
    match fork.map(|fork| fork.meta.attributes()).or_else(adopted) {
        Some(then) => {
            let [theirs, ours] = [theirs, ours].map(|side| side.meta.attributes());
            merged.meta.set_attributes(attributes::merge(&then, &theirs, &ours)?);
        }
        None if !attributes::agree(&theirs.meta.attributes(), &ours.meta.attributes()) => return None,
        None => merged.meta.mtime = theirs.meta.mtime.max(ours.meta.mtime),
    }
    let slot = ours.origin.as_ref().and_then(|origin| origin.slot.as_ref());
    let there = || slot.map(|slot| Body::Dir { parent: slot.dir, lower: Lower::Merged });
    match fork.map(|fork| fork.body.clone()).or_else(there) {
        Some(then) => merged.body = pick(&then, &theirs.body, &ours.body)?,
        None if theirs.body != ours.body => return None,
        None => {}
    }
    merged.meta.ctime = theirs.meta.ctime.max(ours.meta.ctime);
    Some(merged)
}

/// Some path of a node. Directories know their parent; files are searched for: this runs for conflicts only.
pub(crate) fn path_of(tree: &Tree, id: NodeId) -> Option<Vec<u8>> {
    if id == NodeId::ROOT {
        return Some(Vec::new());
    }
    let holder = holder_of(tree, id)?;
    Some(crate::plan::join(&path_of(tree, holder.dir)?, holder.name.as_bytes()))
}

/// Some name of a node.
fn holder_of(tree: &Tree, id: NodeId) -> Option<Slot> {
    let node = tree.get(id)?;
    let holds = |dir: NodeId| -> Option<Slot> {
        let entries = &tree.get(dir)?.entries;
        let mut names = entries.iter().filter(|(_, entry)| entry.child == Some(id));
        names.next().map(|(name, _)| Slot { dir, name: name.clone() })
    };
    match &node.inode.body {
        Body::Dir { parent, .. } => holds(*parent),
        _ => tree.nodes().find_map(|(dir, _)| holds(dir)),
    }
}
