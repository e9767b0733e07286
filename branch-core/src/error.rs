//! What can go wrong between asking and having.

use std::io;
use std::path::PathBuf;

use branch_proc::{GroupError, SpawnError};
use branch_proto::{ClientError, Conflict, Failure};

/// Any failure of this library. Rank one: names only things below it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No directory from `start` upward is a workspace.
    #[error("no branchfs workspace in {} or above it", .start.display())]
    NoWorkspace {
        /// Where the search began.
        start: PathBuf,
    },
    /// The workspace's marker could not be read, or holds nonsense.
    #[error("cannot read the workspace at {}: {source}", .path.display())]
    Location {
        /// The file or directory in question.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The daemon was to be started and did not come up.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The daemon runs but the conversation with it failed.
    #[error(transparent)]
    Daemon(ClientError),
    /// The daemon said no.
    #[error(transparent)]
    Failed(Failure),
    /// A process could not be started; nothing of it is left.
    #[error("{source}")]
    Spawn {
        /// The step and the system's answer.
        source: SpawnError,
    },
    /// A running process group could not be watched or killed.
    #[error("{source}")]
    Group {
        /// Which, and the system's answer.
        source: GroupError,
    },
    /// The system refused something else.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was to be done.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The caller asked for something that makes no sense.
    #[error("{reason}")]
    Invalid {
        /// What, and what would be right.
        reason: String,
    },
}

/// Why the daemon did not come up, in words for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the daemon did not start: {reason}")]
pub struct LaunchError {
    /// The daemon's last words, or the system's.
    pub reason: String,
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Error {
        match error {
            ClientError::Failed(failure) => Error::Failed(failure),
            other => Error::Daemon(other),
        }
    }
}

impl Error {
    /// The daemon's reason, if it is one.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Error::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// Where a commit met what others did; empty if that is not what happened.
    pub fn into_conflicts(self) -> Vec<Conflict> {
        match self {
            Error::Failed(Failure::Conflicts { conflicts }) => conflicts,
            _ => Vec::new(),
        }
    }

    /// Whether the branch is gone already: a sibling won, or somebody ended it.
    pub fn is_gone(&self) -> bool {
        matches!(self.failure(), Some(Failure::Stale { .. } | Failure::NoSuchBranch { .. }))
    }
}
