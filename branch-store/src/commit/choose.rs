//! Conflicts decided path by path before a commit: ours, theirs, or none of the two. Pure but for looks at the base.
//!
//! Nothing is forced past the rules. What the caller chose changes what is compared, and then merge and planner look
//! again: for "ours" the two sides start from what they have there, for "theirs" the branch has left it alone.
//! What the rules go on refusing stays a conflict.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::commit::clash::{Clash, Sides, Subject, in_order};
use crate::commit::merge::holder_of;
use crate::conflict::Conflict;
use crate::error::{Error, Result};
use crate::ids::NodeId;
use crate::node::{Body, Entry, Inode, Kind, Lower, Node, Slot};
use crate::tree::{Change, Tree};

/// What a commit does on a path where it meets what others did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Nothing: the whole commit is refused.
    Refuse,
    /// The branch's version wins. What they had is among the preimages, if they are the base.
    Ours,
    /// The branch's change of this path is dropped.
    Theirs,
}

/// Decides each conflict. It is called under the locks of a commit: it must only look at what it is given.
pub type Resolver<'a> = &'a dyn Fn(&Conflict) -> Choice;

/// What the caller has decided so far.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    paths: BTreeSet<Vec<u8>>,
    /// All of them, with what was chosen.
    pub(super) resolved: Vec<Resolved>,
}

/// A conflict that a choice decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// What it was.
    pub conflict: Conflict,
    /// What was chosen.
    pub choice: Choice,
}

impl Chosen {
    /// After the last choice: what came of them must be a tree.
    ///
    /// # Errors
    /// `Conflicts`: all that were decided, as if they had not been.
    pub(super) fn check(&self, tree: &Tree) -> Result<()> {
        if self.resolved.is_empty() || is_whole(tree) {
            return Ok(());
        }
        refuse(self.resolved.iter().map(|resolved| resolved.conflict.clone()).collect())
    }

    /// The next choices, parents before what is in them; what they cannot decide is an error, all of it.
    ///
    /// # Errors
    /// `Conflicts`, and the host's.
    pub(super) fn next(
        &mut self,
        sides: &Sides<'_>,
        clashes: &[Clash],
        resolver: Resolver<'_>,
    ) -> Result<Vec<(Clash, Conflict, Choice)>> {
        let mut refused = Vec::new();
        let mut taken = Vec::new();
        for clash in clashes {
            let conflict = sides.conflict(clash)?;
            // Decided once and still there: the rules do not allow it.
            let choice = match self.paths.contains(&clash.path) {
                true => Choice::Refuse,
                false => resolver(&conflict),
            };
            match choice {
                Choice::Refuse => refused.push(conflict),
                _ => taken.push((clash.clone(), conflict, choice)),
            }
        }
        if !refused.is_empty() {
            refuse(refused)?;
        }
        taken.sort_by(|(a, ..), (b, ..)| a.path.cmp(&b.path));
        self.paths.extend(taken.iter().map(|(clash, ..)| clash.path.clone()));
        let resolved = |(_, conflict, choice): &(Clash, Conflict, Choice)| Resolved {
            conflict: conflict.clone(),
            choice: *choice,
        };
        self.resolved.extend(taken.iter().map(resolved));
        Ok(taken)
    }
}

/// What cannot be decided is refused, if there is any.
pub(super) fn refuse(conflicts: Vec<Conflict>) -> Result<()> {
    if conflicts.is_empty() { Ok(()) } else { Err(Error::Conflicts(in_order(conflicts))) }
}

/// The trees of a merge after choices.
pub(super) struct Trees {
    pub(super) fork: Tree,
    pub(super) ours: Tree,
}

impl Trees {
    /// Takes over choices for a parent branch that has `theirs`. Returns the conflicts that cannot be decided so.
    pub(super) fn choose(&mut self, theirs: &Tree, taken: Vec<(Clash, Conflict, Choice)>) -> Vec<Conflict> {
        let names = [&self.fork, theirs, &self.ours].map(names_of);
        let mut refused = Vec::new();
        for (clash, conflict, choice) in taken {
            let changed = match &clash.subject {
                Subject::Name(slot) => self.choose_name(theirs, &names, slot, choice),
                Subject::Object(id) => self.choose_object(theirs, &names, *id, choice),
            };
            if changed.is_none() {
                refused.push(conflict);
            }
        }
        refused
    }

