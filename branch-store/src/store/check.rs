//! What no store writes. A record whose checksum is right may still say it, after a fault of memory or of ours,
//! and is damage: nothing of it is applied.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::branch::{Branch, Data, Registry, Shared};
use crate::ids::{
    BRANCH_ID_MAX, BranchId, CommitId, DEPTH_MAX, FORK_MAX, GroupId, LayerId, MARKS_MAX, NodeId,
    check_branch_name,
};
use crate::journal::record::{Counters, Decide, DirPlace, Fork, Rebase, Rest, Restore, Snapshot};
use crate::plan;

/// Layers, groups and commits are counted up to here. Nobody gets there, and counting on cannot overflow.
const NUMBER_MAX: u64 = 1 << 62;

type Checked = std::result::Result<(), String>;

fn hold(fact: bool, otherwise: &str) -> Checked {
    if fact { Ok(()) } else { Err(otherwise.to_owned()) }
}

/// Branches, layers and groups are numbered upwards and never again.
pub(super) fn fork(shared: &Shared, parent: &Branch, fork: &Fork) -> Checked {
    hold((1..=FORK_MAX).contains(&fork.children.len()), "makes more branches than one fork can")?;
    hold(parent.birth.depth < DEPTH_MAX, "nests too deep")?;
    let counters = &shared.counters;
    hold(fork.group.0 >= counters.group.load(Ordering::Relaxed), "makes a group that there is already")?;
    hold(fork.group.0 < NUMBER_MAX, "makes an impossible group")?;
    let registry = shared.registry.read();
    let mut next = counters.branch.load(Ordering::Relaxed);
    let mut layers = HashSet::new();
    let mut names = HashSet::new();
    fresh_layer(shared, fork.parent_layer, &mut layers)?;
    for child in &fork.children {
        hold(child.id.0 >= next, "makes a branch that there was already")?;
        hold(child.id.0 <= BRANCH_ID_MAX, "makes an impossible branch")?;
        next = child.id.0 + 1;
        name(&registry, &child.name)?;
        hold(names.insert(&child.name), "makes two branches of one name")?;
        fresh_layer(shared, child.layer, &mut layers)?;
    }
    Ok(())
}

fn fresh_layer(shared: &Shared, layer: LayerId, seen: &mut HashSet<LayerId>) -> Checked {
    let fresh = layer.0 >= shared.counters.layer.load(Ordering::Relaxed) && seen.insert(layer);
    hold(fresh, "makes a layer that there is already")?;
    hold(layer.0 < NUMBER_MAX, "makes an impossible layer")
}

/// Layers that one record makes.
pub(super) fn fresh_layers<'l>(shared: &Shared, layers: impl IntoIterator<Item = &'l LayerId>) -> Checked {
    let mut seen = HashSet::new();
    layers.into_iter().try_for_each(|layer| fresh_layer(shared, *layer, &mut seen))
}

fn name(registry: &Registry, name: &str) -> Checked {
    check_branch_name(name).map_err(|reason| format!("names a branch {name:?}: {reason}"))?;
    hold(registry.by_name(name).is_none(), "makes a branch of a name that is taken (I-7)")
}

/// A branch of a checkpoint, behind its counters.
pub(super) fn snapshot(shared: &Shared, parent: &Branch, of: &Snapshot) -> Checked {
    let counters = &shared.counters;
    let registry = shared.registry.read();
    hold(registry.get(of.id).is_none(), "speaks twice of one branch")?;
    hold(of.id > parent.id(), "speaks of a branch older than its parent")?;
    hold(of.id.0 < counters.branch.load(Ordering::Relaxed), "speaks of a branch not yet made")?;
    hold(parent.birth.depth < DEPTH_MAX, "nests too deep")?;
    name(&registry, &of.name)?;
    let GroupId(group) = of.group;
    hold(group < counters.group.load(Ordering::Relaxed), "speaks of a group not yet made")?;
    let made = |layer: &LayerId| layer.0 < counters.layer.load(Ordering::Relaxed);
    hold(of.layers.iter().chain([&of.layer]).all(made), "speaks of a layer not yet made")?;
    hold(of.epoch.0 <= counters.commit.load(Ordering::Relaxed), "saw a commit not yet made")?;
    hold(of.marks.len() <= MARKS_MAX + 1, "has more checkpoints than a branch can have")?;
    let mut names = HashSet::new();
    of.marks.iter().try_for_each(|mark| {
        mark_name(&mark.name)?;
        hold(names.insert(&mark.name), "has two checkpoints of one name")
    })
}

/// A mark that is made.
pub(super) fn mark(shared: &Shared, branch: &Arc<Branch>, name: &str, layer: LayerId) -> Checked {
    not_main(branch)?;
    let marks = branch.data.read().marks.clone();
    hold(marks.get(name).is_none(), "makes a checkpoint that there is already")?;
    mark_name(name)?;
    hold(marks.len() < MARKS_MAX, "makes more checkpoints than a branch can have")?;
    fresh_layer(shared, layer, &mut HashSet::new())
}

fn mark_name(name: &str) -> Checked {
    check_branch_name(name).map_err(|reason| format!("names a checkpoint {name:?}: {reason}"))
}

/// A mark that is there.
pub(super) fn marked(branch: &Arc<Branch>, name: &str) -> Checked {
    not_main(branch)?;
    hold(branch.data.read().marks.get(name).is_some(), "speaks of a checkpoint that does not exist")
}

pub(super) fn restore(shared: &Shared, branch: &Arc<Branch>, record: &Restore) -> Checked {
    marked(branch, &record.name)?;
    let fresh = |(_, layer)| fresh_layer(shared, layer, &mut HashSet::new());
    record.saved.map_or(Ok(()), fresh)
}

