//! Which changes of a branch a partial commit takes, and which it leaves (S17). Pure: trees in, a part or a reason why
//! it cannot be cut out.
//!
//! A change is a name that got another meaning, or an object that got other bytes or attributes. What belongs together
//! goes together: all names of an object that was moved or has several, what it is itself, and a removed directory with
//! all that was in it. Directories on the way that the branch made or moved come along.

mod changes;
mod groups;
mod paths;
pub(super) mod rest;

use std::collections::HashSet;

pub(super) use changes::Changes;
use changes::Item;
use groups::Groups;
use paths::Paths;

use crate::commit::merge::subdirectories;
use crate::error::{Error, Result};
use crate::ids::NodeId;
use crate::journal::record::Part;
use crate::node::{Attributes, Inode, Kind, Node, Slot};
use crate::tree::{Change, Tree};

/// Whether a path (relative to the workspace, of the branch) is to be committed. It is called under the locks of a
/// commit: it must only look at what it is given.
pub type Selector<'a> = &'a dyn Fn(&[u8]) -> bool;

impl Part {
    /// The changes from `fork` to `ours` that are selected.
    ///
    /// # Errors
    /// `Inseparable` for what goes together and is selected in part, `NothingSelected`.
    pub(super) fn select(fork: &Tree, ours: &Tree, selector: Selector<'_>) -> Result<Part> {
        let changes = Changes::of(fork, ours);
        let mut groups = Groups::of(&changes);
        let mut selected = groups.selected(&changes, selector)?;
        changes.add_ways(&mut groups, &mut selected);
        let mut part = Part::default();
        for item in changes.items() {
            if selected.contains(&groups.of_item(&item)) {
                match item {
                    Item::Name(slot) => _ = part.names.insert(slot),
                    Item::Object(id) => _ = part.objects.insert(id),
                }
            }
        }
        if part.names.is_empty() && part.objects.is_empty() { Err(Error::NothingSelected) } else { Ok(part) }
    }

    /// `fork` with this part of the changes to `ours`.
    ///
    /// # Errors
    /// What the trees do not have.
    pub(super) fn tree(&self, fork: &Tree, ours: &Tree) -> std::result::Result<Tree, &'static str> {
        let paths = Paths::of(ours);
        let mut tree = fork.clone();
        for id in &self.objects {
            if let Some(node) = ours.get(*id) {
                tree.apply(&Change::Put { id: *id, inode: Box::new(node.inode.clone()) })?;
            }
        }
        let touched = self.names.iter().map(|slot| slot.dir).chain(self.objects.iter().copied());
        let mut ways: Vec<NodeId> = touched.flat_map(|id| paths.way_to(id)).collect();
        // Parents first: an entry needs both.
        ways.sort_by_key(|id| paths.depth(*id));
        ways.dedup();
        for id in ways {
            adopt(&mut tree, ours, &paths, id)?;
        }
        for slot in &self.names {
            copy_entry(&mut tree, ours, slot)?;
        }
        for id in self.objects.iter().filter(|id| ours.get(**id).is_none()) {
            if tree.get(*id).is_some() {
                tree.apply(&Change::Drop { id: *id })?;
            }
        }
        let dirs: HashSet<NodeId> =
            self.names.iter().map(|slot| slot.dir).chain(self.objects.iter().copied()).collect();
        dirs.into_iter().try_for_each(|dir| count(&mut tree, ours, dir))?;
        Ok(tree)
    }
}

/// A directory on the way to what is selected is there as it was when the branch adopted it.
fn adopt(tree: &mut Tree, ours: &Tree, paths: &Paths, id: NodeId) -> std::result::Result<(), &'static str> {
    if tree.get(id).is_none() {
        let node = ours.get(id).ok_or("a way through what is not there")?;
        let mut inode = node.inode.clone();
        if let Some(then) = attributes_then(&inode) {
            inode.meta.set_attributes(then);
        }
        tree.apply(&Change::Put { id, inode: Box::new(inode) })?;
    }
    match paths.slots.get(&id) {
        Some(slot) => copy_entry(tree, ours, slot),
        None => Ok(()),
    }
}

fn copy_entry(tree: &mut Tree, ours: &Tree, slot: &Slot) -> std::result::Result<(), &'static str> {
    let (dir, name) = (slot.dir, slot.name.clone());
    match ours.get(dir).and_then(|node| node.entries.get(&name)) {
        Some(entry) => tree.apply(&Change::Link { dir, name, entry: entry.clone() }),
        // A directory that is gone takes its names along.
        None if tree.get(dir).is_some_and(|node| node.entries.contains_key(&name)) => {
            tree.apply(&Change::Unlink { dir, name })
        }
        None => Ok(()),
    }
}

/// The subdirectories of a directory that got part of the names, and its times.
fn count(tree: &mut Tree, ours: &Tree, dir: NodeId) -> std::result::Result<(), &'static str> {
    let (Some(now), Some(then)) = (tree.get(dir), ours.get(dir)) else { return Ok(()) };
    if !is_dir(now) || now.inode.meta.nlink == 0 || then.inode.meta.nlink == 0 {
        return Ok(());
    }
    let mut inode = now.inode.clone();
    (inode.meta.mtime, inode.meta.ctime) = (then.inode.meta.mtime, then.inode.meta.ctime);
    // Some hosts count no subdirectories: 1, whatever there is.
    if then.inode.meta.nlink > 1 {
        let without = i64::from(then.inode.meta.nlink) - subdirectories(ours, then);
        let nlink = without + subdirectories(tree, now);
        inode.meta.nlink = u32::try_from(nlink).map_err(|_| "a directory with fewer names than none")?;
    }
    tree.apply(&Change::Put { id: dir, inode: Box::new(inode) })
}

fn attributes_then(inode: &Inode) -> Option<Attributes> {
    inode.origin.as_deref().and_then(|origin| origin.attributes.clone())
}

fn is_dir(node: &Node) -> bool {
    node.inode.kind() == Kind::Dir
}
