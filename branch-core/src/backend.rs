//! Who does the work: the daemon, or the engine in this process.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use branch_proto::{
    BranchInfo, Children, Choices, Client, ClientError, CommitOptions, CommitPlan, CommitReport, Compared,
    DiffDetail, Failure, FileChange, GcMode, GcReport, GroupAction, GroupInfo, GroupKind, KeepChange,
    LogEntry, Mounter, NativeView, Omitted, OnEnd, Quota, RebaseReport, RestoreReport, WorkspaceStatus,
};

use branch_proto::Events;

use crate::error::{Error, LaunchError};
use crate::location::Location;

/// Idle connections kept; more are closed after use.
const IDLE_MAX: usize = 8;

/// The verbs of a workspace. Any number of threads may call at once.
pub trait Backend: Send + Sync {
    /// Forks `names` off `parent`, all or none; the branches in the order of the names.
    fn create(&self, names: &[String], parent: &str, group: GroupKind) -> Result<Vec<BranchInfo>, Error> {
        self.create_limited(names, parent, group, None)
    }
    /// The same with how much each may hold of its own; `None`: as much as the parent may.
    fn create_limited(
        &self,
        names: &[String],
        parent: &str,
        group: GroupKind,
        quota: Option<Quota>,
    ) -> Result<Vec<BranchInfo>, Error>;
    /// Changes how much a branch may hold of its own; the branch.
    fn set_quota(&self, branch: &str, quota: Quota) -> Result<BranchInfo, Error>;
    /// All live branches, parents before children.
    fn list(&self) -> Result<Vec<BranchInfo>, Error>;
    /// One live branch.
    fn inspect(&self, branch: &str) -> Result<BranchInfo, Error>;
    /// The workspace.
    fn status(&self) -> Result<WorkspaceStatus, Error>;
    /// What differs between two sides, sorted by path.
    fn diff(&self, compared: &Compared, detail: DiffDetail) -> Result<Vec<FileChange>, Error>;
    /// Writes the same as a patch for `git apply` into a pipe; says what is not in it.
    fn patch(&self, compared: &Compared, to: BorrowedFd<'_>) -> Result<Vec<Omitted>, Error>;
    /// Commits a leaf branch into its parent; refused where it meets what others did.
    fn commit(&self, branch: &str) -> Result<CommitReport, Error> {
        self.commit_with(branch, &CommitOptions::default())
    }
    /// Commits a leaf branch, or part of it, into its parent, with choices where it meets what others did.
    fn commit_with(&self, branch: &str, options: &CommitOptions) -> Result<CommitReport, Error>;
    /// What a commit would do now; changes nothing.
    fn plan_commit(&self, branch: &str, options: &CommitOptions) -> Result<CommitPlan, Error>;
    /// Moves a leaf branch onto its parent's present state, with choices where it meets what others did.
    fn rebase(&self, branch: &str, choices: &Choices) -> Result<RebaseReport, Error>;
    /// Takes the last commit into the base back that still stands.
    fn undo(&self) -> Result<CommitReport, Error>;
    /// Takes the last `undo` back, unless something was committed since.
    fn redo(&self) -> Result<CommitReport, Error>;
    /// Notes the present state of a branch under a name, or the next number; the name. Costs the same whatever the
    /// branch holds.
    fn checkpoint(&self, branch: &str, name: Option<&str>) -> Result<String, Error>;
    /// Forgets a checkpoint.
    fn delete_checkpoint(&self, branch: &str, name: &str) -> Result<(), Error>;
    /// Makes a branch what it was at a checkpoint. What it was before is saved as one, if none has it.
    fn restore(&self, branch: &str, name: &str) -> Result<RestoreReport, Error>;
    /// Calls off the commit of a branch into the base, or with `main` the undoing or redoing, that another thread
    /// waits for; refused if there is none or it is decided.
    fn cancel(&self, branch: &str) -> Result<(), Error>;
    /// What happens in the workspace from now on.
    fn events(&self) -> Result<Events, Error>;
    /// Discards a branch; the names of all that ended, leaves first.
    fn abort(&self, branch: &str, children: Children) -> Result<Vec<String>, Error>;
    /// Frees what nobody needs any more, or says what that is.
    fn gc(&self, keep: KeepChange, mode: GcMode) -> Result<GcReport, Error>;
    /// The newest commits into the base, newest first.
    fn log(&self, limit: u32) -> Result<Vec<LogEntry>, Error>;
    /// One commit into the base, and whether the base before and after it can still be seen.
    fn show(&self, commit: u64) -> Result<(LogEntry, bool), Error>;
    /// The process groups of a branch, or of all, in the order of their attachment.
    fn groups(&self, branch: Option<&str>) -> Result<Vec<GroupInfo>, Error>;
    /// Kills, freezes or thaws every process group of a branch; how many they were.
    fn control_groups(&self, branch: &str, action: GroupAction) -> Result<u32, Error>;
    /// Binds a process group to the branch: it is killed when the branch ends.
    fn attach(&self, branch: &str, pid: i32, pidfd: BorrowedFd<'_>) -> Result<(), Error>;
    /// Makes the directories for a native view of a branch.
    fn native_view(&self, branch: &str, _mounter: Mounter) -> Result<NativeView, Error> {
        let reason = format!("native views of '{branch}' are not to be had in this process");
        Err(Error::Failed(Failure::NotAllowed { reason }))
    }
    /// Binds the process group that has mounted the native view of a branch to it.
    fn attach_native(&self, branch: &str, pid: i32, pidfd: BorrowedFd<'_>) -> Result<(), Error> {
        self.attach(branch, pid, pidfd)
    }
    /// Takes into a branch what was done in its native view; without processes in it, for good.
    fn take_in(&self, _branch: &str) -> Result<(), Error> {
        Ok(())
    }
}

/// Starts the daemon of a workspace and returns when it can be connected to. A closure will do.
pub trait Launcher: Send + Sync {
    /// Returns once the daemon's socket stands; without error too when another process started it meanwhile.
    fn launch(&self, location: &Location) -> Result<(), LaunchError>;
}

impl<F: Fn(&Location) -> Result<(), LaunchError> + Send + Sync> Launcher for F {
    fn launch(&self, location: &Location) -> Result<(), LaunchError> {
        self(location)
    }
}

/// The daemon behind its socket. A call takes an idle connection or makes one, so that a long commit in one
/// thread holds up no other. With a launcher, a daemon that has stopped is started again by the next call.
pub struct Daemon {
    location: Location,
    launcher: Option<Arc<dyn Launcher>>,
    // Leaf lock: nothing is called while it is held.
    idle: Mutex<Vec<Client>>,
}

impl Daemon {
    /// Connects to a daemon that runs; [`Error::Daemon`] if none does.
    pub fn connect(location: &Location) -> Result<Daemon, Error> {
        Daemon::with(location, None)
    }

    /// Connects, starting the daemon if none runs.
    pub fn connect_or_launch(location: &Location, launcher: Arc<dyn Launcher>) -> Result<Daemon, Error> {
        Daemon::with(location, Some(launcher))
    }

    fn with(location: &Location, launcher: Option<Arc<dyn Launcher>>) -> Result<Daemon, Error> {
        let daemon = Daemon { location: location.clone(), launcher, idle: Mutex::default() };
        let first = daemon.connection()?;
        daemon.idle().push(first);
        Ok(daemon)
    }

    /// As [`Backend::create`], by a process (its pidfd) that is going to attach a group to each branch: a branch that has
    /// none is aborted when that process ends, and when the daemon does.
    pub fn create_for(
        &self,
        names: &[String],
        parent: &str,
        group: GroupKind,
        maker: BorrowedFd<'_>,
    ) -> Result<Vec<BranchInfo>, Error> {
        self.call(|client| client.create_for(names, parent, group, maker))
    }

    /// As [`Backend::attach`], saying what the end of the group means for the branch.
    pub fn attach_until(
        &self,
        branch: &str,
        pid: i32,
        pidfd: BorrowedFd<'_>,
        on_end: OnEnd,
    ) -> Result<(), Error> {
        self.call(|client| client.attach_until(branch, pid, pidfd, on_end))
    }

    fn connection(&self) -> Result<Client, Error> {
        let socket = self.location.socket();
        match (Client::connect(&socket), &self.launcher) {
            (Err(error), Some(launcher)) if no_daemon(&error) => {
                launcher.launch(&self.location)?;
                Ok(Client::connect(&socket)?)
            }
            (connected, _) => Ok(connected?),
        }
    }

    fn call<T>(&self, ask: impl Fn(&mut Client) -> Result<T, ClientError>) -> Result<T, Error> {
        let idle = self.idle().pop();
        let mut client = match idle {
            Some(client) => client,
            None => self.connection()?,
        };
        let mut answer = ask(&mut client);
        if let Err(ClientError::NotTaken) = answer {
            client = self.connection()?;
            answer = ask(&mut client);
        }
        // After any other error the connection is out of step with the daemon.
        if matches!(answer, Ok(_) | Err(ClientError::Failed(_))) {
            let mut idle = self.idle();
            if idle.len() < IDLE_MAX {
                idle.push(client);
            }
        }
        Ok(answer?)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Client>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Daemon").field("location", &self.location).finish_non_exhaustive()
    }
}

impl Backend for Daemon {
    fn create_limited(
        &self,
        names: &[String],
        parent: &str,
        group: GroupKind,
        quota: Option<Quota>,
    ) -> Result<Vec<BranchInfo>, Error> {
        self.call(|client| client.create_limited(names, parent, group, quota))
    }
    fn set_quota(&self, branch: &str, quota: Quota) -> Result<BranchInfo, Error> {
        self.call(|client| client.set_quota(branch, quota))
    }
    fn list(&self) -> Result<Vec<BranchInfo>, Error> {
        self.call(Client::list)
    }
    fn inspect(&self, branch: &str) -> Result<BranchInfo, Error> {
        self.call(|client| client.inspect(branch))
    }
    fn status(&self) -> Result<WorkspaceStatus, Error> {
        self.call(Client::status)
    }
    fn diff(&self, compared: &Compared, detail: DiffDetail) -> Result<Vec<FileChange>, Error> {
        self.call(|client| client.diff(compared, detail))
    }
    fn patch(&self, compared: &Compared, to: BorrowedFd<'_>) -> Result<Vec<Omitted>, Error> {
        self.call(|client| client.patch(compared, to))
    }
    fn commit_with(&self, branch: &str, options: &CommitOptions) -> Result<CommitReport, Error> {
        self.call(|client| client.commit_with(branch, options))
    }
    fn plan_commit(&self, branch: &str, options: &CommitOptions) -> Result<CommitPlan, Error> {
        self.call(|client| client.plan_commit(branch, options))
    }
    fn rebase(&self, branch: &str, choices: &Choices) -> Result<RebaseReport, Error> {
        self.call(|client| client.rebase(branch, choices))
    }
    fn undo(&self) -> Result<CommitReport, Error> {
        self.call(Client::undo)
    }
    fn redo(&self) -> Result<CommitReport, Error> {
        self.call(Client::redo)
    }
    fn checkpoint(&self, branch: &str, name: Option<&str>) -> Result<String, Error> {
        self.call(|client| client.checkpoint(branch, name))
    }
    fn delete_checkpoint(&self, branch: &str, name: &str) -> Result<(), Error> {
        self.call(|client| client.delete_checkpoint(branch, name))
    }
    fn restore(&self, branch: &str, name: &str) -> Result<RestoreReport, Error> {
        self.call(|client| client.restore(branch, name))
    }
    fn cancel(&self, branch: &str) -> Result<(), Error> {
        self.call(|client| client.cancel(branch))
    }
    fn events(&self) -> Result<Events, Error> {
        Ok(self.connection()?.subscribe()?)
    }
    fn abort(&self, branch: &str, children: Children) -> Result<Vec<String>, Error> {
        self.call(|client| client.abort(branch, children))
    }
    fn gc(&self, keep: KeepChange, mode: GcMode) -> Result<GcReport, Error> {
        self.call(|client| client.gc(keep, mode))
    }
    fn log(&self, limit: u32) -> Result<Vec<LogEntry>, Error> {
        self.call(|client| client.log(limit))
    }
    fn show(&self, commit: u64) -> Result<(LogEntry, bool), Error> {
        self.call(|client| client.show(commit))
    }
    fn groups(&self, branch: Option<&str>) -> Result<Vec<GroupInfo>, Error> {
        self.call(|client| client.groups(branch))
    }
    fn control_groups(&self, branch: &str, action: GroupAction) -> Result<u32, Error> {
        self.call(|client| client.control_groups(branch, action))
    }
    fn attach(&self, branch: &str, pid: i32, pidfd: BorrowedFd<'_>) -> Result<(), Error> {
        self.call(|client| client.attach(branch, pid, pidfd))
    }
    fn native_view(&self, branch: &str, mounter: Mounter) -> Result<NativeView, Error> {
        self.call(|client| client.native_view(branch, mounter))
    }
    fn attach_native(&self, branch: &str, pid: i32, pidfd: BorrowedFd<'_>) -> Result<(), Error> {
        self.attach_until(branch, pid, pidfd, OnEnd::TakeIn)
    }
    fn take_in(&self, branch: &str) -> Result<(), Error> {
        self.call(|client| client.take_in(branch))
    }
}

/// Whether the error means that no daemon runs, as opposed to one that cannot be talked to.
pub fn no_daemon(error: &ClientError) -> bool {
    match error {
        ClientError::Connect { source, .. } => {
            matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
        }
        // It was going down while we connected.
        ClientError::Closed | ClientError::NotTaken => true,
        _ => false,
    }
}
