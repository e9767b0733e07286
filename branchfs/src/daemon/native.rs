//! Native views: which branches have one, and when what was done in it comes into the branch.
//!
//! A view is made ready for one group, before it exists. The group mounts it, is attached, and runs. Its end, or a look at
//! the branch, takes in what it did. One that was made ready and never got its group is taken in, with nothing in it, by
//! whoever wants to change the branch next; a group that is attached after that has lost its view, and is refused.

use std::path::Path;

use branch_proto::{Failure, Mounter, NativeView, OnEnd, PathBytes};
use branch_store::{Branch, OverlayXattrs, Processes};

use super::endings::forget;
use super::failure::{of_io, of_store};
use super::state::Daemon;

/// Makes a view ready.
pub(super) fn prepare(daemon: &Daemon, name: &str, mounter: Mounter) -> Result<NativeView, Failure> {
    let branch = daemon.branch(name)?;
    settle(daemon, &branch)?;
    daemon.flush(&branch)?;
    if daemon.groups.count(branch.id()) > 0 {
        return Err(busy(name, "processes of it work on its ordinary view"));
    }
    let xattrs = match mounter {
        Mounter::Root => OverlayXattrs::Trusted,
        Mounter::UserNamespace => OverlayXattrs::User,
    };
    let paths = daemon.store.attach(&branch, xattrs).map_err(of_store)?;
    let bytes = |path: &Path| PathBytes::from(path);
    Ok(NativeView { lower: bytes(&paths.lower), upper: bytes(&paths.upper), work: bytes(&paths.work) })
}

/// Whether a group may be attached: the one that has the view, to a branch with one, and any other to a branch without.
pub(super) fn admit(daemon: &Daemon, branch: &Branch, on_end: OnEnd) -> Result<(), Failure> {
    match (on_end == OnEnd::TakeIn, branch.is_attached()) {
        (false, false) => Ok(()),
        (false, true) => Err(busy(branch.name(), "its processes write to a native view")),
        (true, false) => Err(busy(branch.name(), "its native view was given up meanwhile")),
        (true, true) if daemon.groups.count(branch.id()) > 0 => {
            Err(busy(branch.name(), "a native view is for one process group"))
        }
        (true, true) => Ok(()),
    }
}

/// For somebody who is about to change a branch: what processes left that are no more is the branch's.
pub(super) fn settle(daemon: &Daemon, branch: &Branch) -> Result<(), Failure> {
    if branch.is_attached() && daemon.groups.count(branch.id()) == 0 {
        take_in(daemon, branch, Processes::Ended)?;
    }
    Ok(())
}

/// What was asked for by name: for good if nobody is left who writes.
pub(super) fn take_in_now(daemon: &Daemon, name: &str) -> Result<(), Failure> {
    let branch = daemon.branch(name)?;
    settle(daemon, &branch)?;
    take_in(daemon, &branch, Processes::Run)
}

pub(super) fn take_in(daemon: &Daemon, branch: &Branch, processes: Processes) -> Result<(), Failure> {
    if !branch.is_attached() {
        return Ok(());
    }
    let taken = daemon.store.take_in(branch, processes).map_err(of_store)?;
    forget(daemon, &[], &taken.invalid).map_err(|error| of_io("having the kernel forget old content", &error))
}

fn busy(name: &str, reason: &str) -> Failure {
    Failure::Busy { name: name.to_owned(), reason: reason.to_owned() }
}
