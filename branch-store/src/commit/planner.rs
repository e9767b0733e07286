//! From a branch's tree to a plan. Reads the base, changes nothing.
//!
//! Two walks over the directories the tree shares with the base. The first decides for every name what
//! happens to the base object under it: it stays, it is exchanged, or it is detached (removed, or wanted
//! elsewhere). The second, parents first, places what the branch has.

use std::collections::{HashMap, HashSet};

use crate::base::history::{Displaced, ObjectWas, Was};
use crate::base::{Base, Found};
use crate::error::{Conflict, ConflictKind, Error, Result};
use crate::ids::{CommitId, Name, NodeId};
use crate::node::{Body, Content, Entry, Fingerprint, HostKey, Kind, Lower, Meta, Node, Slot};
use crate::plan::{Park, Plan, RelPath, Step, join};
use crate::tree::Tree;

/// Stands for a staged object until staging has made it and knows its inode.
pub(crate) const UNSTAGED: HostKey = HostKey { dev: 0, ino: 0 };

/// What staging has to prepare before the decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Make the node (a directory with what is fresh below it) at the park.
    Node(Park, NodeId),
    /// Copy the current bytes of a base file to the park: they are about to be rewritten in place.
    Keep(Park, Slot),
}

/// A plan whose staged objects do not exist yet.
pub(crate) struct Drawn {
    pub(crate) plan: Plan,
    pub(crate) stages: Vec<Stage>,
    pub(crate) displaced: Vec<Displaced>,
    /// Parks of `Displaced::Object` contents: filled in once the preimage directory has an id.
    pub(crate) kept: HashMap<HostKey, Park>,
    /// Nodes that a staged directory must leave out: they are attached later.
    pub(crate) later: HashSet<NodeId>,
}

/// What the first walk found at a name.
struct Seen {
    found: Option<Found>,
    fate: Fate,
}

/// What happens to the base object under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// There is none.
    Free,
    /// It stays.
    Stays,
    /// It goes to its park before anything appears.
    Detached,
    /// It goes to its park in the same step that puts the new object here.
    Exchanged,
}

pub(crate) struct Planner<'a> {
    base: &'a Base,
    tree: &'a Tree,
    /// The newest commit: the base as it is now.
    head: CommitId,
    seen: HashMap<Slot, Seen>,
    /// Base objects the branch still has, by the node that stands for them.
    reused: HashMap<HostKey, NodeId>,
    /// Links of base files, where they were looked at.
    links: HashMap<HostKey, u32>,
    /// Where a base object was seen, and the name under which a node stays in place.
    seen_at: HashMap<HostKey, Slot>,
    staying: HashMap<NodeId, Slot>,
    /// Detached objects, to be attached elsewhere.
    parked: HashMap<HostKey, Vec<Park>>,
    /// First final path of a node.
    placed: HashMap<NodeId, RelPath>,
    next_park: u64,
    detaches: Vec<Step>,
    appears: Vec<Step>,
    links_added: Vec<Step>,
    rewrites: Vec<Step>,
    metas: Vec<Step>,
    conflicts: Vec<Conflict>,
    drawn: Drawn,
}

/// Draws the plan that brings `tree` into the base.
///
/// # Errors
/// `Conflicts`, and the host's.
pub(crate) fn draw(base: &Base, tree: &Tree, head: CommitId) -> Result<Drawn> {
    let drawn = Drawn {
        plan: Plan::default(),
        stages: Vec::new(),
        displaced: Vec::new(),
        kept: HashMap::new(),
        later: HashSet::new(),
    };
    let mut planner = Planner {
        base,
        tree,
        head,
        seen: HashMap::new(),
        reused: HashMap::new(),
        links: HashMap::new(),
        seen_at: HashMap::new(),
        staying: HashMap::new(),
        parked: HashMap::new(),
        placed: HashMap::new(),
        next_park: 0,
        detaches: Vec::new(),
        appears: Vec::new(),
        links_added: Vec::new(),
        rewrites: Vec::new(),
        metas: Vec::new(),
        conflicts: Vec::new(),
        drawn,
    };
    planner.run()?;
    planner.finish()
}

