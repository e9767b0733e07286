//! A live branch: its state, its tree, and the file operations on it. One file per kind of operation.

mod attached;
mod attributes;
mod copy_up;
mod draft;
mod foresight;
mod holdings;
mod making;
mod marks;
mod namespace;
mod open_file;
mod quota;
mod reading;
mod reaping;
mod registry;
mod settle;
mod shared;
mod stable;
pub(crate) mod view;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use parking_lot::RwLock;
use rustix::io::Errno;

pub use attached::OverlayXattrs;
pub(crate) use attached::{Attached, Known, NativeView, Start};
pub use attributes::{AttrChange, XattrChange, XattrMode};
pub(crate) use draft::{Draft, Names};
pub(crate) use holdings::AtFork;
pub use holdings::Holdings;
pub use making::{New, NewKind};
pub(crate) use marks::{BEFORE_NATIVE, Mark, Marks};
pub use marks::{BEFORE_RESTORE, MarkInfo};
pub use namespace::{Removed, RenameMode};
pub use open_file::{Access, OpenFile, SeekWhat, SyncWhat};
pub(crate) use registry::Registry;
pub(crate) use shared::{Counters, Shared};
pub use stable::Stable;
pub(crate) use view::View;

use crate::error::{Error, Result};
use crate::ids::{BranchId, CommitId, GroupId, GroupKind, LayerId, NodeId, Quota};
use crate::node::{Body, Content, DirEntry, Inode, Object, Stat, Time};
use crate::tree::{Change, Tree, changed};

/// Where a branch is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Everything works.
    Live = 0,
    /// Being committed: reads work, changes answer EBUSY.
    Sealed = 1,
    /// Its changes are in the parent.
    Committed = 2,
    /// Somebody discarded it.
    Aborted = 3,
    /// A sibling committed first.
    Stale = 4,
}

impl State {
    fn of(raw: u8) -> State {
        match raw {
            0 => State::Live,
            1 => State::Sealed,
            2 => State::Committed,
            3 => State::Aborted,
            _ => State::Stale,
        }
    }

    /// Whether operations still work at all.
    pub fn is_live(self) -> bool {
        matches!(self, State::Live | State::Sealed)
    }
}

/// How a branch came to be.
#[derive(Debug, Clone)]
pub(crate) struct Birth {
    pub(crate) id: BranchId,
    pub(crate) name: String,
    pub(crate) parent: Option<BranchId>,
    pub(crate) group: Option<(GroupId, GroupKind)>,
    pub(crate) created: Time,
    pub(crate) depth: u32,
}

/// What a branch knows of its files.
#[derive(Debug, Clone)]
pub(crate) struct Data {
    pub(crate) tree: Tree,
    /// The tree at the fork: what a diff and a commit compare with.
    pub(crate) fork_tree: Tree,
    pub(crate) at_fork: AtFork,
    pub(crate) epoch: CommitId,
    /// The one layer the branch may write in (I-4).
    pub(crate) layer: LayerId,
    /// All layers made for it or taken over from committed children: gone when it is.
    pub(crate) layers: Vec<LayerId>,
    pub(crate) quota: Quota,
    pub(crate) marks: Marks,
    /// The mark that was last restored, and the tree that this made: as long as there is the mark, what shows the same
    /// need not be saved. Not kept on disk.
    pub(crate) restored: Option<(Arc<Mark>, Tree)>,
}

impl Data {
    /// Files with bytes in some layer, in any of its trees. What trees share is told once.
    pub(crate) fn own_files(&self, mut each: impl FnMut(&Tree, NodeId, LayerId)) {
        let own = |inode: &Inode| match inode.body {
            Body::File(Content::Own(layer)) => Some(layer),
            _ => None,
        };
        for (id, node) in self.tree.nodes() {
            own(&node.inode).into_iter().for_each(|layer| each(&self.tree, id, layer));
        }
        let mut last = &self.tree;
        for tree in self.marks.iter().rev().map(|mark| &mark.tree).chain([&self.fork_tree]) {
            for change in last.diff(tree) {
                if let Change::Put { id, inode } = change {
                    own(&inode).into_iter().for_each(|layer| each(tree, id, layer));
                }
            }
            last = tree;
        }
    }
}

