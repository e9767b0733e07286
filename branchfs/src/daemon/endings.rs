//! How a branch ends: by its commit, by an abort, or because a sibling committed first.
//!
//! The order is the promise. When the caller hears of it, the state has flipped in the store, the processes
//! of the branches that ended are dead, and the kernel has forgotten what it knew of open files, so that
//! open descriptors answer ESTALE also for cached pages (S13). Deleting what is left happens later.

use std::io;
use std::sync::Arc;

use branch_proto::{Choices, CommitOptions, CommitReport, EndReason, Event, Failure, OnEnd, RebaseReport};
use branch_store::{
    Branch, BranchId, Children, Committed, Conflict, Invalid, NodeId, Note, Processes, Selector, Store, Watch,
};

use super::choices::Chooser;
use super::failure::of_store;
use super::groups::{self, Group};
use super::native;
use super::processes::is_inside;
use super::selection::{Selection, refused};
use super::state::Daemon;
use super::wire_types::{commit_action, resolved};

/// Who wants the end of the branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Requester {
    /// A client, by its pid where we can see it.
    Client(Option<i32>),
    /// Somebody who wrote to the branch's control file. It waits uninterruptibly for our answer, and nobody
    /// knows which group it is in: waiting for any group of that branch could wait for ever.
    ControlFile,
}

/// Groups to be killed after the answer was sent: the requester may be in one of them.
#[must_use = "send the answer, then kill them"]
#[derive(Default)]
pub(super) struct Farewell(Vec<Arc<Group>>);

impl Farewell {
    /// The watcher sees them go.
    pub(super) fn kill(self) {
        groups::kill(self.0).do_not_wait();
    }
}

