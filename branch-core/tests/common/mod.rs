//! A backend that keeps the contract of the daemon with plain copies of directories, in this process or
//! behind a real socket.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use branch_core::{
    Backend, BranchInfo, Children, Choices, CommitAction, CommitOptions, CommitPlan, CommitReport, Compared,
    Conflict, ConflictKind, DiffDetail, Error, Failure, FileChange, GcMode, GcReport, GroupKind, Keep,
    KeepChange, LogEntry, Omitted, PathBytes, Quota, RebaseReport, RestoreReport, Side, WorkspaceStatus,
};
use branch_proto::{Answer, PROTOCOL_VERSION, Reply, Request, Verb, Welcome, server};

/// Branches are copies under `views`; `commit` copies back over the base, without deletions.
pub(crate) struct Fake {
    base: PathBuf,
    views: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: BTreeMap<String, Live>,
    stale: BTreeSet<String>,
    commits: Vec<LogEntry>,
    next_group: u32,
    /// Commits fail with this conflict while set.
    conflict: Option<String>,
    /// Processes that the init of the last attached group had started by then, by their ids.
    started: Option<String>,
}

struct Live {
    parent: String,
    group: u32,
    kind: GroupKind,
    quota: Quota,
    processes: Vec<OwnedFd>,
}

impl Fake {
    pub(crate) fn new(base: &Path, views: &Path) -> Fake {
        fs::create_dir_all(views).unwrap();
        Fake { base: base.to_owned(), views: views.to_owned(), state: Mutex::default() }
    }

    pub(crate) fn make_commits_conflict(&self, path: &str) {
        self.state().conflict = Some(path.into());
    }

    /// What was running in the group that was attached last, when it was.
    pub(crate) fn started_before_attach(&self) -> Option<String> {
        self.state().started.clone()
    }

