//! Which commits stand and which are undone, from the log.

use std::collections::HashMap;

use super::Turn;
use crate::error::{Error, Result};
use crate::ids::CommitId;
use crate::journal::record::{LogLine, Origin};
use crate::node::Time;

/// Commits, undoings and redoings that can be taken back, oldest first.
pub(crate) struct Stack {
    standing: Vec<CommitId>,
    undone: Vec<CommitId>,
    /// What each took back.
    of: HashMap<CommitId, CommitId>,
    times: HashMap<CommitId, Time>,
}

impl Stack {
    pub(crate) fn of(log: &[LogLine]) -> Stack {
        let mut stack =
            Stack { standing: Vec::new(), undone: Vec::new(), of: HashMap::new(), times: HashMap::new() };
        for line in log {
            stack.times.insert(line.commit, line.time);
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

    /// The oldest commit whose preimages are needed to take back any of the `steps` newest, either way; of these only
    /// those since a time, and the newest one.
    pub(crate) fn oldest_needed(&self, steps: usize, since: Option<Time>) -> Option<CommitId> {
        let young = |commit: &CommitId| since.is_none_or(|since| self.times.get(commit) >= Some(&since));
        let needed = |all: &[CommitId]| -> Option<CommitId> {
            let newest = all.iter().rev().take(steps).enumerate();
            let wanted = newest.filter(|(age, commit)| *age == 0 || young(commit));
            wanted.map(|(_, commit)| self.first(*commit)).min()
        };
        [needed(&self.standing), needed(&self.undone)].into_iter().flatten().min()
    }

    /// The oldest commit among whose preimages there is what an undoing or redoing after `epoch` took from the base: it
    /// exchanges what it takes with what it gives back.
    pub(crate) fn oldest_seen(&self, epoch: CommitId) -> Option<CommitId> {
        self.of.keys().filter(|commit| **commit > epoch).map(|commit| self.first(*commit)).min()
    }

    /// The commit that an undoing is about, however often it went back and forth: its preimages are used by all.
    fn first(&self, mut commit: CommitId) -> CommitId {
        while let Some(of) = self.of.get(&commit).filter(|of| **of < commit) {
            commit = *of;
        }
        commit
    }
}
