//! The verbs: one function each, which asks the store and translates. What must happen around the end of a
//! branch is in `endings`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use branch_proc::Named;
use branch_proto::{
    Answer, BranchInfo, Children, Choices, CommitOptions, CommitPlan, Compared, DiffDetail, Event, Failure,
    GcMode, GroupAction, GroupKind, KeepChange, OnEnd, PathBytes, Quota, Verb, WorkspaceStatus,
};
use branch_store::{Branch, CommitId, Committed, State, Store, Watch};

use super::checkpoints;
use super::choices::Chooser;
use super::diff;
use super::endings::{self, Farewell, Requester};
use super::failure::{of_io, of_store};
use super::group_verbs;
use super::groups::{self, Newcomer, Role};
use super::native;
use super::peer::Peer;
use super::processes;
use super::selection::{Selection, refused};
use super::state::Daemon;
use super::survivors::Identity;
use super::wire_types::{
    conflict, gc_report, log_entry, planned_step, resolved, to_children, to_group_kind, to_keep, to_quota,
};

/// What to send, and what to do once it is sent.
pub(super) struct Done {
    pub(super) outcome: Result<Answer, Failure>,
    pub(super) farewell: Farewell,
}

impl From<Result<Answer, Failure>> for Done {
    fn from(outcome: Result<Answer, Failure>) -> Done {
        Done { outcome, farewell: Farewell::default() }
    }
}

/// Carries out a request with an answer. The two verbs that take over the connection are the server's. `client` has
/// something to say when it, or the daemon, wants no more of a long answer.
pub(super) fn carry_out(
    daemon: &Daemon,
    peer: Peer,
    client: BorrowedFd<'_>,
    verb: Verb,
    descriptor: Option<OwnedFd>,
) -> Done {
    endings::settle(daemon);
    match verb {
        Verb::Create { names, parent, group, quota } => {
            let branches = create(daemon, &names, &parent, group, quota, descriptor);
            branches.map(|branches| Answer::Branches { branches }).into()
        }
        Verb::SetQuota { branch, quota } => set_quota(daemon, &branch, quota).into(),
        Verb::List => list(daemon).into(),
        Verb::Inspect { branch } => inspect(daemon, &branch).into(),
        Verb::Status => status(daemon).into(),
        Verb::Diff { compared, detail } => diff(daemon, &compared, detail).into(),
        Verb::Patch { compared } => patch(daemon, client, &compared, descriptor).into(),
        Verb::Commit { branch, options } => commit(daemon, peer, &branch, &options),
        Verb::PlanCommit { branch, options } => plan_commit(daemon, &branch, &options).into(),
        Verb::Rebase { branch, choices } => rebase(daemon, &branch, &choices).into(),
        Verb::Undo => turn_back(daemon, |store, watch| store.undo_watched(Some(peer.uid), watch)).into(),
        Verb::Redo => turn_back(daemon, |store, watch| store.redo_watched(Some(peer.uid), watch)).into(),
        Verb::Cancel { branch } => daemon.under_way.cancel(&branch).map(|()| Answer::Done).into(),
        Verb::Checkpoint { branch, name } => {
            checkpoints::make(daemon, &branch, name.as_deref()).map(|name| Answer::Checkpoint { name }).into()
        }
        Verb::DeleteCheckpoint { branch, name } => {
            checkpoints::delete(daemon, &branch, &name).map(|()| Answer::Done).into()
        }
        Verb::Restore { branch, name } => {
            checkpoints::restore(daemon, &branch, &name).map(|report| Answer::Restored { report }).into()
        }
        Verb::Abort { branch, children } => abort(daemon, peer, &branch, children),
        Verb::Gc { keep, mode } => gc(daemon, keep, mode).into(),
        Verb::Log { limit } => log(daemon, limit).into(),
        Verb::Show { commit } => show(daemon, commit).into(),
        Verb::Groups { branch } => {
            group_verbs::list(daemon, branch.as_deref()).map(|groups| Answer::Groups { groups }).into()
        }
        Verb::ControlGroups { branch, action } => control_groups(daemon, peer, &branch, action),
        Verb::Attach { branch, pid: _, on_end } => attach(daemon, peer, &branch, on_end, descriptor).into(),
        Verb::NativeView { branch, mounter } => {
            native::prepare(daemon, &branch, mounter).map(|view| Answer::NativeView { view }).into()
        }
        Verb::TakeIn { branch } => native::take_in_now(daemon, &branch).map(|()| Answer::Done).into(),
        Verb::Subscribe | Verb::Shutdown => Ok(Answer::Done).into(),
    }
}

