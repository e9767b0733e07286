//! What a call answers.

use rustix::io::Errno;

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// As a system call does.
    Errno(Errno),
    /// Live branches below.
    HasChildren,
    /// A sibling committed first.
    Stale,
    /// The branch has ended.
    Ended,
    /// Both sides changed the same; the paths.
    Conflicts(Vec<String>),
    /// No such mark.
    NoMark,
    /// There is such a mark.
    MarkExists,
    /// Not for this branch.
    NotAllowed,
    /// Anything else: no call ever answers this.
    Unexpected(String),
}

/// What a call answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It worked, and there is nothing to tell.
    Done,
    /// A commit into the base worked, and had nothing to commit.
    Nothing,
    /// Bytes of a file or link.
    Bytes(Vec<u8>),
    /// How many bytes went.
    Count(u64),
    /// Names of a directory, sorted.
    Names(Vec<String>),
    /// It did not.
    Failed(Failure),
}

impl From<Errno> for Answer {
    fn from(errno: Errno) -> Answer {
        Answer::Failed(Failure::Errno(errno))
    }
}

impl Answer {
    /// In few words.
    pub(crate) fn brief(&self) -> String {
        match self {
            Answer::Bytes(bytes) => {
                format!("{} bytes, starting {:02x?}", bytes.len(), &bytes[..bytes.len().min(8)])
            }
            Answer::Failed(Failure::Errno(errno)) => errno.to_string(),
            other => format!("{other:?}"),
        }
    }
}
