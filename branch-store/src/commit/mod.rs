//! Commit: a leaf's changes go into its parent, atomically (S11), first one wins (S12).

mod apply_meta;
mod attributes;
mod choose;
pub(crate) mod clash;
pub(crate) mod decide;
mod forget;
mod index;
mod kept;
mod lend;
mod merge;
pub(crate) mod nothing;
mod part;
pub(crate) mod partial;
mod planner;
mod preview;
pub(crate) mod rebase;
mod refit;
mod stage;
pub(crate) mod undo;
pub(crate) mod writeback;

pub(crate) use apply_meta::set_meta;
pub use choose::texts::{MERGE_MAX, MergedText, Merger, Texts};
pub use choose::{Choice, Resolved, Resolver};
pub use forget::{Invalid, Invalidate};
pub(crate) use forget::{forgotten, invalid};
pub(crate) use merge::{applied, path_of};
pub use part::Selector;
pub use partial::Stays;
pub(crate) use preview::preview;
pub use preview::{PlannedStep, Preview, StepAction};
pub use rebase::Rebased;

use std::sync::Arc;

use crate::branch::{Branch, Data, Shared, State};
use crate::commit::choose::Chosen;
use crate::commit::choose::branch::Trees;
use crate::commit::choose::texts::Fresh;
use crate::error::{Error, Result};
use crate::ids::{CommitId, LayerId, NodeId};
use crate::journal::record::{Origin, Record, Rest};
use crate::node::Node;
use crate::note::Note;
use crate::progress::Watch;
use crate::tree::{Change, Tree, changed};

/// Where the changes of a commit came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A branch.
    Commit,
    /// Taking this commit into the base back.
    Undo(CommitId),
    /// Taking this undoing back.
    Redo(CommitId),
}

impl From<Origin> for Action {
    fn from(origin: Origin) -> Action {
        match origin {
            Origin::Branch(_) => Action::Commit,
            Origin::Undo(of) => Action::Undo(of),
            Origin::Redo(of) => Action::Redo(of),
        }
    }
}

/// What a commit did.
#[derive(Debug)]
pub struct Committed {
    /// What it was.
    pub action: Action,
    /// The branch that committed; of an undoing, the name of the branch whose commit it is about.
    pub branch: String,
    /// The parent, which now holds the changes.
    pub into: Arc<Branch>,
    /// Number of the commit into the base, if the parent is main and there was something to commit.
    pub commit: Option<CommitId>,
    /// Number of changed objects.
    pub changed: u64,
    /// Branches that became stale, leaves first.
    pub stale: Vec<Arc<Branch>>,
    /// What views of the parent must forget.
    pub invalid: Vec<Invalid>,
    /// What lost its last name in the parent and lives, for those who have it open, until [`Branch::reap`].
    pub orphans: Vec<NodeId>,
    /// What could not be kept, in words.
    pub warnings: Vec<String>,
    /// Conflicts that the caller's choices decided.
    pub resolved: Vec<Resolved>,
    /// Of a partial commit: what the branch goes on with. Without one it has ended.
    pub stays: Option<Stays>,
}

/// A branch that takes no changes while its commit is prepared; dropped undecided, it goes on.
pub(crate) struct Sealed<'a>(&'a Branch);

impl<'a> Sealed<'a> {
    pub(crate) fn new(branch: &'a Branch) -> Result<Sealed<'a>> {
        branch.seal()?;
        Ok(Sealed(branch))
    }

    /// Under `Shared::decide`: the branch may still win.
    pub(crate) fn check(&self) -> Result<()> {
        match self.0.state() {
            State::Sealed => Ok(()),
            State::Live | State::Committed | State::Aborted | State::Stale => Err(self.0.ended_error()),
        }
    }
}

impl Drop for Sealed<'_> {
    fn drop(&mut self) {
        self.0.unseal();
    }
}

