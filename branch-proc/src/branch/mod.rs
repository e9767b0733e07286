//! `branch()`: a process goes on as several, each in a branch of its own, as after `fork(2)`.
//!
//! ```text
//! caller ── fork ──► messenger ── clone3 (CLONE_PARENT) ──► init ── fork ──► child
//!   │ 0                 │ tells the init's pid, ends          │ supervises      │ its number
//!   ▼                                                         ▼                 ▼
//! ```
//!
//! The child goes on with the caller's program, so its C library has to be usable: every fork that leads to it is the
//! library's own, with its atfork handlers, made by a thread that is alone in its process from the second on. The
//! messenger is there so that a process with threads is never cloned past its library; the init is its sibling, so
//! that the caller can `waitpid(2)` for it and gets the child's exit code (128+n after signal n). Neither returns
//! into the caller's code.
//!
//! Everything that can fail has happened before the first child goes on: each waits at a gate, and its branch's
//! keeper knows of its group. So a create that fails leaves nothing.
//!
//! Children stay in the caller's control group, unlike what [`crate::Command`] starts: the caller gets no handle
//! that could remove one, and without limits there is nothing that it would hold better.
//!
//! Source: "Fork, Explore, Commit" (arXiv 2602.08199), which proposes the system call.

mod child;
mod family;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use self::family::Family;
use crate::error::{SpawnError, Step};
use crate::init::EXIT_ORPHANED;
use crate::sys::{self, SignalsBlocked};

/// Most children that one call can make.
pub const CHILDREN_MAX: u32 = 64;

/// Who makes branches of files and ends them.
///
/// While [`create`] makes processes, nothing of this may be open but what `keeps` names: the children get a copy of
/// every descriptor.
pub trait Worlds {
    /// Makes so many branches, all or none; their names. They end together: the first that commits wins.
    ///
    /// # Errors
    /// The keeper's reason, as an error of the system.
    fn make(&mut self, count: u32) -> io::Result<Vec<String>>;
    /// The directory in which the view of each branch is the entry of the branch's name. Its mount is in the
    /// caller's mount namespace.
    ///
    /// # Errors
    /// When it cannot be opened.
    fn views(&self) -> io::Result<OwnedFd>;
    /// The path at which the processes of a branch see its view; absolute.
    fn base(&self) -> &Path;
    /// Binds the group of this init to a branch: it is killed when the branch ends, and the branch is aborted when
    /// the group ends.
    ///
    /// # Errors
    /// The group shall not run then.
    fn attach(&mut self, name: &str, pid: i32, pidfd: BorrowedFd<'_>) -> io::Result<()>;
    /// Commits a branch into its parent.
    ///
    /// # Errors
    /// ESTALE if a sibling was first.
    fn commit(&mut self, name: &str) -> io::Result<()>;
    /// Aborts a branch and those below it; one that is gone already is no error.
    ///
    /// # Errors
    /// The branch may still be there.
    fn abort(&mut self, name: &str) -> io::Result<()>;
    /// Descriptors that a child needs to reach the keeper: open in it also where all others are closed.
    fn keeps(&self) -> Vec<RawFd>;
}

/// How far the children are from each other, and from the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Each in a pid and an ipc namespace of its own: none can signal or trace another.
    Full,
    /// In the caller's. Each is still killed with everything it has started.
    None,
}

/// What becomes of the caller's descriptors in the children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Descriptors {
    /// Open, as after fork.
    Inherited,
    /// Closed, but for the standard streams.
    Closed,
}

/// What to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// How many children: 1 to [`CHILDREN_MAX`].
    pub count: u32,
    /// How far apart.
    pub isolation: Isolation,
    /// With which descriptors.
    pub descriptors: Descriptors,
}

/// Who the calling process is now.
#[derive(Debug)]
pub enum Role {
    /// Still itself.
    Parent(Vec<Child>),
    /// One of the children.
    Child(Myself),
}

/// A child as its parent sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// Its init's pid: a child of the caller's, for `waitpid(2)` and `kill(2)`. SIGHUP, SIGINT, SIGQUIT, SIGTERM,
    /// SIGUSR1 and SIGUSR2 are passed on; SIGKILL ends all that the child has started.
    pub pid: i32,
    /// Its branch, if it has files of its own.
    pub name: Option<String>,
}

