//! One side of a comparison, to be read and never changed: a branch as it is now, as its fork found it or as it was
//! at a mark, or the base as it was after a commit.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::io::Errno;

use crate::branch::{Branch, Mark, Shared, View};
use crate::error::{Error, Result};
use crate::ids::CommitId;
use crate::lease::Lease;
use crate::node::{DirEntry, Object, Stat};
use crate::tree::Tree;

/// A picture of all names and attributes at one instant, and a way to the bytes. What a branch writes into its own
/// files after that instant shows through: names stand still, bytes of a live branch do not.
pub struct Side {
    shared: Arc<Shared>,
    tree: Tree,
    epoch: CommitId,
    keeper: Keeper,
    /// Keeps the base of `epoch`, also if the branch is rebased meanwhile.
    _lease: Lease,
}

/// What keeps the bytes of a side from being deleted. Asked after each read, so that no answer that came too late
/// passes as a true one.
enum Keeper {
    /// As long as this branch lives.
    Branch(Arc<Branch>),
    /// As long as this branch lives and has this mark.
    Mark(Arc<Branch>, Arc<Mark>),
    /// The lease, if the preimages of the commits since were kept when it was taken.
    History,
}

impl Side {
    /// A branch at its fork and now, both of one instant.
    pub(crate) fn fork_and_now(branch: &Arc<Branch>) -> (Side, Side) {
        let data = branch.data.read();
        let side = |tree: &Tree| Side {
            shared: branch.shared.clone(),
            tree: tree.clone(),
            epoch: data.epoch,
            keeper: Keeper::Branch(branch.clone()),
            // Under the data lock: from then on the branch may go on to another epoch.
            _lease: branch.shared.leases.take(data.epoch),
        };
        (side(&data.fork_tree), side(&data.tree))
    }

    /// A branch as it was at a mark.
    pub(crate) fn marked(branch: &Arc<Branch>, name: &str) -> Result<Side> {
        let data = branch.data.read();
        let mark = data.marks.get(name).ok_or_else(|| no_such_mark(branch, name))?;
        Ok(Side {
            shared: branch.shared.clone(),
            tree: mark.tree.clone(),
            epoch: data.epoch,
            keeper: Keeper::Mark(branch.clone(), mark.clone()),
            _lease: branch.shared.leases.take(data.epoch),
        })
    }

    /// The base after a commit. Nothing is known of it yet: [`Side::check`].
    pub(crate) fn base_after(shared: &Arc<Shared>, epoch: CommitId) -> Side {
        let lease = shared.leases.take(epoch);
        Side { shared: shared.clone(), tree: Tree::default(), epoch, keeper: Keeper::History, _lease: lease }
    }

    /// Finds a path, relative to the workspace; `None` if nothing is there. The empty path is the root.
    ///
    /// # Errors
    /// Those of [`Side::read_dir`].
    pub fn resolve(&self, path: &[u8]) -> Result<Option<(Object, Stat)>> {
        self.with(|view| {
            let root = Object { id: crate::ids::NodeId::ROOT, slot: None };
            let mut at = (view.stat(&root)?, root);
            for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
                at = match view.lookup(at.1.id, name) {
                    Ok((object, stat)) => (stat, object),
                    Err(e) if matches!(e.errno(), Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                    Err(e) => return Err(e),
                };
            }
            Ok(Some((at.1, at.0)))
        })
    }

    /// All names in a directory but `.` and `..`, sorted by bytes.
    ///
    /// # Errors
    /// ENOTDIR; `Ended` or `Stale` if the branch is, `NotKept` if the base of then is; the host's.
    pub fn read_dir(&self, dir: &Object) -> Result<Vec<DirEntry>> {
        self.with(|view| view.read_dir(dir))
    }

    /// Target of a symbolic link.
    ///
    /// # Errors
    /// EINVAL if it is none, and those of [`Side::read_dir`].
    pub fn read_link(&self, object: &Object) -> Result<Vec<u8>> {
        self.with(|view| view.read_link(object))
    }

    /// All bytes of a regular file; `None` if there are more than `max`.
    ///
    /// # Errors
    /// EISDIR, EINVAL for what has no bytes, and those of [`Side::read_dir`]; ENOENT if the branch lost the file
    /// meanwhile.
    pub fn read(&self, object: &Object, max: u64) -> Result<Option<Vec<u8>>> {
        self.with(|view| {
            loop {
                let commits = self.commits();
                let bytes = read_up_to(&view.open(object)?, max)?;
                // A commit that came in between may have been writing to this very file of the base.
                if commits == self.commits() {
                    return Ok(bytes);
                }
            }
        })
    }

    /// Whether it can still be read.
    pub(crate) fn check(&self) -> Result<()> {
        match &self.keeper {
            Keeper::Branch(branch) if branch.is_live() => Ok(()),
            Keeper::Branch(branch) => Err(branch.ended_error()),
            Keeper::Mark(branch, mark) => {
                if !branch.is_live() {
                    return Err(branch.ended_error());
                }
                let there = branch.data.read().marks.get(&mark.name).is_some_and(|m| Arc::ptr_eq(m, mark));
                if there { Ok(()) } else { Err(no_such_mark(branch, &mark.name)) }
            }
            Keeper::History => {
                let (oldest, newest) = (self.shared.base.history.read().oldest(), CommitId(self.commits()));
                if (oldest..=newest).contains(&self.epoch) {
                    return Ok(());
                }
                Err(Error::NotKept { commit: self.epoch.0, oldest: oldest.0, newest: newest.0 })
            }
        }
    }

    pub(crate) fn view(&self) -> View<'_> {
        let (base, contents) = (&self.shared.base, &self.shared.contents);
        View { base, contents, tree: &self.tree, epoch: self.epoch }
    }

    fn with<T>(&self, f: impl FnOnce(&View<'_>) -> Result<T>) -> Result<T> {
        let result = f(&self.view());
        // First of all: what a dead side answers, an error too, says nothing.
        self.check()?;
        result
    }

    fn commits(&self) -> u64 {
        self.shared.counters.commit.load(Ordering::Acquire)
    }
}

fn no_such_mark(branch: &Branch, name: &str) -> Error {
    Error::NoSuchMark { branch: branch.name().to_owned(), name: name.to_owned() }
}

fn read_up_to(file: &File, max: u64) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let read = file.take(max.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|e| Error::Posix(Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
    Ok((bytes.len() as u64 <= max).then_some(bytes))
}