/// A branch of the workspace. Every operation answers ESTALE once it has ended (S13).
pub struct Branch {
    pub(crate) shared: Arc<Shared>,
    pub(crate) birth: Birth,
    state: AtomicU8,
    /// Live branches of frozen groups below: while there are any, this one is read-only (S2).
    pub(crate) frozen: AtomicU32,
    /// How often its tree became another one: by restores, rebases, and merges of what children committed. What a
    /// reader looked for in vain may have gone with the tree it had.
    replacements: AtomicU64,
    /// Whether files may lie in its older layers that no tree speaks of any more.
    pub(crate) littered: AtomicBool,
    /// Whether its processes have a native view.
    pub(crate) attached: Attached,
    /// Lock order: `Shared::decide`, `Shared::gate`, then parents before children, then the journal's.
    pub(crate) data: RwLock<Data>,
    /// Taken under `data`.
    pub(crate) meter: quota::Meter,
}

impl std::fmt::Debug for Branch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Branch({} {} {:?})", self.birth.id, self.birth.name, self.state())
    }
}

impl Branch {
    pub(crate) fn new(shared: Arc<Shared>, birth: Birth, data: Data) -> Arc<Branch> {
        Arc::new(Branch {
            shared,
            birth,
            state: AtomicU8::new(State::Live as u8),
            frozen: AtomicU32::new(0),
            replacements: AtomicU64::new(0),
            littered: AtomicBool::new(false),
            attached: Attached::default(),
            data: RwLock::new(data),
            meter: quota::Meter::default(),
        })
    }

    /// Index of the branch.
    pub fn id(&self) -> BranchId {
        self.birth.id
    }

    /// Name of the branch.
    pub fn name(&self) -> &str {
        &self.birth.name
    }

    /// The branch it was forked from; `None` for main.
    pub fn parent(&self) -> Option<BranchId> {
        self.birth.parent
    }

    /// How it relates to its siblings; `None` for main.
    pub fn group(&self) -> Option<GroupKind> {
        self.birth.group.map(|(_, kind)| kind)
    }

    /// When it was forked.
    pub fn created(&self) -> Time {
        self.birth.created
    }

    /// Whether it is the base itself.
    pub fn is_main(&self) -> bool {
        self.birth.id == BranchId::MAIN
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        State::of(self.state.load(Ordering::Acquire))
    }

    /// Whether operations still work.
    pub fn is_live(&self) -> bool {
        self.state().is_live()
    }

    /// Whether its processes write to a native view ([`crate::Store::attach`]): nobody else changes it, nor forks it.
    pub fn is_attached(&self) -> bool {
        self.attached.is_so()
    }

    /// Live branches right below.
    pub fn children(&self) -> Vec<BranchId> {
        self.shared.registry.read().children_of(self.id())
    }

    /// Number of objects made, written or removed since the fork.
    pub fn changed(&self) -> u64 {
        let data = self.data.read();
        changed(&data.fork_tree.diff(&data.tree))
    }

    /// The root directory.
    pub fn root(&self) -> Object {
        Object { id: NodeId::ROOT, slot: None }
    }

    /// Finds a name in a directory.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR, ENAMETOOLONG, ESTALE, and the host's.
    pub fn lookup(&self, dir: &Object, name: &[u8]) -> Result<(Object, Stat)> {
        self.read(|view| view.lookup(dir.id, name))
    }

    /// Attributes of an object.
    ///
    /// # Errors
    /// ESTALE, and the host's.
    pub fn stat(&self, object: &Object) -> Result<Stat> {
        self.read(|view| view.stat(object))
    }

    /// All names in a directory but `.` and `..`, sorted by bytes.
    ///
    /// # Errors
    /// ENOTDIR, ESTALE, and the host's.
    pub fn read_dir(&self, dir: &Object) -> Result<Vec<DirEntry>> {
        self.read(|view| view.read_dir(dir))
    }

