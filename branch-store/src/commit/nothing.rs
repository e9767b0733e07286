//! The commit of a branch that has nothing for the base. It ends as every branch that is committed, and its siblings
//! with it; no number, no line in the log, and nothing to undo come of it.

use std::sync::Arc;

use crate::branch::{Branch, Data, Shared, State};
use crate::commit::{Action, Committed, Resolved, Sealed};
use crate::error::Result;
use crate::journal::record::Record;
use crate::note::Note;
use crate::progress::{Phase, Watch, ask, tell};

/// Ends the branch as committed, durably. The caller holds `writeback` and has seen that a plan has no step.
///
/// # Errors
/// `Stale`, `HasChildren`, `Cancelled`, `Poisoned`, and the host's.
pub(super) fn end(
    shared: &Arc<Shared>,
    (branch, main): (&Branch, &Arc<Branch>),
    sealed: &Sealed<'_>,
    ours: &Data,
    resolved: Vec<Resolved>,
    (note, watch): (&Note, &dyn Watch),
) -> Result<Committed> {
    debug_assert!(shared.writeback.is_locked());
    ask(watch, Phase::Deciding, 0, 0)?;
    let stale = decide(shared, branch, sealed)?;
    shared.discard_layers(&ours.layers);
    tell(watch, Phase::Done, 0, 0);
    let lost = "the message is not kept: nothing was committed";
    let warnings = if note.message.is_empty() { Vec::new() } else { vec![lost.to_owned()] };
    Ok(Committed {
        action: Action::Commit,
        branch: branch.name().to_owned(),
        into: main.clone(),
        commit: None,
        changed: 0,
        stale,
        invalid: Vec::new(),
        orphans: Vec::new(),
        warnings,
        resolved,
        stays: None,
    })
}

/// The one instant at which it happens: the record is durable.
fn decide(shared: &Arc<Shared>, branch: &Branch, sealed: &Sealed<'_>) -> Result<Vec<Arc<Branch>>> {
    let _decide = shared.decide.lock();
    let _gate = shared.gate.read();
    sealed.check()?;
    shared.refuse_children(branch)?;
    let losers = shared.losers(branch);
    let held = shared.hold(&losers);
    let stale = losers.iter().map(|loser| loser.id()).collect();
    shared.journal.append(&Record::Nothing { child: branch.id(), stale })?;
    shared.make_decision_durable()?;
    apply(shared, branch, &losers);
    drop(held);
    shared.discard_layers_of(&losers);
    Ok(losers)
}

/// The effect of the record, live and in recovery.
pub(crate) fn apply(shared: &Shared, branch: &Branch, losers: &[Arc<Branch>]) {
    branch.end(State::Committed);
    shared.bury(branch);
    shared.end_all(losers, State::Stale);
}
