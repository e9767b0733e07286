//! The daemon: one process per store. It holds the store open, serves the views and answers clients.
//!
//! # Threads
//!
//! | thread | does | ends |
//! |---|---|---|
//! | main | accepts clients, waits for signals and for a stop; then takes everything down | last |
//! | `client-N` | one connection: requests in order, or its events | with the connection |
//! | `groups` | waits for attached process groups to end | at the stop, after the groups were killed |
//! | `maintenance` | deletes remains of ended branches, bounds the journal | at the stop |
//! | `mount` | waits for the end of the mount, whoever unmounts it | with the mount |
//! | `crate::fuse`'s | file operations, invalidation, control files | with the mount |
//!
//! # Locks
//!
//! All locks here are leaves, but for two: `events`' list of subscribers is held while one queue is locked,
//! and the table of `groups` is held while their list is written. None is held while the store, the mount
//! or a socket is called, and none is taken by a file operation. The store locks for itself; no order
//! between calls is needed.
//!
//! What happens to a branch is heard by subscribers after it has happened and before the caller has its
//! answer. Events of branches that different clients end at the same time come in any order.
//!
//! # Traces in the store
//!
//! `daemon.sock`, while somebody listens, and `groups` (see `survivors`). The store's own lock decides who
//! may touch them; it goes with the process, so a killed daemon blocks nobody.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

pub use self::error::Error;
pub(crate) use self::start::check_owner;
use self::stop::Cause;
use crate::fuse::Data;
use crate::vfs::Prefetch;
use crate::watch::Wish;

mod checkpoints;
mod choices;
mod control;
mod diff;
mod endings;
mod error;
mod events;
mod failure;
mod globs;
mod group_verbs;
mod groups;
mod maintenance;
mod native;
mod patch_pipe;
mod peer;
mod pidfds;
mod processes;
mod running;
mod selection;
mod server;
mod start;
mod state;
mod stop;
mod survivors;
mod under_way;
mod verbs;
mod wake;
mod wire_types;

/// Name of the socket in the store directory.
pub const SOCKET_NAME: &str = "daemon.sock";
/// What `ready` receives when the daemon serves; anything else is an error text.
pub const READY: &[u8] = b"R";

/// What to serve, and where.
#[derive(Debug)]
pub struct Options {
    /// The base directory.
    pub base: PathBuf,
    /// The store directory; it must have been initialised.
    pub store: PathBuf,
    /// Where the views are mounted; made if it is not there.
    pub mountpoint: PathBuf,
    /// How the base is to be watched.
    pub watch: Wish,
    /// Whether directories are to be listed ahead.
    pub prefetch: Prefetch,
    /// How file data are to be served.
    pub data: Data,
    /// Told once whether the daemon serves: [`READY`], or why it does not. Closed afterwards.
    pub ready: Option<OwnedFd>,
}

/// Serves until a client asks for a stop, SIGTERM, SIGINT or SIGHUP comes, or somebody unmounts the views.
/// Branches stay; nothing stays mounted, and no process stays in a view that is gone.
///
/// # Errors
/// The first step that failed. When it was one of the start, nothing is left of those before it.
pub fn serve(mut options: Options) -> Result<(), Error> {
    let ready = options.ready.take();
    let started = start::start(&options);
    tell(ready, started.as_ref().err());
    let (running, listener) = started?;
    tracing::info!(mountpoint = %options.mountpoint.display(), "serving");
    let served = server::run(&running.daemon, &listener, &running.signals).map_err(Error::Serve);
    tracing::info!(cause = ?served, "stopping");
    running.take_down(Some(listener)).and(served.map(|_: Cause| ()))
}

/// Whoever started us may have been interrupted; its next command finds us all the same.
fn tell(ready: Option<OwnedFd>, error: Option<&Error>) {
    let Some(ready) = ready else { return };
    let told = match error {
        None => File::from(ready).write_all(READY),
        Some(error) => File::from(ready).write_all(error.to_string().as_bytes()),
    };
    if let Err(error) = told {
        tracing::warn!(%error, "nobody waits for this daemon any more");
    }
}
