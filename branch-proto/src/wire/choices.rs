//! What a commit does where it meets what others did, and what it would do.

use serde::{Deserialize, Serialize};

use super::{Conflict, ConflictKind, FileChange, PathBytes};

/// Who wins a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// The branch.
    Ours,
    /// The parent or the base: the branch's change of the path is dropped from the commit.
    Theirs,
    /// Both: their changes of a text are put together.
    Merge,
}

/// Who wins which conflicts. What nobody is named for is refused, and the whole commit with it; so is what more than
/// one are, and what cannot be merged.
///
/// A glob is matched with the whole path: `*` and `?` do not match `/`, `**` does. One that matches a directory stands
/// for all that is in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Choices {
    /// Globs of the paths on which the branch wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ours: Vec<String>,
    /// Globs of the paths on which the other side wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub theirs: Vec<String>,
    /// Globs of the paths on which the changes of both are merged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merge: Vec<String>,
    /// Where both changed the same lines, both versions are written into the file, between markers.
    #[serde(default, skip_serializing_if = "is_false")]
    pub markers: bool,
    /// Who wins on all other paths; absent: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Choice>,
}

/// A conflict that a choice decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// Path, relative to the workspace.
    pub path: PathBytes,
    /// What had clashed.
    pub kind: ConflictKind,
    /// Who won.
    pub choice: Choice,
    /// Conflicts of lines that are in the merged file, between markers.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub markers: u64,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What a commit would do now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitPlan {
    /// The branch.
    pub branch: String,
    /// Its parent.
    pub into: String,
    /// Number of changed paths, as the report of the commit would have it; 0 if there are conflicts.
    pub changed: u64,
    /// Each step that would change the base, in order; empty if the parent is a branch, or there are conflicts.
    pub steps: Vec<PlannedStep>,
    /// What the branch changed, or of it what is selected, sorted by path.
    pub changes: Vec<FileChange>,
    /// Why it cannot proceed, sorted by path.
    pub conflicts: Vec<Conflict>,
    /// Conflicts that the choices decide.
    pub resolved: Vec<Resolved>,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// What is done.
    pub action: StepAction,
    /// To what, relative to the workspace; empty: to the top.
    pub path: PathBytes,
    /// For `move` where it was, for `link` the name that the file has already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBytes>,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepAction {
    /// The object leaves the base; it is kept among the preimages.
    Remove,
    /// The object leaves its place for another.
    Detach,
    /// A new object appears.
    Create,
    /// An object that left its place appears here.
    Move,
    /// A new object takes the place of another, in one step.
    Replace,
    /// A file gets a further name.
    Link,
    /// A file with several names gets new bytes or attributes in place.
    Rewrite,
    /// Attributes are set.
    Attributes,
}

impl StepAction {
    /// The action in a word.
    pub fn word(self) -> &'static str {
        match self {
            StepAction::Remove => "remove",
            StepAction::Detach => "detach",
            StepAction::Create => "create",
            StepAction::Move => "move",
            StepAction::Replace => "replace",
            StepAction::Link => "link",
            StepAction::Rewrite => "rewrite",
            StepAction::Attributes => "attributes",
        }
    }
}
