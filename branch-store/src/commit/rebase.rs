//! Rebase: a branch moves onto its parent's present state, as if it had been forked from there and had done there what
//! it did. Where the two sides meet the rules of a commit decide (S14).

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::branch::{AtFork, Branch, Data, Marks, Shared};
use crate::commit::choose::{Resolved, Resolver};
use crate::commit::refit::refit;
use crate::commit::{
    Invalid, Invalidate, applied, corrupt, decide, forgotten, is_own, keep_open, merged, orphans, parent_of,
};
use crate::error::Result;
use crate::ids::{CommitId, NodeId};
use crate::journal::record::{Rebase, Record};
use crate::tree::{Change, Tree, changed};

/// What a rebase did.
#[derive(Debug)]
pub struct Rebased {
    /// The parent.
    pub onto: Arc<Branch>,
    /// Whether the parent had changed since the fork, or the last rebase. If not, nothing was done.
    pub moved: bool,
    /// Number of changed objects that the branch has now.
    pub changed: u64,
    /// What views of the branch must forget.
    pub invalid: Vec<Invalid>,
    /// What lost its last name in the branch and lives, for those who have it open, until [`Branch::reap`].
    pub orphans: Vec<NodeId>,
    /// Conflicts that the caller's choices decided.
    pub resolved: Vec<Resolved>,
}

/// Moves a leaf branch onto its parent's present state; all or nothing at every instant. As durable as any change in
/// the branch.
///
/// # Errors
/// `Stale`, `Ended`, `Busy` (it is being committed), `HasChildren`, `Conflicts` (nothing changed), `NotAllowed` for
/// main, EDQUOT where merged files do not fit in the branch's limit, `Poisoned`, and the host's.
pub(crate) fn rebase(shared: &Arc<Shared>, branch: &Branch, resolver: Resolver<'_>) -> Result<Rebased> {
    let parent = parent_of(shared, branch)?;
    if parent.is_main() {
        onto_base(shared, branch, parent, resolver)
    } else {
        onto_branch(shared, branch, parent, resolver)
    }
}

fn onto_base(
    shared: &Arc<Shared>,
    branch: &Branch,
    main: Arc<Branch>,
    resolver: Resolver<'_>,
) -> Result<Rebased> {
    // Between two commits, not in the middle of one.
    let _writeback = shared.writeback.lock();
    let _decide = shared.decide.lock();
    let _gate = shared.gate.read();
    shared.refuse_children(branch)?;
    let mut data = branch.data.write();
    branch.check_unsealed()?;
    let epoch = CommitId(shared.counters.commit.load(Ordering::Acquire));
    if data.epoch == epoch {
        return Ok(stayed(main, &data));
    }
    let mut planned = decide::planned(shared, branch, &data, epoch, resolver)?;
    planned.fresh.make_durable()?;
    branch.admit(&data, &planned.fresh.layers())?;
    let tree = keep_open(&data.tree, refit(&shared.base, &planned.tree, epoch)?, is_own).map_err(corrupt)?;
    // Nothing is written in main's layers: they need no fresh one.
    let record = Rebase {
        branch: branch.id(),
        parent_layer: shared.main().data.read().layer,
        layer: shared.counters.new_layer(),
        epoch,
        layers: planned.fresh.layers(),
        changes: Tree::default().diff(&tree),
        dirs: Vec::new(),
    };
    let then = data.clone();
    shared.journal.append(&Record::Rebase(record.clone()))?;
    planned.fresh.keep();
    apply(branch, &mut data, &Tree::default(), &record).map_err(corrupt)?;
    let mut rebased = went(main, branch, &then, &data, planned.resolved);
    rebased.invalid.extend(displaced_since(shared, branch, then.epoch));
    Ok(rebased)
}

