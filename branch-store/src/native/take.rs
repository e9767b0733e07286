//! From what overlayfs left in an upper directory to a branch's tree: the tree that the same calls would have made
//! through a view of ours.

use std::collections::{HashMap, HashSet};

use crate::base::Found;
use crate::branch::view::{Look, Meaning};
use crate::branch::{Data, Draft, Known, NativeView, Shared, View};
use crate::copying::Take;
use crate::error::Result;
use crate::ids::{BranchId, LayerId, Name, NodeId, STORE_DIR};
use crate::journal::record::{DirPlace, Record};
use crate::native::lower::{Lower, Under};
use crate::native::upper::{Entry, Object as Upped, Upper};
use crate::node::{Attributes, Body, Content, Inode, Kind, Lower as Shows, Meta, Object, Slot, Time};
use crate::tree::{Change, Tree};

/// Whether the processes that write to the upper directory have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processes {
    /// They go on: files are copied.
    Run,
    /// Nobody writes any more: files become the branch's as they are.
    Ended,
}

/// What was read from an upper directory.
pub(super) struct Read {
    pub(super) tree: Tree,
    /// What a record has to say of it.
    pub(super) dirs: Vec<DirPlace>,
    pub(super) copied: Vec<(LayerId, NodeId)>,
}

/// The tree that a branch has with an upper directory over what it began with.
pub(super) fn tree_with(
    shared: &Shared,
    branch: BranchId,
    data: &Data,
    view: &mut NativeView,
    upper: &mut Upper,
    processes: Processes,
) -> Result<Read> {
    let start = view.start.tree().clone();
    let before = Data { tree: start.clone(), ..data.clone() };
    let seen = View { base: &shared.base, contents: &shared.contents, tree: &start, epoch: data.epoch };
    let lower = Lower::new(seen);
    let below = lower.dirs(upper)?;
    let origins = lower.others(upper, &below, view.xattrs)?;
    let mut taking = Taking {
        shared,
        lower,
        below: &below,
        origins: &origins,
        draft: Draft::new(shared, &before),
        dirs: Vec::new(),
        others: Vec::new(),
        kept: HashSet::new(),
        untouched: HashSet::new(),
        made: HashSet::new(),
        nameless: Vec::new(),
        processes,
        since: view.since,
        known: HashMap::new(),
    };
    taking.stay(upper)?;
    taking.make(view, upper)?;
    taking.place(upper)?;
    taking.mark_edits(view.since)?;
    view.known = taking.known;
    let (tree, record) = taking.draft.finish(branch);
    let (dirs, copied) = match record {
        Some(Record::Batch { dirs, copied, .. }) => (dirs, copied),
        _ => Default::default(),
    };
    Ok(Read { tree, dirs, copied })
}

struct Taking<'a> {
    shared: &'a Shared,
    lower: Lower<'a>,
    below: &'a [Option<Under>],
    origins: &'a [Option<Under>],
    draft: Draft<'a>,
    /// The node of each directory of the upper.
    dirs: Vec<NodeId>,
    /// The node of each other object; `None`: it is as it was.
    others: Vec<Option<NodeId>>,
    /// Objects that the branch had and that are somewhere in the upper: who loses one of their names loses no more.
    kept: HashSet<NodeId>,
    /// Those of the others that are as they were.
    untouched: HashSet<usize>,
    /// Nodes of what is new.
    made: HashSet<NodeId>,
    nameless: Vec<NodeId>,
    processes: Processes,
    /// When the view was attached.
    since: Time,
    known: HashMap<(u64, Time), Known>,
}

