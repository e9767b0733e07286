//! Who may stand at the door to the host (`disk`): a test that counts calls, fails one, stops them all, or keeps
//! book of what is durable and what is not.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

/// A name in an open directory.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The directory; maybe opened for resolving names only.
    pub dir: BorrowedFd<'a>,
    /// The name in it.
    pub name: &'a [u8],
}

/// A call and what it acts on. `name` is the system call's, or that of a few of them in a row.
#[derive(Debug, Clone, Copy)]
pub enum Call<'a> {
    /// Something gets a name; `create` may also find a file there and empty it.
    Make {
        /// create, mkdir, symlink, mknod.
        name: &'static str,
        /// Where.
        at: Entry<'a>,
    },
    /// A name moves, replacing what has the other, or two change places.
    Rename {
        /// The old name.
        from: Entry<'a>,
        /// The new name.
        to: Entry<'a>,
        /// Whether the two change places.
        exchange: bool,
    },
    /// A further name.
    Link {
        /// One that it has.
        from: Entry<'a>,
        /// The new one.
        to: Entry<'a>,
    },
    /// A name goes.
    Remove {
        /// unlink, rmdir.
        name: &'static str,
        /// Which.
        at: Entry<'a>,
    },
    /// Bytes or attributes change: of the object itself, or of one in this directory.
    Change {
        /// append, truncate, clone, copy_file_range, copy_write, chmod, set_meta.
        name: &'static str,
        /// The object or its directory.
        of: BorrowedFd<'a>,
    },
    /// Bytes and attributes of a file, or names in a directory, become durable.
    Sync {
        /// fsync, fdatasync.
        name: &'static str,
        /// The file or directory.
        of: BorrowedFd<'a>,
    },
    /// syncfs: everything on a filesystem becomes durable.
    SyncAll {
        /// Something on it.
        of: BorrowedFd<'a>,
    },
}

impl Call<'_> {
    /// The name of the system call.
    pub fn name(&self) -> &'static str {
        match self {
            Call::Make { name, .. }
            | Call::Remove { name, .. }
            | Call::Change { name, .. }
            | Call::Sync { name, .. } => name,
            Call::Rename { .. } => "rename",
            Call::Link { .. } => "link",
            Call::SyncAll { .. } => "syncfs",
        }
    }
}

/// Decides the fate of each call before it reaches the host.
pub trait Gatekeeper: Send + Sync {
    /// Called with the name of the system call; an error is returned in its place, undone.
    ///
    /// # Errors
    /// Whatever the test wants the host to answer.
    fn before(&self, call: &'static str) -> Result<(), Errno>;

    /// The same for those who want to know what the call acts on.
    ///
    /// # Errors
    /// As [`Gatekeeper::before`].
    fn before_call(&self, call: &Call<'_>) -> Result<(), Errno> {
        self.before(call.name())
    }

    /// The host has done it.
    fn after_call(&self, _call: &Call<'_>) {}

    /// How many of `len` bytes a writing or copying call may move at most: a host is free to do less than it was
    /// asked for.
    fn at_most(&self, _call: &'static str, len: usize) -> usize {
        len
    }
}
