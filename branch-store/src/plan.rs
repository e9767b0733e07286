//! The plan of a write-back: ordered, idempotent steps in terms of paths below the base and numbered places
//! in the commit's preimage directory ("park"). One type serves dry runs, the journal, recovery and tests.

use serde::{Deserialize, Serialize};

use crate::ids::{CommitId, Name, NodeId, STORE_DIR};
use crate::node::{HostKey, Meta, Slot};

/// Components joined by `/`, relative to the base; never empty, never with `.` or `..`.
pub(crate) type RelPath = Vec<u8>;

/// A numbered place in the preimage directory of a commit: the plan's own, or one that it undoes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Park {
    pub(crate) commit: CommitId,
    pub(crate) number: u64,
}

impl Park {
    pub(crate) fn name(self) -> Vec<u8> {
        self.number.to_string().into_bytes()
    }
}

/// As people find it below `preimage/`.
impl std::fmt::Display for Park {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.commit.0, self.number)
    }
}

/// One step. Each recognises its own result by inode, so a redo from any prefix is harmless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// A base object leaves its place: removed, or about to be attached elsewhere.
    Detach {
        path: RelPath,
        /// The directory it leaves: in a redo the path may lead through another one.
        from: HostKey,
        park: Park,
        object: HostKey,
        dir: Option<NodeId>,
    },
    /// A staged or detached object takes a free name.
    Attach { park: Park, path: RelPath, object: HostKey, dir: Option<NodeId> },
    /// A staged object, or a preimage, takes the place of a base object, which lands in its park, in one atomic step.
    Exchange {
        park: Park,
        path: RelPath,
        new: HostKey,
        old: HostKey,
        /// What comes back is a directory that is known.
        new_dir: Option<NodeId>,
        old_dir: Option<NodeId>,
    },
    /// A further name for an object that has its first.
    AddLink { existing: RelPath, path: RelPath, object: HostKey },
    /// New attributes, and new bytes if there is a park, for an object that has names outside the plan (hard
    /// links of the base). `path` is the one it has at that point: before any other step, or, in an undoing, after them.
    Rewrite { park: Option<Park>, path: RelPath, object: HostKey, meta: Box<Meta> },
    /// Attributes of an object in its final place. `path` empty: the root.
    SetMeta { path: RelPath, object: Option<HostKey>, meta: Box<Meta> },
}

/// All steps in order: rewrites under old names, detaches (deepest first), then what appears (parents first), then attributes
/// (children first). To undo a commit: exchanges and detaches (deepest first), what comes back (parents first), rewrites,
/// attributes; to redo it: the same, with rewrites first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    /// Names that go along with a detached directory, of files that have others.
    pub(crate) along: Vec<(HostKey, Slot)>,
    /// Such names that come back with their directory.
    pub(crate) back: Vec<(HostKey, Slot)>,
    /// Base objects that get other attributes or names, and a path each had before: undoing gives them back.
    pub(crate) before: Vec<(RelPath, HostKey)>,
}

/// Checks what no planner draws: a path that leaves the base, or leads into the store.
///
/// # Errors
/// What is wrong.
pub(crate) fn check(plan: &Plan) -> Result<(), &'static str> {
    let paths = plan.steps.iter().flat_map(|step| match step {
        Step::Detach { path, .. }
        | Step::Attach { path, .. }
        | Step::Exchange { path, .. }
        | Step::Rewrite { path, .. } => [Some(path), None],
        Step::AddLink { existing, path, .. } => [Some(existing), Some(path)],
        Step::SetMeta { path, .. } => [Some(path).filter(|path| !path.is_empty()), None],
    });
    let before = plan.before.iter().map(|(path, _)| path).filter(|path| !path.is_empty());
    for path in paths.flatten().chain(before) {
        let mut names = path.split(|byte| *byte == b'/');
        if !names.clone().all(Name::is_valid) {
            return Err("a step of the plan leaves the base");
        }
        if names.next() == Some(STORE_DIR.as_bytes()) {
            return Err("a step of the plan leads into the store");
        }
    }
    Ok(())
}

pub(crate) fn join(parent: &[u8], name: &[u8]) -> RelPath {
    if parent.is_empty() {
        return name.to_vec();
    }
    let mut path = Vec::with_capacity(parent.len() + 1 + name.len());
    path.extend_from_slice(parent);
    path.push(b'/');
    path.extend_from_slice(name);
    path
}
