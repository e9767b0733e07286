//! Partial commits (S17): part of a branch's changes goes into its parent, and the branch goes on from there with the
//! rest, as if it had been rebased. Whole or not at all: the decision record says what stays.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use crate::base::Base;
use crate::branch::{Branch, Data, Shared};
use crate::commit::choose::base::OverBase;
use crate::commit::choose::refuse;
use crate::commit::decide::Planned;
use crate::commit::part::Selector;
use crate::commit::part::rest::rest;
use crate::commit::planner::draw;
use crate::commit::{
    Invalid, Merged, applied, corrupt, forgotten, is_own, keep_open, merge, orphans, rebase,
};
use crate::error::{Error, Result};
use crate::ids::{CommitId, LayerId, NodeId};
use crate::journal::record::{Part, Rebase, Record, Rest};
use crate::node::{Body, Content};
use crate::tree::{Change, Tree, changed};

/// A branch that goes on after a partial commit.
#[derive(Debug, Default)]
pub struct Stays {
    /// Number of changed objects that it still has.
    pub changed: u64,
    /// What lost its last name in it and lives, for those who have it open, until [`Branch::reap`].
    pub orphans: Vec<NodeId>,
    /// What its views must forget.
    pub(super) invalid: Vec<Invalid>,
}

/// A plan for the selected part, from one for the whole branch: all of it must fit the base as it is now, as what stays
/// goes on from there.
pub(super) fn narrowed<'a>(
    (base, branch, ours, head): (&Base, &Branch, &Data, CommitId),
    whole: Planned<'a>,
    selector: Selector<'_>,
) -> Result<(Planned<'a>, Part)> {
    let nothing = Tree::default();
    let part = Part::select(&nothing, &whole.tree, selector)?;
    let tree = part.tree(&nothing, &whole.tree).map_err(corrupt)?;
    let drawn = match draw(base, &tree, head)? {
        Ok(drawn) => drawn,
        // A part may need of the base what the whole does not.
        Err(clashes) => {
            let now = Data { tree: tree.clone(), ..ours.clone() };
            let over = OverBase::new(base, head, &now);
            let sides = over.sides(branch);
            refuse(clashes.iter().map(|clash| sides.conflict(clash)).collect::<Result<Vec<_>>>()?)?;
            return Err(Error::Conflicts(Vec::new()));
        }
    };
    Ok((Planned { drawn, tree, resolved: whole.resolved, fresh: whole.fresh }, part))
}

/// After the part of `tree` is in the base: the branch goes on with the rest. Live and in recovery.
///
/// # Errors
/// The host's, EIO where somebody changed the base on these paths since: the branch is as it was before the commit.
pub(crate) fn go_on(
    shared: &Arc<Shared>,
    branch: &Branch,
    tree: &Tree,
    part: &Part,
    commit: CommitId,
) -> Result<Stays> {
    let _decide = shared.decide.lock();
    let _gate = shared.gate.read();
    let mut data = branch.data.write();
    if !branch.is_live() {
        return Err(branch.ended_error());
    }
    let (rest, dirs) = rest(&shared.base, tree, part, commit)?;
    let after = keep_open(&data.tree, rest, is_own).map_err(corrupt)?;
    // Files that were merged and stay.
    let mut layers: BTreeSet<LayerId> = own(&after).into_iter().map(|(layer, _)| layer).collect();
    layers.retain(|layer| !data.layers.contains(layer));
    // In recovery nobody has heard of them yet.
    layers.iter().for_each(|layer| shared.counters.note_layer(*layer));
    let record = Rebase {
        branch: branch.id(),
        parent_layer: shared.main().data.read().layer,
        layer: shared.counters.new_layer(),
        epoch: commit,
        layers: layers.into_iter().collect(),
        changes: Tree::default().diff(&after),
        dirs,
    };
    let then = data.tree.clone();
    shared.journal.append(&Record::Rebase(record.clone()))?;
    rebase::apply(branch, &mut data, &Tree::default(), &record).map_err(corrupt)?;
    drop_content(shared, &then, &data.tree)?;
    Ok(stays(branch, &then, &data))
}

/// What was committed was copied: the branch's own is nobody's any more.
fn drop_content(shared: &Shared, before: &Tree, after: &Tree) -> Result<()> {
    let needed = own(after);
    shared.discard_contents(own(before).difference(&needed).copied())
}

/// Content files that a tree speaks of.
fn own(tree: &Tree) -> HashSet<(LayerId, NodeId)> {
    let files = tree.nodes().filter_map(|(id, node)| match node.inode.body {
        Body::File(Content::Own(layer)) => Some((layer, id)),
        _ => None,
    });
    files.collect()
}

/// What the branch's views must know.
pub(super) fn stays(branch: &Branch, then: &Tree, now: &Data) -> Stays {
    let steps = then.diff(&now.tree);
    Stays {
        changed: changed(&now.fork_tree.diff(&now.tree)),
        orphans: orphans(then, &now.tree, &steps),
        invalid: forgotten(branch.id(), then, &steps),
    }
}

/// What a parent branch takes over of a part, and what the branch goes on with.
pub(super) struct Cut {
    /// For the parent.
    pub(super) changes: Vec<Change>,
    /// For the branch.
    pub(super) rest: Rest,
    /// Number of changed objects that the parent gets.
    pub(super) changed: u64,
}

/// Cuts what was merged in two.
pub(super) fn cut(
    shared: &Shared,
    merged: &Merged<'_>,
    ours: &Data,
    into: &Data,
    selector: Selector<'_>,
) -> Result<Cut> {
    let part = Part::select(&merged.fork, &merged.ours, selector)?;
    let selected = part.tree(&merged.fork, &merged.ours).map_err(corrupt)?;
    let changes = merge::merge(&merged.fork, &into.tree, &selected)
        // The whole could be merged.
        .map_err(|_| corrupt("a part clashes where the whole did not"))?;
    let parent = applied(&into.tree, &changes).map_err(corrupt)?;
    let parent = keep_open(&into.tree, parent, |node| !node.is_grave()).map_err(corrupt)?;
    let whole = match &merged.changes {
        Some(changes) => applied(&into.tree, changes).map_err(corrupt)?,
        None => merged.ours.clone(),
    };
    let whole = keep_open(&ours.tree, whole, is_own).map_err(corrupt)?;
    let rest = Rest {
        layer: shared.counters.new_layer(),
        parent_layer: shared.counters.new_layer(),
        changes: parent.diff(&whole),
    };
    Ok(Cut { changes, rest, changed: changed(&merged.fork.diff(&selected)) })
}

/// The effect on both of a merge that leaves a rest, live and in recovery, once the parent has its tree. Bytes of the
/// branch are the parent's now, and nobody writes in them again (I-4).
///
/// # Errors
/// What the parent's tree does not have.
pub(super) fn apply_rest(
    branch: &Branch,
    data: &mut Data,
    parent: &mut Data,
    rest: &Rest,
) -> std::result::Result<(), &'static str> {
    rebase::start_over(branch, data, &parent.tree, &rest.changes)?;
    data.layer = rest.layer;
    data.layers = vec![rest.layer];
    parent.layer = rest.parent_layer;
    parent.layers.push(rest.parent_layer);
    Ok(())
}
