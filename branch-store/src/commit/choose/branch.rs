//! Choices for a commit into a parent branch. For "ours" the fork is told to have had what they have; for "theirs" the
//! branch's change is taken back. Pure.

use crate::branch::{Branch, Data};
use crate::commit::choose::graft::{as_in_base, graft, put};
use crate::commit::choose::versions::moved_alike;
use crate::commit::choose::{Decision, Taken};
use crate::commit::clash::{Sides, Subject};
use crate::commit::index::Indexed;
use crate::conflict::{Conflict, Target};
use crate::ids::{CommitId, NodeId};
use crate::node::{Kind, Slot};
use crate::tree::Tree;

/// The trees of a merge, on their way to ones that do not clash.
pub(in crate::commit) struct Trees {
    fork: Indexed,
    theirs: Indexed,
    ours: Indexed,
    /// The commits into the base that theirs and ours saw.
    epochs: [CommitId; 2],
}

impl Trees {
    pub(in crate::commit) fn new(ours: &Data, into: &Data) -> Trees {
        let [fork, theirs, ours_now] =
            [&ours.fork_tree, &into.tree, &ours.tree].map(|t| Indexed::new(t.clone()));
        Trees { fork, theirs, ours: ours_now, epochs: [into.epoch, ours.epoch] }
    }

    pub(in crate::commit) fn fork(&self) -> &Tree {
        self.fork.tree()
    }

    pub(in crate::commit) fn ours(&self) -> &Tree {
        self.ours.tree()
    }

    pub(in crate::commit) fn sides<'a>(&'a self, branch: &'a Branch) -> Sides<'a> {
        let [theirs, ours] = self.epochs;
        let trees = [(&self.fork, ours), (&self.theirs, theirs), (&self.ours, ours)];
        Sides::new(&branch.shared, Target::Branch, trees)
    }

    /// Carries out decisions. Returns the conflicts that cannot be decided so.
    pub(in crate::commit) fn choose(&mut self, taken: Vec<Taken>) -> Vec<Conflict> {
        let mut refused = Vec::new();
        for Taken { clash, conflict, decision, last: _ } in taken {
            let changed = match &clash.subject {
                Subject::Name(slot) => self.choose_name(slot, &decision),
                Subject::Object(id) => self.choose_object(*id, &decision),
            };
            if changed.is_none() {
                refused.push(conflict);
            }
        }
        refused
    }

    fn choose_name(&mut self, slot: &Slot, decision: &Decision) -> Option<()> {
        if let Decision::Version(version) = decision {
            self.ours.apply(&[put(version.id, version.inode.clone())])?;
        }
        let sides = [&self.fork, &self.theirs, &self.ours];
        match decision {
            Decision::Ours | Decision::Version(_) => {
                let changes = graft(&self.fork, &self.theirs, slot, &sides)?;
                self.fork.apply(&changes)
            }
            Decision::Theirs => {
                let changes = graft(&self.ours, &self.fork, slot, &sides)?;
                self.ours.apply(&changes)
            }
        }
    }

    fn choose_object(&mut self, id: NodeId, decision: &Decision) -> Option<()> {
        let alive = |of: &Indexed| of.tree().get(id).filter(|node| node.inode.meta.nlink > 0).cloned();
        let (Some(their_node), Some(our_node)) = (alive(&self.theirs), alive(&self.ours)) else {
            let slot = [&self.ours, &self.theirs, &self.fork].into_iter().find_map(|of| of.holder(id))?;
            return self.choose_name(&slot, decision);
        };
        let (their_inode, our_inode) = (&their_node.inode, &our_node.inode);
        if their_inode.kind() != our_inode.kind() {
            return None;
        }
        let dir = our_inode.kind() == Kind::Dir;
        let renamed = || {
            let both = [&self.theirs, &self.ours].into_iter().all(|side| side.gave_name(&self.fork, id));
            both && !moved_alike(&self.theirs, &self.ours, id)
        };
        if !dir && (their_inode.meta.nlink != our_inode.meta.nlink || renamed()) {
            return None;
        }
        let (of, inode) = match (decision, dir) {
            (Decision::Version(_), true) => return None,
            (Decision::Version(version), false) => {
                self.ours.apply(&[put(id, version.inode.clone())])?;
                (&mut self.fork, their_inode.clone())
            }
            (Decision::Ours, false) => (&mut self.fork, their_inode.clone()),
            (Decision::Ours, true) => {
                let known = self.fork.tree().get(id).map(|node| node.inode.clone());
                let mut inode = known.or_else(|| as_in_base(our_inode))?;
                inode.meta.set_attributes(their_inode.meta.attributes());
                (&mut self.fork, inode)
            }
            (Decision::Theirs, false) => (&mut self.ours, their_inode.clone()),
            (Decision::Theirs, true) => {
                let mut inode = our_inode.clone();
                inode.meta.set_attributes(their_inode.meta.attributes());
                (&mut self.ours, inode)
            }
        };
        of.apply(&[put(id, inode)])
    }
}
