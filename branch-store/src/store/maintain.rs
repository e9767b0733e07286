//! What is done in the background: deleting, forgetting.

use crate::branch::Shared;
use crate::commit::undo::Stack;
use crate::error::Result;
use crate::ids::CommitId;
use crate::journal::record::Record;
use crate::store::{Store, litter};

/// So many commits can be undone, and so many redone, at least: their preimages are kept.
pub(crate) const UNDO_KEPT: usize = 16;

impl Store {
    /// Whether the journal is long enough for a checkpoint to pay.
    pub fn journal_is_long(&self) -> bool {
        self.shared.journal.is_long()
    }

    /// Deletes what ended branches left, and preimages that neither a live snapshot nor history needs.
    ///
    /// # Errors
    /// The host's; repeated calls go on where this one stopped.
    pub fn reclaim(&self) -> Result<()> {
        let shared = &self.shared;
        {
            let _no_commit = shared.writeback.lock();
            let _gate = shared.gate.read();
            let upto = limit(shared);
            let parks = parks(shared)?.into_iter().filter(|commit| *commit <= upto).collect::<Vec<_>>();
            if !parks.is_empty() {
                shared.journal.append(&Record::Prune { upto })?;
                apply_prune(shared, upto);
                shared.make_durable()?;
                for commit in parks {
                    let name = commit.0.to_string();
                    shared.contents.trash_preimage(&shared.park_fd, name.as_bytes())?;
                }
            }
        }
        litter::clear(shared)?;
        shared.settle()?;
        shared.contents.empty_trash()
    }
}

/// Up to which commit preimages and displacements are no longer needed: no live snapshot is older, and nobody can
/// undo it any more.
fn limit(shared: &Shared) -> CommitId {
    let head = shared.counters.commit.load(std::sync::atomic::Ordering::Acquire);
    let epochs = shared.registry.read().all().into_iter().map(|branch| branch.data.read().epoch);
    let oldest = epochs.min().unwrap_or(CommitId(head));
    let needed = Stack::of(&shared.log.lock()).oldest_needed(UNDO_KEPT);
    let unneeded = needed.map_or(head, |needed| needed.0.saturating_sub(1));
    CommitId(oldest.0.min(unneeded))
}

pub(super) fn apply_prune(shared: &Shared, upto: CommitId) {
    let mut history = shared.base.history.write();
    history.prune(upto);
    shared.base.places.prune(|commit| commit > upto);
}

/// Commits that have a preimage directory, ascending.
pub(super) fn parks(shared: &Shared) -> Result<Vec<CommitId>> {
    let names = crate::disk::list(&shared.park_fd)?;
    let number = |name: &Vec<u8>| std::str::from_utf8(name).ok()?.parse().ok().map(CommitId);
    let mut parks: Vec<CommitId> = names.iter().filter_map(number).collect();
    parks.sort_unstable();
    Ok(parks)
}
