//! The store: all branches of one workspace over one base, one journal.

mod abort;
#[cfg(test)]
mod ahead_tests;
mod check;
mod checkpoint;
#[cfg(test)]
mod cost_tests;
mod files;
mod fork;
mod gc;
mod lenders;
mod litter;
mod maintain;
mod mark;
mod native;
mod quota;
mod read;
mod recovery;
mod replay;
mod report;
mod restore;
mod sides;
mod sweep;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use abort::{Children, Ended};
pub use files::{init, wait_closed};
pub use gc::Collected;
pub use recovery::{Options, Unrecovered};
pub use report::Report;
pub use restore::Restored;

use crate::branch::{Branch, Shared};
use crate::commit::undo::{self, Turn};
use crate::commit::{self, Action, Choice, Committed, Preview, Rebased, Resolver, Selector};
use crate::error::{Error, Result};
use crate::ids::{BranchId, CommitId};
use crate::journal::record::LogLine;
use crate::node::Time;
use crate::note::Note;
use crate::progress::Watch;

/// One commit into the base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its number, from 1.
    pub commit: CommitId,
    /// The branch that committed.
    pub branch: String,
    /// When.
    pub time: Time,
    /// Number of changed paths.
    pub changed: u64,
    /// Bytes of the files it brought; of one that undoes or redoes, of the commit it is about.
    pub bytes: u64,
    /// Who, and what for.
    pub note: Note,
    /// What it was.
    pub action: Action,
}

impl From<&LogLine> for LogEntry {
    fn from(line: &LogLine) -> LogEntry {
        LogEntry {
            commit: line.commit,
            branch: line.branch.clone(),
            time: line.time,
            changed: line.changed,
            bytes: line.bytes,
            note: line.note.clone(),
            action: line.origin.into(),
        }
    }
}

/// What the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in the journal.
    pub journal_bytes: u64,
    /// Bytes of file content, as the host allocates them.
    pub content_bytes: u64,
    /// Commits into the base so far.
    pub commits: u64,
}

/// A recovered, open store. Cheap to share; all methods take `&self`.
pub struct Store {
    pub(crate) shared: Arc<Shared>,
}

impl Store {
    /// The base directory.
    pub fn base(&self) -> &Path {
        &self.shared.base_path
    }

    /// The store directory.
    pub fn dir(&self) -> &Path {
        &self.shared.dir_path
    }

    /// From now on copies of files of so many bytes borrow what is not written: for tests, which do it with small ones.
    #[doc(hidden)]
    pub fn borrow_from(&self, bytes: u64) {
        self.shared.contents.borrow_from(bytes);
    }

    /// The root branch.
    pub fn main(&self) -> Arc<Branch> {
        self.shared.main()
    }

    /// A live branch by name; `main` too.
    ///
    /// # Errors
    /// `Stale` for one that lost to a sibling since the last checkpoint, `NoSuchBranch`.
    pub fn branch(&self, name: &str) -> Result<Arc<Branch>> {
        self.shared.registry.read().named(name)
    }

    /// A live branch by index.
    pub fn branch_by_id(&self, id: BranchId) -> Option<Arc<Branch>> {
        self.shared.registry.read().get(id)
    }

    /// Live branches, parents before children, `main` first.
    pub fn branches(&self) -> Vec<Arc<Branch>> {
        self.shared.registry.read().all()
    }

    /// Commits a leaf branch into its parent. Durable when it returns; all or nothing at every instant.
    ///
    /// # Errors
    /// `Stale` (a sibling won), `Ended`, `Busy`, `HasChildren`, `Conflicts` (nothing changed, the branch
    /// goes on), `NotAllowed` for main, `Poisoned`, and the host's.
    pub fn commit(&self, branch: &Branch) -> Result<Committed> {
        self.commit_with(branch, &|_| Choice::Refuse)
    }

    /// Commits, and where the two sides meet does what `resolver` says. It is called under the locks of a commit: it
    /// must only look at what it is given.
    ///
    /// # Errors
    /// As [`Store::commit`]; `Conflicts` has what the resolver refused, or what cannot be decided path by path.
    pub fn commit_with(&self, branch: &Branch, resolver: Resolver<'_>) -> Result<Committed> {
        self.commit_as(branch, resolver, None, &Note::default())
    }

    /// Commits the part of a leaf branch's changes whose paths are selected. The branch goes on with the rest, on what
    /// its parent is then, as after [`Store::rebase`]: all its changes must fit there, the rest, too. What goes together
    /// cannot be torn apart: all names of one object, a removed directory with what was in it. Directories on the way
    /// that the branch made or moved come along.
    ///
    /// # Errors
    /// As [`Store::commit_with`]; `Inseparable`, `NothingSelected`.
    pub fn commit_part(
        &self,
        branch: &Branch,
        resolver: Resolver<'_>,
        selector: Selector<'_>,
    ) -> Result<Committed> {
        self.commit_as(branch, resolver, Some(selector), &Note::default())
    }

    /// As [`Store::commit_with`], or with a selector [`Store::commit_part`], with what the log is to say of it.
    ///
    /// # Errors
    /// As those; `Limit` for a message that is too long.
    pub fn commit_as(
        &self,
        branch: &Branch,
        resolver: Resolver<'_>,
        selector: Option<Selector<'_>>,
        note: &Note,
    ) -> Result<Committed> {
        self.commit_watched(branch, resolver, selector, note, &())
    }

