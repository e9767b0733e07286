//! What a branch changed since its fork, as paths.

use std::collections::{BTreeSet, HashMap};

use crate::branch::{Branch, View};
use crate::error::Result;
use crate::ids::{Name, NodeId};
use crate::node::{Body, Kind, Object, Stat};
use crate::plan::join;

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathChange {
    /// Path in the branch, relative to the workspace.
    pub path: Vec<u8>,
    /// What happened to it.
    pub kind: ChangeKind,
    /// Attributes at the fork.
    pub old: Option<Stat>,
    /// Attributes now.
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

/// What a branch changed since its fork, sorted by path.
///
/// # Errors
/// `Ended`, `Stale`, and the host's.
pub(crate) fn diff(branch: &Branch) -> Result<Vec<PathChange>> {
    branch.check_live().map_err(|_| branch.ended_error())?;
    let data = branch.data.read().clone();
    let (base, contents) = (&branch.shared.base, &branch.shared.contents);
    let view = |tree| View { base, contents, tree, epoch: data.epoch };
    let mut diff = Diff {
        old: view(&data.fork_tree),
        new: view(&data.tree),
        added: vec![],
        deleted: vec![],
        out: vec![],
    };
    diff.dir(NodeId::ROOT, b"")?;
    diff.finish()
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
    added: Vec<At>,
    deleted: Vec<At>,
    out: Vec<PathChange>,
}

fn look(view: &View<'_>, dir: NodeId, name: &Name, path: &[u8]) -> Result<Option<At>> {
    match view.lookup(dir, name.as_bytes()) {
        Ok((object, stat)) => Ok(Some(At { path: path.to_vec(), object, stat })),
        Err(e) if e.errno() == rustix::io::Errno::NOENT => Ok(None),
        Err(e) => Err(e),
    }
}

impl Diff<'_> {
    /// Compares a directory that exists on both sides: only names that either tree speaks of can differ.
    fn dir(&mut self, dir: NodeId, path: &[u8]) -> Result<()> {
        let names = |view: &View<'_>| -> Vec<Name> {
            view.tree.get(dir).map(|node| node.entries.keys().cloned().collect()).unwrap_or_default()
        };
        let all: BTreeSet<Name> = names(&self.old).into_iter().chain(names(&self.new)).collect();
        for name in all {
            let path = join(path, name.as_bytes());
            let old = look(&self.old, dir, &name, &path)?;
            let new = look(&self.new, dir, &name, &path)?;
            self.name(old, new)?;
        }
        Ok(())
    }

    fn name(&mut self, old: Option<At>, new: Option<At>) -> Result<()> {
        match (old, new) {
            (Some(old), Some(new)) if old.object.id == new.object.id => self.same(old, new),
            (Some(old), Some(new)) if old.stat.kind == Kind::Dir || new.stat.kind == Kind::Dir => {
                self.deleted.push(old);
                self.added.push(new);
                Ok(())
            }
            (Some(old), Some(new)) => {
                let kind =
                    if old.stat.kind == new.stat.kind { ChangeKind::Modified } else { ChangeKind::Type };
                self.push(new.path, kind, Some(old.stat), Some(new.stat));
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
        if self.content_differs(id) {
            self.push(new.path, ChangeKind::Modified, Some(old.stat), Some(new.stat));
        } else if self.attributes_differ(&old, &new)? {
            self.push(new.path, ChangeKind::Attributes, Some(old.stat), Some(new.stat));
        }
        if kind == Kind::Dir { self.dir(id, &path) } else { Ok(()) }
    }

    fn content_differs(&self, id: NodeId) -> bool {
        let body = |view: &View<'_>| view.tree.get(id).map(|node| node.inode.body.clone());
        match (body(&self.old), body(&self.new)) {
            (Some(Body::File(old)), Some(Body::File(new))) => old != new,
            (None, Some(Body::File(new))) => matches!(new, crate::node::Content::Own(_)),
            _ => false,
        }
    }

    fn attributes_differ(&self, old: &At, new: &At) -> Result<bool> {
        let (o, n) = (&old.stat, &new.stat);
        if (o.mode, o.uid, o.gid) != (n.mode, n.uid, n.gid) || (n.kind == Kind::File && o.mtime != n.mtime) {
            return Ok(true);
        }
        let Some(node) = self.new.tree.get(new.object.id) else { return Ok(false) };
        let before = match self.old.tree.get(old.object.id) {
            Some(node) => node.inode.meta.xattrs.clone(),
            None => {
                let root = old.object.id == NodeId::ROOT;
                self.old.base.xattrs(&self.old.found(&old.object)?, root)?
            }
        };
        Ok(before != node.inode.meta.xattrs)
    }

    /// Pairs what went with what came: first whole directories, then what they hold.
    fn finish(mut self) -> Result<Vec<PathChange>> {
        self.pair_renames()?;
        let (added, deleted) = (std::mem::take(&mut self.added), std::mem::take(&mut self.deleted));
        for at in added {
            let leaves = leaves(&self.new, at)?;
            self.added.extend(leaves);
        }
        for at in deleted {
            let leaves = leaves(&self.old, at)?;
            self.deleted.extend(leaves);
        }
        self.pair_renames()?;
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
        let mut gone: HashMap<NodeId, At> = self.deleted.drain(..).map(|at| (at.object.id, at)).collect();
        for new in std::mem::take(&mut self.added) {
            let Some(old) = gone.remove(&new.object.id) else {
                self.added.push(new);
                continue;
            };
            let kind = ChangeKind::Renamed { from: old.path.clone() };
            self.push(new.path.clone(), kind, Some(old.stat.clone()), Some(new.stat.clone()));
            if new.stat.kind == Kind::Dir {
                self.dir(new.object.id, &new.path)?;
            }
        }
        self.deleted.extend(gone.into_values());
        Ok(())
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
