//! Which changes of a branch a partial commit takes, and which it leaves (S17). Pure: trees in, a part or a reason why
//! it cannot be cut out.
//!
//! A change is a name that got another meaning, or an object that got other bytes or attributes. What belongs together
//! goes together: all names of an object that was moved or has several, what it is itself, and a removed directory with
//! all that was in it. Directories on the way that the branch made or moved come along.

use std::collections::{HashMap, HashSet};

use crate::commit::attributes::agree;
use crate::commit::merge::subdirectories;
use crate::error::{Error, Result};
use crate::ids::NodeId;
use crate::journal::record::Part;
use crate::node::{Attributes, Body, HostKey, Inode, Kind, Lower, Node, Slot, Time};
use crate::plan::join;
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

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Item {
    Name(Slot),
    Object(NodeId),
}

/// All changes from one tree to another, but names that only came to be because something below changed.
pub(super) struct Changes<'a> {
    fork: &'a Tree,
    ours: &'a Tree,
    names: Vec<Slot>,
    objects: Vec<NodeId>,
    paths: Paths,
}

impl<'a> Changes<'a> {
    pub(super) fn of(fork: &'a Tree, ours: &'a Tree) -> Changes<'a> {
        let paths = Paths::of(ours);
        let mut changes = Changes { fork, ours, names: Vec::new(), objects: Vec::new(), paths };
        for change in fork.diff(ours) {
            match change {
                Change::Link { dir, name, .. } | Change::Unlink { dir, name } => {
                    let slot = Slot { dir, name };
                    if !changes.only_adopts(&slot) {
                        changes.names.push(slot);
                    }
                }
                Change::Put { id, .. } | Change::Drop { id } => changes.objects.push(id),
                Change::Touch { .. } => {}
            }
        }
        changes
    }

    fn items(&self) -> impl Iterator<Item = Item> {
        let names = self.names.iter().cloned().map(Item::Name);
        names.chain(self.objects.iter().copied().map(Item::Object))
    }

    /// What a part leaves of names, and of objects that differ in more than what their names make of them.
    pub(super) fn left(&self, part: &Part) -> (HashSet<Slot>, HashSet<NodeId>) {
        let names = self.names.iter().filter(|slot| !part.names.contains(slot)).cloned();
        let differs = |id: &&NodeId| !part.objects.contains(id) && self.is_other(**id);
        (names.collect(), self.objects.iter().filter(differs).copied().collect())
    }

    /// A directory of the base that lies where it lay.
    fn only_adopts(&self, slot: &Slot) -> bool {
        let entry = |tree: &Tree| tree.get(slot.dir)?.entries.get(&slot.name).cloned();
        let (None, Some(entry)) = (entry(self.fork), entry(self.ours)) else { return false };
        let Some(node) = entry.child.and_then(|child| self.ours.get(child)).filter(|node| is_dir(node))
        else {
            return false;
        };
        let Some(origin) = node.inode.origin.as_deref() else { return false };
        let merged = matches!(node.inode.body, Body::Dir { lower: Lower::Merged, .. });
        merged
            && origin.slot.as_ref() == Some(slot)
            && entry.over.as_ref().is_some_and(|over| over.same_object(&origin.print))
    }

    /// Whether an object differs by itself, and not only in what its names make of it.
    fn is_other(&self, id: NodeId) -> bool {
        let Some(ours) = self.ours.get(id).filter(|node| is_dir(node)) else { return true };
        let then = match self.fork.get(id) {
            Some(node) => Some(node.inode.meta.attributes()),
            None => attributes_then(&ours.inode),
        };
        then.is_none_or(|then| !agree(&then, &ours.inode.meta.attributes()))
    }

    /// Directories that the branch made or moved come along with what is in them.
    fn add_ways(&self, groups: &mut Groups, selected: &mut HashSet<usize>) {
        let mut todo: Vec<NodeId> = Vec::new();
        let dir_of = |item: &Item| match item {
            Item::Name(slot) => Some(slot.dir),
            Item::Object(id) => self.paths.slots.get(id).map(|slot| slot.dir),
        };
        for item in self.items().filter(|item| selected.contains(&groups.of_item(item))) {
            todo.extend(dir_of(&item));
        }
        let changed: HashSet<&Slot> = self.names.iter().collect();
        let mut seen = HashSet::new();
        while let Some(dir) = todo.pop() {
            let Some(slot) = self.paths.slots.get(&dir).filter(|_| seen.insert(dir)) else { continue };
            todo.push(slot.dir);
            if changed.contains(slot) && selected.insert(groups.of_item(&Item::Name(slot.clone()))) {
                // What goes together with it has ways of its own.
                let group = groups.of_item(&Item::Name(slot.clone()));
                let others = self.items().filter(|item| groups.of_item(item) == group);
                todo.extend(others.collect::<Vec<_>>().iter().filter_map(dir_of));
            }
        }
    }
}

/// Changes that go together.
struct Groups {
    numbers: HashMap<Item, usize>,
    above: Vec<usize>,
}

