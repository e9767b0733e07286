//! The view: POSIX file operations over branches, by inode and handle number.
//!
//! The root of a mount holds one directory per live branch and, by name only, one link `@branch` to each.
//! Nothing can be made, removed or renamed there: branches come from fork and go by commit and abort, so
//! everything that would change the mount root answers EPERM. Renames and links between branches answer EXDEV.
//!
//! Each branch has a control file `.branchfs_ctl` in its root: found by name, never listed, never removed. A base
//! that has a file of this very name keeps it, but no branch can see it.
//!
//! The kernel checks permissions (`default_permissions`), by ACLs where there are any; the umask, which an ACL
//! may override, and what new objects inherit are applied here. Numbers it was
//! never given, and everything of a branch that ended, answer ESTALE. No branch rules live here, they are the
//! store's; and no kernel protocol, that is `crate::fuse`'s.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use branch_store::{Branch, BranchId, NodeId, Object, Store};
use rustix::io::Errno;

use self::handles::Handles;
use self::ino::Ino;
use self::inodes::Inodes;
use self::kept::Kept as KeptFiles;
use self::listings::Listings;
use self::memory::Forgettings;
use self::passing::Passing;
use self::reaping::Reaping;
use crate::watch::{How, Told, Wish};

mod acl;
mod ahead;
mod attributes;
mod belief;
mod birth;
mod control;
mod credentials;
mod directories;
mod files;
mod handles;
pub mod ino;
mod inodes;
mod kept;
mod listings;
mod lookup;
mod memory;
mod names;
mod passing;
mod passthrough;
mod reaping;
mod xattrs;

pub use ahead::{Ahead, Part, Prefetch, Route, Wanted};
pub use attributes::{Attr, Caller, FOREVER, SHORT};
pub use birth::NewMode;
pub use control::{CONTROL_NAME, Control, FORK_REPLY_LEN, Order, Verb};
pub use directories::{Item, Kept, Room};
pub use files::{By, Cache, Opened, Whose};
pub use lookup::Found;
pub use names::{Left, Rename};
pub use passing::{Issue, Pass};
pub use passthrough::Reading;
pub use xattrs::XattrFlags;

/// One view of all branches of a store: what a mount serves.
pub struct Vfs {
    store: Arc<Store>,
    control: Box<dyn Control>,
    inodes: Arc<Inodes<Known>>,
    reaping: Reaping,
    handles: Handles,
    kept: KeptFiles,
    listings: Listings,
    /// Where the kernel may read files of the host by itself.
    passing: OnceLock<Passing>,
    owner: Owner,
    told: Told,
    forgettings: Forgettings,
    ahead: Option<Arc<Ahead>>,
}

/// An object the kernel knows.
#[derive(Clone)]
struct Known {
    branch: Arc<Branch>,
    object: Object,
    /// The directory it was last found in; of a branch's root directory, itself.
    under: NodeId,
}

/// Who owns the store: owner of the mount root and of the control files.
#[derive(Clone, Copy)]
struct Owner {
    uid: u32,
    gid: u32,
}

/// What an inode number resolves to.
enum Place {
    MountRoot,
    Link(Arc<Branch>),
    Control(Arc<Branch>),
    Node(Known),
}

impl Vfs {
    /// A view of the store. Control writes and ioctls go to `control`. The base is not watched.
    pub fn new(store: Arc<Store>, control: Box<dyn Control>) -> Vfs {
        let (owner, told) = (owner_of(&store), Told::new(Wish::Only(How::Not)));
        let (inodes, handles, listings) = (Arc::new(Inodes::new()), Handles::new(), Listings::new());
        let (reaping, forgettings) = (Reaping::new(Arc::clone(&inodes)), Forgettings::default());
        let (kept, passing, ahead) = (KeptFiles::new(), OnceLock::new(), None);
        Vfs {
            store,
            control,
            inodes,
            reaping,
            handles,
            kept,
            listings,
            passing,
            owner,
            told,
            forgettings,
            ahead,
        }
    }

    /// The same with the base watched. What this process changes there itself is taken for a commit's doing.
    pub fn watching(self, wish: Wish) -> Vfs {
        Vfs { told: Told::new(wish), ..self }
    }

    /// From now on unlinked objects that the kernel has forgotten go in the background, many in one step, until
    /// [`Vfs::shut_down`] or the end of this.
    ///
    /// # Errors
    /// No thread to be had.
    pub fn reap_in_background(&self) -> io::Result<()> {
        self.reaping.start()
    }

    /// Whatever unlinked objects the kernel has forgotten are gone when this returns: a snapshot need not hold them.
    pub fn finish_reaping(&self) {
        self.reaping.finish();
    }

    /// The same with listings asked for before names are, or not, as by default.
    pub fn prefetching(self, prefetch: Prefetch) -> Vfs {
        Vfs { ahead: (prefetch == Prefetch::On).then(Ahead::new), ..self }
    }

    /// Inodes of objects of branches that the kernel may have cached.
    pub fn all_known_inodes(&self) -> Vec<u64> {
        self.inodes.numbers(|ino| matches!(ino::unpack(ino), Ino::Node))
    }