    /// The base's directory whose names show through a directory of the branch, for resolving names in; `None` if
    /// none do. Through a directory of main the base's own.
    ///
    /// # Errors
    /// ENOTDIR, ESTALE, and the host's.
    pub fn base_below(&self, dir: &Object) -> Result<Option<Arc<OwnedFd>>> {
        self.read(|view| view.base_below(dir.id))
    }

    /// Target of a symbolic link.
    ///
    /// # Errors
    /// EINVAL if it is none, ESTALE, and the host's.
    pub fn read_link(&self, object: &Object) -> Result<Vec<u8>> {
        self.read(|view| view.read_link(object))
    }

    /// The directory a directory lies in; the root lies in itself.
    ///
    /// # Errors
    /// ENOTDIR, ESTALE, and the host's.
    pub fn parent_of(&self, dir: &Object) -> Result<NodeId> {
        self.read(|view| view.parent_of(dir))
    }

    /// Makes every acknowledged change of names and attributes durable.
    ///
    /// # Errors
    /// The host's; a failure poisons the store (S21).
    pub fn sync(&self) -> Result<()> {
        self.check_live()?;
        self.shared.make_durable()
    }

    /// Numbers of the filesystem that holds the store; of a branch with a limit, as if it were as large as that.
    ///
    /// # Errors
    /// The host's.
    pub fn statfs(&self) -> Result<rustix::fs::StatVfs> {
        self.check_live()?;
        let mut fs = rustix::fs::fstatvfs(&self.shared.dir_fd)?;
        if let Quota::Bytes(limit) = self.quota() {
            let room = self.room()?.unwrap_or(limit) / fs.f_frsize.max(1);
            fs.f_blocks = fs.f_blocks.min(limit / fs.f_frsize.max(1));
            fs.f_bfree = fs.f_bfree.min(room);
            fs.f_bavail = fs.f_bavail.min(room);
        }
        Ok(fs)
    }

    pub(crate) fn check_live(&self) -> Result<()> {
        if self.is_live() { Ok(()) } else { Err(Error::Posix(Errno::STALE)) }
    }

    /// Whether a verb may change it: it is live, and nobody is committing it. Told by name, where operations on
    /// files answer an errno.
    ///
    /// # Errors
    /// `Busy`, `Attached`, `Ended`, `Stale`.
    pub(crate) fn check_unsealed(&self) -> Result<()> {
        match self.state() {
            State::Live if self.is_attached() => Err(Error::Attached(vec![self.birth.name.clone()])),
            State::Live => Ok(()),
            State::Sealed => Err(Error::Busy(self.birth.name.clone())),
            State::Committed | State::Aborted | State::Stale => Err(self.ended_error()),
        }
    }

    /// Why a change is refused, if it is. To be called under the data lock.
    pub(crate) fn check_mutable(&self) -> Result<()> {
        match self.state() {
            State::Live if self.frozen.load(Ordering::Acquire) > 0 => Err(Error::Posix(Errno::ROFS)),
            State::Live if self.is_attached() => Err(Error::Posix(Errno::BUSY)),
            _ => self.check_reapable(),
        }
    }

    /// The same for what nobody sees: a frozen branch forgets what is no longer open, too.
    fn check_reapable(&self) -> Result<()> {
        match self.state() {
            State::Live if self.is_main() => Err(Error::Posix(Errno::ROFS)),
            State::Live => Ok(()),
            State::Sealed => Err(Error::Posix(Errno::BUSY)),
            State::Committed | State::Aborted | State::Stale => Err(Error::Posix(Errno::STALE)),
        }
    }

    /// A consistent picture to read from, without holding a lock. Recursive: `OpenFile::copy_from` reads
    /// one file while it writes another in place.
    pub(crate) fn snapshot(&self) -> (Tree, CommitId) {
        let data = self.data.read_recursive();
        (data.tree.clone(), data.epoch)
    }

