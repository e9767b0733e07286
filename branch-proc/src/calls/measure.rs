//! Something that is done to a call while the table of calls is not held: the kernel may take its time over it
//! (seconds, to freeze what keeps forking; reclaim, when a limit is lowered), and nobody else shall wait for that.

use std::sync::Arc;

use super::decide::{Action, Motion};
use super::table::{Entry, GroupOfCall, Shared};
use crate::error::GroupError;
use crate::limits::Limits;

/// The share of the processor that a slowed call has; see [`super::Priority`].
const SLOWED_WEIGHT: u16 = 1;

/// What is to be done to one call.
#[derive(Debug)]
pub(super) struct Measure {
    what: What,
    number: u64,
    group: Arc<GroupOfCall>,
    /// What the call has when nobody takes anything from it.
    own: Limits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Slow,
    Ease,
    Freeze,
    Thaw,
    /// It has been killed. Ending takes processor time, too.
    LetEnd,
}

impl Measure {
    /// Killing is done at once: who waits for the end shall find why. The table is held.
    pub(super) fn begin(action: Action, entry: &mut Entry) -> Option<Measure> {
        let what = match action {
            Action::Slow(_) => What::Slow,
            Action::Ease(_) => What::Ease,
            Action::Freeze(_) => What::Freeze,
            Action::Thaw(_) => What::Thaw,
            Action::Kill(_) => {
                if !entry.kill() {
                    return None;
                }
                What::LetEnd
            }
        };
        Some(Measure::of(what, entry))
    }

    /// Lets a call go on that is to end now, if it stands still. The table is held.
    pub(super) fn let_end(entry: &mut Entry) -> Option<Measure> {
        let measure = (entry.motion == Motion::Frozen).then(|| Measure::of(What::LetEnd, entry));
        entry.is_ending();
        measure
    }

    fn of(what: What, entry: &Entry) -> Measure {
        Measure { what, number: entry.number, group: Arc::clone(&entry.group), own: entry.own_limits() }
    }

    /// Does it, and notes what came of it if the call is still there. The table is not held.
    pub(super) fn carry_out(self, shared: &Shared) {
        let done = match self.what {
            What::Slow => self.slow(),
            What::Ease => self.group.get().limit(&self.own).map(drop),
            What::Freeze => return self.freeze(shared),
            What::Thaw | What::LetEnd => self.go_on(),
        };
        let mut table = shared.table();
        let Some(entry) = table.find(self.number) else { return };
        match (self.what, done) {
            (_, Err(error)) => entry.trouble = Some(error.to_string()),
            (What::Slow, Ok(())) => entry.moves(Motion::Slowed),
            (_, Ok(())) => entry.moves(Motion::Free),
        }
    }

    /// Less of the processor, and where the kernel slows down what wants more memory, no more of that.
    fn slow(&self) -> Result<(), GroupError> {
        let group = self.group.get();
        let memory_high = group.usage().memory;
        group.limit(&Limits { cpu_weight: Some(SLOWED_WEIGHT), memory_high, ..Limits::default() }).map(drop)
    }

    /// As if nothing had been.
    fn go_on(&self) -> Result<(), GroupError> {
        let group = self.group.get();
        group.thaw()?;
        group.limit(&self.own).map(drop)
    }

    /// What has been told to end meanwhile, or is waited for no more, does not stand still.
    fn freeze(self, shared: &Shared) {
        let frozen = self.group.get().freeze();
        let stands = match (shared.table().find(self.number), &frozen) {
            (Some(entry), Ok(())) => entry.stands_still(),
            (Some(entry), Err(error)) => {
                entry.can_freeze = false;
                entry.trouble = Some(error.to_string());
                false
            }
            (None, _) => false,
        };
        if !stands {
            // Also what may have been done of it before it failed; if this fails as well, the first failure says why.
            drop(self.group.get().thaw());
        }
    }
}
