//! Base directories that the branch removed. They leave the base whole, in one step, so all that is in them now
//! must be what the branch removed: anything else would be lost without a word (S14, S15).

use super::Planner;
use super::look::clash;
use crate::base::Found;
use crate::commit::attributes;
use crate::commit::clash::{Clash, Subject, Why};
use crate::error::Result;
use crate::ids::NodeId;
use crate::node::{Entry, Kind, Node, Slot};
use crate::plan::{RelPath, join};

impl<'a> Planner<'a> {
    /// What the base has in the directory found under a name, if the branch removed that directory, and in those
    /// below it.
    pub(super) fn look_in_removed(&mut self, found: &Found, path: &[u8]) -> Result<()> {
        // Not a recursion: the stack is not as deep as a tree of directories can be.
        let mut removed = vec![(found.clone(), path.to_vec())];
        while let Some((found, path)) = removed.pop() {
            let Some((id, grave)) = self.grave(&found)? else { continue };
            self.look_at_removed_dir(id, grave, &found, &path)?;
            for (name, entry) in &grave.entries {
                let slot = Slot { dir: id, name: name.clone() };
                let path = join(&path, name.as_bytes());
                if let Some(found) = self.look_at_removed_name(slot, entry, &path)? {
                    removed.push((found, path));
                }
            }
        }
        Ok(())
    }

    /// The node that a removed base directory leaves in the tree.
    fn grave(&self, found: &Found) -> Result<Option<(NodeId, &'a Node)>> {
        let Some(id) = self.dir_id(&found.print)? else { return Ok(None) };
        Ok(self.tree.get(id).filter(|node| node.is_grave()).map(|node| (id, &**node)))
    }

    fn look_at_removed_dir(&mut self, id: NodeId, grave: &Node, found: &Found, path: &[u8]) -> Result<()> {
        let then = grave.inode.origin.as_deref().and_then(|origin| origin.attributes.as_ref());
        let now = found.meta(self.base.xattrs(found, false)?).attributes();
        if !then.is_some_and(|then| attributes::agree(&now, then)) {
            self.conflicts.push(Clash::new(path.to_vec(), Why::BaseEdited, Subject::Object(id)));
        }
        for name in self.base.list(id, self.head)?.into_keys() {
            if !grave.entries.contains_key(&name) {
                let path = join(path, name.as_bytes());
                let subject = Subject::Name(Slot { dir: id, name });
                self.conflicts.push(Clash::new(path, Why::CreatedInRemoved, subject));
            }
        }
        Ok(())
    }

    /// Returns the base object that the name goes on meaning until the directory goes.
    fn look_at_removed_name(&mut self, slot: Slot, entry: &Entry, path: &RelPath) -> Result<Option<Found>> {
        let found = self.base.resolve(&slot, self.head)?;
        let print = found.as_ref().map(|found| &found.print);
        if let Some(why) = clash(entry, print).or(self.lost(&slot, entry, print)?) {
            self.clash_at(path, why, &slot, entry);
        }
        if let Some(found) = found.as_ref().filter(|found| found.print.kind != Kind::Dir && found.links() > 1)
        {
            self.leaving_with_dir.push((slot, found.clone()));
        }
        Ok(found)
    }

    /// Names of files with several go with the directory: no view counts them any more, and older snapshots go
    /// on counting them.
    pub(super) fn count_leaving_with_dir(&mut self) -> Result<()> {
        for (slot, found) in std::mem::take(&mut self.leaving_with_dir) {
            // One that the branch has elsewhere has been taken out of the directory.
            if self.seen.contains_key(&slot) {
                continue;
            }
            let meta = found.meta(self.base.xattrs(&found, false)?);
            self.displace_object(&found, meta)?;
            self.drawn.plan.along.push((found.print.key(), slot));
        }
        Ok(())
    }
}
