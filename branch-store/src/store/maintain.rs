//! What is done in the background: deleting, forgetting.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::base::stat_fd;
use crate::branch::Shared;
use crate::commit::undo::Stack;
use crate::disk::open_dir_readable;
use crate::error::Result;
use crate::ids::CommitId;
use crate::journal::record::{Origin, Record};
use crate::keep::Keep;
use crate::lease::NoLease;
use crate::measuring::{allocated, bytes_below};
use crate::native;
use crate::node::Time;
use crate::store::{Store, litter};

impl Store {
    /// Whether the journal is long enough for a checkpoint to pay.
    pub fn journal_is_long(&self) -> bool {
        self.shared.journal.is_long()
    }

    /// Makes content files ahead for branches in which many are being made, until [`Store::stop_making_ahead`]: for a
    /// thread of its own. Without it each create makes its own.
    pub fn make_ahead(&self) {
        self.shared.contents.make_ahead(|| self.shared.base.allocate_id());
    }

    /// Ends [`Store::make_ahead`], which removes what was not used.
    pub fn stop_making_ahead(&self) {
        self.shared.contents.stop_making_ahead();
    }

    /// Deletes what ended branches left, and preimages that neither a live snapshot nor history needs.
    ///
    /// # Errors
    /// The host's; repeated calls go on where this one stopped.
    pub fn reclaim(&self) -> Result<()> {
        let keep = self.keep();
        reclaim(&self.shared, &keep)
    }
}

/// The same with another policy.
pub(super) fn reclaim(shared: &Shared, keep: &Keep) -> Result<()> {
    {
        let _no_commit = shared.writeback.lock();
        let _gate = shared.gate.read();
        let (upto, no_lease) = unneeded(shared, keep)?;
        let parks = parks(shared)?.into_iter().filter(|commit| *commit <= upto).collect::<Vec<_>>();
        if !parks.is_empty() {
            shared.journal.append(&Record::Prune { upto })?;
            apply_prune(shared, upto);
            drop(no_lease);
            shared.make_durable()?;
            for commit in parks {
                let name = commit.0.to_string();
                shared.contents.trash_preimage(&shared.park_fd, name.as_bytes())?;
            }
        }
    }
    litter::clear(shared)?;
    native::discard_ended(shared)?;
    shared.settle()?;
    shared.contents.empty_trash()
}

/// Up to which commit preimages and displacements are no longer needed: no live snapshot and no lease is older or sees
/// what was put there later, and nobody may undo it any more. To be called while no commit into the base is under way.
/// It is so as long as no lease is taken.
pub(super) fn unneeded<'a>(shared: &'a Shared, keep: &Keep) -> Result<(CommitId, NoLease<'a>)> {
    let head = shared.counters.commit.load(Ordering::Acquire);
    let epochs = shared.registry.read().all().into_iter().map(|branch| branch.data.read().epoch);
    // A branch goes on to later epochs only: what it leases from here on is no older.
    let of_branches = epochs.min().unwrap_or(CommitId(head));
    // After the branches: one that borrows now sees the base as it did when it was asked, or later.
    let of_branches = shared.contents.oldest_lender().map_or(of_branches, |lent| of_branches.min(lent));
    let stack = Stack::of(&shared.log.lock());
    let steps = usize::try_from(keep.commits).unwrap_or(usize::MAX);
    let since = keep.age.map(|age| before(Time::now(), age));
    let unneeded = stack.oldest_needed(steps, since).map_or(CommitId(head), before_commit);
    let large = keep.bytes.map_or(Ok(CommitId(0)), |bytes| too_much(shared, bytes))?;
    let no_lease = shared.leases.hold();
    let oldest = no_lease.oldest().map_or(of_branches, |leased| of_branches.min(leased));
    let seen = stack.oldest_seen(oldest).map_or(oldest, |first| oldest.min(before_commit(first)));
    Ok((seen.min(unneeded.max(large)), no_lease))
}

fn before_commit(commit: CommitId) -> CommitId {
    CommitId(commit.0.saturating_sub(1))
}

fn before(now: Time, age: Duration) -> Time {
    let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
    Time { sec: now.sec.saturating_sub(age), ..now }
}

/// The newest commit that does not fit any more.
fn too_much(shared: &Shared, bytes: u64) -> Result<CommitId> {
    let mut left = bytes;
    for commit in parks(shared)?.into_iter().rev() {
        match left.checked_sub(park_bytes(shared, commit)?) {
            Some(rest) => left = rest,
            None => return Ok(commit),
        }
    }
    Ok(CommitId(0))
}

/// Bytes of a preimage directory.
pub(super) fn park_bytes(shared: &Shared, commit: CommitId) -> Result<u64> {
    let mut measured = shared.park_bytes.lock();
    let log = shared.log.lock();
    let newer = log.iter().rev().take_while(|line| line.commit > measured.head);
    if newer.clone().any(|line| !matches!(line.origin, Origin::Branch(_))) {
        // Undoing moves things from one to the other.
        measured.bytes.clear();
    }
    measured.head = log.last().map_or(measured.head, |line| line.commit);
    drop(log);
    if let Some(bytes) = measured.bytes.get(&commit) {
        return Ok(*bytes);
    }
    let dir = open_dir_readable(&shared.park_fd, commit.0.to_string().as_bytes())?;
    let bytes = allocated(&stat_fd(&dir)?) + bytes_below(&dir)?;
    measured.bytes.insert(commit, bytes);
    Ok(bytes)
}

pub(super) fn apply_prune(shared: &Shared, upto: CommitId) {
    let mut history = shared.base.history.write();
    history.prune(upto);
    shared.base.places.prune(|commit| commit > upto);
    shared.park_bytes.lock().bytes.retain(|commit, _| *commit > upto);
}

/// Commits that have a preimage directory, ascending.
pub(super) fn parks(shared: &Shared) -> Result<Vec<CommitId>> {
    let names = crate::disk::list(&shared.park_fd)?;
    let number = |name: &Vec<u8>| std::str::from_utf8(name).ok()?.parse().ok().map(CommitId);
    let mut parks: Vec<CommitId> = names.iter().filter_map(number).collect();
    parks.sort_unstable();
    Ok(parks)
}