    fn choose_name(&mut self, theirs: &Tree, names: &[Named; 3], slot: &Slot, choice: Choice) -> Option<()> {
        let [fork, their, our] = names;
        let sides = [(&self.fork, fork), (theirs, their), (&self.ours, our)];
        match choice {
            Choice::Ours => self.fork = graft(&self.fork, theirs, slot, &sides)?,
            Choice::Theirs => self.ours = graft(&self.ours, &self.fork, slot, &sides)?,
            Choice::Refuse => return None,
        }
        Some(())
    }

    fn choose_object(&mut self, theirs: &Tree, names: &[Named; 3], id: NodeId, choice: Choice) -> Option<()> {
        let alive = |tree: &Tree| tree.get(id).filter(|node| node.inode.meta.nlink > 0).cloned();
        let (Some(their_node), Some(our_node)) = (alive(theirs), alive(&self.ours)) else {
            let slot = [&self.ours, theirs, &self.fork].into_iter().find_map(|tree| holder_of(tree, id))?;
            return self.choose_name(theirs, names, &slot, choice);
        };
        let (their_inode, our_inode) = (&their_node.inode, &our_node.inode);
        if their_inode.kind() != our_inode.kind() {
            return None;
        }
        let dir = our_inode.kind() == Kind::Dir;
        if !dir && their_inode.meta.nlink != our_inode.meta.nlink {
            return None;
        }
        let (tree, inode) = match (choice, dir) {
            (Choice::Ours, false) => (&mut self.fork, their_inode.clone()),
            (Choice::Ours, true) => {
                let known = self.fork.get(id).map(|node| node.inode.clone());
                let mut inode = known.or_else(|| as_in_base(our_inode))?;
                inode.meta.set_attributes(their_inode.meta.attributes());
                (&mut self.fork, inode)
            }
            (Choice::Theirs, false) => (&mut self.ours, their_inode.clone()),
            (Choice::Theirs, true) => {
                let mut inode = our_inode.clone();
                inode.meta.set_attributes(their_inode.meta.attributes());
                (&mut self.ours, inode)
            }
            (Choice::Refuse, _) => return None,
        };
        put(tree, id, inode)
    }
}

/// A directory that the branch adopted, where it was when it did.
fn as_in_base(ours: &Inode) -> Option<Inode> {
    // The root alone has no name, and lies in itself.
    let above = ours.origin.as_deref()?.slot.as_ref().map_or(NodeId::ROOT, |slot| slot.dir);
    Some(Inode { body: Body::Dir { parent: above, lower: Lower::Merged }, ..ours.clone() })
}

/// Who names each node.
pub(super) type Named = HashMap<NodeId, Vec<Slot>>;

pub(super) fn names_of(tree: &Tree) -> Named {
    let mut names = Named::new();
    for (dir, node) in tree.nodes() {
        for (name, entry) in &node.entries {
            if let Some(child) = entry.child {
                names.entry(child).or_default().push(Slot { dir, name: name.clone() });
            }
        }
    }
    names
}

