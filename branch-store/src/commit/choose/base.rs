//! Choices for a commit into the base. For "ours" the branch is told that it saw what the base has now; for "theirs"
//! its change is taken back. Reads the base, changes a private tree.

use std::collections::HashSet;
use std::sync::Arc;

use crate::base::{Base, Found};
use crate::branch::{Branch, Data};
use crate::commit::choose::graft::{graft, link, put};
use crate::commit::choose::versions::Version;
use crate::commit::choose::{Decision, Taken};
use crate::commit::clash::{Sides, Subject, Why};
use crate::commit::index::Indexed;
use crate::conflict::{Conflict, Target};
use crate::error::Result;
use crate::ids::{CommitId, NodeId};
use crate::node::{Body, Content, Entry, Kind, Node, Origin, Slot};
use crate::tree::Tree;

/// A branch's tree on its way to one that the base does not clash with.
pub(in crate::commit) struct OverBase<'a> {
    base: &'a Base,
    head: CommitId,
    epoch: CommitId,
    /// What the base is to a tree: nothing of its own.
    fork: Indexed,
    ours: Indexed,
    /// Removed directories that have been taken back.
    left: HashSet<Slot>,
}

impl<'a> OverBase<'a> {
    pub(in crate::commit) fn new(base: &'a Base, head: CommitId, ours: &Data) -> OverBase<'a> {
        let [fork, tree] = [&ours.fork_tree, &ours.tree].map(|tree| Indexed::new(tree.clone()));
        OverBase { base, head, epoch: ours.epoch, fork, ours: tree, left: HashSet::new() }
    }

    pub(in crate::commit) fn tree(&self) -> &Tree {
        self.ours.tree()
    }

    pub(in crate::commit) fn sides<'s>(&'s self, branch: &'s Branch) -> Sides<'s> {
        let trees = [(&self.fork, self.epoch), (&self.fork, self.head), (&self.ours, self.epoch)];
        Sides::new(&branch.shared, Target::Base, trees)
    }

    /// Carries out decisions. Returns the conflicts that cannot be decided so.
    ///
    /// # Errors
    /// The host's.
    pub(in crate::commit) fn choose(&mut self, taken: Vec<Taken>) -> Result<Vec<Conflict>> {
        let mut refused = Vec::new();
        for Taken { clash, conflict, decision, last: _ } in taken {
            let chosen = match (&clash.subject, &decision) {
                (_, Decision::Ours) if is_forbidden(clash.why) => None,
                (Subject::Name(slot), Decision::Ours) => self.stand_at(slot)?,
                (Subject::Object(id), Decision::Ours) => self.stand_by(*id)?,
                (Subject::Name(slot), Decision::Theirs) => self.leave(slot),
                (Subject::Object(id), Decision::Theirs) => self.leave_object(*id),
                (Subject::Name(slot), Decision::Version(version)) => self.become_at(slot, version)?,
                (Subject::Object(_), Decision::Version(_)) => None,
            };
            if chosen.is_none() {
                refused.push(conflict);
            }
        }
        Ok(refused)
    }

    /// The branch's object becomes another version, made from what the base has now.
    fn become_at(&mut self, slot: &Slot, version: &Version) -> Result<Option<()>> {
        let now = self.base.resolve(slot, self.head)?.map(|found| found.print);
        if now != version.theirs || self.ours.apply(&[put(version.id, version.inode.clone())]).is_none() {
            return Ok(None);
        }
        self.stand_at(slot)
    }

    /// The branch has nothing to do with a name any more. Where a directory was removed around it, that is taken
    /// back as a whole.
    fn leave(&mut self, slot: &Slot) -> Option<()> {
        let mut top = slot.clone();
        while let Some(grave) = self.tree().get(top.dir).filter(|node| node.is_grave()) {
            top = grave.inode.origin.as_deref()?.slot.clone()?;
        }
        if self.left.contains(&top) {
            return Some(());
        }
        let changes = graft(&self.ours, &self.fork, &top, &[&self.ours])?;
        self.ours.apply(&changes)?;
        self.left.insert(top);
        Some(())
    }

    /// The attributes of a directory are no change of the branch; of anything else its name decides.
    fn leave_object(&mut self, id: NodeId) -> Option<()> {
        let node = self.tree().get(id)?.clone();
        let origin = node.inode.origin.as_deref()?;
        if node.is_grave() {
            return self.leave(&origin.slot.clone()?);
        }
        let mut inode = node.inode.clone();
        inode.meta.set_attributes(origin.attributes.clone()?);
        self.ours.apply(&[put(id, inode)])
    }

    /// The branch saw what the base has under a name now, and did what it did.
    fn stand_at(&mut self, slot: &Slot) -> Result<Option<()>> {
        let found = self.base.resolve(slot, self.head)?;
        let Some(dir) = self.tree().get(slot.dir) else { return Ok(None) };
        let entry = dir.entries.get(&slot.name).cloned().unwrap_or(Entry { child: None, over: None });
        if entry.child.is_none() && found.is_none() {
            return Ok(None);
        }
        let was = match &entry.over {
            Some(over) => Some(self.base.id_of(over, self.tree())?),
            None => None,
        };
        for id in [entry.child, was].into_iter().flatten() {
            if self.found_again(id, slot, found.as_ref()).is_none() {
                return Ok(None);
            }
        }
        let over = found.map(|found| Arc::new(found.print));
        Ok(self.ours.apply(&[link(slot.clone(), Entry { over, ..entry })]))
    }

    /// An object adopted from under a name where there is something else now. `None` where the branch needs what is
    /// no more: bytes or names that were only in the base.
    fn found_again(&mut self, id: NodeId, slot: &Slot, found: Option<&Found>) -> Option<()> {
        let Some(node) = self.tree().get(id).cloned() else { return Some(()) };
        let Some(origin) = node.inode.origin.as_deref().filter(|origin| origin.slot.as_ref() == Some(slot))
        else {
            return Some(());
        };
        if node.inode.meta.nlink == 0 {
            return Some(());
        }
        let same = found.filter(|found| found.print.same_object(&origin.print));
        let mut inode = node.inode.clone();
        inode.origin = match (&inode.body, same) {
            (Body::File(Content::Base(_)), Some(found))
                if (found.print.size, found.print.mtime) == (origin.print.size, origin.print.mtime) =>
            {
                Some(seen_as(origin, found))
            }
            (Body::File(Content::Base(_)), _) => return None,
            (_, Some(found)) => Some(seen_as(origin, found)),
            (Body::Dir { .. }, None) => return None,
            (_, None) if is_one_name(&node) => None,
            (_, None) => return None,
        };
        self.ours.apply(&[put(id, inode)])
    }

    /// The attributes of a directory that the branch set, or removed it with, go over those it has now.
    fn stand_by(&mut self, id: NodeId) -> Result<Option<()>> {
        let Some(node) = self.tree().get(id).cloned() else { return Ok(None) };
        if node.inode.kind() != Kind::Dir {
            return Ok(None);
        }
        let found = self.base.resolve_dir(id, self.head)?;
        let (Some(found), Some(origin)) = (found, node.inode.origin.as_deref()) else { return Ok(None) };
        let now = found.meta(self.base.xattrs(&found, id == NodeId::ROOT)?).attributes();
        let mut inode = node.inode.clone();
        inode.origin = Some(Arc::new(Origin { attributes: Some(now), ..origin.clone() }));
        Ok(self.ours.apply(&[put(id, inode)]))
    }
}

fn seen_as(origin: &Origin, found: &Found) -> Arc<Origin> {
    Arc::new(Origin { print: found.print, ..origin.clone() })
}

fn is_one_name(node: &Node) -> bool {
    node.inode.meta.nlink <= 1
}

/// What no choice of ours makes possible.
fn is_forbidden(why: Why) -> bool {
    matches!(why, Why::Immutable | Why::NotPermitted | Why::OtherFilesystem)
}