/// Commits a leaf branch into its parent. Durable when it returns; all or nothing at every instant.
///
/// # Errors
/// `Stale` (a sibling won), `Ended`, `Busy`, `HasChildren`, `Conflicts` (nothing changed, the branch
/// goes on), `NotAllowed` for main, `Poisoned`, and the host's.
pub(crate) fn commit(
    shared: &Arc<Shared>,
    branch: &Branch,
    resolver: Resolver<'_>,
    selector: Option<Selector<'_>>,
    note: &Note,
    watch: &dyn Watch,
) -> Result<Committed> {
    let parent = parent_of(shared, branch)?;
    if parent.is_main() {
        decide::commit_into_base(shared, branch, &parent, resolver, selector, note, watch)
    } else {
        let mut committed = commit_into_branch(shared, branch, &parent, resolver, selector)?;
        if !note.message.is_empty() {
            let lost = "the message is not kept: the log has commits into the base only";
            committed.warnings.push(lost.to_owned());
        }
        Ok(committed)
    }
}

fn parent_of(shared: &Shared, branch: &Branch) -> Result<Arc<Branch>> {
    let parent = branch.parent().and_then(|id| shared.registry.read().get(id));
    let Some(parent) = parent else {
        if branch.is_main() {
            return Err(Error::NotAllowed("main is the base itself: it has nowhere to commit to"));
        }
        return Err(branch.ended_error());
    };
    shared.journal.check()?;
    Ok(parent)
}

/// What a parent branch takes over.
struct Merged<'a> {
    /// `None`: it has not changed, its tree is now the child's.
    changes: Option<Vec<Change>>,
    /// What the branch started from, after choices.
    fork: Tree,
    /// The branch's tree after choices.
    ours: Tree,
    resolved: Vec<Resolved>,
    /// What was merged of files.
    fresh: Fresh<'a>,
}

/// Merges, with choices where there are conflicts.
fn merged<'a>(
    shared: &'a Shared,
    branch: &'a Branch,
    (ours, into, parent): (&Data, &Data, &'a str),
    resolver: Resolver<'a>,
) -> Result<Merged<'a>> {
    let mut chosen = Chosen::new(shared, resolver, [branch.name(), parent]);
    if into.tree.is_same(&ours.fork_tree) {
        let Chosen { resolved, fresh, .. } = chosen;
        let (fork, ours) = (ours.fork_tree.clone(), ours.tree.clone());
        return Ok(Merged { changes: None, fork, ours, resolved, fresh });
    }
    let mut found = merge::merge(&ours.fork_tree, &into.tree, &ours.tree);
    let mut trees: Option<Trees> = None;
    loop {
        let clashes = match found {
            Err(clashes) => clashes,
            Ok(changes) => {
                if let Ok(after) = applied(&into.tree, &changes) {
                    chosen.check(&after)?;
                }
                let (fork, ours) = match trees {
                    Some(trees) => (trees.fork().clone(), trees.ours().clone()),
                    None => (ours.fork_tree.clone(), ours.tree.clone()),
                };
                let Chosen { resolved, fresh, .. } = chosen;
                return Ok(Merged { changes: Some(changes), fork, ours, resolved, fresh });
            }
        };
        let trees = trees.get_or_insert_with(|| Trees::new(ours, into));
        let taken = chosen.next(&trees.sides(branch), &clashes)?;
        choose::refuse(trees.choose(taken))?;
        found = merge::merge(trees.fork(), &into.tree, trees.ours());
    }
}