/// `into` with what `from` has under a name, and below. `None` where a part of either has a name elsewhere: then it
/// is not the business of this name alone.
pub(super) fn graft(into: &Tree, from: &Tree, slot: &Slot, sides: &[(&Tree, &Named)]) -> Option<Tree> {
    let (old, new) = (family(into, slot), family(from, slot));
    let all: HashSet<NodeId> = old.union(&new).copied().collect();
    let inside = |name: &Slot| name == slot || all.contains(&name.dir);
    let apart = |named: &Named, id: NodeId| named.get(&id).is_none_or(|at| at.iter().all(inside));
    // What was here in the base may be elsewhere now.
    let was_here = |node: &Node| {
        let origin = node.inode.origin.as_deref().and_then(|origin| origin.slot.as_ref());
        origin.is_some_and(inside)
    };
    let separable = |(tree, named): &(&Tree, &Named)| {
        let left = |(id, node): (NodeId, &Arc<Node>)| was_here(node) && !apart(named, id);
        all.iter().all(|id| apart(named, *id)) && !tree.nodes().any(left)
    };
    if !sides.iter().all(separable) {
        return None;
    }
    // Links that only the base counts would be lost, or come from nowhere.
    let counted = |tree: &Tree, id: &NodeId| {
        tree.get(*id).is_none_or(|node| node.inode.kind() == Kind::Dir || node.inode.meta.nlink <= 1)
    };
    if !old.symmetric_difference(&new).all(|id| counted(into, id) && counted(from, id)) {
        return None;
    }
    let mut tree = into.clone();
    know_dir(&mut tree, from, slot.dir);
    let entry = |tree: &Tree| tree.get(slot.dir).and_then(|dir| dir.entries.get(&slot.name).cloned());
    if entry(into).is_some() {
        tree.apply(&Change::Unlink { dir: slot.dir, name: slot.name.clone() }).ok()?;
    }
    for id in old.iter().filter(|id| tree.get(**id).is_some()).collect::<Vec<_>>() {
        tree.apply(&Change::Drop { id: *id }).ok()?;
    }
    let nodes: Vec<(NodeId, &Node)> = new.iter().filter_map(|id| Some((*id, &**from.get(*id)?))).collect();
    for (id, node) in &nodes {
        tree.apply(&Change::Put { id: *id, inode: Box::new(node.inode.clone()) }).ok()?;
    }
    for (id, node) in &nodes {
        for (name, entry) in &node.entries {
            link(&mut tree, Slot { dir: *id, name: name.clone() }, entry.clone())?;
        }
    }
    if let Some(entry) = entry(from) {
        link(&mut tree, slot.clone(), entry)?;
    }
    Some(tree)
}

/// A directory that only one side has looked into is there on the other as in the base.
fn know_dir(tree: &mut Tree, from: &Tree, dir: NodeId) {
    let Some(node) = from.get(dir).filter(|_| tree.get(dir).is_none()) else { return };
    let attributes = node.inode.origin.as_deref().and_then(|origin| origin.attributes.clone());
    if let (Some(mut inode), Some(attributes)) = (as_in_base(&node.inode), attributes) {
        inode.meta.set_attributes(attributes);
        tree.apply(&Change::Put { id: dir, inode: Box::new(inode) }).ok();
    }
}

pub(super) fn put(tree: &mut Tree, id: NodeId, inode: Inode) -> Option<()> {
    tree.apply(&Change::Put { id, inode: Box::new(inode) }).ok()
}

pub(super) fn link(tree: &mut Tree, at: Slot, entry: Entry) -> Option<()> {
    tree.apply(&Change::Link { dir: at.dir, name: at.name, entry }).ok()
}

/// Nodes at and below a name, and those that removed directories of the base have left there.
fn family(tree: &Tree, slot: &Slot) -> HashSet<NodeId> {
    let mut graves: HashMap<NodeId, Vec<(NodeId, &Slot)>> = HashMap::new();
    for (id, node) in tree.nodes().filter(|(_, node)| node.is_grave()) {
        if let Some(at) = node.inode.origin.as_deref().and_then(|origin| origin.slot.as_ref()) {
            graves.entry(at.dir).or_default().push((id, at));
        }
    }
    let named = |slot: &Slot| tree.get(slot.dir)?.entries.get(&slot.name)?.child;
    let mut stack: Vec<NodeId> = named(slot).into_iter().collect();
    let at_slot = graves.get(&slot.dir).into_iter().flatten().filter(|(_, at)| *at == slot);
    stack.extend(at_slot.map(|(id, _)| *id));
    let mut all = HashSet::new();
    while let Some(id) = stack.pop() {
        if !all.insert(id) {
            continue;
        }
        let Some(node) = tree.get(id) else { continue };
        stack.extend(node.entries.values().filter_map(|entry| entry.child));
        stack.extend(graves.get(&id).into_iter().flatten().map(|(id, _)| *id));
    }
    all
}

/// Whether every object has as many names as a tree of its own needs: the last check of what was put together.
fn is_whole(tree: &Tree) -> bool {
    let names = names_of(tree);
    tree.nodes().all(|(id, node)| {
        let named = names.get(&id).map_or(0, Vec::len);
        let alone = node.inode.kind() == Kind::Dir || node.inode.meta.nlink <= 1;
        let child_exists =
            node.entries.values().all(|entry| entry.child.is_none_or(|id| tree.get(id).is_some()));
        child_exists && (!alone || named <= 1)
    })
}