    /// As [`Store::commit_as`], and `watch` hears how far it is, and can call it off; of a commit into a branch, which
    /// is short, it hears nothing.
    ///
    /// # Errors
    /// As those; `Cancelled`, and then nothing has changed and the branch goes on.
    pub fn commit_watched(
        &self,
        branch: &Branch,
        resolver: Resolver<'_>,
        selector: Option<Selector<'_>>,
        note: &Note,
        watch: &dyn Watch,
    ) -> Result<Committed> {
        note.check()?;
        commit::commit(&self.shared, branch, resolver, selector, note, watch)
    }

    /// Moves a leaf branch onto its parent's present state: it is as if it had been forked from there and had done
    /// there what it did. All or nothing at every instant, as durable as any change in the branch.
    ///
    /// # Errors
    /// As [`Store::commit_with`]; nothing changed then.
    pub fn rebase(&self, branch: &Branch, resolver: Resolver<'_>) -> Result<Rebased> {
        commit::rebase::rebase(&self.shared, branch, resolver)
    }

    /// What a commit would do now: the same way as [`Store::commit_with`] up to its decision. Changes nothing.
    ///
    /// # Errors
    /// As [`Store::commit_with`], without `Conflicts`: they are in the answer.
    pub fn preview(&self, branch: &Branch, resolver: Resolver<'_>) -> Result<Preview> {
        commit::preview(&self.shared, branch, resolver, None)
    }

    /// What a partial commit would do now.
    ///
    /// # Errors
    /// As [`Store::commit_part`], without `Conflicts`.
    pub fn preview_part(
        &self,
        branch: &Branch,
        resolver: Resolver<'_>,
        selector: Selector<'_>,
    ) -> Result<Preview> {
        commit::preview(&self.shared, branch, resolver, Some(selector))
    }

    /// Takes the last commit into the base back that still stands: content, modes, owners, times, extended attributes
    /// and links are as before it. A commit of its own: durable when it returns; all or nothing at every instant.
    ///
    /// # Errors
    /// `NotAllowed` if there is none or its preimages are no longer kept; `Conflicts` where the base was changed on
    /// those paths since (nothing is done then); `Poisoned`, and the host's.
    pub fn undo(&self) -> Result<Committed> {
        self.undo_watched(None, &())
    }

    /// As [`Store::undo`], for this user, and watched as in [`Store::commit_watched`].
    ///
    /// # Errors
    /// As [`Store::undo`]; `Cancelled`.
    pub fn undo_watched(&self, user: Option<u32>, watch: &dyn Watch) -> Result<Committed> {
        undo::turn(&self.shared, Turn::Undo, user, watch)
    }

    /// Takes the last [`Store::undo`] back, unless something was committed since.
    ///
    /// # Errors
    /// As [`Store::undo`].
    pub fn redo(&self) -> Result<Committed> {
        self.redo_watched(None, &())
    }

    /// As [`Store::redo`], for this user, and watched as in [`Store::commit_watched`].
    ///
    /// # Errors
    /// As [`Store::redo`]; `Cancelled`.
    pub fn redo_watched(&self, user: Option<u32>, watch: &dyn Watch) -> Result<Committed> {
        undo::turn(&self.shared, Turn::Redo, user, watch)
    }

    /// The newest commits into the base, newest first.
    pub fn log(&self, limit: usize) -> Vec<LogEntry> {
        let log = self.shared.log.lock();
        let newest = log.iter().rev().take(limit);
        newest.map(LogEntry::from).collect()
    }

    /// One commit into the base; `None` if there is none of this number, or the log no longer has it.
    pub fn logged(&self, commit: CommitId) -> Option<LogEntry> {
        self.shared.log.lock().iter().rev().find(|line| line.commit == commit).map(LogEntry::from)
    }

    /// What the store holds.
    ///
    /// # Errors
    /// The host's.
    pub fn usage(&self) -> Result<Usage> {
        let commits = self.shared.counters.commit.load(Ordering::Relaxed);
        let held = |branch: &Arc<Branch>| {
            let layers = branch.data.read().layers.clone();
            self.shared.contents.held(&layers)
        };
        let content_bytes = self.branches().iter().map(held).sum::<Result<u64>>()?;
        Ok(Usage { journal_bytes: self.shared.journal.length(), content_bytes, commits })
    }

    /// Makes everything acknowledged durable: names, attributes and bytes.
    ///
    /// # Errors
    /// The host's; a failure poisons the store (S21).
    pub fn sync(&self) -> Result<()> {
        if let Err(e) = self.shared.disk.syncfs(&self.shared.dir_fd) {
            self.shared.journal.poison();
            return Err(Error::host("syncfs", "store", e));
        }
        self.shared.make_durable()
    }

    /// Makes everything durable whose loss would take more with it than itself: what was copied, and names whose
    /// bytes wait to be deleted. Copies what branches borrow from files that somebody removed from the base. To be
    /// called now and then, and before the end.
    ///
    /// # Errors
    /// The host's; a failed sync poisons the store (S21).
    pub fn settle(&self) -> Result<()> {
        self.shared.settle()?;
        lenders::rescue(&self.shared)
    }
}

impl Drop for Store {
    /// Branches refer to what they share: without this the two would keep each other, and the lock, alive.
    fn drop(&mut self) {
        self.shared.registry.write().clear();
    }
}