    /// Names of the live branches.
    pub fn branches(&self) -> Vec<String> {
        self.store.branches().iter().map(|branch| branch.name().to_owned()).collect()
    }

    /// Inodes of the branch with a descriptor open for writing: their mapped pages may be dirty.
    pub fn writable_inodes(&self, branch: BranchId) -> Vec<u64> {
        self.handles.writable(|ino| ino::is_of(ino, branch))
    }

    /// The same of all branches.
    pub fn all_writable_inodes(&self) -> Vec<u64> {
        self.handles.writable(|_| true)
    }

    /// Inodes of the branch the kernel may have cached.
    pub fn known_inodes(&self, branch: BranchId) -> Vec<u64> {
        self.inodes.numbers(|ino| ino::is_of(ino, branch))
    }

    /// The same without its control file: whoever ended the branch by writing to it waits for the end with a page of it locked.
    pub fn known_objects(&self, branch: BranchId) -> Vec<u64> {
        self.inodes.numbers(|ino| ino::is_of(ino, branch) && !ino::is_control(ino))
    }

    /// Whether the kernel may have an object of the branch cached or open.
    pub fn knows(&self, branch: BranchId, id: NodeId) -> bool {
        self.inodes.contains(ino::of_node(branch, id))
    }

    /// The numbers by which the kernel may know an object of the branch.
    pub fn known_as(&self, branch: BranchId, id: NodeId) -> Vec<u64> {
        self.inodes.of(ino::of_node(branch, id))
    }

    /// How many files of the branch are open here: by handle, or because they were used a short while ago.
    pub fn opened(&self, branch: BranchId) -> usize {
        self.handles.open_in(branch) + self.kept.of(branch)
    }

    /// Inodes that bytes were read from or written to by inode since this was last asked: no others have pages that can
    /// be dirty and that no handle tells of.
    pub fn take_served(&self, want: impl Fn(u64) -> bool) -> Vec<u64> {
        self.kept.take_served(want)
    }

    /// Closes the files of the branch that nobody has a handle for. Whoever has one open does not notice.
    pub fn let_go(&self, branch: BranchId) {
        self.kept.let_go(branch);
    }

    /// Closes the files that nobody has a handle for and nobody has used since the last call.
    pub fn let_idle_go(&self) {
        self.kept.let_idle_go();
    }

    /// The mount is gone: no more requests and no more forgets will come.
    pub fn shut_down(&self) {
        if let Some(ahead) = &self.ahead {
            ahead.end(Duration::ZERO);
        }
        self.handles.clear();
        self.kept.clear();
        if let Some(passing) = self.passing.get() {
            passing.clear();
        }
        self.listings.clear();
        for orphan in self.inodes.clear() {
            self.reaping.reap(&orphan.branch, orphan.object.id);
        }
        self.reaping.stop();
    }

    fn place(&self, ino: u64) -> Result<Place, Errno> {
        match ino::unpack(ino) {
            Ino::MountRoot => Ok(Place::MountRoot),
            Ino::Link(branch) => Ok(Place::Link(self.store.branch_by_id(branch).ok_or(Errno::STALE)?)),
            Ino::Control(_) => Ok(Place::Control(self.known(ino)?.branch)),
            Ino::Node => Ok(Place::Node(self.known(ino)?)),
            Ino::Unknown => Err(Errno::STALE),
        }
    }

    /// The object of a branch behind the number; `otherwise` is what the mount's own objects answer.
    fn node(&self, ino: u64, otherwise: Errno) -> Result<Known, Errno> {
        match self.place(ino)? {
            Place::Node(known) => Ok(known),
            Place::MountRoot | Place::Link(_) | Place::Control(_) => Err(otherwise),
        }
    }

    /// A directory in which `name` may be made, removed or renamed.
    fn parent_of(&self, ino: u64, name: &[u8]) -> Result<Known, Errno> {
        let dir = self.node(ino, Errno::PERM)?;
        if control::is_control_name(dir.object.id, name) {
            return Err(Errno::PERM);
        }
        Ok(dir)
    }

    fn known(&self, ino: u64) -> Result<Known, Errno> {
        self.inodes.get(ino).ok_or(Errno::STALE)
    }
}

impl Known {
    /// Its first number, which is the one that programs see.
    fn ino(&self) -> u64 {
        ino::of_node(self.branch.id(), self.object.id)
    }

    /// An object found in this directory.
    fn child(&self, object: Object) -> Known {
        Known { branch: Arc::clone(&self.branch), object, under: self.object.id }
    }
}

/// The errno of a failed call into the store. What the administrator must know goes to the log.
fn errno(error: branch_store::Error) -> Errno {
    match &error {
        branch_store::Error::Posix(_) => {}
        branch_store::Error::Host { .. } | branch_store::Error::Corrupt { .. } => tracing::warn!("{error}"),
        _ => tracing::debug!("{error}"),
    }
    error.errno()
}

fn owner_of(store: &Store) -> Owner {
    match rustix::fs::stat(store.dir()) {
        Ok(dir) => Owner { uid: dir.st_uid, gid: dir.st_gid },
        Err(_) => {
            Owner { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
        }
    }
}
