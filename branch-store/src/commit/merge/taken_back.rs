//! What a restore of the parent took back: a child that forked with it meets that, one that forked before does not (S14).

use super::{Merge, child_of};
use crate::ids::{Name, NodeId};
use crate::node::{Body, Content, Inode, Lower};
use crate::tree::{Change, Tree};

impl Merge<'_> {
    /// Whether they took back what they had put in the place of the base's object, and the name means that again.
    pub(super) fn base_is_back(&self, dir: NodeId, name: &Name) -> bool {
        let entry = |tree: &Tree| tree.get(dir).and_then(|node| node.entries.get(name).cloned());
        let covered = entry(&self.fork).is_some_and(|entry| entry.over.is_some());
        covered && entry(&self.theirs).is_none()
    }

    /// Whether an object that they made their own since the fork is as it is in the base, with all that is in it: a
    /// restore took back what another child had forked with.
    pub(super) fn is_untouched(&self, id: NodeId) -> bool {
        let mut below = vec![id];
        while let Some(id) = below.pop() {
            let Some(node) = self.theirs.get(id).filter(|_| self.fork.get(id).is_none()) else {
                return false;
            };
            if !is_as_adopted(&node.inode)
                || !node.entries.keys().all(|name| self.adopts(&self.theirs, id, name))
            {
                return false;
            }
            below.extend(node.entries.values().filter_map(|entry| entry.child));
        }
        true
    }

    /// What they left as it is in the base, and nothing names any more: we removed it.
    pub(super) fn forsaken(&self, merged: &Tree) -> Vec<Change> {
        let is_named =
            |id| self.theirs.index().names(id).any(|at| child_of(merged, at.dir, &at.name) == Some(id));
        let candidates = self.touched.named.iter().filter(|id| {
            self.ours.get(**id).is_none() && self.fork.get(**id).is_none() && self.lives(merged, Some(**id))
        });
        candidates.filter(|id| !is_named(**id)).map(|id| Change::Drop { id: *id }).collect()
    }
}

/// Whether an object of the base is as it was adopted. Any change but that of the bytes stamps the change time; those of
/// directories are the base's, which stay out of it.
fn is_as_adopted(inode: &Inode) -> bool {
    let Some(origin) = inode.origin.as_deref() else { return false };
    let (print, meta) = (&origin.print, &inode.meta);
    match &inode.body {
        Body::Dir { parent, lower: Lower::Merged } => {
            let is_there = origin.slot.as_ref().is_some_and(|slot| slot.dir == *parent);
            is_there && origin.attributes.as_ref() == Some(&meta.attributes())
        }
        Body::Dir { lower: Lower::Opaque, .. } | Body::File(Content::Own(_)) => false,
        Body::File(Content::Base(_)) | Body::Symlink(_) | Body::Special(_) => {
            (print.ctime, print.mode, print.uid, print.gid) == (meta.ctime, meta.mode, meta.uid, meta.gid)
        }
    }
}
