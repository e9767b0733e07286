//! Conflicts: where a commit met what others did.

use serde::{Deserialize, Serialize};

use super::PathBytes;

/// A path on which a commit cannot proceed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// Path, relative to the workspace: the branch's where it has one. `.` is the top.
    pub path: PathBytes,
    /// What clashed.
    pub kind: ConflictKind,
    /// The same in words.
    pub reason: String,
    /// Why the two could not be merged, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmerged: Option<String>,
    /// Other paths of the same object, where a side moved it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<PathBytes>,
    /// What both started from, as far as the branch saw it; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Version>,
    /// What the branch has; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ours: Option<Version>,
    /// What the parent or the base has now; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub theirs: Option<Version>,
}

/// What clashed on a path. "They" are the parent branch or the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConflictKind {
    /// Both sides changed the content of a file, or replaced it.
    Content,
    /// Both sides changed it, and at least one of them its attributes only.
    Attributes,
    /// Both sides made something under the same name.
    CreateCreate,
    /// The branch changed what they removed.
    ModifyDelete,
    /// The branch removed what they changed.
    DeleteModify,
    /// Both sides moved it.
    RenameRename,
    /// The branch moved what they removed.
    RenameDelete,
    /// The branch removed what they moved elsewhere.
    DeleteRename,
    /// The sides have different kinds of objects under the name.
    Type,
    /// They made something in a directory that the branch removed.
    CreatedInRemoved,
    /// The branch made something in a directory that they removed.
    RemovedAround,
    /// The base holds it, or the directory it is in, immutable or append-only.
    Immutable,
    /// The host does not let the daemon's user change it, or the directory it is in.
    NotPermitted,
    /// It is on another filesystem than the base.
    OtherFilesystem,
}

/// What one side has under a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits, `07777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes; files only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Seconds since the epoch of the last modification; null where it is not known.
    pub mtime: Option<i64>,
    /// Where a symbolic link leads; absent of others, and of a link that is no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<PathBytes>,
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// FIFO.
    Fifo,
    /// Socket.
    Socket,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
}

impl FileKind {
    /// As people call it.
    pub fn words(self) -> &'static str {
        match self {
            FileKind::File => "file",
            FileKind::Directory => "directory",
            FileKind::Symlink => "symbolic link",
            FileKind::Fifo => "fifo",
            FileKind::Socket => "socket",
            FileKind::CharDevice => "character device",
            FileKind::BlockDevice => "block device",
        }
    }
}