/// Layers of a branch that nobody needs any more; never the one it writes in.
pub(super) fn discard(branch: &Arc<Branch>, layers: &[LayerId]) -> Checked {
    let data = branch.data.read();
    let discarded = |layer: &LayerId| *layer != data.layer && data.layers.contains(layer);
    hold(layers.iter().all(discarded), "discards a layer that the branch does not have, or writes in")
}

/// The counters and tables a checkpoint begins with.
pub(super) fn counters(shared: &Shared, from: &Counters) -> Checked {
    hold(shared.registry.read().len() == 1, "counters behind a branch")?;
    hold(from.next_branch <= BRANCH_ID_MAX + 1, "impossible number of branches")?;
    let numbers = [from.next_layer, from.next_group, from.commits];
    hold(numbers.iter().all(|number| *number < NUMBER_MAX), "impossible counters")?;
    hold(from.next_node >= NodeId::FIRST_ALLOCATED, "impossible number of nodes")?;
    dirs(&from.dirs)?;
    let allocated = |(id, _, _): &(NodeId, CommitId, _)| id.0 >= NodeId::FIRST_ALLOCATED;
    hold(from.parks.iter().all(allocated), "a preimage directory with the id of another")?;
    let commits = from.history.iter().map(|(commit, _)| *commit);
    hold(commits.is_sorted(), "history out of order")?;
    hold(from.history.iter().all(|(commit, _)| commit.0 <= from.commits), "history of a commit not yet made")
}

/// The root of the base has no place: it is where the others begin.
pub(super) fn dirs(dirs: &[DirPlace]) -> Checked {
    hold(dirs.iter().all(|place| place.id != NodeId::ROOT), "gives the root a place")
}

/// A leaf that ends by committing, and those that lose by it.
pub(super) fn ends_by_commit(shared: &Shared, child: &Branch, stale: &[BranchId]) -> Checked {
    hold(!child.is_main(), "commits main")?;
    hold(child.children().is_empty(), "commits a branch that has others below")?;
    hold(!stale.contains(&child.id()), "makes stale what it commits")?;
    end(shared, stale)
}

/// A leaf on its parent's present state, which sees the base at no other commit than that says.
pub(super) fn rebase(
    shared: &Shared,
    branch: &Branch,
    (parent, above): (&Branch, &Data),
    data: &Data,
    record: &Rebase,
) -> Checked {
    hold(branch.children().is_empty(), "rebases a branch that has others below")?;
    let epoch = match parent.is_main() {
        true => CommitId(shared.counters.commit.load(Ordering::Relaxed)),
        false => above.epoch,
    };
    hold(record.epoch == epoch && record.epoch >= data.epoch, "rebases to an impossible commit")?;
    let mut layers = HashSet::new();
    fresh_layer(shared, record.layer, &mut layers)?;
    match parent.is_main() {
        true => Ok(()),
        false => fresh_layer(shared, record.parent_layer, &mut layers),
    }
}

/// A layer that a branch takes over with merged files: made before, maybe, and nobody's.
pub(super) fn free_layers(shared: &Shared, layers: &[LayerId]) -> Checked {
    let mut seen = HashSet::new();
    for layer in layers {
        hold(layer.0 < NUMBER_MAX && seen.insert(*layer), "takes over an impossible layer")?;
        let branches = shared.registry.read().all();
        let taken = branches.iter().any(|branch| branch.data.read().layers.contains(layer));
        hold(!taken, "takes over a layer that is another's")?;
    }
    Ok(())
}

/// A branch that goes on writes where nobody else does.
pub(super) fn rest(shared: &Shared, rest: &Rest) -> Checked {
    let mut layers = HashSet::new();
    fresh_layer(shared, rest.layer, &mut layers)?;
    fresh_layer(shared, rest.parent_layer, &mut layers)
}

/// Branches that end together: each once, leaves first (I-8).
pub(super) fn end(shared: &Shared, ids: &[BranchId]) -> Checked {
    let registry = shared.registry.read();
    let mut ended: HashSet<BranchId> = HashSet::new();
    for id in ids {
        hold(*id != BranchId::MAIN, "ends main")?;
        hold(registry.get(*id).is_some(), "ends a branch that does not exist")?;
        let leaf = registry.children_of(*id).iter().all(|child| ended.contains(child));
        hold(leaf, "ends a branch before those below it (I-8)")?;
        hold(ended.insert(*id), "ends a branch twice")?;
    }
    Ok(())
}

/// A decision: the next commit, into main, with a plan that stays inside the base.
pub(super) fn decide(shared: &Shared, pending: Option<&Decide>, decided: &Decide) -> Checked {
    hold(pending.is_none(), "decides a commit before the last one is done")?;
    let head = shared.counters.commit.load(Ordering::Relaxed);
    hold(decided.commit.0 == head + 1, "decides a commit out of order")?;
    hold(decided.commit.0 < NUMBER_MAX, "decides an impossible commit")?;
    let park = decided.park.0;
    hold(park.0 >= NodeId::FIRST_ALLOCATED, "a preimage directory with the id of another")?;
    plan::check(&decided.plan).map_err(str::to_owned)
}

/// `Done` belongs to the decision before it.
pub(super) fn done(pending: Option<&Decide>, commit: CommitId) -> Checked {
    hold(pending.is_some_and(|decided| decided.commit == commit), "finishes a commit that was not decided")
}

/// Main is changed by commits into the base alone.
pub(super) fn not_main(branch: &Arc<Branch>) -> Checked {
    hold(!branch.is_main(), "changes main")
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
