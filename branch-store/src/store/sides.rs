//! Sides of a comparison, and the comparison.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::branch::Branch;
use crate::diff::{self, Directories, PathChange};
use crate::error::Result;
use crate::ids::CommitId;
use crate::side::Side;
use crate::store::Store;

impl Store {
    /// What a branch changed since its fork, sorted by path, renamed directories as one path.
    ///
    /// # Errors
    /// `Ended`, `Stale`, and the host's.
    pub fn diff(&self, branch: &Arc<Branch>) -> Result<Vec<PathChange>> {
        let (old, new) = self.fork_and_now(branch)?;
        diff::compare(&old, &new, Directories::Whole)
    }

    /// What differs between two sides, sorted by path. Costs what the two changed where both see the base after the
    /// same commit, else the size of the base.
    ///
    /// # Errors
    /// `Ended`, `Stale`, `NotKept`, and the host's.
    pub fn compare(&self, old: &Side, new: &Side, directories: Directories) -> Result<Vec<PathChange>> {
        diff::compare(old, new, directories)
    }

    /// A branch as its fork found it, and as it is now.
    ///
    /// # Errors
    /// `Ended`, `Stale`.
    pub fn fork_and_now(&self, branch: &Arc<Branch>) -> Result<(Side, Side)> {
        let (old, new) = Side::fork_and_now(branch);
        new.check()?;
        Ok((old, new))
    }

    /// A branch as it is now; for main, the base. Waits for a commit into the base.
    ///
    /// # Errors
    /// `Ended`, `Stale`.
    pub fn side(&self, branch: &Arc<Branch>) -> Result<Side> {
        if !branch.is_main() {
            return Ok(self.fork_and_now(branch)?.1);
        }
        // Half of a commit is nothing to compare with.
        let _writeback = self.shared.writeback.lock();
        self.base_after(CommitId(self.shared.counters.commit.load(Ordering::Acquire)))
    }

    /// A branch as it was when this mark was made.
    ///
    /// # Errors
    /// `NoSuchMark`, `Ended`, `Stale`.
    pub fn marked(&self, branch: &Arc<Branch>, name: &str) -> Result<Side> {
        let side = Side::marked(branch, name)?;
        side.check()?;
        Ok(side)
    }

    /// The base as it was after a commit; 0 is before the first. Edits from outside since then show through.
    ///
    /// # Errors
    /// `NotKept` if there is no such commit yet, or if its base cannot be put together any more.
    pub fn base_after(&self, commit: CommitId) -> Result<Side> {
        let side = Side::base_after(&self.shared, commit);
        side.check()?;
        Ok(side)
    }
}
