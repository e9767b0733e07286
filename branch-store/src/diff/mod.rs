//! What differs between two sides, as paths.

mod content;
mod names;

use std::collections::{BTreeSet, HashMap, VecDeque};

use rustix::io::Errno;

use crate::branch::View;
use crate::diff::content::{bytes_differ, xattrs};
use crate::diff::names::Both;
use crate::error::Result;
use crate::ids::{Name, NodeId};
use crate::node::{Kind, Object, Stat};
use crate::plan::join;
use crate::side::Side;

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathChange {
    /// Path on the new side (of what is deleted, on the old one), relative to the workspace.
    pub path: Vec<u8>,
    /// What happened to it.
    pub kind: ChangeKind,
    /// Attributes on the old side.
    pub old: Option<Stat>,
    /// Attributes on the new side.
    pub new: Option<Stat>,
}

/// What happened to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// Was not there. A new directory is listed by what it holds, itself only if empty.
    Added,
    /// Other bytes, or another object of the same kind.
    Modified,
    /// Is gone. A directory is listed by what it held, itself only if it was empty.
    Deleted,
    /// Came from another path; a directory once, with all below it.
    Renamed {
        /// Where it was.
        from: Vec<u8>,
    },
    /// Another kind of object.
    Type,
    /// Only attributes.
    Attributes,
}

/// How the result speaks of a renamed directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directories {
    /// As one renamed path, with what changed in it under its new name.
    Whole,
    /// By the renamed paths of all it holds.
    Expanded,
}

/// What differs between two sides, sorted by path.
///
/// # Errors
/// `Ended`, `Stale`, `NotKept`, and the host's.
pub(crate) fn compare(old: &Side, new: &Side, directories: Directories) -> Result<Vec<PathChange>> {
    let (from, to) = (old.view(), new.view());
    let one_base = from.epoch == to.epoch;
    let (added, deleted, seen, out) = (vec![], vec![], Both::default(), vec![]);
    let mut diff = Diff { old: from, new: to, one_base, directories, added, deleted, seen, out };
    let found = diff.dir(NodeId::ROOT, b"").and_then(|()| diff.finish());
    // First of all: what a dead side answers says nothing.
    old.check()?;
    new.check()?;
    found
}

/// An object at a path.
struct At {
    path: Vec<u8>,
    object: Object,
    stat: Stat,
}

struct Diff<'a> {
    old: View<'a>,
    new: View<'a>,
    /// Both see the base after the same commit: only what one of the trees speaks of can differ.
    one_base: bool,
    directories: Directories,
    added: Vec<At>,
    deleted: Vec<At>,
    seen: Both,
    out: Vec<PathChange>,
}

fn look(view: &View<'_>, dir: NodeId, name: &Name, path: &[u8]) -> Result<Option<At>> {
    match view.lookup(dir, name.as_bytes()) {
        Ok((object, stat)) => Ok(Some(At { path: path.to_vec(), object, stat })),
        Err(e) if e.errno() == Errno::NOENT => Ok(None),
        Err(e) => Err(e),
    }
}

