//! Which commits stand and which are undone, from the log.

use std::collections::HashMap;

use super::Turn;
use crate::error::{Error, Result};
use crate::ids::CommitId;
use crate::journal::record::{LogLine, Origin};

/// Commits, undoings and redoings that can be taken back, oldest first.
pub(crate) struct Stack {
    standing: Vec<CommitId>,
    undone: Vec<CommitId>,
    /// What each took back.
    of: HashMap<CommitId, CommitId>,
}

impl Stack {
    pub(crate) fn of(log: &[LogLine]) -> Stack {
        let mut stack = Stack { standing: Vec::new(), undone: Vec::new(), of: HashMap::new() };
        for line in log {
            match line.origin {
                Origin::Branch(_) => {
                    stack.standing.push(line.commit);
                    stack.undone.clear();
                }
                Origin::Undo(of) => {
                    stack.standing.pop();
                    stack.undone.push(line.commit);
                    stack.of.insert(line.commit, of);
                }
                Origin::Redo(of) => {
                    stack.undone.pop();
                    stack.standing.push(line.commit);
                    stack.of.insert(line.commit, of);
                }
            }
        }
        stack
    }

    /// The commit to take back: undoing goes back through those that stand, redoing through what was undone since the
    /// last new one.
    pub(super) fn target(&self, turn: Turn) -> Result<CommitId> {
        let (last, nothing) = match turn {
            Turn::Undo => (self.standing.last(), "there is no commit into the base to undo"),
            Turn::Redo => (self.undone.last(), "there is nothing to redo"),
        };
        last.copied().ok_or(Error::NotAllowed(nothing))
    }

    /// The oldest commit whose preimages are needed to take back any of the `steps` newest, either way.
    pub(crate) fn oldest_needed(&self, steps: usize) -> Option<CommitId> {
        let newest = |all: &[CommitId]| all[all.len().saturating_sub(steps)..].to_vec();
        [newest(&self.standing), newest(&self.undone)]
            .concat()
            .into_iter()
            .map(|commit| self.first(commit))
            .min()
    }

    /// The commit that an undoing is about, however often it went back and forth: its preimages are used by all.
    fn first(&self, mut commit: CommitId) -> CommitId {
        while let Some(of) = self.of.get(&commit).filter(|of| **of < commit) {
            commit = *of;
        }
        commit
    }
}
