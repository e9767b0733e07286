//! The second walk: what the branch has, placed parents first.

use std::sync::Arc;

use super::ahead::Looked;
use super::{Fate, Planner, Seen, Stage, UNSTAGED, is_merged};
use crate::base::Found;
use crate::commit::clash::{Clash, Subject, Why};
use crate::commit::{attributes, path_of};
use crate::error::{Error, Result};
use crate::ids::NodeId;
use crate::node::{Attributes, Body, Content, HostKey, Kind, Meta, Node, Slot};
use crate::plan::{Park, RelPath, Step, join};

/// What a step may need of a directory (`commit::lend`).
const LENT: u32 = 0o300;

impl<'a> Planner<'a> {
    /// Children of a directory that has its final path.
    pub(super) fn place_children(&mut self, dir: NodeId, path: &[u8]) -> Result<()> {
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
        let found = seen.map(|seen| seen.found.clone());
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
        found: Option<Arc<Looked>>,
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
    fn changes_in_place(&mut self, id: NodeId, node: &'a Node, path: &[u8], found: &Looked) -> Result<()> {
        let key = found.print.key();
        let old = found.meta(self.base)?;
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
        let now = old.attributes();
        if changes || relinked {
            self.displace_object(found, old)?;
        }
        if changes {
            let mut meta = Box::new(node.inode.meta.clone());
            self.keep_theirs(&mut meta, (id, node), path, &now);
            self.sets |= now != meta.attributes();
            // Its times change with its names; a host that allows one but not the other is reported.
            let wanted = Attributes { atime: now.atime, mtime: now.mtime, ..meta.attributes() };
            if wanted != now {
                self.permit_attributes(id, found, path);
            }
            self.metas.push(Step::SetMeta { path: path.to_vec(), object: Some(key), meta });
        }
        Ok(())
    }

    fn rewrite(&mut self, id: NodeId, node: &Node, found: &Found) -> Result<()> {
        self.permit_bytes(found)?;
        let (new, kept) = (self.new_park(), self.new_park());
        let path = self.base_path(&found.place)?;
        self.drawn.stages.push(Stage::Node(new, id, path));
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
    pub(super) fn change_nameless(&mut self) -> Result<()> {
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
                self.sets = true;
                self.displace_object(&found, old)?;
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
        // Under every name: a fresh directory must not be staged with another object in its place.
        self.drawn.later.insert(id);
        if self.staying.contains_key(&id) || self.placed.contains_key(&id) {
            self.permit_link(key)?;
            return self.add_link(id, path, key);
        }
        let Some((park, found)) = self.take_parked(id, node, key)? else {
            self.conflicts.push(Clash::new(path.to_vec(), Why::GoneBelow, Subject::Object(id)));
            return Ok(());
        };
        self.placed.insert(id, path.to_vec());
        let dir = (node.inode.kind() == Kind::Dir).then_some(id);
        self.appears.push(Step::Attach { park, path: path.to_vec(), object: key, dir });
        self.changes_in_place(id, node, path, &found)
    }

    /// A detached name of the object. Where the directory it was in has been removed since, no entry speaks
    /// of the name any more: then the node itself knows it.
    fn take_parked(&mut self, id: NodeId, node: &Node, key: HostKey) -> Result<Option<(Park, Arc<Looked>)>> {
        if !self.parked.contains_key(&key) {
            let slot = match (&node.inode.body, &node.inode.origin) {
                (Body::Dir { .. }, _) => self.base.dir_slot(id, self.head)?,
                (_, Some(origin)) => origin.slot.clone().ok_or(Error::Posix(rustix::io::Errno::IO))?,
                (_, None) => return Ok(None),
            };
            let Some(found) = self.base.resolve(&slot, self.head)?.map(Looked::from) else { return Ok(None) };
            let origin = node.inode.origin.as_deref();
            if !origin.is_some_and(|origin| origin.print.is_unedited(&found.print)) {
                return Ok(None);
            }
            self.displace(&slot, &found)?;
            self.displace_above(&slot)?;
            self.detach(&slot, &found)?;
            self.seen_at.insert(key, slot.clone());
            self.seen.insert(slot, Seen { found: Arc::new(found), fate: Fate::Detached });
        }
        let park = self.parked.get_mut(&key).and_then(Vec::pop);
        let seen = self.seen_at.get(&key).and_then(|slot| self.seen.get(slot));
        let found = seen.map(|seen| seen.found.clone());
        Ok(park.zip(found))
    }

    /// A directory that loses a name and has no entry to say so: it goes with the directory it was in.
    fn displace_above(&mut self, slot: &Slot) -> Result<()> {
        if slot.dir == NodeId::ROOT {
            return Ok(());
        }
        let above = self.base.dir_slot(slot.dir, self.head)?;
        if let Some(found) = self.base.resolve(&above, self.head)? {
            let meta = found.meta(self.base.xattrs(&found, false)?);
            self.displace_object(&found, meta)?;
        }
        Ok(())
    }

    fn place_fresh(
        &mut self,
        id: NodeId,
        node: &'a Node,
        path: &[u8],
        fate: Fate,
        found: Option<Arc<Looked>>,
    ) -> Result<()> {
        if self.placed.contains_key(&id) {
            return self.add_link(id, path, UNSTAGED);
        }
        let park = self.new_park();
        self.drawn.stages.push(Stage::Node(park, id, path.to_vec()));
        let path = path.to_vec();
        let step = match found {
            Some(found) if fate == Fate::Exchanged => Step::Exchange {
                park,
                path: path.clone(),
                new: UNSTAGED,
                old: found.print.key(),
                new_dir: None,
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
        // One that is read-only is lent write permission on its way to its place.
        let lent = node.inode.meta.mode & LENT != LENT;
        if lent || self.appears.len() + self.links_added.len() > before {
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
        let parent = path_of(self.tree, slot.dir).unwrap_or_default();
        Ok(join(&parent, slot.name.as_bytes()))
    }

    pub(super) fn meta_of(&mut self, id: NodeId, node: &Node, path: &[u8], displaced: bool) -> Result<()> {
        let mut meta = Box::new(node.inode.meta.clone());
        if displaced {
            debug_assert_eq!(id, NodeId::ROOT);
            let found = self.base.resolve_root(self.head)?;
            let old = found.meta(self.base.xattrs(&found, true)?);
            self.keep_theirs(&mut meta, (id, node), path, &old.attributes());
            self.sets |= old.attributes() != meta.attributes();
            self.displace_object(&found, old)?;
        }
        self.metas.push(Step::SetMeta { path: path.to_vec(), object: None, meta });
        Ok(())
    }

    /// What the branch left alone of a directory's attributes stays as the base has it now: directories that
    /// only hold changes do not conflict.
    fn keep_theirs(&mut self, meta: &mut Meta, (id, node): (NodeId, &Node), path: &[u8], now: &Attributes) {
        let Some(then) = node.inode.origin.as_deref().and_then(|origin| origin.attributes.as_ref()) else {
            return;
        };
        match attributes::merge(then, now, &meta.attributes()) {
            Some(merged) => meta.set_attributes(merged),
            None => {
                self.conflicts.push(Clash::new(path.to_vec(), Why::BaseEdited, Subject::Object(id)));
            }
        }
    }
}

/// Whether attributes differ that a write-back sets. Link counts are the host's business.
fn differs(old: &Meta, new: &Meta) -> bool {
    (old.mode, old.uid, old.gid, old.atime, old.mtime, &old.xattrs)
        != (new.mode, new.uid, new.gid, new.atime, new.mtime, &new.xattrs)
}
