//! Leases on the past: as long as somebody reads the base as it was after a commit, what later ones displaced stays.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::ids::CommitId;

/// How many leases there are on the base after each commit.
///
/// Lock order: behind branch data; nothing but the journal's, the history's and the log's is taken behind it.
#[derive(Default)]
pub(crate) struct Leases(Mutex<BTreeMap<CommitId, usize>>);

/// Keeps the base after a commit until it is dropped. It promises nothing of what was forgotten before it was taken.
pub(crate) struct Lease {
    leases: Arc<Leases>,
    epoch: CommitId,
}

/// Keeps new leases away, so that what is not leased can be forgotten.
pub(crate) struct NoLease<'a>(MutexGuard<'a, BTreeMap<CommitId, usize>>);

impl Leases {
    pub(crate) fn take(self: &Arc<Self>, epoch: CommitId) -> Lease {
        *self.0.lock().entry(epoch).or_default() += 1;
        Lease { leases: self.clone(), epoch }
    }

    pub(crate) fn hold(&self) -> NoLease<'_> {
        NoLease(self.0.lock())
    }
}

impl NoLease<'_> {
    /// The oldest base that somebody reads.
    pub(crate) fn oldest(&self) -> Option<CommitId> {
        self.0.keys().next().copied()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leases = self.leases.0.lock();
        let count = leases.get(&self.epoch).copied().unwrap_or_default();
        debug_assert!(count > 0, "every lease was counted when it was taken");
        if count > 1 {
            leases.insert(self.epoch, count - 1);
        } else {
            leases.remove(&self.epoch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_lease_counts_until_all_of_it_are_dropped() {
        let leases = Arc::new(Leases::default());
        let taken = [4, 2, 2].map(|epoch| leases.take(CommitId(epoch)));
        let [four, two, again] = taken;
        for (dropped, oldest) in [(two, Some(2)), (again, Some(4)), (four, None)] {
            drop(dropped);
            assert_eq!(leases.hold().oldest(), oldest.map(CommitId));
        }
    }
}
