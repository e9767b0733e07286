//! A daemon that serves, its threads, and how it is taken down.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::error::Error;
use super::maintenance::{self, Mailbox};
use super::state::Daemon;
use super::stop::{self, Cause, Signals};
use super::{endings, failure, groups};
use crate::fuse::Mounted;

/// Everything that has to be taken down again.
pub(super) struct Running {
    pub(super) daemon: Arc<Daemon>,
    /// Caught until the end: a second SIGTERM does not cut the take-down short.
    pub(super) signals: Signals,
    pub(super) socket: PathBuf,
    pub(super) threads: Threads,
}

pub(super) struct Threads {
    groups: JoinHandle<()>,
    maintenance: JoinHandle<()>,
    files: JoinHandle<()>,
    mount: JoinHandle<()>,
    /// Disconnected when the `mount` thread ends.
    mounted: Receiver<()>,
}

/// Longest wait for the end of the mount. It is detached by then, but where the kernel's list of FUSE
/// connections is not mounted, a process with a file or its current directory in it keeps it going; the end
/// of our process ends that.
const UNMOUNT_WAIT_MAX: Duration = Duration::from_secs(1);

impl Threads {
    pub(super) fn start(daemon: &Arc<Daemon>, mailbox: Mailbox) -> Result<Threads, Error> {
        let (watcher, maintained, served) = (daemon.clone(), daemon.clone(), daemon.clone());
        let making = daemon.store.clone();
        let (serving, mounted) = channel::<()>();
        Ok(Threads {
            groups: spawn("groups", move || {
                watcher.groups.watch(&watcher.events, |group| endings::after(&watcher, group));
            })?,
            maintenance: spawn("maintenance", move || maintenance::run(&maintained, &mailbox))?,
            files: spawn("files", move || making.make_ahead())?,
            mount: spawn("mount", move || {
                served.until_unmounted();
                drop(served);
                drop(serving);
            })?,
            mounted,
        })
    }

    /// A thread that panicked has said so on its own.
    fn join(self) {
        let mut threads = vec![self.groups, self.maintenance, self.files];
        match self.mounted.recv_timeout(UNMOUNT_WAIT_MAX) {
            Err(RecvTimeoutError::Timeout) => tracing::warn!("the detached mount is still in use"),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => threads.push(self.mount),
        }
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the daemon had panicked");
            }
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map_err(Error::Thread)
}

impl Running {
    /// All of it, whatever fails on the way; the first failure is the answer. Who asked for the stop hears of
    /// it when the store is closed: the next daemon can start then.
    pub(super) fn take_down(self, listener: Option<UnixListener>) -> Result<(), Error> {
        let Running { daemon, signals: _signals, socket, threads } = self;
        let killed = groups::kill(daemon.groups.all()).wait().map_err(Error::Processes);
        endings::settle(&daemon);
        let unmounted = daemon.unmount();
        daemon.groups.stop_watching();
        daemon.maintenance.stop();
        daemon.store.stop_making_ahead();
        threads.join();
        let checkpointed = match daemon.store.checkpoint() {
            // That is what the restart is for: the next one recovers from the journal.
            Err(branch_store::Error::Poisoned) => {
                tracing::warn!("stopping without a checkpoint: an earlier write or fsync failed");
                Ok(())
            }
            checkpointed => checkpointed.map_err(Error::Store),
        };
        let removed = remove_if_there(&socket).map_err(|source| Error::Bind { socket, source });
        let waiting = daemon.stop.take_waiting();
        drop(listener);
        drop(daemon);
        let outcome = unmounted.and(killed).and(checkpointed).and(removed);
        stop::answer(waiting, outcome.as_ref().copied().map_err(failure::of_stop));
        outcome
    }
}

impl Daemon {
    /// Also with busy processes in it; no harm if it is unmounted already.
    pub(super) fn unmount(&self) -> Result<(), Error> {
        let Some(mount) = self.mount.get() else { return Ok(()) };
        mount.unmount().map_err(|source| Error::Unmount { mountpoint: self.mountpoint.clone(), source })
    }

    /// The `mount` thread: a daemon without views has nothing to do.
    fn until_unmounted(&self) {
        let joined = self.mount.get().map_or(Ok(()), Mounted::join);
        if let Err(error) = joined {
            tracing::error!(%error, "the mount broke");
        }
        self.stop.request(Cause::Unmounted);
    }
}

/// Removes a file of which only the absence matters.
pub(super) fn remove_if_there(file: &Path) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
