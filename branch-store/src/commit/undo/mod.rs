//! Taking a commit into the base back, and taking that back. Either is a commit of its own: the plan of the other
//! turned round, decided, written back and recovered like any (S11, S17).

mod attributes;
mod edited;
mod invert;
mod look;
mod met;
mod names;
mod paths;
mod stack;

pub(crate) use stack::Stack;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::branch::Shared;
use crate::commit::decide::{apply_decide, close, displaced, finish};
use crate::commit::planner::Drawn;
use crate::commit::stage::{Bytes, Staging};
use crate::commit::{Committed, Invalid, Invalidate, kept};
use crate::error::{Error, Result};
use crate::ids::{BranchId, CommitId, NodeId};
use crate::journal::record::{Decide, Origin, Record};
use crate::node::Time;
use crate::note::Note;
use crate::progress::{Phase, Watch, ask, tell};
use crate::tree::Tree;

use crate::base::history::Displaced;

/// Which way to go in the history of the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Undo,
    Redo,
}

/// Takes the last commit that still stands back, or the last undoing.
///
/// # Errors
/// `NotAllowed` if there is none or its preimages are gone, `Conflicts` where the base was changed on those paths
/// since (nothing is done then), `Poisoned`, and the host's.
pub(crate) fn turn(
    shared: &Arc<Shared>,
    turn: Turn,
    by: Option<u32>,
    watch: &dyn Watch,
) -> Result<Committed> {
    let _one_at_a_time = shared.writeback.lock();
    shared.journal.check()?;
    shared.refuse_attached(&[])?;
    let of = Stack::of(&shared.log.lock()).target(turn)?;
    let gone = Error::NotAllowed("the preimages of that commit are no longer kept: it cannot be taken back");
    let forward = kept::read(shared, of)?.ok_or(gone)?;
    let commit = CommitId(shared.counters.commit.load(Ordering::Acquire) + 1);
    ask(watch, Phase::Planning, 0, forward.plan.steps.len() as u64)?;
    let (mut drawn, touched) = invert::invert(shared, &forward, commit)?;
    let nothing = Tree::default();
    let mut staging = Staging::new(shared, &nothing, commit, Bytes::Given, watch)?;
    staging.fill(&mut drawn)?;
    let origin = match turn {
        Turn::Undo => Origin::Undo(of),
        Turn::Redo => Origin::Redo(of),
    };
    ask(watch, Phase::Deciding, 0, 0)?;
    let decided = decide(shared, &mut staging, (commit, origin, by), &forward, drawn)?;
    let (mut warnings, _) = staging.finish();
    let written = finish(shared, &decided, &[], watch)?;
    warnings.extend(written.warnings);
    // As of every commit.
    let noted = close(shared, commit).err();
    warnings.extend(noted.map(|e| format!("the end of the commit could not be noted: {e}")));
    tell(watch, Phase::Done, 0, 0);
    Ok(Committed {
        action: origin.into(),
        branch: decided.name.clone(),
        into: shared.main(),
        commit: Some(commit),
        changed: decided.changed,
        stale: Vec::new(),
        invalid: invalid(&decided, &touched),
        orphans: Vec::new(),
        warnings,
        resolved: Vec::new(),
        stays: None,
    })
}

/// The one instant at which it happens: the decision record is durable.
fn decide(
    shared: &Arc<Shared>,
    staging: &mut Staging<'_>,
    (commit, origin, by): (CommitId, Origin, Option<u32>),
    forward: &Decide,
    mut drawn: Drawn,
) -> Result<Arc<Decide>> {
    let _decide = shared.decide.lock();
    let _gate = shared.gate.read();
    let park_id = shared.base.allocate_id()?;
    let decided = Arc::new(Decide {
        commit,
        origin,
        name: forward.name.clone(),
        time: Time::now(),
        stale: Vec::new(),
        park: (park_id, staging.print()?),
        displaced: displaced(&mut drawn, park_id),
        changed: forward.changed,
        bytes: forward.bytes,
        note: Note { by, message: String::new() },
        plan: drawn.plan,
        part: None,
    });
    shared.journal.append(&Record::Decide(decided.clone()))?;
    staging.disarm();
    shared.make_decision_durable()?;
    apply_decide(shared, &decided);
    Ok(decided)
}

/// What views of main must forget.
fn invalid(decided: &Decide, touched: &[NodeId]) -> Vec<Invalid> {
    let names = decided.displaced.iter().filter_map(|displaced| match displaced {
        Displaced::Entry { slot, .. } => Some(Invalidate::Entry { dir: slot.dir, name: slot.name.clone() }),
        // Its listing says where it lies.
        Displaced::Dir { id, .. } => Some(Invalidate::Inode(*id)),
        Displaced::Object { .. } => None,
    });
    let inodes = touched.iter().map(|id| Invalidate::Inode(*id));
    names.chain(inodes).map(|what| Invalid { branch: BranchId::MAIN, what }).collect()
}