    /// One read: the state is checked before, and again after, so that no answer of a branch that ended
    /// meanwhile (and whose content may be gone) passes as one of a live branch.
    pub(crate) fn read<T>(&self, f: impl Fn(&View<'_>) -> Result<T>) -> Result<T> {
        self.unless_replaced(|| {
            self.check_live()?;
            let (tree, epoch) = self.snapshot();
            let view = View { base: &self.shared.base, contents: &self.shared.contents, tree: &tree, epoch };
            let result = f(&view);
            self.check_live()?;
            result
        })
    }

    /// Looks again if it looked in vain at a tree that has been replaced meanwhile: what only that tree had may be gone.
    pub(crate) fn unless_replaced<T>(&self, f: impl Fn() -> Result<T>) -> Result<T> {
        loop {
            let before = self.replacements.load(Ordering::Acquire);
            let result = f();
            if result.is_ok() || before == self.replacements.load(Ordering::Acquire) {
                return result;
            }
        }
    }

    /// Under the data lock, with the new tree in it.
    pub(crate) fn note_replaced(&self) {
        self.replacements.fetch_add(1, Ordering::AcqRel);
    }

    /// How often the tree was replaced. Asked before the look at the tree that the answer is about, or under its lock.
    pub(crate) fn replaced(&self) -> u64 {
        self.replacements.load(Ordering::Acquire)
    }

    /// One change: the draft collects steps; they are journaled as one record and only then visible.
    pub(crate) fn mutate<T>(&self, f: impl FnOnce(&mut Draft<'_>) -> Result<T>) -> Result<T> {
        self.mutate_if(Branch::check_mutable, f)
    }

    /// A change of what no name leads to.
    fn mutate_nameless<T>(&self, f: impl FnOnce(&mut Draft<'_>) -> Result<T>) -> Result<T> {
        self.mutate_if(Branch::check_reapable, f)
    }

    fn mutate_if<T>(
        &self,
        check: impl FnOnce(&Branch) -> Result<()>,
        f: impl FnOnce(&mut Draft<'_>) -> Result<T>,
    ) -> Result<T> {
        let _gate = self.shared.gate.read();
        let mut data = self.data.write();
        check(self)?;
        self.shared.journal.check()?;
        let mut draft = Draft::new(&self.shared, &data);
        let result = f(&mut draft)?;
        let (tree, record) = draft.finish(self.id());
        if let Some(record) = record {
            self.shared.journal.append(&record)?;
            data.tree = tree;
        }
        Ok(result)
    }

    /// Live → Sealed: waits for changes and writes in flight, refuses new ones.
    pub(crate) fn seal(&self) -> Result<()> {
        let _data = self.data.write();
        if self.is_attached() && self.is_live() {
            return Err(Error::Attached(vec![self.birth.name.clone()]));
        }
        let moved = self.state.compare_exchange(
            State::Live as u8,
            State::Sealed as u8,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        match moved.map_err(State::of) {
            Ok(_) => Ok(()),
            Err(State::Sealed | State::Live) => Err(Error::Busy(self.birth.name.clone())),
            Err(State::Stale) => Err(Error::Stale(self.birth.name.clone())),
            Err(State::Committed | State::Aborted) => Err(Error::Ended(self.birth.name.clone())),
        }
    }

    /// Sealed → Live, unless it ended meanwhile.
    pub(crate) fn unseal(&self) {
        // A failed exchange means a sibling won or somebody aborted it: then it stays ended.
        let (sealed, live) = (State::Sealed as u8, State::Live as u8);
        self.state.compare_exchange(sealed, live, Ordering::AcqRel, Ordering::Acquire).ok();
    }

    /// The one place where a branch ends. Every operation from now on answers ESTALE.
    pub(crate) fn end(&self, state: State) {
        debug_assert!(!state.is_live());
        debug_assert!(self.is_live(), "a branch ends once");
        self.state.store(state as u8, Ordering::Release);
    }

    /// The error for a verb on a branch that is not live.
    pub(crate) fn ended_error(&self) -> Error {
        match self.state() {
            State::Stale => Error::Stale(self.birth.name.clone()),
            State::Live | State::Sealed | State::Committed | State::Aborted => {
                Error::Ended(self.birth.name.clone())
            }
        }
    }
}
