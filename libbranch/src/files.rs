//! The branches of a workspace for `branch()`: each call has a connection of its own, so that no child inherits one.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use branch_core::{Backend, Children, Daemon, Error, GroupKind, LaunchError, Location, MAIN, OnEnd};
use branch_proc::branch::{Myself, Worlds};
use rustix::fs::{Mode, OFlags};
use rustix::process::PidfdFlags;

use crate::errno;

/// A workspace, and the branch in it that is forked.
pub(crate) struct Files {
    /// How this process reaches it. A child has a view over the base and does so through `store`.
    location: Location,
    reach: Reach,
    base: PathBuf,
    parent: String,
    store: OwnedFd,
}

#[derive(Clone, Copy)]
enum Reach {
    /// By its path; a daemon that does not run is started.
    Path,
    /// From inside a branch, with its views behind this descriptor. The daemon runs, or the branch would be dead.
    Inside(RawFd),
}

impl Files {
    /// The workspace that a directory is in: this one, or the working directory (-1).
    pub(crate) fn around(directory: RawFd) -> Result<Files, Error> {
        let start = match directory {
            -1 => PathBuf::from("."),
            open => PathBuf::from(format!("/proc/self/fd/{open}")),
        };
        let location = Location::find(&start)?;
        let store = open(location.store()).map_err(system("open the store"))?;
        let base = location.base().to_owned();
        Ok(Files { location, reach: Reach::Path, base, parent: MAIN.to_owned(), store })
    }

    /// The same seen by a child of `branch()`, which forks its own branch.
    pub(crate) fn below(&self, myself: &Myself) -> Result<Files, Error> {
        let gone = || Error::Invalid { reason: "the child has no branch".into() };
        let views = myself.views().ok_or_else(gone)?;
        let parent = myself.name().ok_or_else(gone)?.to_owned();
        let store = self.store.try_clone().map_err(system("copy a descriptor"))?;
        let location = Location::through(self.base.clone(), proc_path(&store));
        let reach = Reach::Inside(views.as_raw_fd());
        Ok(Files { location, reach, base: self.base.clone(), parent, store })
    }

    /// Dropped by who has asked: see above.
    fn daemon(&self) -> Result<Daemon, Error> {
        match self.reach {
            Reach::Path => Daemon::connect_or_launch(&self.location, Arc::new(launch)),
            Reach::Inside(_) => Daemon::connect(&self.location),
        }
    }

    fn ask<T>(&self, question: impl FnOnce(&Daemon) -> Result<T, Error>) -> io::Result<T> {
        self.daemon()
            .and_then(|daemon| question(&daemon))
            .map_err(|error| io::Error::from_raw_os_error(errno::of(error)))
    }
}

impl Worlds for Files {
    fn make(&mut self, count: u32) -> io::Result<Vec<String>> {
        // Asked anew each time: the standard library's random state is the same in all children of a fork.
        let mut tag = [0; 4];
        rustix::rand::getrandom(&mut tag, rustix::rand::GetRandomFlags::empty())?;
        let tag = u32::from_ne_bytes(tag);
        let names: Vec<String> = (1..=count).map(|number| format!("branch-{tag:08x}-{number}")).collect();
        // The daemon ends them with this process, until each has its group.
        let myself = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
        let made = self
            .daemon()
            .and_then(|daemon| daemon.create_for(&names, &self.parent, GroupKind::Exclusive, myself.as_fd()));
        if let Err(error) = made {
            if matches!(error, Error::Daemon(_)) {
                // It may have made them and died before it said so. The first reason counts.
                names.iter().for_each(|name| drop(self.abort(name)));
            }
            return Err(io::Error::from_raw_os_error(errno::of(error)));
        }
        Ok(names)
    }

    fn views(&self) -> io::Result<OwnedFd> {
        match self.reach {
            Reach::Path => open(self.ask(|daemon| daemon.status())?.mountpoint.as_path()),
            // SAFETY: the child's own, which nobody closes but itself; a number that is no descriptor is refused.
            Reach::Inside(views) => unsafe { BorrowedFd::borrow_raw(views) }.try_clone_to_owned(),
        }
    }

    fn base(&self) -> &Path {
        &self.base
    }

    fn attach(&mut self, name: &str, pid: i32, pidfd: BorrowedFd<'_>) -> io::Result<()> {
        self.ask(|daemon| daemon.attach_until(name, pid, pidfd, OnEnd::Abort))
    }

    /// From the child, whose path to the store is hidden by its view.
    fn commit(&mut self, name: &str) -> io::Result<()> {
        let location = Location::through(self.base.clone(), proc_path(&self.store));
        Daemon::connect(&location)
            .and_then(|daemon| daemon.commit(name))
            .map(drop)
            .map_err(|error| io::Error::from_raw_os_error(errno::of(error)))
    }

    fn abort(&mut self, name: &str) -> io::Result<()> {
        let gone = |error: Error| if error.is_gone() { Ok(Vec::new()) } else { Err(error) };
        self.ask(|daemon| daemon.abort(name, Children::Cascade).or_else(gone)).map(drop)
    }

    fn keeps(&self) -> Vec<RawFd> {
        vec![self.store.as_raw_fd()]
    }
}

/// As a user would: any verb starts the daemon.
fn launch(location: &Location) -> Result<(), LaunchError> {
    let mut command = Command::new("branchfs");
    command.arg("-C").arg(location.base()).arg("status");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(LaunchError { reason: format!("'branchfs status': {status}") }),
        Err(error) => Err(LaunchError { reason: format!("cannot run branchfs: {error}") }),
    }
}

fn open(directory: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn proc_path(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn system(doing: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::System { doing, source }
}