/// Also for control files, which want the name only.
pub(super) fn fork(
    daemon: &Daemon,
    names: &[String],
    parent: &str,
    group: GroupKind,
    quota: Option<Quota>,
) -> Result<Vec<std::sync::Arc<Branch>>, Failure> {
    let parent = daemon.branch(parent)?;
    native::settle(daemon, &parent)?;
    daemon.flush(&parent)?;
    let (group, quota) = (to_group_kind(group), quota.map(to_quota));
    let branches = daemon.store.fork_limited(&parent, names, group, quota).map_err(of_store)?;
    if let Some(mount) = daemon.mount.get() {
        mount.forget_list();
        if let Err(error) = mount.settle() {
            tracing::warn!("a listing of the mount may lack the new branches: {error}");
        }
    }
    daemon.publish(Event::Forked { parent: parent.name().to_owned(), branches: names.to_vec() });
    daemon.maintenance.wake();
    Ok(branches)
}

fn create(
    daemon: &Daemon,
    names: &[String],
    parent: &str,
    group: GroupKind,
    quota: Option<Quota>,
    maker: Option<OwnedFd>,
) -> Result<Vec<BranchInfo>, Failure> {
    let maker = match maker.map(|pidfd| Ok((identify(&pidfd)?, pidfd))).transpose()? {
        Some((None, _)) => return Err(not_allowed("the process that the branches are for has ended")),
        Some((Some(identity), pidfd)) => Some((identity, pidfd)),
        None => None,
    };
    let branches = fork(daemon, names, parent, group, quota)?;
    if let Some((identity, pidfd)) = maker {
        let watched = branches.iter().try_for_each(|branch| until_attached(daemon, branch, identity, &pidfd));
        if let Err(failure) = watched {
            for branch in &branches {
                // The first reason counts.
                drop(endings::abort(
                    daemon,
                    branch.name(),
                    to_children(Children::Cascade),
                    Requester::Client(None),
                ));
            }
            return Err(failure);
        }
    }
    branches.iter().map(|branch| daemon.info(branch)).collect()
}

/// Has a branch end with its maker, until a group is attached to it.
fn until_attached(
    daemon: &Daemon,
    branch: &Branch,
    identity: Identity,
    pidfd: &OwnedFd,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| of_io("watching the maker of a branch", &error);
    let pidfd = pidfd.try_clone().map_err(failed)?;
    let (id, name) = (branch.id(), branch.name().to_owned());
    let maker = Newcomer { role: Role::Maker, branch: id, name, identity, pidfd, on_end: OnEnd::Abort };
    daemon.groups.add(maker).map(drop).map_err(failed)
}

fn set_quota(daemon: &Daemon, name: &str, quota: Quota) -> Result<Answer, Failure> {
    let branch = daemon.branch(name)?;
    daemon.store.set_quota(&branch, to_quota(quota)).map_err(of_store)?;
    Ok(Answer::Branch { branch: daemon.info(&branch)? })
}

fn list(daemon: &Daemon) -> Result<Answer, Failure> {
    let branches = daemon.store.branches();
    let branches = branches.iter().map(|branch| daemon.info(branch)).collect::<Result<_, _>>()?;
    Ok(Answer::Branches { branches })
}

fn inspect(daemon: &Daemon, branch: &str) -> Result<Answer, Failure> {
    Ok(Answer::Branch { branch: daemon.info(&*daemon.branch(branch)?)? })
}

fn status(daemon: &Daemon) -> Result<Answer, Failure> {
    let usage = daemon.store.usage().map_err(of_store)?;
    let live = daemon.store.branches().iter().filter(|branch| !branch.is_main()).count();
    let status = WorkspaceStatus {
        base: PathBytes::from(daemon.store.base()),
        store: PathBytes::from(daemon.store.dir()),
        mountpoint: PathBytes::from(daemon.mountpoint.as_path()),
        pid: rustix::process::getpid().as_raw_nonzero().get(),
        mode: daemon.mount.get().map_or_else(|| "not mounted".to_owned(), |mount| mount.mode()),
        data: daemon.mount.get().map_or_else(String::new, |mount| mount.data().name().to_owned()),
        branches: live as u64,
        commits: usage.commits,
        journal_bytes: usage.journal_bytes,
        content_bytes: usage.content_bytes,
        recovery: daemon.recovery.clone(),
    };
    Ok(Answer::Status { status })
}