impl<'a> Planner<'a> {
    fn run(&mut self) -> Result<()> {
        let Some(root) = self.tree.get(NodeId::ROOT) else { return Ok(()) };
        self.look(NodeId::ROOT, b"")?;
        self.collect_reused(NodeId::ROOT);
        let dirs: Vec<NodeId> = self.merged_dirs(NodeId::ROOT);
        for dir in &dirs {
            self.decide(*dir)?;
        }
        if self.conflicts.is_empty() {
            self.place_children(NodeId::ROOT, b"")?;
            self.change_nameless()?;
            self.meta_of(NodeId::ROOT, root, b"", true)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Drawn> {
        if !self.conflicts.is_empty() {
            self.conflicts.sort_by(|a, b| a.path.cmp(&b.path));
            return Err(Error::Conflicts(self.conflicts));
        }
        // Deepest first: a directory goes only after what moves out of it.
        let depth = |step: &Step| match step {
            Step::Detach { path, .. } => path.iter().filter(|b| **b == b'/').count(),
            _ => 0,
        };
        self.detaches.sort_by_key(|step| std::cmp::Reverse(depth(step)));
        let steps = [self.rewrites, self.detaches, self.appears, self.links_added, self.metas];
        self.drawn.plan.steps = steps.into_iter().flatten().collect();
        Ok(self.drawn)
    }

    fn node(&self, id: NodeId) -> Result<&'a Node> {
        self.tree.get(id).map(|node| &**node).ok_or(Error::Posix(rustix::io::Errno::IO))
    }

    /// First walk, part one: what is in the base under each name, and whether it still is what the branch
    /// saw when it first changed the name (S15).
    fn look(&mut self, dir: NodeId, path: &[u8]) -> Result<()> {
        let node = self.node(dir)?;
        let merged = is_merged(node);
        for (name, entry) in &node.entries {
            let path = join(path, name.as_bytes());
            if merged {
                self.look_at(Slot { dir, name: name.clone() }, entry, &path)?;
            }
            if let Some(child) = entry.child
                && self.node(child)?.inode.kind() == Kind::Dir
            {
                self.look(child, &path)?;
            }
        }
        Ok(())
    }

    fn look_at(&mut self, slot: Slot, entry: &Entry, path: &[u8]) -> Result<()> {
        let found = self.base.resolve(&slot, self.head)?;
        if let Some(kind) = clash(entry, found.as_ref()) {
            self.conflicts.push(Conflict { path: path.to_vec(), kind });
        }
        if let Some(found) = &found {
            if found.print.dev != self.base.root_print().dev {
                self.conflicts.push(Conflict { path: path.to_vec(), kind: ConflictKind::OtherFilesystem });
            }
            self.links.insert(found.print.key(), found.links());
            self.seen_at.insert(found.print.key(), slot.clone());
        }
        self.seen.insert(slot, Seen { found, fate: Fate::Free });
        Ok(())
    }

    /// First walk, part two: which base objects the branch still has, wherever.
    fn collect_reused(&mut self, dir: NodeId) {
        let Some(node) = self.tree.get(dir) else { return };
        for child in node.entries.values().filter_map(|entry| entry.child) {
            let Some(node) = self.tree.get(child) else { continue };
            if let Some(key) = self.identity(node) {
                self.reused.insert(key, child);
            }
            if node.inode.kind() == Kind::Dir {
                self.collect_reused(child);
            }
        }
    }

    /// The base object a node goes on being; `None` for what is made anew.
    fn identity(&self, node: &Node) -> Option<HostKey> {
        let key = node.inode.origin.as_ref()?.print.key();
        match &node.inode.body {
            Body::File(Content::Base(_)) => Some(key),
            // Cheap to make anew when the directory it was in is gone and nobody says where it was.
            Body::Symlink(_) | Body::Special(_) => self.links.contains_key(&key).then_some(key),
            // Replacing one name of several would break the others off: such a file is rewritten in place.
            Body::File(Content::Own(_)) => self.links.get(&key).is_some_and(|n| *n > 1).then_some(key),
            Body::Dir { lower, .. } => (*lower == Lower::Merged).then_some(key),
        }
    }

    fn merged_dirs(&self, top: NodeId) -> Vec<NodeId> {
        let mut dirs = Vec::new();
        let mut stack = vec![top];
        while let Some(id) = stack.pop() {
            let Some(node) = self.tree.get(id) else { continue };
            if node.inode.kind() != Kind::Dir {
                continue;
            }
            if is_merged(node) {
                dirs.push(id);
            }
            stack.extend(node.entries.values().filter_map(|entry| entry.child));
        }
        dirs
    }

    /// First walk, part three: the fate of each name's base object.
    fn decide(&mut self, dir: NodeId) -> Result<()> {
        let node = self.node(dir)?;
        for (name, entry) in &node.entries {
            let slot = Slot { dir, name: name.clone() };
            let Some(found) = self.seen.get(&slot).and_then(|seen| seen.found.clone()) else {
                if entry.child.is_some() {
                    self.drawn.displaced.push(Displaced::Entry { slot, was: Was::Absent });
                }
                continue;
            };
            let fate = self.fate(entry, &found)?;
            if fate != Fate::Stays {
                self.displace(&slot, &found)?;
            }
            match (fate, entry.child) {
                (Fate::Detached, _) => self.detach(&slot, &found)?,
                (Fate::Stays, Some(child)) => {
                    self.staying.insert(child, slot.clone());
                }
                _ => {}
            }
            if let Some(seen) = self.seen.get_mut(&slot) {
                seen.fate = fate;
            }
        }
        Ok(())
    }

    fn fate(&self, entry: &Entry, found: &Found) -> Result<Fate> {
        let key = found.print.key();
        let Some(child) = entry.child else { return Ok(Fate::Detached) };
        let node = self.node(child)?;
        if self.identity(node) == Some(key) {
            return Ok(Fate::Stays);
        }
        let fresh = self.identity(node).is_none();
        let single = node.inode.kind() == Kind::Dir || node.inode.meta.nlink <= 1;
        let exchange = fresh && single && !self.reused.contains_key(&key);
        Ok(if exchange { Fate::Exchanged } else { Fate::Detached })
    }

    /// Older snapshots must go on seeing the object under this name.
    fn displace(&mut self, slot: &Slot, found: &Found) -> Result<()> {
        let was = Was::Object(found.print.key());
        self.drawn.displaced.push(Displaced::Entry { slot: slot.clone(), was });
        if let Some(id) = self.dir_id(&found.print)? {
            self.drawn.displaced.push(Displaced::Dir { id, slot: slot.clone() });
        } else if found.links() > 1 {
            // One name less is a change of the object, seen through its other names.
            let meta = found.meta(self.base.xattrs(found, false)?);
            let was = ObjectWas { meta, size: found.statx.stx_size, content: None };
            self.drawn.displaced.push(Displaced::Object { key: found.print.key(), was });
        }
        Ok(())
    }

    fn detach(&mut self, slot: &Slot, found: &Found) -> Result<()> {
        let park = self.new_park();
        let key = found.print.key();
        let path = self.base_path(slot)?;
        let dir = self.dir_id(&found.print)?;
        self.parked.entry(key).or_default().push(park);
        self.detaches.push(Step::Detach { path, park, object: key, dir });
        Ok(())
    }

    /// Second walk: what the branch has, parents first.
    fn place_children(&mut self, dir: NodeId, path: &[u8]) -> Result<()> {
        let node = self.node(dir)?;
        let merged = is_merged(node);
        for (name, entry) in &node.entries {
            let Some(child) = entry.child else { continue };
            let path = join(path, name.as_bytes());
            if merged {
                self.place(child, &path, Some(Slot { dir, name: name.clone() }))?;
            } else {
                self.place(child, &path, None)?;
            }
        }
        Ok(())
    }

    fn place(&mut self, id: NodeId, path: &[u8], slot: Option<Slot>) -> Result<()> {
        let node = self.node(id)?;
        let seen = slot.as_ref().and_then(|slot| self.seen.get(slot));
        let fate = seen.map_or(Fate::Free, |seen| seen.fate);
        let found = seen.and_then(|seen| seen.found.clone());
        match self.identity(node) {
            Some(_) if fate == Fate::Stays => self.place_in_place(id, node, path, found),
            Some(key) => self.place_reused(id, node, path, key),
            None => self.place_fresh(id, node, path, fate, found),
        }
    }

    fn place_in_place(
        &mut self,
        id: NodeId,
        node: &'a Node,
        path: &[u8],
        found: Option<Found>,
    ) -> Result<()> {
        let first = !self.placed.contains_key(&id);
        if first {
            self.placed.insert(id, path.to_vec());
            if let Some(found) = found {
                self.changes_in_place(id, node, path, &found)?;
            }
        }
        Ok(())
    }

    /// Bytes, attributes and children of a base object that keeps its identity.
    fn changes_in_place(&mut self, id: NodeId, node: &'a Node, path: &[u8], found: &Found) -> Result<()> {
        let key = found.print.key();
        let old = found.meta(self.base.xattrs(found, false)?);
        let rewrite = matches!(node.inode.body, Body::File(Content::Own(_)));
        if rewrite {
            self.rewrite(id, node, found)?;
        }
        let dir = node.inode.kind() == Kind::Dir;
        if dir {
            self.place_children(id, path)?;
        }
        let relinked = old.nlink != node.inode.meta.nlink;
        let changes = rewrite || dir || differs(&old, &node.inode.meta);
        if changes || relinked {
            let was = ObjectWas { meta: old, size: found.statx.stx_size, content: None };
            self.drawn.displaced.push(Displaced::Object { key, was });
        }
        if changes {
            let meta = Box::new(node.inode.meta.clone());
            self.metas.push(Step::SetMeta { path: path.to_vec(), object: Some(key), meta });
        }
        Ok(())
    }

    fn rewrite(&mut self, id: NodeId, node: &Node, found: &Found) -> Result<()> {
        let (new, kept) = (self.new_park(), self.new_park());
        self.drawn.stages.push(Stage::Node(new, id));
        self.drawn.stages.push(Stage::Keep(kept, found.place.clone()));
        self.drawn.kept.insert(found.print.key(), kept);
        self.change_first(Some(new), node, found)
    }

    /// A change of an object under the name it has before anything moves.
    fn change_first(&mut self, park: Option<Park>, node: &Node, found: &Found) -> Result<()> {
        let path = self.base_path(&found.place)?;
        let meta = Box::new(node.inode.meta.clone());
        self.rewrites.push(Step::Rewrite { park, path, object: found.print.key(), meta });
        Ok(())
    }

    /// Base files that lost every name the tree speaks of, but have others that it does not: what the branch
    /// did to them shows there.
    fn change_nameless(&mut self) -> Result<()> {
        let tree = self.tree;
        for (id, node) in tree.nodes() {
            let Some(origin) = &node.inode.origin else { continue };
            let named = self.placed.contains_key(&id) || node.inode.kind() == Kind::Dir;
            if named || node.inode.meta.nlink == 0 {
                continue;
            }
            let Some(slot) = &origin.slot else { continue };
            let Some(found) = self.base.resolve(slot, self.head)? else { continue };
            if found.print != origin.print {
                continue;
            }
            let old = found.meta(self.base.xattrs(&found, false)?);
            let rewrite = matches!(node.inode.body, Body::File(Content::Own(_)));
            let changes = rewrite || differs(&old, &node.inode.meta);
            if changes {
                let was = ObjectWas { meta: old, size: found.statx.stx_size, content: None };
                self.drawn.displaced.push(Displaced::Object { key: found.print.key(), was });
            }
            if rewrite {
                self.rewrite(id, node, &found)?;
            } else if changes {
                self.change_first(None, node, &found)?;
            }
        }
        Ok(())
    }

    /// A base object that the branch has elsewhere, or under one more name.
    fn place_reused(&mut self, id: NodeId, node: &'a Node, path: &[u8], key: HostKey) -> Result<()> {
        if self.staying.contains_key(&id) || self.placed.contains_key(&id) {
            return self.add_link(id, path, key);
        }
        let Some((park, found)) = self.take_parked(id, node, key)? else {
            self.conflicts.push(Conflict { path: path.to_vec(), kind: ConflictKind::GoneBelow });
            return Ok(());
        };
        self.drawn.later.insert(id);
        self.placed.insert(id, path.to_vec());
        let dir = (node.inode.kind() == Kind::Dir).then_some(id);
        self.appears.push(Step::Attach { park, path: path.to_vec(), object: key, dir });
        self.changes_in_place(id, node, path, &found)
    }

    /// A detached name of the object. Where the directory it was in has been removed since, no entry speaks
    /// of the name any more: then the node itself knows it.
    fn take_parked(&mut self, id: NodeId, node: &Node, key: HostKey) -> Result<Option<(Park, Found)>> {
        if !self.parked.contains_key(&key) {
            let slot = match (&node.inode.body, &node.inode.origin) {
                (Body::Dir { .. }, _) => self.base.dir_slot(id, self.head)?,
                (_, Some(origin)) => origin.slot.clone().ok_or(Error::Posix(rustix::io::Errno::IO))?,
                (_, None) => return Ok(None),
            };
            let Some(found) = self.base.resolve(&slot, self.head)? else { return Ok(None) };
            let unedited = node.inode.origin.as_deref().is_some_and(|origin| {
                let before = &origin.print;
                before.same_object(&found.print) && (before.kind == Kind::Dir || *before == found.print)
            });
            if !unedited {
                return Ok(None);
            }
            self.displace(&slot, &found)?;
            self.detach(&slot, &found)?;
            self.seen_at.insert(key, slot.clone());
            self.seen.insert(slot, Seen { found: Some(found), fate: Fate::Detached });
        }
        let park = self.parked.get_mut(&key).and_then(Vec::pop);
        let seen = self.seen_at.get(&key).and_then(|slot| self.seen.get(slot));
        let found = seen.and_then(|seen| seen.found.clone());
        Ok(park.zip(found))
    }

    fn place_fresh(
        &mut self,
        id: NodeId,
        node: &'a Node,
        path: &[u8],
        fate: Fate,
        found: Option<Found>,
    ) -> Result<()> {
        if self.placed.contains_key(&id) {
            return self.add_link(id, path, UNSTAGED);
        }
        let park = self.new_park();
        self.drawn.stages.push(Stage::Node(park, id));
        let path = path.to_vec();
        let step = match found {
            Some(found) if fate == Fate::Exchanged => Step::Exchange {
                park,
                path: path.clone(),
                new: UNSTAGED,
                old: found.print.key(),
                old_dir: self.dir_id(&found.print)?,
            },
            _ => Step::Attach { park, path: path.clone(), object: UNSTAGED, dir: None },
        };
        self.appears.push(step);
        self.placed.insert(id, path.clone());
        if node.inode.kind() == Kind::Dir {
            self.place_below_fresh(id, node, &path)?;
        }
        Ok(())
    }

    /// What is fresh below a fresh directory is staged with it; what is reused is attached afterwards.
    fn place_below_fresh(&mut self, dir: NodeId, node: &'a Node, path: &[u8]) -> Result<()> {
        let before = self.appears.len() + self.links_added.len();
        for (name, child) in node.entries.iter().filter_map(|(name, entry)| entry.child.map(|id| (name, id)))
        {
            let path = join(path, name.as_bytes());
            let child_node = self.node(child)?;
            match self.identity(child_node) {
                Some(key) => self.place_reused(child, child_node, &path, key)?,
                None if self.placed.contains_key(&child) => self.add_link(child, &path, UNSTAGED)?,
                None => {
                    self.placed.insert(child, path.clone());
                    if child_node.inode.kind() == Kind::Dir {
                        self.place_below_fresh(child, child_node, &path)?;
                    }
                }
            }
        }
        if self.appears.len() + self.links_added.len() > before {
            self.meta_of(dir, node, path, false)?;
        }
        Ok(())
    }

    fn add_link(&mut self, id: NodeId, path: &[u8], object: HostKey) -> Result<()> {
        // The first name may be placed later in the walk: a name that stays is found by its own path.
        let existing = match self.placed.get(&id) {
            Some(path) => path.clone(),
            None => self.staying_path(id)?,
        };
        self.links_added.push(Step::AddLink { existing, path: path.to_vec(), object });
        Ok(())
    }

    fn staying_path(&self, id: NodeId) -> Result<RelPath> {
        let slot = self.staying.get(&id).ok_or(Error::Posix(rustix::io::Errno::IO))?;
        let parent = super::merge::path_of(self.tree, slot.dir).unwrap_or_default();
        Ok(join(&parent, slot.name.as_bytes()))
    }

    fn meta_of(&mut self, id: NodeId, node: &Node, path: &[u8], displaced: bool) -> Result<()> {
        if displaced {
            debug_assert_eq!(id, NodeId::ROOT);
            let found = self.base.resolve_root(self.head)?;
            let was = ObjectWas {
                meta: found.meta(self.base.xattrs(&found, true)?),
                size: found.statx.stx_size,
                content: None,
            };
            self.drawn.displaced.push(Displaced::Object { key: found.print.key(), was });
        }
        let meta = Box::new(node.inode.meta.clone());
        self.metas.push(Step::SetMeta { path: path.to_vec(), object: None, meta });
        Ok(())
    }

    fn new_park(&mut self) -> Park {
        self.next_park += 1;
        Park(self.next_park)
    }

    fn dir_id(&self, print: &Fingerprint) -> Result<Option<NodeId>> {
        if print.kind != Kind::Dir {
            return Ok(None);
        }
        self.base.id_of(print, self.tree).map(Some)
    }

    /// Where a base name is now.
    fn base_path(&self, slot: &Slot) -> Result<RelPath> {
        let mut names: Vec<Name> = vec![slot.name.clone()];
        let mut at = slot.dir;
        while at != NodeId::ROOT {
            let above = self.base.dir_slot(at, self.head)?;
            names.push(above.name);
            at = above.dir;
        }
        Ok(names.iter().rev().fold(Vec::new(), |path, name| join(&path, name.as_bytes())))
    }
}

fn is_merged(node: &Node) -> bool {
    matches!(node.inode.body, Body::Dir { lower: Lower::Merged, .. })
}

/// Whether the base went on under a name that the branch changed.
fn clash(entry: &Entry, found: Option<&Found>) -> Option<ConflictKind> {
    match (&entry.over, found) {
        (None, None) => None,
        (Some(over), Some(found)) => {
            let same = over.same_object(&found.print) && (over.kind == Kind::Dir || **over == found.print);
            (!same).then_some(ConflictKind::BaseEdited)
        }
        // Both removed it: equal changes never conflict (S14).
        (Some(_), None) => entry.child.is_some().then_some(ConflictKind::GoneBelow),
        (None, Some(_)) => Some(ConflictKind::BothCreated),
    }
}

/// Whether attributes differ that a write-back sets. Access times and link counts are the host's business.
fn differs(old: &Meta, new: &Meta) -> bool {
    (old.mode, old.uid, old.gid, old.mtime, &old.xattrs)
        != (new.mode, new.uid, new.gid, new.mtime, &new.xattrs)
}