    pub(crate) fn live(&self) -> Vec<String> {
        self.state().live.keys().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn find_sides(&self, compared: &Compared) -> Result<(), Error> {
        let state = self.state();
        let find = |side: &Side| match side {
            Side::Branch { name } if name != "main" => state.find(name).map(drop),
            Side::Branch { .. } | Side::Checkpoint { .. } | Side::Commit { .. } => Ok(()),
        };
        match compared {
            Compared::SinceFork { branch } => state.find(branch).map(drop),
            Compared::Between { old, new } => find(old).and_then(|()| find(new)),
        }
    }

    fn view(&self, branch: &str) -> PathBuf {
        if branch == "main" { self.base.clone() } else { self.views.join(branch) }
    }

    fn info(&self, state: &State, name: &str) -> Result<BranchInfo, Error> {
        let live = state.find(name)?;
        let children = state.live.iter().filter(|(_, child)| child.parent == name);
        Ok(BranchInfo {
            name: name.into(),
            index: live.group,
            parent: Some(live.parent.clone()),
            group: Some(live.kind),
            created: 0,
            changed: 0,
            bytes: 0,
            content: 0,
            limit: match live.quota {
                Quota::Bytes(limit) => Some(limit),
                Quota::Unlimited => None,
            },
            view: branch_proto::ViewKind::Fuse,
            groups: live.processes.len() as u32,
            children: children.map(|(name, _)| name.clone()).collect(),
            checkpoints: vec![],
            path: self.view(name).as_path().into(),
        })
    }

    fn end(&self, state: &mut State, name: &str) {
        let live = state.live.remove(name).unwrap();
        for process in live.processes {
            branch_proc::kill_pidfd(process.as_fd(), Duration::from_secs(10)).unwrap();
        }
        fs::remove_dir_all(self.view(name)).unwrap();
    }
}

impl State {
    fn find(&self, name: &str) -> Result<&Live, Error> {
        self.live.get(name).ok_or_else(|| {
            let name = name.to_owned();
            Error::Failed(match self.stale.contains(&name) {
                true => Failure::Stale { name },
                false => Failure::NoSuchBranch { name },
            })
        })
    }
}

fn copy(from: &Path, to: &Path) {
    // A store inside the base is none of the content.
    let script = r#"cd "$1" && tar --exclude=./.branchfs -cf - . | tar -xf - -C "$2""#;
    let copied = Command::new("sh").args(["-c", script, "copy"]).arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

impl Backend for Fake {
    fn create_limited(
        &self,
        names: &[String],
        parent: &str,
        kind: GroupKind,
        quota: Option<Quota>,
    ) -> Result<Vec<BranchInfo>, Error> {
        let mut state = self.state();
        state.next_group += 1;
        let group = state.next_group;
        let mut inherited = Quota::Unlimited;
        if parent != "main" {
            inherited = state.find(parent)?.quota;
        }
        let quota = quota.unwrap_or(inherited);
        if let Some(name) = names.iter().find(|name| state.live.contains_key(*name)) {
            return Err(Error::Failed(Failure::Exists { name: name.clone() }));
        }
        for name in names {
            fs::create_dir(self.view(name)).unwrap();
            copy(&self.view(parent), &self.view(name));
            let live = Live { parent: parent.into(), group, kind, quota, processes: vec![] };
            state.stale.remove(name);
            state.live.insert(name.clone(), live);
        }
        names.iter().map(|name| self.info(&state, name)).collect()
    }

    fn set_quota(&self, branch: &str, quota: Quota) -> Result<BranchInfo, Error> {
        let mut state = self.state();
        state.find(branch)?;
        state.live.get_mut(branch).unwrap().quota = quota;
        self.info(&state, branch)
    }

    fn list(&self) -> Result<Vec<BranchInfo>, Error> {
        let state = self.state();
        state.live.keys().map(|name| self.info(&state, name)).collect()
    }

    fn inspect(&self, branch: &str) -> Result<BranchInfo, Error> {
        self.info(&self.state(), branch)
    }

    fn status(&self) -> Result<WorkspaceStatus, Error> {
        let state = self.state();
        Ok(WorkspaceStatus {
            base: self.base.as_path().into(),
            store: self.views.as_path().into(),
            mountpoint: self.views.as_path().into(),
            pid: std::process::id() as i32,
            mode: "copies".into(),
            data: "copied".into(),
            branches: state.live.len() as u64,
            commits: state.commits.len() as u64,
            journal_bytes: 0,
            content_bytes: 0,
            recovery: vec![],
        })
    }

    fn diff(&self, compared: &Compared, _detail: DiffDetail) -> Result<Vec<FileChange>, Error> {
        self.find_sides(compared).map(|()| vec![])
    }

    /// One line, which says what was compared.
    fn patch(&self, compared: &Compared, to: BorrowedFd<'_>) -> Result<Vec<Omitted>, Error> {
        self.find_sides(compared)?;
        let mut to = std::fs::File::from(to.try_clone_to_owned().expect("a descriptor"));
        writeln!(to, "{compared:?}").expect("somebody reads");
        Ok(vec![])
    }

    fn commit_with(&self, branch: &str, options: &CommitOptions) -> Result<CommitReport, Error> {
        let mut state = self.state();
        let (parent, group) = state.find(branch).map(|live| (live.parent.clone(), live.group))?;
        if let Some(path) = &state.conflict {
            let path = PathBytes(path.clone().into_bytes());
            let conflicts = vec![Conflict {
                path,
                kind: ConflictKind::Content,
                unmerged: None,
                reason: "changed in the parent".into(),
                others: vec![],
                base: None,
                ours: None,
                theirs: None,
            }];
            return Err(Error::Failed(Failure::Conflicts { conflicts }));
        }
        copy(&self.view(branch), &self.view(&parent));
        self.end(&mut state, branch);
        let siblings = state.live.iter().filter(|(_, live)| live.group == group);
        let stale: Vec<String> = siblings.map(|(name, _)| name.clone()).collect();
        for name in &stale {
            self.end(&mut state, name);
            state.stale.insert(name.clone());
        }
        let commit = state.commits.len() as u64 + 1;
        state.commits.insert(
            0,
            LogEntry {
                commit,
                action: CommitAction::Commit,
                branch: branch.into(),
                time: 0,
                changed: 1,
                bytes: 0,
                by: None,
                message: options.message.clone(),
            },
        );
        let (branch, commit) = (branch.into(), Some(commit));
        Ok(CommitReport {
            action: CommitAction::Commit,
            branch,
            into: parent,
            commit,
            changed: 1,
            stale,
            warnings: vec![],
            resolved: vec![],
            stays: None,
        })
    }

    fn plan_commit(&self, branch: &str, _options: &CommitOptions) -> Result<CommitPlan, Error> {
        let into = self.state().find(branch).map(|live| live.parent.clone())?;
        let branch = branch.to_owned();
        let (steps, changes) = (vec![], vec![]);
        Ok(CommitPlan { branch, into, changed: 1, steps, changes, conflicts: vec![], resolved: vec![] })
    }

    fn rebase(&self, branch: &str, _choices: &Choices) -> Result<RebaseReport, Error> {
        let onto = self.inspect(branch)?.parent.unwrap_or_default();
        let (resolved, warnings) = (Vec::new(), Vec::new());
        Ok(RebaseReport { branch: branch.to_owned(), onto, moved: false, changed: 0, resolved, warnings })
    }
    fn cancel(&self, _branch: &str) -> Result<(), Error> {
        unimplemented!("no test asks for it")
    }
    fn groups(&self, _branch: Option<&str>) -> Result<Vec<branch_core::GroupInfo>, Error> {
        unimplemented!("no test asks for it")
    }
    fn control_groups(&self, _branch: &str, _action: branch_core::GroupAction) -> Result<u32, Error> {
        unimplemented!("no test asks for it")
    }
    fn events(&self) -> Result<branch_core::Events, Error> {
        unimplemented!("no test asks for it")
    }
    fn undo(&self) -> Result<CommitReport, Error> {
        unimplemented!("no test asks for it")
    }
    fn redo(&self) -> Result<CommitReport, Error> {
        unimplemented!("no test asks for it")
    }
    fn checkpoint(&self, _branch: &str, _name: Option<&str>) -> Result<String, Error> {
        unimplemented!("no test asks for it")
    }
    fn delete_checkpoint(&self, _branch: &str, _name: &str) -> Result<(), Error> {
        unimplemented!("no test asks for it")
    }
    fn restore(&self, _branch: &str, _name: &str) -> Result<RestoreReport, Error> {
        unimplemented!("no test asks for it")
    }
    fn abort(&self, branch: &str, children: Children) -> Result<Vec<String>, Error> {
        let below = self.inspect(branch)?.children;
        if children == Children::Refuse && !below.is_empty() {
            return Err(Error::Failed(Failure::HasChildren { name: branch.into(), children: below }));
        }
        let mut ended = vec![];
        for child in below {
            ended.extend(self.abort(&child, children)?);
        }
        self.end(&mut self.state(), branch);
        ended.push(branch.into());
        Ok(ended)
    }

    fn gc(&self, keep: KeepChange, _mode: GcMode) -> Result<GcReport, Error> {
        let keep = Keep { commits: keep.commits.unwrap_or(16), age: None, bytes: None };
        Ok(GcReport { commits: vec![], preimage_bytes: 0, kept_bytes: 0, remains_bytes: 0, layers: 0, keep })
    }

    fn log(&self, limit: u32) -> Result<Vec<LogEntry>, Error> {
        Ok(self.state().commits.iter().take(limit as usize).cloned().collect())
    }

    fn show(&self, _commit: u64) -> Result<(LogEntry, bool), Error> {
        unimplemented!("no test asks for it")
    }
    fn attach(&self, branch: &str, pid: i32, pidfd: BorrowedFd<'_>) -> Result<(), Error> {
        let mut state = self.state();
        state.started = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok();
        state.find(branch)?;
        state.live.get_mut(branch).unwrap().processes.push(pidfd.try_clone_to_owned().unwrap());
        Ok(())
    }
}

/// Serves the fake on a socket, each connection on a thread of its own; the join ends with `Shutdown`.
pub(crate) fn serve(fake: Arc<Fake>, socket: &Path) -> thread::JoinHandle<()> {
    let listener = server::bind(socket).unwrap();
    let (down, downed) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (fake, down) = (fake.clone(), down.clone());
            thread::spawn(move || {
                if converse(&fake, &stream.unwrap()) == Next::Shutdown {
                    down.send(()).unwrap();
                }
            });
        }
    });
    thread::spawn(move || downed.recv().unwrap())
}

