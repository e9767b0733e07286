//! What can go wrong in the daemon's own life; what can go wrong in a verb is in `failure`.

use std::io;
use std::path::PathBuf;

/// Why the daemon did not start, or did not end well. One for each step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// SIGTERM and its kin cannot be caught.
    #[error("cannot catch signals: {0}")]
    Signals(#[source] io::Error),
    /// The store cannot be opened or recovered; [`branch_store::Error::Locked`] if another daemon has it.
    #[error(transparent)]
    Store(#[from] branch_store::Error),
    /// What we made in it, its owner could not open.
    #[error("the store at {} belongs to user {owner}, not to user {user}: start it as that user (sudo -u '#{owner}' branchfs …)", .store.display())]
    NotOurs {
        /// Where.
        store: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// Ours.
        user: u32,
    },
    /// An inner descriptor or file of the daemon cannot be made.
    #[error("cannot set up the daemon: {0}")]
    SetUp(#[source] io::Error),
    /// Process groups of a daemon that was killed cannot be killed.
    #[error("cannot end the processes an earlier daemon left: {0}")]
    Survivors(#[source] io::Error),
    /// The mount of a daemon that was killed cannot be removed.
    #[error("cannot remove the dead mount at {}: {source}", .mountpoint.display())]
    DeadMount {
        /// Where.
        mountpoint: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something is mounted there and in use.
    #[error("something else is mounted at {}; unmount it or choose another mountpoint", .mountpoint.display())]
    MountpointInUse {
        /// Where.
        mountpoint: PathBuf,
    },
    /// The mountpoint cannot be made.
    #[error("cannot make the mountpoint {}: {source}", .mountpoint.display())]
    Mountpoint {
        /// Where.
        mountpoint: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The views cannot be mounted.
    #[error("cannot mount at {}: {source}", .mountpoint.display())]
    Mount {
        /// Where.
        mountpoint: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket cannot be made.
    #[error("cannot listen on {}: {source}", .socket.display())]
    Bind {
        /// Where.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// Waiting for clients failed.
    #[error("cannot wait for clients: {0}")]
    Serve(#[source] io::Error),
    /// The views cannot be unmounted.
    #[error("cannot unmount {}: {source}", .mountpoint.display())]
    Unmount {
        /// Where.
        mountpoint: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Attached processes do not end.
    #[error("processes in branches do not end: {0}")]
    Processes(#[source] io::Error),
}
