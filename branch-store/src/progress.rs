//! How far a commit into the base, its undoing or redoing is; and a way to call it off while nothing is decided.

use std::ops::ControlFlow;

use crate::error::{Error, Result};

/// Objects or steps between two reports of one phase: who commits a handful of files hears of each phase once.
pub const PROGRESS_EVERY: u64 = 256;

/// Bytes copied between two reports.
pub const PROGRESS_BYTES: u64 = 16 << 20;

/// What is being done, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The branch is compared with the base and the plan drawn. Counted in objects or steps, none of them yet.
    Planning,
    /// What the plan needs is made beside the base. Counted in objects.
    Staging,
    /// It is made durable.
    Syncing,
    /// The decision is about to be made: the last report that can be answered with a no.
    Deciding,
    /// The plan is carried out. Counted in steps.
    WritingBack,
    /// What was written is made durable.
    Finishing,
    /// The base holds the result, durably.
    Done,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// So many are done …
    pub done: u64,
    /// … of so many; 0 where nothing is counted.
    pub of: u64,
    /// Bytes copied in this phase so far. A file that only gets another name, or is cloned, costs none.
    pub bytes: u64,
}

/// Hears how far a commit is. Called under the locks of a commit: it must call nothing of the store.
pub trait Watch: Sync {
    /// `Break` calls the commit off up to [`Phase::Deciding`]; after that it has happened, and the answer is not
    /// looked at.
    fn progress(&self, progress: Progress) -> ControlFlow<()>;
}

/// Nobody watches.
impl Watch for () {
    fn progress(&self, _: Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl<F: Fn(Progress) -> ControlFlow<()> + Sync> Watch for F {
    fn progress(&self, progress: Progress) -> ControlFlow<()> {
        self(progress)
    }
}

/// Reports while the commit can still be called off.
///
/// # Errors
/// `Cancelled`.
pub(crate) fn ask(watch: &dyn Watch, phase: Phase, done: u64, of: u64) -> Result<()> {
    ask_at(watch, Progress { phase, done, of, bytes: 0 })
}

/// The same, with bytes.
///
/// # Errors
/// `Cancelled`.
pub(crate) fn ask_at(watch: &dyn Watch, progress: Progress) -> Result<()> {
    debug_assert!(progress.phase <= Phase::Deciding);
    match watch.progress(progress) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Cancelled),
    }
}

/// Reports what has been decided.
pub(crate) fn tell(watch: &dyn Watch, phase: Phase, done: u64, of: u64) {
    debug_assert!(phase > Phase::Deciding);
    // Either answer comes too late.
    let (ControlFlow::Continue(()) | ControlFlow::Break(())) =
        watch.progress(Progress { phase, done, of, bytes: 0 });
}