fn commit_into_branch(
    shared: &Arc<Shared>,
    branch: &Branch,
    parent: &Arc<Branch>,
    resolver: Resolver<'_>,
    selector: Option<Selector<'_>>,
) -> Result<Committed> {
    let sealed = Sealed::new(branch)?;
    let _decide = shared.decide.lock();
    let _gate = shared.gate.read();
    sealed.check()?;
    shared.refuse_children(branch)?;
    let mut into = parent.data.write();
    if parent.state() != State::Live {
        return Err(Error::Busy(parent.name().to_owned()));
    }
    let mut ours = branch.data.write();
    let mut merged = merged(shared, branch, (&ours, &into, parent.name()), resolver)?;
    merged.fresh.make_durable()?;
    let mut objects = changed(&ours.fork_tree.diff(&merged.ours));
    let mut rest = None;
    if let Some(selector) = selector {
        let cut = partial::cut(shared, &merged, &ours, &into, selector)?;
        (merged.changes, objects, rest) = (Some(cut.changes), cut.changed, Some(cut.rest));
    }
    let losers = shared.losers(branch);
    let stale = losers.iter().map(|b| b.id()).collect();
    let held = shared.hold(&losers);
    let (child, changes, layers) = (branch.id(), merged.changes.clone(), merged.fresh.layers());
    shared.journal.append(&Record::Merge { child, changes, layers, stale, rest: rest.clone() })?;
    // It may be on its way to the disk, whatever is reported of it.
    let layers = merged.fresh.keep();
    shared.make_decision_durable()?;
    let (before, then) = (into.tree.clone(), ours.tree.clone());
    apply_merge(shared, branch, &mut into, &mut ours, (merged.changes.as_deref(), &layers), rest.as_ref())?;
    parent.note_replaced();
    shared.end_all(&losers, State::Stale);
    drop(held);
    shared.discard_layers_of(&losers);
    let steps = before.diff(&into.tree);
    let stays = rest.map(|_| partial::stays(branch, &then, &ours));
    let mut forget = invalid(parent.id(), &steps);
    forget.extend(stays.iter().flat_map(|stays| stays.invalid.iter().cloned()));
    Ok(Committed {
        action: Action::Commit,
        branch: branch.name().to_owned(),
        into: parent.clone(),
        commit: None,
        changed: objects,
        stale: losers,
        invalid: forget,
        orphans: orphans(&before, &into.tree, &steps),
        warnings: Vec::new(),
        resolved: merged.resolved,
        stays,
    })
}

/// The effect of a merge record, live and in recovery: the parent takes over tree and layers.
pub(crate) fn apply_merge(
    shared: &Shared,
    branch: &Branch,
    into: &mut Data,
    ours: &mut Data,
    (changes, layers): (Option<&[Change]>, &[LayerId]),
    rest: Option<&Rest>,
) -> Result<()> {
    let after = match changes {
        None => Ok(ours.tree.clone()),
        Some(changes) => applied(&into.tree, changes),
    };
    let after = after.and_then(|after| keep_open(&into.tree, after, |node| !node.is_grave()));
    into.tree = after.map_err(corrupt)?;
    into.layers.extend(ours.layers.iter().chain(layers));
    match rest {
        Some(rest) => partial::apply_rest(branch, ours, into, rest).map_err(corrupt)?,
        None => {
            branch.end(State::Committed);
            shared.bury(branch);
        }
    }
    Ok(())
}

/// A record, or a change of ours, that a tree cannot go through.
fn corrupt(cause: &'static str) -> Error {
    Error::Corrupt { file: "merge".to_owned(), offset: 0, cause: cause.to_owned() }
}

/// An object of the base that the branch no longer has as its own is there again as the base has it.
fn is_own(node: &Node) -> bool {
    node.inode.origin.is_none()
}

/// What a branch had and now has not stays for those who have it open there, without a name.
fn keep_open(
    before: &Tree,
    after: Tree,
    stays: impl Fn(&Node) -> bool,
) -> std::result::Result<Tree, &'static str> {
    let mut kept = Vec::new();
    for change in before.diff(&after) {
        let Change::Drop { id } = &change else { continue };
        let Some(node) = before.get(*id).filter(|node| stays(node)) else { continue };
        let mut inode = node.inode.clone();
        inode.lose_names();
        kept.push(Change::Put { id: *id, inode: Box::new(inode) });
    }
    applied(&after, &kept)
}

/// What lost its last name on the way from one tree to the other.
fn orphans(before: &Tree, after: &Tree, steps: &[Change]) -> Vec<NodeId> {
    let nameless = |tree: &Tree, id| tree.get(id).is_some_and(|node| node.inode.meta.nlink == 0);
    let lost = |change: &Change| match change {
        Change::Put { id, .. } if nameless(after, *id) && !nameless(before, *id) => Some(*id),
        _ => None,
    };
    steps.iter().filter_map(lost).collect()
}