fn onto_branch(
    shared: &Arc<Shared>,
    branch: &Branch,
    parent: Arc<Branch>,
    resolver: Resolver<'_>,
) -> Result<Rebased> {
    let _decide = shared.decide.lock();
    let _gate = shared.gate.read();
    shared.refuse_children(branch)?;
    let mut above = parent.data.write();
    let mut data = branch.data.write();
    parent.check_unsealed()?;
    branch.check_unsealed()?;
    if above.tree.is_same(&data.fork_tree) {
        drop(above);
        return Ok(stayed(parent, &data));
    }
    let mut merged = merged(shared, branch, (&data, &above, parent.name()), resolver)?;
    merged.fresh.make_durable()?;
    branch.admit(&data, &merged.fresh.layers())?;
    let tree = match &merged.changes {
        Some(changes) => applied(&above.tree, changes).map_err(corrupt)?,
        None => merged.ours.clone(),
    };
    let tree = keep_open(&data.tree, tree, is_own).map_err(corrupt)?;
    let record = Rebase {
        branch: branch.id(),
        parent_layer: shared.counters.new_layer(),
        layer: shared.counters.new_layer(),
        epoch: above.epoch,
        layers: merged.fresh.layers(),
        changes: above.tree.diff(&tree),
        dirs: Vec::new(),
    };
    let then = data.clone();
    shared.journal.append(&Record::Rebase(record.clone()))?;
    merged.fresh.keep();
    freshen(&mut above, &record);
    apply(branch, &mut data, &above.tree, &record).map_err(corrupt)?;
    drop(above);
    Ok(went(parent.clone(), branch, &then, &data, merged.resolved))
}

/// The effect of a rebase record on the branch, live and in recovery.
///
/// # Errors
/// What the parent's tree does not have; live code never says that.
pub(crate) fn apply(
    branch: &Branch,
    data: &mut Data,
    parent: &Tree,
    record: &Rebase,
) -> std::result::Result<(), &'static str> {
    branch.littered.fetch_or(data.marks.len() > 0, Ordering::AcqRel);
    start_over(branch, data, parent, &record.changes)?;
    data.epoch = record.epoch;
    data.layer = record.layer;
    data.layers.extend(record.layers.iter().chain([&record.layer]));
    Ok(())
}

/// The branch is as if it had just been forked from this tree, and had changed it so. Marks are trees over the state that
/// it has left.
///
/// # Errors
/// What the parent's tree does not have.
pub(super) fn start_over(
    branch: &Branch,
    data: &mut Data,
    parent: &Tree,
    changes: &[Change],
) -> std::result::Result<(), &'static str> {
    data.tree = applied(parent, changes)?;
    data.marks = Marks::default();
    data.restored = None;
    data.fork_tree = parent.clone();
    data.at_fork = AtFork::default();
    branch.note_replaced();
    Ok(())
}

/// The effect of a rebase record on a parent that is not main, live and in recovery: what the branch sees of it now
/// is not written in again (I-4).
pub(crate) fn freshen(parent: &mut Data, record: &Rebase) {
    parent.layer = record.parent_layer;
    parent.layers.push(record.parent_layer);
}

fn stayed(onto: Arc<Branch>, data: &Data) -> Rebased {
    let changed = changed(&data.fork_tree.diff(&data.tree));
    Rebased { onto, moved: false, changed, invalid: Vec::new(), orphans: Vec::new(), resolved: Vec::new() }
}

fn went(onto: Arc<Branch>, branch: &Branch, then: &Data, now: &Data, resolved: Vec<Resolved>) -> Rebased {
    let steps = then.tree.diff(&now.tree);
    Rebased {
        onto,
        moved: true,
        changed: changed(&now.fork_tree.diff(&now.tree)),
        invalid: forgotten(branch.id(), &then.tree, &steps),
        orphans: orphans(&then.tree, &now.tree, &steps),
        resolved,
    }
}

/// What the branch saw of the base and no longer does.
fn displaced_since(shared: &Shared, branch: &Branch, epoch: CommitId) -> Vec<Invalid> {
    let since = shared.base.history.read().since(epoch);
    let dirs: HashSet<NodeId> = since.names.iter().map(|slot| slot.dir).collect();
    let names = since.names.into_iter().map(|slot| Invalidate::Entry { dir: slot.dir, name: slot.name });
    let ids = since.objects.into_iter().flat_map(|(key, birth)| shared.base.known_ids(key, birth));
    let all = names.chain(dirs.into_iter().chain(ids).map(Invalidate::Inode));
    all.map(|what| Invalid { branch: branch.id(), what }).collect()
}