/// Commits `name`, or part of it, into its parent, and ends its losing siblings and, with all of it committed, itself. Groups of the branch itself that
/// asked for the commit are left to exit by themselves: they have won, and their last words may matter.
pub(super) fn commit(
    daemon: &Daemon,
    name: &str,
    options: &CommitOptions,
    by: Option<u32>,
    requester: Requester,
) -> Result<(CommitReport, Farewell), Failure> {
    let chooser = Chooser::new(&options.choices)?;
    let selection = Selection::new(&options.part)?;
    let branch = daemon.branch(name)?;
    let winner = branch.id();
    native::settle(daemon, &branch)?;
    daemon.flush(&branch)?;
    let selects = selection.as_ref().map(|part| |path: &[u8]| part.selects(path));
    let selector = selects.as_ref().map(|selects| selects as Selector<'_>);
    let note = Note { by, message: options.message.clone() };
    let committed = into_parent(daemon, &branch, &chooser, selector, &note);
    let committed = committed.map_err(|error| refused(error, name, &options.part))?;
    let mut report = report(&committed);
    orphaned(daemon, &committed.into, &committed.orphans);
    if let Some(stays) = &committed.stays {
        orphaned(daemon, &branch, &stays.orphans);
    }
    let won = committed.stays.is_none().then_some(branch);
    let ended: Vec<_> = won.into_iter().chain(committed.stale).collect();
    let (killed, mut asking) = groups_of(daemon, winner, &ended, requester);
    asking.retain(|group| group.branch != winner);
    // It is committed whatever happens now; what does not work any more is a warning.
    report.warnings.extend(conclude(daemon, &ended, &committed.invalid, killed).err());
    daemon.publish(Event::Committed { report: report.clone() });
    for stale in &report.stale {
        daemon.publish(Event::Ended { branch: stale.clone(), reason: EndReason::Stale });
    }
    Ok((report, Farewell(asking)))
}

/// Only a commit into the base takes long enough to be watched.
fn into_parent(
    daemon: &Daemon,
    branch: &Branch,
    chooser: &Chooser,
    selector: Option<Selector<'_>>,
    note: &Note,
) -> branch_store::Result<Committed> {
    let choose = |conflict: &Conflict| chooser.choose(conflict);
    if branch.parent() == Some(BranchId::MAIN) {
        let under_way = daemon.under_way.begin(&daemon.events, branch.name());
        daemon.store.commit_watched(branch, &choose, selector, note, &under_way)
    } else {
        daemon.store.commit_as(branch, &choose, selector, note)
    }
}

/// What a branch no longer has a name for goes with its last user there.
pub(super) fn orphaned(daemon: &Daemon, branch: &Branch, orphans: &[NodeId]) {
    for id in orphans {
        match daemon.mount.get() {
            Some(mount) => mount.orphaned(branch, *id),
            None => {
                if let Err(error) = branch.reap(*id) {
                    tracing::debug!("forgetting an object that lost its names: {error}");
                }
            }
        }
    }
}

/// Moves `name` onto its parent's present state. No branch ends by it.
pub(super) fn rebase(daemon: &Daemon, name: &str, choices: &Choices) -> Result<RebaseReport, Failure> {
    let chooser = Chooser::new(choices)?;
    let branch = daemon.branch(name)?;
    native::settle(daemon, &branch)?;
    daemon.flush(&branch)?;
    let rebased = daemon.store.rebase(&branch, &|conflict| chooser.choose(conflict)).map_err(of_store)?;
    orphaned(daemon, &branch, &rebased.orphans);
    let report = RebaseReport {
        branch: name.to_owned(),
        onto: rebased.onto.name().to_owned(),
        moved: rebased.moved,
        changed: rebased.changed,
        resolved: resolved(&rebased.resolved),
        warnings: conclude(daemon, &[], &rebased.invalid, Vec::new()).err().into_iter().collect(),
    };
    if rebased.moved {
        daemon.publish(Event::Rebased { report: report.clone() });
    }
    Ok(report)
}

/// Discards `name`; the names of the branches that ended, leaves first.
pub(super) fn abort(
    daemon: &Daemon,
    name: &str,
    children: Children,
    requester: Requester,
) -> Result<(Vec<String>, Farewell), Failure> {
    let branch = daemon.branch(name)?;
    let ended = daemon.store.abort(&branch, children).map_err(of_store)?.branches;
    let (killed, asking) = groups_of(daemon, branch.id(), &ended, requester);
    if let Err(warning) = conclude(daemon, &ended, &[], killed) {
        tracing::warn!(branch = name, warning, "after an abort");
    }
    let names: Vec<String> = ended.iter().map(|branch| branch.name().to_owned()).collect();
    for branch in &names {
        daemon.publish(Event::Ended { branch: branch.clone(), reason: EndReason::Aborted });
    }
    Ok((names, Farewell(asking)))
}

/// What the end of a group means for its branch.
pub(super) fn after(daemon: &Daemon, group: &Group) {
    let Some(branch) = daemon.store.branch_by_id(group.branch) else { return };
    match group.on_end {
        OnEnd::Keep => return,
        OnEnd::TakeIn => {
            // Whoever wants the branch next tries again, and is told.
            if let Err(failure) = native::take_in(daemon, &branch, Processes::Ended) {
                tracing::error!(branch = group.name, %failure, "what its processes left is not taken in");
            }
            return;
        }
        OnEnd::Abort => {}
    }
    match abort(daemon, &group.name, Children::Cascade, Requester::Client(None)) {
        // Somebody else was faster.
        Ok(_) | Err(Failure::NoSuchBranch { .. } | Failure::Stale { .. }) => {}
        Err(failure) => {
            tracing::warn!(branch = group.name, %failure, "its process has ended, and it is still there")
        }
    }
}

/// Ends the branches of all groups that have ended by now: who has waited for such a group finds its branch gone.
pub(super) fn settle(daemon: &Daemon) {
    match daemon.groups.ended_with_branch() {
        Ok(groups) => groups.iter().for_each(|group| after(daemon, group)),
        Err(error) => tracing::error!(%error, "cannot look which process groups have ended"),
    }
}

/// Takes the last commit into the base back, or takes that back. No branch ends by it.
pub(super) fn turn_back(
    daemon: &Daemon,
    turn: impl FnOnce(&Store, &dyn Watch) -> branch_store::Result<Committed>,
) -> Result<CommitReport, Failure> {
    let under_way = daemon.under_way.begin(&daemon.events, branch_store::MAIN);
    let committed = turn(&daemon.store, &under_way).map_err(of_store)?;
    drop(under_way);
    let mut report = report(&committed);
    report.warnings.extend(conclude(daemon, &[], &committed.invalid, Vec::new()).err());
    daemon.publish(Event::Committed { report: report.clone() });
    Ok(report)
}

fn report(committed: &Committed) -> CommitReport {
    CommitReport {
        action: commit_action(committed.action),
        branch: committed.branch.clone(),
        into: committed.into.name().to_owned(),
        commit: committed.commit.map(|commit| commit.0),
        changed: committed.changed,
        stale: committed.stale.iter().map(|branch| branch.name().to_owned()).collect(),
        warnings: committed.warnings.clone(),
        resolved: resolved(&committed.resolved),
        stays: committed.stays.as_ref().map(|stays| stays.changed),
    }
}

/// Kills the process groups of a branch, which lives on.
pub(super) fn kill(daemon: &Daemon, branch: &Arc<Branch>, requester: Requester) -> io::Result<Farewell> {
    let (killed, asking) = groups_of(daemon, branch.id(), std::slice::from_ref(branch), requester);
    groups::kill(killed).wait()?;
    settle(daemon);
    Ok(Farewell(asking))
}

/// The groups of the branches that ended: those to kill now, and those the requester may be in. `named` is
/// the branch the request was about.
fn groups_of(
    daemon: &Daemon,
    named: BranchId,
    ended: &[Arc<Branch>],
    requester: Requester,
) -> (Vec<Arc<Group>>, Vec<Arc<Group>>) {
    let ids: Vec<BranchId> = ended.iter().map(|branch| branch.id()).collect();
    daemon.groups.of(&ids).into_iter().partition(|group| match requester {
        Requester::Client(pid) => !pid.is_some_and(|pid| is_inside(pid, group.identity.pid)),
        Requester::ControlFile => group.branch != named,
    })
}

/// Makes the end true for everybody outside the store. Processes are killed first and waited for last, so
/// that they die while the kernel forgets.
fn conclude(
    daemon: &Daemon,
    ended: &[Arc<Branch>],
    invalid: &[Invalid],
    killed: Vec<Arc<Group>>,
) -> Result<(), String> {
    let ids: Vec<BranchId> = ended.iter().map(|branch| branch.id()).collect();
    daemon.groups.forget_makers(&ids);
    let dying = groups::kill(killed);
    let forgotten = forget(daemon, ended, invalid);
    let gone = dying.wait();
    daemon.maintenance.wake();
    forgotten.map_err(|error| format!("the kernel may show old content: {error}"))?;
    gone.map_err(|error| format!("processes of ended branches do not end: {error}"))
}

pub(super) fn forget(daemon: &Daemon, ended: &[Arc<Branch>], invalid: &[Invalid]) -> io::Result<()> {
    let Some(mount) = daemon.mount.get() else { return Ok(()) };
    mount.forget(invalid);
    mount.forget_branches(ended);
    mount.settle()
}