impl Groups {
    fn of(changes: &Changes<'_>) -> Groups {
        let numbers: HashMap<Item, usize> = changes.items().zip(0..).collect();
        let mut groups = Groups { above: (0..numbers.len()).collect(), numbers };
        let origins = origins(changes.ours);
        let mut covered: HashMap<(HostKey, Time), &Slot> = HashMap::new();
        for slot in &changes.names {
            let entry = |tree: &Tree| tree.get(slot.dir)?.entries.get(&slot.name).cloned();
            let (then, now) = (entry(changes.fork), entry(changes.ours));
            let over = now.as_ref().filter(|_| then.is_none()).and_then(|entry| entry.over.clone());
            let over = over.map(|over| (over.key(), over.birth));
            // Names of one object, of which the branch may have nothing any more.
            if let Some(other) = over.and_then(|over| covered.insert(over, slot)) {
                groups.join(&Item::Name(slot.clone()), &Item::Name(other.clone()));
            }
            let over = over.and_then(|over| origins.get(&over).copied());
            let about = [then.and_then(|entry| entry.child), now.and_then(|entry| entry.child), over];
            for id in about.into_iter().flatten() {
                groups.join(&Item::Name(slot.clone()), &Item::Object(id));
            }
            // What was in a directory that is gone goes with it.
            if changes.paths.of_dir(slot.dir).is_none() {
                groups.join(&Item::Name(slot.clone()), &Item::Object(slot.dir));
            }
        }
        groups
    }

    fn of_item(&self, item: &Item) -> usize {
        self.numbers.get(item).map_or(usize::MAX, |number| self.top(*number))
    }

    fn top(&self, mut number: usize) -> usize {
        while self.above[number] != number {
            number = self.above[number];
        }
        number
    }

    fn join(&mut self, one: &Item, other: &Item) {
        if let (Some(one), Some(other)) = (self.numbers.get(one), self.numbers.get(other)) {
            let (one, other) = (self.top(*one), self.top(*other));
            // The later below the earlier, as near to the top as can be: chains stay short.
            self.above[one.max(other)] = one.min(other);
        }
    }

    /// The groups whose paths are all selected.
    fn selected(&self, changes: &Changes<'_>, selector: Selector<'_>) -> Result<HashSet<usize>> {
        let mut verdicts: HashMap<usize, (bool, Vec<u8>)> = HashMap::new();
        for item in changes.items() {
            let paths = match &item {
                Item::Name(slot) => changes.paths.of_name(slot).into_iter().collect(),
                Item::Object(id) if changes.is_other(*id) => changes.paths.of_object(*id),
                Item::Object(_) => Vec::new(),
            };
            for path in paths {
                let verdict = selector(&path);
                let (other, with) = verdicts.entry(self.of_item(&item)).or_insert((verdict, path.clone()));
                if *other != verdict {
                    let (path, with) = if verdict { (path, with.clone()) } else { (with.clone(), path) };
                    return Err(Error::Inseparable { path, with });
                }
            }
        }
        Ok(verdicts.into_iter().filter(|(_, (verdict, _))| *verdict).map(|(group, _)| group).collect())
    }
}

/// Where a tree has its directories, and the names of what else it has.
struct Paths {
    /// Of directories, but the root.
    slots: HashMap<NodeId, Slot>,
    dirs: HashMap<NodeId, Vec<u8>>,
    others: HashMap<NodeId, Vec<Slot>>,
}

impl Paths {
    fn of(tree: &Tree) -> Paths {
        let mut paths = Paths { slots: HashMap::new(), dirs: HashMap::new(), others: HashMap::new() };
        let mut todo = Vec::new();
        if tree.get(NodeId::ROOT).is_some() {
            paths.dirs.insert(NodeId::ROOT, Vec::new());
            todo.push(NodeId::ROOT);
        }
        while let Some(dir) = todo.pop() {
            let Some(node) = tree.get(dir) else { continue };
            let path = paths.dirs.get(&dir).cloned().unwrap_or_default();
            for (name, child) in node.entries.iter().filter_map(|(name, entry)| Some((name, entry.child?))) {
                let slot = Slot { dir, name: name.clone() };
                if tree.get(child).is_some_and(|node| is_dir(node)) {
                    if paths.dirs.insert(child, join(&path, name.as_bytes())).is_none() {
                        todo.push(child);
                    }
                    paths.slots.insert(child, slot);
                } else {
                    paths.others.entry(child).or_default().push(slot);
                }
            }
        }
        paths
    }

    fn of_dir(&self, id: NodeId) -> Option<&Vec<u8>> {
        self.dirs.get(&id)
    }

    fn of_name(&self, slot: &Slot) -> Option<Vec<u8>> {
        self.of_dir(slot.dir).map(|dir| join(dir, slot.name.as_bytes()))
    }

    fn of_object(&self, id: NodeId) -> Vec<Vec<u8>> {
        match self.of_dir(id) {
            Some(path) => vec![path.clone()],
            None => {
                self.others.get(&id).into_iter().flatten().filter_map(|slot| self.of_name(slot)).collect()
            }
        }
    }

    /// The directories that lead to something, itself too if it is one.
    fn way_to(&self, id: NodeId) -> Vec<NodeId> {
        let mut way = Vec::new();
        let mut at = match self.dirs.contains_key(&id) {
            true => id,
            false => match self.others.get(&id).and_then(|names| names.first()) {
                Some(slot) => slot.dir,
                None => return way,
            },
        };
        way.push(at);
        while let Some(slot) = self.slots.get(&at) {
            at = slot.dir;
            way.push(at);
        }
        way
    }

    fn depth(&self, id: NodeId) -> (usize, NodeId) {
        (self.way_to(id).len(), id)
    }
}

/// The nodes that stand for objects of the base.
fn origins(tree: &Tree) -> HashMap<(HostKey, Time), NodeId> {
    let origin = |(id, node): (NodeId, &std::sync::Arc<Node>)| {
        let print = node.inode.origin.as_deref()?.print;
        Some(((print.key(), print.birth), id))
    };
    tree.nodes().filter_map(origin).collect()
}

fn attributes_then(inode: &Inode) -> Option<Attributes> {
    inode.origin.as_deref().and_then(|origin| origin.attributes.clone())
}

fn is_dir(node: &Node) -> bool {
    node.inode.kind() == Kind::Dir
}