impl Taking<'_> {
    /// What was moved gets its node before anything changes its meaning, and so do files that were changed.
    fn stay(&mut self, upper: &mut Upper) -> Result<()> {
        for (index, under) in self.below.iter().enumerate().skip(1) {
            let Some(under) = under else { continue };
            self.kept.insert(under.id);
            if upper.dirs[index].redirect.is_some() {
                self.adopt(under)?;
            }
        }
        for (index, under) in self.origins.iter().enumerate() {
            let Some(under) = under else { continue };
            self.kept.insert(under.id);
            if self.is_untouched(index, under, upper)? {
                self.untouched.insert(index);
            } else {
                self.adopt(under)?;
            }
        }
        Ok(())
    }

    /// A file that was copied up, perhaps only because it was opened for writing, and is as it was.
    fn is_untouched(&self, index: usize, under: &Under, upper: &mut Upper) -> Result<bool> {
        let other = &upper.others[index];
        if other.object.node == Some(under.id) {
            // What it is called now is seen to with the names.
            return Ok(self.is_older(&other.object)
                || self.new_attributes(&other.object, under)?.is_none()
                    && self.is_unwritten(index, under, upper)?);
        }
        let [(dir, name)] = &other.names[..] else { return Ok(false) };
        let above = self.below[*dir].as_ref().map(|above| above.id);
        let in_place = |slot: &Slot| above == Some(slot.dir) && *name == slot.name;
        if !under.slot.as_ref().is_some_and(in_place) || self.new_attributes(&other.object, under)?.is_some()
        {
            return Ok(false);
        }
        self.is_unwritten(index, under, upper)
    }

    /// Nothing has happened to it since the view was made.
    fn is_older(&self, object: &Upped) -> bool {
        object.ctime() < self.since
    }

    fn is_unwritten(&self, index: usize, under: &Under, upper: &mut Upper) -> Result<bool> {
        if under.stat.kind != Kind::File {
            return Ok(true);
        }
        let file = upper.open_file(index)?;
        self.lower.has_bytes_of(under, &upper.others[index], || Ok(file))
    }

    /// The attributes of a copy if they are not those of what it was copied from. Somebody who has read that since moved
    /// its access time, which is no change of the copy's.
    fn new_attributes(&self, object: &Upped, under: &Under) -> Result<Option<Attributes>> {
        let (mut new, old) = (object.attributes(), self.lower.attributes(under)?);
        if old.atime > self.since {
            new.atime = old.atime;
        }
        Ok((new != old).then_some(new))
    }

    fn adopt(&mut self, under: &Under) -> Result<()> {
        self.draft.adopt(&under.object()).map(drop)
    }

    /// Gives every object of the upper its node, with attributes and bytes; names come later.
    fn make(&mut self, view: &NativeView, upper: &mut Upper) -> Result<()> {
        for index in 0..upper.dirs.len() {
            let id = match &self.below[index] {
                Some(under) => self.merged_dir(under, &upper.dirs[index].object)?,
                None => self.new_dir(index, upper, view)?,
            };
            self.dirs.push(id);
        }
        for index in 0..upper.others.len() {
            let id = match &self.origins[index] {
                Some(under) => self.changed_other(index, under, upper, view)?,
                // Nobody means it any more.
                None if upper.others[index].names.is_empty() => None,
                None => Some(self.new_other(index, upper, view)?),
            };
            self.others.push(id);
        }
        Ok(())
    }

    fn merged_dir(&mut self, under: &Under, object: &Upped) -> Result<NodeId> {
        if object.node == Some(under.id) && self.is_older(object) {
            return Ok(under.id);
        }
        if let Some(attributes) = self.new_attributes(object, under)? {
            self.adopt(under)?;
            self.draft.update(under.id, |inode| {
                inode.meta.set_attributes(attributes);
                inode.meta.ctime = object.ctime();
            })?;
        }
        Ok(under.id)
    }

    fn new_dir(&mut self, index: usize, upper: &Upper, view: &NativeView) -> Result<NodeId> {
        let dir = &upper.dirs[index];
        let id = self.id_of(&dir.object, view)?;
        let subdirs = dir.entries.values().filter(|entry| matches!(entry, Entry::Dir(_))).count();
        let nlink = u32::try_from(subdirs + 2).unwrap_or(u32::MAX);
        let body = Body::Dir { parent: self.dirs[dir.parent], lower: Shows::Opaque };
        self.made.insert(id);
        self.draft.put(id, Inode { meta: meta(&dir.object, nlink), origin: None, body })?;
        Ok(id)
    }

    fn new_other(&mut self, index: usize, upper: &mut Upper, view: &NativeView) -> Result<NodeId> {
        let id = self.id_of(&upper.others[index].object, view)?;
        let kind = upper.others[index].object.kind;
        let body = match kind {
            Kind::File => Body::File(self.bring(id, index, upper, view)?),
            Kind::Symlink => Body::Symlink(upper.others[index].target.clone()),
            kind => Body::Special(kind),
        };
        let other = &upper.others[index];
        let mut meta = meta(&other.object, u32::try_from(other.names.len()).unwrap_or(u32::MAX));
        if kind == Kind::File {
            meta.mtime = None;
        }
        self.made.insert(id);
        self.draft.put(id, Inode { meta, origin: None, body })?;
        Ok(id)
    }

    /// The node of a copy of what the branch had; `None` if nothing was done to it.
    fn changed_other(
        &mut self,
        index: usize,
        under: &Under,
        upper: &mut Upper,
        view: &NativeView,
    ) -> Result<Option<NodeId>> {
        if self.untouched.contains(&index) {
            return Ok(upper.others[index].object.node);
        }
        let id = under.id;
        let written = !self.is_unwritten(index, under, upper)?;
        let content = if written { Some(self.bring(id, index, upper, view)?) } else { None };
        let object = &upper.others[index].object;
        let attributes = self.new_attributes(object, under)?;
        self.draft.update(id, |inode| {
            if let Some(attributes) = attributes {
                inode.meta.set_attributes(attributes);
            }
            inode.meta.ctime = object.ctime();
            if let Some(content) = content {
                inode.body = Body::File(content);
                inode.meta.mtime = None;
            }
        })?;
        Ok(Some(id))
    }

    /// The id of an object that the branch made: the one it had when it was last taken in.
    fn id_of(&mut self, object: &Upped, view: &NativeView) -> Result<NodeId> {
        let known = view.known.get(&object.key()).copied();
        let id = known.map_or_else(|| self.shared.base.allocate_id(), |known| Ok(known.id))?;
        let copied = known.and_then(|known| known.copied);
        self.known.insert(object.key(), Known { id, copied });
        Ok(id)
    }

    /// Makes the bytes of a file the branch's content.
    fn bring(&mut self, id: NodeId, index: usize, upper: &mut Upper, view: &NativeView) -> Result<Content> {
        let layer = self.draft.layer;
        let contents = &self.shared.contents;
        match self.processes {
            Processes::Ended => {
                let (dir, name) = upper.place(index)?;
                contents.take_link((layer, id), (&*dir, &name))?;
            }
            Processes::Run => {
                let object = &upper.others[index].object;
                let (key, stamp) = (object.key(), Some((layer, object.ctime())));
                let before = view.known.get(&key).filter(|known| known.id == id);
                if before.is_none_or(|known| known.copied != stamp) {
                    let [atime, mtime] =
                        [object.attributes().atime, object.attributes().mtime.unwrap_or_default()];
                    let mode = u32::from(object.statx.stx_mode);
                    let file = upper.open_file(index)?;
                    contents.copy((layer, id), mode, &file, Take::All)?.publish(layer, id, [atime, mtime])?;
                }
                self.known.insert(key, Known { id, copied: stamp });
            }
        }
        self.draft.note_copied(layer, id);
        Ok(Content::Own(layer))
    }

    /// Has every name mean what it means in the upper directory.
    fn place(&mut self, upper: &Upper) -> Result<()> {
        for (index, dir) in upper.dirs.iter().enumerate() {
            for (name, entry) in &dir.entries {
                // Nobody's in any view: overlayfs has a whiteout there, and whatever a program made in its place.
                if index == 0 && name.as_bytes() == STORE_DIR.as_bytes() {
                    continue;
                }
                let target = match *entry {
                    Entry::Whiteout => None,
                    Entry::Dir(child) => Some((self.dirs[child], Kind::Dir)),
                    Entry::Other(child) => match self.others[child] {
                        Some(id) => Some((id, upper.others[child].object.kind)),
                        None => continue,
                    },
                };
                self.name(index, name.as_bytes(), target)?;
            }
            // What the base never had leaves no trace.
            let Some(under) = self.below[index].as_ref() else { continue };
            let is_gone = |name: &&Name| !dir.entries.contains_key(*name);
            let gone: Vec<Name> = self.lower.own_names(under.id).filter(is_gone).cloned().collect();
            for name in gone {
                self.name(index, name.as_bytes(), None)?;
            }
        }
        for id in std::mem::take(&mut self.nameless) {
            if self.draft.node(id).is_ok_and(|node| node.is_nameless()) {
                self.draft.push(Change::Drop { id })?;
            }
        }
        Ok(())
    }

    fn name(&mut self, index: usize, name: &[u8], target: Option<(NodeId, Kind)>) -> Result<()> {
        let dir = self.dirs[index];
        let now = self.draft.view().look(dir, name)?;
        let id_now = now.meaning.as_ref().map(|now| match now {
            Meaning::Node(id) | Meaning::Base(id, _) => *id,
        });
        if id_now == target.map(|(id, _)| id) {
            return Ok(());
        }
        if let Some(under) = &self.below[index] {
            self.adopt(under)?;
        }
        if now.meaning.is_some() {
            self.remove(dir, name)?;
        }
        let Some((id, kind)) = target else { return Ok(()) };
        let is_new = self.made.contains(&id);
        self.draft.set_entry(dir, name, &now, id)?;
        if kind == Kind::Dir {
            self.draft.update(id, |inode| {
                if let Body::Dir { parent, .. } = &mut inode.body {
                    *parent = dir;
                }
            })?;
            // A new directory has counted its own.
            if self.below[index].is_some() {
                self.relink(dir, 1)?;
            }
        } else if !is_new {
            self.relink(id, 1)?;
        }
        Ok(())
    }

    /// Takes a name away, and with a directory all that is in it and was not moved elsewhere.
    fn remove(&mut self, dir: NodeId, name: &[u8]) -> Result<()> {
        let mut todo = vec![Removal::Name(Slot { dir, name: Name::trusted(name) })];
        while let Some(next) = todo.pop() {
            match next {
                Removal::Name(slot) => {
                    let look = self.draft.view().look(slot.dir, slot.name.as_bytes())?;
                    self.remove_one(slot, look, &mut todo)?;
                }
                Removal::Emptied(slot, id, look) => {
                    self.draft.clear_entry(slot.dir, slot.name.as_bytes(), &look)?;
                    self.draft.update(id, Inode::lose_names)?;
                    self.relink(slot.dir, -1)?;
                    self.nameless.push(id);
                }
            }
        }
        Ok(())
    }

    fn remove_one(&mut self, slot: Slot, look: Look, todo: &mut Vec<Removal>) -> Result<()> {
        let Some(meaning) = &look.meaning else { return Ok(()) };
        let (id, kind) = match meaning {
            Meaning::Node(id) => (*id, self.draft.node(*id)?.inode.kind()),
            Meaning::Base(id, found) => (*id, found.print.kind),
        };
        let object = Object { id, slot: matches!(meaning, Meaning::Base(..)).then(|| slot.clone()) };
        if kind == Kind::Dir {
            self.draft.adopt(&object)?;
            if self.kept.contains(&id) {
                self.draft.clear_entry(slot.dir, slot.name.as_bytes(), &look)?;
                return self.relink(slot.dir, -1);
            }
            let names = self.draft.view().read_dir(&Object { id, slot: None })?;
            todo.push(Removal::Emptied(slot, id, look));
            todo.extend(names.into_iter().map(|entry| Removal::Name(Slot { dir: id, name: entry.name })));
            return Ok(());
        }
        // A name that nobody looks at any more needs no node.
        let is_last = |found: &Found| found.links() <= 1 && !self.kept.contains(&id);
        if let Meaning::Base(_, found) = meaning
            && is_last(found)
        {
            return self.draft.clear_entry(slot.dir, slot.name.as_bytes(), &look);
        }
        self.draft.adopt(&object)?;
        self.draft.clear_entry(slot.dir, slot.name.as_bytes(), &look)?;
        self.relink(id, -1)?;
        self.nameless.push(id);
        Ok(())
    }

    /// Counts a link; the times are those that overlayfs gave the object.
    fn relink(&mut self, id: NodeId, delta: i32) -> Result<()> {
        let ctime = self.draft.node(id)?.inode.meta.ctime;
        self.draft.relink(id, delta)?;
        self.draft.update(id, |inode| inode.meta.ctime = ctime)
    }

    /// The branch saw what the base had when it was attached. What has changed since, behind the view, must not pass for
    /// that: it gets a change time that no object has, so that the commit finds it edited (S15).
    fn mark_edits(&mut self, since: Time) -> Result<()> {
        let mut marked = Vec::new();
        for (id, node) in self.draft.view().tree.nodes() {
            if let Some(origin) = node.inode.origin.as_deref().filter(|origin| origin.print.ctime > since) {
                let mut inode = node.inode.clone();
                let mut origin = origin.clone();
                origin.print.ctime = Time::default();
                inode.origin = Some(origin.into());
                marked.push(Change::Put { id, inode: Box::new(inode) });
            }
            for (name, entry) in &node.entries {
                let Some(mut print) = entry.over.as_deref().copied().filter(|print| print.ctime > since)
                else {
                    continue;
                };
                print.ctime = Time::default();
                let mut entry = entry.clone();
                entry.over = Some(print.into());
                marked.push(Change::Link { dir: id, name: name.clone(), entry });
            }
        }
        marked.into_iter().try_for_each(|change| self.draft.push(change))
    }
}

/// A step of a removal.
enum Removal {
    Name(Slot),
    /// A directory whose names are gone.
    Emptied(Slot, NodeId, Look),
}

fn meta(object: &Upped, nlink: u32) -> Meta {
    let attributes = object.attributes();
    Meta {
        mode: attributes.mode,
        uid: attributes.uid,
        gid: attributes.gid,
        nlink,
        rdev: object.rdev(),
        atime: attributes.atime,
        mtime: attributes.mtime,
        ctime: object.ctime(),
        xattrs: attributes.xattrs,
    }
}