fn diff(daemon: &Daemon, compared: &Compared, detail: DiffDetail) -> Result<Answer, Failure> {
    Ok(Answer::Diff { changes: diff::changes(daemon, compared, detail)? })
}

fn patch(
    daemon: &Daemon,
    client: BorrowedFd<'_>,
    compared: &Compared,
    descriptor: Option<OwnedFd>,
) -> Result<Answer, Failure> {
    let pipe = descriptor.ok_or_else(|| malformed("patch comes with the writing end of a pipe"))?;
    Ok(Answer::Patched { omitted: diff::patch(daemon, client, compared, pipe)? })
}

fn commit(daemon: &Daemon, peer: Peer, branch: &str, options: &CommitOptions) -> Done {
    match endings::commit(daemon, branch, options, Some(peer.uid), Requester::Client(peer.pid)) {
        Ok((report, farewell)) => Done { outcome: Ok(Answer::Committed { report }), farewell },
        Err(failure) => Err(failure).into(),
    }
}

fn rebase(daemon: &Daemon, branch: &str, choices: &Choices) -> Result<Answer, Failure> {
    Ok(Answer::Rebased { report: endings::rebase(daemon, branch, choices)? })
}

fn turn_back(
    daemon: &Daemon,
    turn: impl FnOnce(&Store, &dyn Watch) -> branch_store::Result<Committed>,
) -> Result<Answer, Failure> {
    Ok(Answer::Committed { report: endings::turn_back(daemon, turn)? })
}

fn plan_commit(daemon: &Daemon, name: &str, options: &CommitOptions) -> Result<Answer, Failure> {
    let chooser = Chooser::new(&options.choices)?;
    let selection = Selection::new(&options.part)?;
    let branch = daemon.branch(name)?;
    daemon.flush(&branch)?;
    let resolver = |conflict: &_| chooser.choose(conflict);
    let preview = match &selection {
        None => daemon.store.preview(&branch, &resolver),
        Some(part) => daemon.store.preview_part(&branch, &resolver, &|path| part.selects(path)),
    };
    let preview = preview.map_err(|error| refused(error, name, &options.part))?;
    let compared = Compared::SinceFork { branch: name.to_owned() };
    let mut changes = diff::changes(daemon, &compared, DiffDetail::NameStatus)?;
    if let Some(part) = &selection {
        changes.retain(|change| part.selects(&change.path.0));
    }
    let plan = CommitPlan {
        branch: name.to_owned(),
        into: preview.into.name().to_owned(),
        steps: preview.steps.into_iter().map(planned_step).collect(),
        changed: preview.changed,
        changes,
        conflicts: preview.conflicts.into_iter().map(conflict).collect(),
        resolved: resolved(&preview.resolved),
    };
    Ok(Answer::CommitPlan { plan })
}

fn abort(daemon: &Daemon, peer: Peer, branch: &str, children: Children) -> Done {
    match endings::abort(daemon, branch, to_children(children), Requester::Client(peer.pid)) {
        Ok((branches, farewell)) => Done { outcome: Ok(Answer::Aborted { branches }), farewell },
        Err(failure) => Err(failure).into(),
    }
}

fn control_groups(daemon: &Daemon, peer: Peer, branch: &str, action: GroupAction) -> Done {
    match group_verbs::control(daemon, branch, action, Requester::Client(peer.pid)) {
        Ok((groups, farewell)) => Done { outcome: Ok(Answer::Controlled { groups }), farewell },
        Err(failure) => Err(failure).into(),
    }
}

fn gc(daemon: &Daemon, change: KeepChange, mode: GcMode) -> Result<Answer, Failure> {
    let keep = to_keep(daemon.store.keep(), change);
    let collected = match mode {
        GcMode::Preview => daemon.store.collectable(&keep),
        GcMode::Once => daemon.store.collect(&keep),
        GcMode::Save => daemon.store.set_keep(keep).and_then(|()| daemon.store.collect(&keep)),
    };
    Ok(Answer::Collected { report: gc_report(collected.map_err(of_store)?, keep) })
}

