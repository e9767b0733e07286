//! What a commit would do, up to its decision: the plan in terms of paths, and nothing staged.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::branch::{Branch, Shared};
use crate::commit::choose::{Resolved, Resolver};
use crate::commit::part::Selector;
use crate::commit::partial::{cut, narrowed};
use crate::commit::{Sealed, decide, merged, parent_of};
use crate::conflict::Conflict;
use crate::error::{Error, Result};
use crate::ids::CommitId;
use crate::plan::{Park, Plan, Step};
use crate::tree::{Tree, changed};

/// What a commit would do now.
#[derive(Debug)]
pub struct Preview {
    /// Where it would go.
    pub into: Arc<Branch>,
    /// Number of changed objects, as the commit counts them.
    pub changed: u64,
    /// Each step that would change the base, in order. Empty if the parent is a branch: there it is one pointer.
    pub steps: Vec<PlannedStep>,
    /// Why it cannot proceed, sorted by path. Then there are no steps.
    pub conflicts: Vec<Conflict>,
    /// Conflicts that the choices decide.
    pub resolved: Vec<Resolved>,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStep {
    /// What is done.
    pub action: StepAction,
    /// To what, relative to the workspace; empty: to the top.
    pub path: Vec<u8>,
    /// Where it was, or the name that the file has already.
    pub from: Option<Vec<u8>>,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StepAction {
    /// The object leaves the base; it is kept among the preimages.
    Remove,
    /// The object leaves its place for another.
    Detach,
    /// A new object appears.
    Create,
    /// An object that left its place appears here.
    Move,
    /// A new object takes the place of another, in one step.
    Replace,
    /// A file gets a further name.
    Link,
    /// A file with several names gets new bytes or attributes in place.
    Rewrite,
    /// Attributes are set.
    Attributes,
}

pub(crate) fn preview(
    shared: &Arc<Shared>,
    branch: &Branch,
    resolver: Resolver<'_>,
    selector: Option<Selector<'_>>,
) -> Result<Preview> {
    let into = parent_of(shared, branch)?;
    let found = match into.is_main() {
        true => of_base(shared, branch, resolver, selector),
        false => of_branch(shared, branch, &into, resolver, selector),
    };
    let (changed, steps, resolved, conflicts) = match found {
        Ok((changed, steps, resolved)) => (changed, steps, resolved, Vec::new()),
        Err(Error::Conflicts(conflicts)) => (0, Vec::new(), Vec::new(), conflicts),
        Err(e) => return Err(e),
    };
    Ok(Preview { into, changed, steps, conflicts, resolved })
}

type Found = (u64, Vec<PlannedStep>, Vec<Resolved>);

fn of_base(
    shared: &Arc<Shared>,
    branch: &Branch,
    resolver: Resolver<'_>,
    selector: Option<Selector<'_>>,
) -> Result<Found> {
    let _one_at_a_time = shared.writeback.lock();
    let _sealed = Sealed::new(branch)?;
    shared.refuse_children(branch)?;
    let ours = branch.data.read().clone();
    let head = CommitId(shared.counters.commit.load(Ordering::Acquire));
    let mut planned = decide::planned(shared, branch, &ours, head, resolver)?;
    if let Some(selector) = selector {
        (planned, _) = narrowed((&shared.base, branch, &ours, head), planned, selector)?;
    }
    let objects = changed(&Tree::default().diff(&planned.tree));
    Ok((objects, in_words(&planned.drawn.plan), planned.resolved))
}

fn of_branch(
    shared: &Arc<Shared>,
    branch: &Branch,
    parent: &Branch,
    resolver: Resolver<'_>,
    selector: Option<Selector<'_>>,
) -> Result<Found> {
    let sealed = Sealed::new(branch)?;
    let _decide = shared.decide.lock();
    sealed.check()?;
    shared.refuse_children(branch)?;
    let into = parent.data.read().clone();
    let ours = branch.data.read().clone();
    let merged = merged(shared, branch, (&ours, &into, parent.name()), resolver)?;
    let objects = match selector {
        None => changed(&ours.fork_tree.diff(&merged.ours)),
        Some(selector) => cut(shared, &merged, &ours, &into, selector)?.changed,
    };
    Ok((objects, Vec::new(), merged.resolved))
}

fn in_words(plan: &Plan) -> Vec<PlannedStep> {
    let left = |step: &Step| match step {
        Step::Detach { park, path, .. } => Some((*park, path.clone())),
        _ => None,
    };
    let left: HashMap<Park, Vec<u8>> = plan.steps.iter().filter_map(left).collect();
    let attached = |step: &Step| match step {
        Step::Attach { park, .. } => Some(*park),
        _ => None,
    };
    let attached: HashSet<Park> = plan.steps.iter().filter_map(attached).collect();
    let one = |step: &Step| {
        let (action, path, from) = match step {
            Step::Detach { path, park, .. } if attached.contains(park) => (StepAction::Detach, path, None),
            Step::Detach { path, .. } => (StepAction::Remove, path, None),
            Step::Attach { park, path, .. } => match left.get(park) {
                Some(from) => (StepAction::Move, path, Some(from.clone())),
                None => (StepAction::Create, path, None),
            },
            Step::Exchange { path, .. } => (StepAction::Replace, path, None),
            Step::AddLink { existing, path, .. } => (StepAction::Link, path, Some(existing.clone())),
            Step::Rewrite { path, .. } => (StepAction::Rewrite, path, None),
            Step::SetMeta { path, .. } => (StepAction::Attributes, path, None),
        };
        PlannedStep { action, path: path.clone(), from }
    };
    plan.steps.iter().map(one).collect()
}
