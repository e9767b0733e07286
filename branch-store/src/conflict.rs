//! Conflicts as data: where two sides met, what they did, and the three versions of it (S14, S15).

use std::fmt;

use crate::node::{Kind, Time};

/// A path on which a commit cannot proceed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Path relative to the workspace: the branch's where it has one. `.` is the top.
    pub path: Vec<u8>,
    /// Other paths of the same object, where a side moved it.
    pub others: Vec<Vec<u8>>,
    /// What clashed.
    pub kind: ConflictKind,
    /// Who "they" are.
    pub target: Target,
    /// Why a merge of the two, if one was asked for, did not come about.
    pub unmerged: Option<String>,
    /// What both started from, as far as the branch saw it; `None`: nothing, or not known.
    pub base: Option<Version>,
    /// What the branch has; `None`: nothing.
    pub ours: Option<Version>,
    /// What the parent or the base has now; `None`: nothing.
    pub theirs: Option<Version>,
}

/// What a commit goes into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// The base directory: another commit changed it, or somebody outside any branch.
    Base,
    /// A parent branch.
    Branch,
    /// Nothing: a commit is to be undone, and the base was changed since.
    Since,
}

/// What clashed on a path. "They" are the parent branch or the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConflictKind {
    /// Both sides changed the bytes (the size or the modification time) of a file, or replaced it.
    Content,
    /// Both sides changed it, and at least one of them its attributes only.
    Attributes,
    /// Both sides made something under the same name.
    CreateCreate,
    /// The branch changed what they removed.
    ModifyDelete,
    /// The branch removed what they changed.
    DeleteModify,
    /// Both sides moved it, to different places or into each other.
    RenameRename,
    /// The branch moved what they removed.
    RenameDelete,
    /// The branch removed what they moved elsewhere.
    DeleteRename,
    /// The sides have different kinds of objects under the name: a file and a directory, a link and a file.
    Type,
    /// They made something in a directory that the branch removed.
    CreatedInRemoved,
    /// The branch made something in a directory that they removed.
    RemovedAround,
    /// The base holds the object, or the directory it is in, immutable or append-only.
    Immutable,
    /// The host does not let this process change the object, or the directory it is in.
    NotPermitted,
    /// The path is on another filesystem than the base, so it cannot be replaced atomically.
    OtherFilesystem,
}

/// What one side has under a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, `07777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes, of files only.
    pub size: Option<u64>,
    /// Last modification; not known of a directory whose names changed since.
    pub mtime: Option<Time>,
    /// Where a symbolic link leads; not known of one that is no more.
    pub target: Option<Vec<u8>>,
}

impl ConflictKind {
    /// Every kind, for tables.
    pub const ALL: [ConflictKind; 14] = [
        ConflictKind::Content,
        ConflictKind::Attributes,
        ConflictKind::CreateCreate,
        ConflictKind::ModifyDelete,
        ConflictKind::DeleteModify,
        ConflictKind::RenameRename,
        ConflictKind::RenameDelete,
        ConflictKind::DeleteRename,
        ConflictKind::Type,
        ConflictKind::CreatedInRemoved,
        ConflictKind::RemovedAround,
        ConflictKind::Immutable,
        ConflictKind::NotPermitted,
        ConflictKind::OtherFilesystem,
    ];

    /// The kind in words, with the name of who "they" are.
    pub fn reason(self, target: Target) -> String {
        match self {
            ConflictKind::Content => format!("content: both the branch and {target} changed it"),
            ConflictKind::Attributes => {
                format!(
                    "attributes: both the branch and {target} changed it, one of them only its attributes"
                )
            }
            ConflictKind::CreateCreate => format!("create/create: both the branch and {target} made it"),
            ConflictKind::ModifyDelete => format!("modify/delete: the branch changed what {target} removed"),
            ConflictKind::DeleteModify => format!("delete/modify: the branch removed what {target} changed"),
            ConflictKind::RenameRename => format!("rename/rename: both the branch and {target} moved it"),
            ConflictKind::RenameDelete => format!("rename/delete: the branch moved what {target} removed"),
            ConflictKind::DeleteRename => format!("delete/rename: the branch removed what {target} moved"),
            ConflictKind::Type => {
                format!("type: the branch and {target} have different kinds of objects here")
            }
            ConflictKind::CreatedInRemoved => {
                format!("removed directory: {target} made it in a directory that the branch removed")
            }
            ConflictKind::RemovedAround => {
                format!("removed directory: the branch made it in a directory that {target} removed")
            }
            ConflictKind::Immutable => {
                "immutable: the base holds it immutable or append-only (chattr +i, +a)".into()
            }
            ConflictKind::NotPermitted => {
                "not permitted: the base does not permit this user to change it".into()
            }
            ConflictKind::OtherFilesystem => {
                "other filesystem: it does not lie on the filesystem of the base".into()
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Target::Base => "the base",
            Target::Branch => "the parent",
            Target::Since => "somebody since",
        })
    }
}