/// A child as it sees itself.
#[derive(Debug)]
pub struct Myself {
    number: u32,
    name: Option<String>,
    views: Option<OwnedFd>,
    init: i32,
}

impl Myself {
    /// From 1 on.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Its branch, if it has files of its own.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// [`Worlds::views`] as the child can use it for children of its own: the path may be hidden by the view.
    pub fn views(&self) -> Option<BorrowedFd<'_>> {
        self.views.as_ref().map(AsFd::as_fd)
    }

    /// Ends the calling process and everything that its child of `branch()` has started; its branch is aborted.
    /// Nothing is flushed and no exit handler runs, as with `_exit(2)`. The parent sees exit code 125.
    pub fn abort(&self) -> ! {
        if sys::signal_process(self.init, sys::SIGNAL_END) {
            sys::wait_for_the_end()
        }
        sys::exit(EXIT_ORPHANED)
    }
}

/// Nothing was made, and nothing is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BranchError {
    /// Too few or too many.
    #[error("{count} children: 1 to {CHILDREN_MAX} can be made")]
    Count {
        /// As asked for.
        count: u32,
    },
    /// The keeper of the branches refused.
    #[error("cannot {doing}: {source}")]
    Worlds {
        /// What was to be done.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A process could not be made.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

impl BranchError {
    /// As an error number (`errno(3)`).
    pub fn errno(&self) -> i32 {
        match self {
            BranchError::Count { .. } => libc::EINVAL,
            BranchError::Worlds { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
            BranchError::Spawn(error) => error.errno,
        }
    }

    fn spawn(step: Step, errno: i32) -> BranchError {
        BranchError::Spawn(SpawnError::new(step, errno, "a child"))
    }
}

/// Makes children that go on from here. Without `worlds` they share the caller's files.
///
/// The children end with the caller's process. Like after fork, a child has the calling thread only, standard
/// streams' buffers are there twice, and a descriptor into the base still leads to the base. Its parent is not
/// the caller but its init, so `getppid(2)` tells nothing of the caller.
///
/// # Errors
/// See [`BranchError`]; no process, no branch and no descriptor is left.
///
/// # Safety
/// As for `fork(2)`: if the process has other threads, a child may only use what its C library (which is made ready
/// by its own fork) and its other libraries allow in a forked child: a lock that another thread held stays locked.
/// With [`Descriptors::Closed`] every value that owns a descriptor is void in the child and must be forgotten.
pub unsafe fn create(
    request: Request,
    mut worlds: Option<&mut (dyn Worlds + '_)>,
) -> Result<Role, BranchError> {
    if !(1..=CHILDREN_MAX).contains(&request.count) {
        return Err(BranchError::Count { count: request.count });
    }
    let mut names = Vec::new();
    if let Some(worlds) = worlds.as_deref_mut() {
        names = worlds.make(request.count).map_err(|source| refused("make branches", source))?;
    }
    // No signal is handled in a process that is none of the caller's. Put back in each child when it goes on.
    let blocked = SignalsBlocked::new();
    // SAFETY: passed on to the caller.
    let made = unsafe { bring_up(request, &names, worlds.as_deref_mut()) };
    drop(blocked);
    match (made, worlds) {
        (Err(error), Some(worlds)) => {
            for name in &names {
                // The first reason counts; a keeper that is gone for good is told by the next call.
                drop(worlds.abort(name));
            }
            Err(error)
        }
        (made, _) => made,
    }
}

/// # Safety
/// As [`create`].
unsafe fn bring_up(
    request: Request,
    names: &[String],
    worlds: Option<&mut (dyn Worlds + '_)>,
) -> Result<Role, BranchError> {
    if worlds.is_some() && names.len() != request.count as usize {
        return Err(refused("make branches", io::ErrorKind::InvalidData.into()));
    }
    let mut family = Family::new(request, worlds.as_deref())?;
    // SAFETY: passed on to the caller.
    let made = unsafe { family.make(names) }.map_err(BranchError::from).and_then(|myself| match myself {
        Some(myself) => Ok(Role::Child(myself)),
        None => family.release(names, worlds).map(Role::Parent),
    });
    if made.is_err() {
        family.end();
    }
    made
}

fn refused(doing: &'static str, source: io::Error) -> BranchError {
    BranchError::Worlds { doing, source }
}
