//! The one error type of the engine, and its errno.

use std::io;

use rustix::io::Errno;

use crate::conflict::Conflict;

/// Everything the engine can answer instead of a result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A POSIX answer to a file operation.
    #[error("{}", io::Error::from_raw_os_error(.0.raw_os_error()))]
    Posix(Errno),
    /// The host refused; with the operation and the thing.
    #[error("{op} {thing}: {}", io::Error::from_raw_os_error(.errno.raw_os_error()))]
    Host {
        /// System call or step.
        op: &'static str,
        /// What it was about.
        thing: String,
        /// Why.
        errno: Errno,
    },
    /// No live branch has this name.
    #[error("no branch named '{0}'")]
    NoSuchBranch(String),
    /// A live branch has this name.
    #[error("branch '{0}' exists already")]
    BranchExists(String),
    /// Not a name a branch can have (S5).
    #[error("bad branch name '{name}': {reason}")]
    BadBranchName {
        /// The name.
        name: String,
        /// What would be right.
        reason: &'static str,
    },
    /// The branch has no mark of this name.
    #[error("branch '{branch}' has no checkpoint named '{name}'")]
    NoSuchMark {
        /// The branch.
        branch: String,
        /// The name.
        name: String,
    },
    /// The branch has a mark of this name.
    #[error("branch '{branch}' has a checkpoint named '{name}' already")]
    MarkExists {
        /// The branch.
        branch: String,
        /// The name.
        name: String,
    },
    /// A sibling committed first (S12).
    #[error("branch '{0}' is stale: a sibling committed first")]
    Stale(String),
    /// The branch was aborted or has committed (S13).
    #[error("branch '{0}' has ended")]
    Ended(String),
    /// Live branches below (S18).
    #[error("branch '{name}' has live branches below it: {}", .children.join(", "))]
    HasChildren {
        /// The branch.
        name: String,
        /// Their names.
        children: Vec<String>,
    },
    /// The branch is being committed.
    #[error("branch '{0}' is being committed")]
    Busy(String),
    /// Processes of these branches write to native views of the base, which does not change under them.
    #[error("processes of {} write to a native view", .0.join(", "))]
    Attached(Vec<String>),
    /// Whoever watched the commit called it off: nothing has happened.
    #[error("called off before it was decided: nothing was changed")]
    Cancelled,
    /// The parent or base changed on the same paths (S14, S15).
    #[error("{} conflicting {}, first {:?}", .0.len(), if .0.len() == 1 { "path" } else { "paths" }, .0.first().map(|c| String::from_utf8_lossy(&c.path).into_owned()))]
    Conflicts(Vec<Conflict>),
    /// A partial commit that would tear apart what is one change: something that was moved, a file with several names,
    /// a removed directory and what was in it.
    #[error("'{}' goes together with '{}', which is not selected", String::from_utf8_lossy(.path), String::from_utf8_lossy(.with))]
    Inseparable {
        /// A selected path.
        path: Vec<u8>,
        /// One that is not.
        with: Vec<u8>,
    },
    /// A partial commit of nothing.
    #[error("no change of the branch is selected")]
    NothingSelected,
    /// The verb is not for this branch.
    #[error("{0}")]
    NotAllowed(&'static str),
    /// A documented bound was exceeded.
    #[error("limit exceeded: {what} (at most {max})")]
    Limit {
        /// Which bound.
        what: &'static str,
        /// Its value.
        max: u64,
    },
    /// The base as it was after this commit: there is no such commit yet, or what later ones replaced is no longer
    /// kept.
    #[error("the base after commit {commit} cannot be seen; after commits {oldest} to {newest} it can")]
    NotKept {
        /// The commit asked for.
        commit: u64,
        /// The oldest that can be.
        oldest: u64,
        /// The newest.
        newest: u64,
    },
    /// Another daemon has the store open (S22).
    #[error("the store {0} is open in another process")]
    Locked(String),
    /// No store here.
    #[error("no store at {0}")]
    NoStore(String),
    /// A store is here already.
    #[error("a store exists already at {0}")]
    StoreExists(String),
    /// The store was written by a newer version (S22).
    #[error("the store has format {found}, this program reads up to {known}; it was left untouched")]
    Newer {
        /// Version found.
        found: u32,
        /// Newest version known.
        known: u32,
    },
    /// The store was written by an older version, in a format that this one does not read (S22).
    #[error(
        "the store has format {found}, this program reads {known}; it was left untouched: finish its branches with \
         the version that made it, then remove the store"
    )]
    Older {
        /// Version found.
        found: u32,
        /// The version known.
        known: u32,
    },
    /// Bytes of the store are not what was written.
    #[error("{file} is damaged at byte {offset}: {cause}")]
    Corrupt {
        /// File within the store.
        file: String,
        /// Where.
        offset: u64,
        /// What is wrong.
        cause: String,
    },
    /// The commit is decided and stands, but the base does not hold all of it yet. Reopening the store goes on
    /// from there.
    #[error(
        "commit {commit} is decided and stands, but writing it into the base stopped ({cause}); a restart of the \
         daemon finishes it"
    )]
    Unfinished {
        /// Its number.
        commit: u64,
        /// What stopped it.
        cause: Box<Error>,
    },
    /// An fsync failed earlier; nothing is accepted until the store is reopened (S21).
    #[error("the store takes nothing more until the daemon is restarted: an earlier write or fsync failed")]
    Poisoned,
}

/// Result of an engine call.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The errno a file operation answers with.
    pub fn errno(&self) -> Errno {
        match self {
            Error::Posix(errno) | Error::Host { errno, .. } => *errno,
            Error::NoSuchBranch(_) | Error::NoSuchMark { .. } | Error::NoStore(_) => Errno::NOENT,
            Error::BranchExists(_) | Error::MarkExists { .. } | Error::StoreExists(_) => Errno::EXIST,
            Error::BadBranchName { .. } | Error::NotAllowed(_) | Error::NotKept { .. } => Errno::INVAL,
            Error::Inseparable { .. } | Error::NothingSelected => Errno::INVAL,
            Error::Stale(_) | Error::Ended(_) => Errno::STALE,
            Error::HasChildren { .. } => Errno::NOTEMPTY,
            Error::Busy(_) | Error::Attached(_) | Error::Locked(_) => Errno::BUSY,
            Error::Cancelled => Errno::CANCELED,
            Error::Conflicts(_) => Errno::EXIST,
            Error::Limit { .. } => Errno::NOSPC,
            Error::Newer { .. } | Error::Older { .. } => Errno::NOTSUP,
            Error::Unfinished { cause, .. } => cause.errno(),
            Error::Corrupt { .. } | Error::Poisoned => Errno::IO,
        }
    }

    pub(crate) fn host(op: &'static str, thing: impl AsRef<[u8]>, errno: Errno) -> Error {
        Error::Host { op, thing: String::from_utf8_lossy(thing.as_ref()).into_owned(), errno }
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Error {
        Error::Posix(errno)
    }
}