#[derive(PartialEq)]
enum Next {
    Closed,
    Shutdown,
}

fn converse(fake: &Fake, stream: &UnixStream) -> Next {
    let welcome =
        Welcome { protocol: PROTOCOL_VERSION, pid: std::process::id() as i32, version: "fake".into() };
    server::handshake(stream, &welcome).unwrap().unwrap().unwrap();
    while let Some((request, pidfd)) = server::recv_request(stream).unwrap() {
        let Request { id, verb } = request;
        let last = verb == Verb::Shutdown;
        let outcome = answer(fake, verb, pidfd).map_err(|error| match error {
            Error::Failed(failure) => failure,
            other => Failure::Io { errno: 0, detail: other.to_string() },
        });
        server::send_reply(stream, &Reply { id, outcome }).unwrap();
        if last {
            return Next::Shutdown;
        }
    }
    Next::Closed
}

fn answer(fake: &Fake, verb: Verb, pidfd: Option<OwnedFd>) -> Result<Answer, Error> {
    Ok(match verb {
        Verb::Create { names, parent, group, quota } => {
            Answer::Branches { branches: fake.create_limited(&names, &parent, group, quota)? }
        }
        Verb::SetQuota { branch, quota } => Answer::Branch { branch: fake.set_quota(&branch, quota)? },
        Verb::List => Answer::Branches { branches: fake.list()? },
        Verb::Inspect { branch } => Answer::Branch { branch: fake.inspect(&branch)? },
        Verb::Status => Answer::Status { status: fake.status()? },
        Verb::Diff { compared, detail } => Answer::Diff { changes: fake.diff(&compared, detail)? },
        Verb::Patch { compared } => {
            Answer::Patched { omitted: fake.patch(&compared, pidfd.expect("a pipe").as_fd())? }
        }
        Verb::Commit { branch, options } => {
            Answer::Committed { report: fake.commit_with(&branch, &options)? }
        }
        Verb::PlanCommit { branch, options } => {
            Answer::CommitPlan { plan: fake.plan_commit(&branch, &options)? }
        }
        Verb::Rebase { branch, choices } => Answer::Rebased { report: fake.rebase(&branch, &choices)? },
        Verb::Cancel { branch } => {
            fake.cancel(&branch)?;
            Answer::Done
        }
        Verb::Undo => Answer::Committed { report: fake.undo()? },
        Verb::Redo => Answer::Committed { report: fake.redo()? },
        Verb::Checkpoint { branch, name } => {
            Answer::Checkpoint { name: fake.checkpoint(&branch, name.as_deref())? }
        }
        Verb::DeleteCheckpoint { branch, name } => {
            fake.delete_checkpoint(&branch, &name)?;
            Answer::Done
        }
        Verb::Restore { branch, name } => Answer::Restored { report: fake.restore(&branch, &name)? },
        Verb::Abort { branch, children } => Answer::Aborted { branches: fake.abort(&branch, children)? },
        Verb::Gc { keep, mode } => Answer::Collected { report: fake.gc(keep, mode)? },
        Verb::Show { commit } => {
            let (entry, kept) = fake.show(commit)?;
            Answer::Shown { entry, kept }
        }
        Verb::Log { limit } => Answer::Log { commits: fake.log(limit)? },
        Verb::Attach { branch, pid, on_end: _ } => {
            fake.attach(&branch, pid, pidfd.expect("a pidfd").as_fd())?;
            Answer::Done
        }
        Verb::Groups { branch } => Answer::Groups { groups: fake.groups(branch.as_deref())? },
        Verb::ControlGroups { branch, action } => {
            Answer::Controlled { groups: fake.control_groups(&branch, action)? }
        }
        Verb::Shutdown => Answer::Done,
        Verb::NativeView { .. } | Verb::TakeIn { .. } => panic!("not in the fake"),
        Verb::Subscribe => panic!("not in the fake"),
    })
}