impl Diff<'_> {
    /// Compares a directory that exists on both sides.
    fn dir(&mut self, dir: NodeId, path: &[u8]) -> Result<()> {
        let (old, new) = (self.names(&self.old, dir)?, self.names(&self.new, dir)?);
        let all: BTreeSet<Name> = old.into_iter().chain(new).collect();
        for name in all {
            let path = join(path, name.as_bytes());
            let old = look(&self.old, dir, &name, &path)?;
            let new = look(&self.new, dir, &name, &path)?;
            self.name(old, new)?;
        }
        Ok(())
    }

    /// Names under which a directory can differ.
    fn names(&self, view: &View<'_>, dir: NodeId) -> Result<Vec<Name>> {
        if self.one_base {
            let node = view.tree.get(dir);
            return Ok(node.map(|node| node.entries.keys().cloned().collect()).unwrap_or_default());
        }
        let entries = view.read_dir(&Object { id: dir, slot: None })?;
        Ok(entries.into_iter().map(|entry| entry.name).collect())
    }

    fn name(&mut self, old: Option<At>, new: Option<At>) -> Result<()> {
        old.iter().for_each(|old| self.seen.old.note(old));
        new.iter().for_each(|new| self.seen.new.note(new));
        match (old, new) {
            (Some(old), Some(new)) if old.object.id == new.object.id => self.same(old, new),
            (Some(old), Some(new)) if old.stat.kind == Kind::Dir || new.stat.kind == Kind::Dir => {
                self.deleted.push(old);
                self.added.push(new);
                Ok(())
            }
            (Some(old), Some(new)) => {
                self.replaced(old, new);
                Ok(())
            }
            (old, new) => {
                self.deleted.extend(old);
                self.added.extend(new);
                Ok(())
            }
        }
    }

    /// The same object on both sides, maybe under another path.
    fn same(&mut self, old: At, new: At) -> Result<()> {
        let path = new.path.clone();
        let id = new.object.id;
        let kind = new.stat.kind;
        let (before, after) = ((&self.old, &old.object), (&self.new, &new.object));
        if kind == Kind::File && bytes_differ(before, after)? {
            self.push(new.path, ChangeKind::Modified, Some(old.stat), Some(new.stat));
        } else if self.attributes_differ(&old, &new)? {
            self.push(new.path, ChangeKind::Attributes, Some(old.stat), Some(new.stat));
        }
        if kind == Kind::Dir { self.dir(id, &path) } else { Ok(()) }
    }

    fn attributes_differ(&self, old: &At, new: &At) -> Result<bool> {
        let (o, n) = (&old.stat, &new.stat);
        if (o.mode, o.uid, o.gid) != (n.mode, n.uid, n.gid) || (n.kind == Kind::File && o.mtime != n.mtime) {
            return Ok(true);
        }
        let nodes = self.old.tree.get(old.object.id).is_some() || self.new.tree.get(new.object.id).is_some();
        if !nodes && (self.one_base || o.ctime == n.ctime) {
            return Ok(false);
        }
        Ok(xattrs(&self.old, &old.object)? != xattrs(&self.new, &new.object)?)
    }

    /// Pairs what went with what came: first whole directories, then what they hold.
    fn finish(mut self) -> Result<Vec<PathChange>> {
        if self.directories == Directories::Whole {
            self.pair_renames()?;
        }
        let (added, deleted) = (std::mem::take(&mut self.added), std::mem::take(&mut self.deleted));
        for at in added {
            let leaves = leaves(&self.new, at)?;
            leaves.iter().for_each(|leaf| self.seen.new.note(leaf));
            self.added.extend(leaves);
        }
        for at in deleted {
            let leaves = leaves(&self.old, at)?;
            leaves.iter().for_each(|leaf| self.seen.old.note(leaf));
            self.deleted.extend(leaves);
        }
        self.pair_renames()?;
        self.pair_paths();
        if self.one_base {
            self.other_names()?;
        }
        for at in std::mem::take(&mut self.added) {
            self.push(at.path, ChangeKind::Added, None, Some(at.stat));
        }
        for at in std::mem::take(&mut self.deleted) {
            self.push(at.path, ChangeKind::Deleted, Some(at.stat), None);
        }
        self.out.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(self.out)
    }

    fn pair_renames(&mut self) -> Result<()> {
        // A file with several names may have lost more than one.
        let mut gone: HashMap<NodeId, VecDeque<At>> = HashMap::new();
        for at in self.deleted.drain(..) {
            gone.entry(at.object.id).or_default().push_back(at);
        }
        for new in std::mem::take(&mut self.added) {
            let Some(old) = gone.get_mut(&new.object.id).and_then(VecDeque::pop_front) else {
                self.added.push(new);
                continue;
            };
            if old.path == new.path {
                self.same(old, new)?;
                continue;
            }
            let kind = ChangeKind::Renamed { from: old.path.clone() };
            self.push(new.path.clone(), kind, Some(old.stat.clone()), Some(new.stat.clone()));
            if new.stat.kind == Kind::Dir {
                self.dir(new.object.id, &new.path)?;
            }
        }
        self.deleted.extend(gone.into_values().flatten());
        Ok(())
    }

    /// What both went and came under a path, in directories that are not the same.
    fn pair_paths(&mut self) {
        let mut gone: HashMap<Vec<u8>, At> = self.deleted.drain(..).map(|at| (at.path.clone(), at)).collect();
        for new in std::mem::take(&mut self.added) {
            match gone.remove(&new.path) {
                Some(old) if old.stat.kind != Kind::Dir || new.stat.kind != Kind::Dir => {
                    self.replaced(old, new);
                }
                // An empty directory in the place of another.
                Some(_) => {}
                None => self.added.push(new),
            }
        }
        self.deleted.extend(gone.into_values());
    }

    /// Another object under the same path.
    fn replaced(&mut self, old: At, new: At) {
        let same = old.stat.kind == new.stat.kind;
        let kind = if same { ChangeKind::Modified } else { ChangeKind::Type };
        self.push(new.path, kind, Some(old.stat), Some(new.stat));
    }

    fn push(&mut self, path: Vec<u8>, kind: ChangeKind, old: Option<Stat>, new: Option<Stat>) {
        self.out.push(PathChange { path, kind, old, new });
    }
}

/// Everything at and below a path that is not a directory with something in it.
fn leaves(view: &View<'_>, top: At) -> Result<Vec<At>> {
    let mut out = Vec::new();
    let mut stack = vec![top];
    while let Some(at) = stack.pop() {
        let entries = if at.stat.kind == Kind::Dir { view.read_dir(&at.object)? } else { Vec::new() };
        if entries.is_empty() {
            out.push(at);
            continue;
        }
        for entry in entries {
            let path = join(&at.path, entry.name.as_bytes());
            stack.extend(look(view, at.object.id, &entry.name, &path)?);
        }
    }
    Ok(out)
}
