//! Commits into the base that are under way: what subscribers hear of long ones, and calling one off.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use branch_proto::{CommitProgress, Event, Failure};
use branch_store::{PROGRESS_BYTES, Phase, Progress, Watch};
use parking_lot::Mutex;

use super::events::Events;
use super::wire_types::commit_phase;

/// Commits of fewer objects, or steps, are not spoken of: they are over before anybody looks.
const OBJECTS_MIN: u64 = 1000;

/// Nobody has said anything.
const OPEN: u8 = 0;
const CALLED_OFF: u8 = 1;
/// It will happen, or has.
const DECIDED: u8 = 2;

/// By the name of the branch; `main` for undo and redo. A leaf lock.
#[derive(Default)]
pub(super) struct UnderWay {
    all: Mutex<Vec<(String, Arc<AtomicU8>)>>,
}

/// One of them; over when dropped.
pub(super) struct Commit<'d> {
    under_way: &'d UnderWay,
    events: &'d Events,
    name: String,
    state: Arc<AtomicU8>,
    long: AtomicBool,
    /// Hundredths of the phase that were told.
    told: AtomicU64,
    /// Bytes that were told.
    told_bytes: AtomicU64,
}

impl UnderWay {
    pub(super) fn begin<'d>(&'d self, events: &'d Events, name: &str) -> Commit<'d> {
        let state = Arc::new(AtomicU8::new(OPEN));
        self.all.lock().push((name.to_owned(), state.clone()));
        Commit {
            under_way: self,
            events,
            name: name.to_owned(),
            state,
            long: AtomicBool::new(false),
            told: AtomicU64::new(0),
            told_bytes: AtomicU64::new(0),
        }
    }

    /// Calls off every commit of this name that is not decided.
    pub(super) fn cancel(&self, name: &str) -> Result<(), Failure> {
        let all = self.all.lock();
        let mut states = all.iter().filter(|(of, _)| of == name).map(|(_, state)| state).peekable();
        if states.peek().is_none() {
            return Err(refused(format!("no commit of '{name}' into the base is under way")));
        }
        let open = |state: &Arc<AtomicU8>| {
            state.compare_exchange(OPEN, CALLED_OFF, Ordering::AcqRel, Ordering::Acquire) != Err(DECIDED)
        };
        if states.filter(|state| open(state)).count() > 0 {
            return Ok(());
        }
        Err(refused("it is decided and can no longer be called off; it is being finished".to_owned()))
    }
}

fn refused(reason: String) -> Failure {
    Failure::NotAllowed { reason }
}

impl Commit<'_> {
    fn may_go_on(&self, phase: Phase) -> bool {
        match phase {
            Phase::Deciding => {
                self.state.compare_exchange(OPEN, DECIDED, Ordering::AcqRel, Ordering::Acquire).is_ok()
            }
            Phase::Planning | Phase::Staging | Phase::Syncing => self.state.load(Ordering::Acquire) == OPEN,
            Phase::WritingBack | Phase::Finishing | Phase::Done => true,
        }
    }

    /// Beginnings and ends of phases, and each hundredth of one; of copies every so many bytes.
    fn is_news(&self, Progress { phase, done, of, bytes }: Progress) -> bool {
        if phase == Phase::Planning {
            self.long.store(of >= OBJECTS_MIN, Ordering::Relaxed);
        }
        let copied = bytes / PROGRESS_BYTES;
        if copied != self.told_bytes.swap(copied, Ordering::Relaxed) && copied > 0 {
            // However few the objects are.
            self.long.store(true, Ordering::Relaxed);
            return true;
        }
        if !self.long.load(Ordering::Relaxed) {
            return false;
        }
        let part = (done * 100).checked_div(of).unwrap_or(0);
        let told = self.told.swap(part, Ordering::Relaxed);
        done == 0 || done == of || part != told
    }
}

impl Watch for Commit<'_> {
    fn progress(&self, progress: Progress) -> ControlFlow<()> {
        if !self.may_go_on(progress.phase) {
            return ControlFlow::Break(());
        }
        if self.is_news(progress) {
            let Progress { phase, done, of, bytes } = progress;
            let (branch, phase) = (self.name.clone(), commit_phase(phase));
            let progress = CommitProgress { branch, phase, done, of, bytes };
            self.events.publish(&Event::Progress { progress });
        }
        ControlFlow::Continue(())
    }
}

impl Drop for Commit<'_> {
    fn drop(&mut self) {
        self.under_way.all.lock().retain(|(_, state)| !Arc::ptr_eq(state, &self.state));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(phase: Phase) -> Progress {
        Progress { phase, done: 0, of: 0, bytes: 0 }
    }

    #[test]
    fn a_commit_can_be_called_off_until_it_is_decided_and_not_after() {
        let (under_way, events) = (UnderWay::default(), Events::default());
        assert!(under_way.cancel("b").is_err(), "there is none");
        let commit = under_way.begin(&events, "b");
        let other = under_way.begin(&events, "c");
        assert!(commit.progress(at(Phase::Staging)).is_continue());
        under_way.cancel("b").expect("not decided");
        under_way.cancel("b").expect("nor the second time");
        assert!(commit.progress(at(Phase::Staging)).is_break());
        assert!(commit.progress(at(Phase::Deciding)).is_break());
        assert!(other.progress(at(Phase::Deciding)).is_continue());
        let reason = under_way.cancel("c").expect_err("decided").to_string();
        assert!(reason.contains("no longer"), "{reason}");
        assert!(other.progress(at(Phase::WritingBack)).is_continue());
        drop(commit);
        assert!(under_way.cancel("b").is_err(), "it is over");
    }

    #[test]
    fn a_short_commit_is_not_spoken_of_and_a_long_one_in_hundredths() {
        let (under_way, events) = (UnderWay::default(), Events::default());
        let commit = under_way.begin(&events, "b");
        let news = |phase, done, of| commit.is_news(Progress { phase, done, of, bytes: 0 });
        assert!(!news(Phase::Planning, 0, OBJECTS_MIN - 1));
        assert!(!news(Phase::WritingBack, 0, OBJECTS_MIN - 1));
        assert!(news(Phase::Planning, 0, OBJECTS_MIN));
        let told = (0..=100_000).filter(|done| news(Phase::Staging, *done, 100_000)).count();
        assert_eq!(told, 101);
        assert!(news(Phase::Syncing, 0, 0));
        assert!(news(Phase::Staging, 0, 0) && news(Phase::Deciding, 0, 0));
    }

    #[test]
    fn a_commit_of_one_large_file_is_spoken_of_when_bytes_are_copied() {
        let (under_way, events) = (UnderWay::default(), Events::default());
        let commit = under_way.begin(&events, "b");
        let news = |phase, bytes| commit.is_news(Progress { phase, done: 0, of: 1, bytes });
        assert!(!news(Phase::Planning, 0) && !news(Phase::Staging, 0) && !news(Phase::Staging, 1));
        assert!(news(Phase::Staging, PROGRESS_BYTES) && news(Phase::Staging, 2 * PROGRESS_BYTES));
        assert!(news(Phase::Syncing, 0) && news(Phase::WritingBack, 0));
    }
}