fn log(daemon: &Daemon, limit: u32) -> Result<Answer, Failure> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    Ok(Answer::Log { commits: daemon.store.log(limit).into_iter().map(log_entry).collect() })
}

fn show(daemon: &Daemon, commit: u64) -> Result<Answer, Failure> {
    let Some(entry) = daemon.store.logged(CommitId(commit)) else {
        let newest = daemon.store.usage().map_err(of_store)?.commits;
        return Err(not_allowed(&match newest {
            0 => format!("there is no commit {commit}: nothing was committed into the base yet"),
            newest => format!("there is no commit {commit} in the log; the newest is {newest}"),
        }));
    };
    // Commits are numbered from 1.
    let kept =
        [commit.saturating_sub(1), commit].iter().all(|n| daemon.store.base_after(CommitId(*n)).is_ok());
    Ok(Answer::Shown { entry: log_entry(entry), kept })
}

/// Takes a process group under the branch's fate. The pidfd says who it is: the pid in the request is the
/// client's view, which may be of another pid namespace. A group whose branch is dead has no view to live
/// in, so it is killed; the client hears why.
fn attach(
    daemon: &Daemon,
    peer: Peer,
    branch: &str,
    on_end: OnEnd,
    descriptor: Option<OwnedFd>,
) -> Result<Answer, Failure> {
    let pidfd = descriptor.ok_or_else(|| malformed("attach comes with a pidfd"))?;
    let Some(identity) = identify(&pidfd)? else {
        // It was over before we heard of it.
        return match on_end {
            // A native view without a group is taken in by the next who needs the branch.
            OnEnd::Keep | OnEnd::TakeIn => daemon.branch(branch).map(drop),
            OnEnd::Abort => {
                endings::abort(daemon, branch, to_children(Children::Cascade), Requester::Client(None))
                    .map(drop)
            }
        }
        .map(|()| Answer::Done);
    };
    may_be_killed_by(peer, identity)?;
    let live = match daemon.branch(branch) {
        Ok(live) => live,
        Err(failure) => {
            super::pidfds::kill(pidfd.as_fd())
                .map_err(|error| of_io("killing a late process group", &error))?;
            return Err(failure);
        }
    };
    native::admit(daemon, &live, on_end)?;
    let (id, name) = (live.id(), live.name().to_owned());
    let newcomer = Newcomer { role: Role::Attached, branch: id, name, identity, pidfd, on_end };
    let group = daemon.groups.add(newcomer).map_err(|error| of_io("watching a process group", &error))?;
    if live.is_live() {
        return Ok(Answer::Done);
    }
    groups::kill(vec![group]).do_not_wait();
    let name = branch.to_owned();
    Err(if live.state() == State::Stale { Failure::Stale { name } } else { Failure::NoSuchBranch { name } })
}

/// Who the pidfd names; `None` if it has ended.
fn identify(pidfd: &OwnedFd) -> Result<Option<Identity>, Failure> {
    let named = branch_proc::named_by(pidfd.as_fd()).map_err(|error| of_io("reading a pidfd", &error))?;
    match named {
        Named::Process(pid) => Ok(processes::start_time(pid).map(|start| Identity { pid, start })),
        Named::Reaped => Ok(None),
        Named::Foreign => Err(not_allowed("the process is outside the daemon's pid namespace")),
        Named::NotAProcess => Err(malformed("the descriptor that came along is no pidfd")),
    }
}

/// The daemon may run as root for another user's store: it must not kill for a client what the client could
/// not kill itself.
fn may_be_killed_by(peer: Peer, group: Identity) -> Result<(), Failure> {
    match processes::real_uid(group.pid) {
        Some(uid) if peer.uid != 0 && peer.uid != uid => {
            Err(not_allowed("the process belongs to another user"))
        }
        Some(_) | None => Ok(()),
    }
}

fn malformed(reason: &str) -> Failure {
    Failure::Malformed { reason: reason.to_owned() }
}

fn not_allowed(reason: &str) -> Failure {
    Failure::NotAllowed { reason: reason.to_owned() }
}
