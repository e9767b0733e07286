//! Starting the daemon on demand, once, however many processes want it at the same moment.
//!
//! The launcher takes an exclusive flock(2) on `<store>/launch.lock` and hands the locked open file on to
//! the daemon as standard input, the write end of a pipe as standard output, and the log as standard
//! error. The daemon's `daemon` verb gives the lock back when the daemon is ready. So a second launcher waits
//! in flock until the first one's daemon is ready or dead, whatever becomes of the first launcher, and then
//! finds a daemon to connect to. Everything here is woken by an event: nothing polls.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use branch_core::{Daemon, Error, LaunchError, Location, no_daemon};
use rustix::fs::{FlockOperation, flock};

use super::data::Data;
use crate::daemon::{READY, check_owner};

/// Longest error text taken from a daemon that did not start.
const WORDS_MAX: u64 = 64 << 10;
/// Longest wait for a daemon that cannot be reached any more to close the store.
const GOING_MAX: Duration = Duration::from_secs(10);

/// Starts the daemon with the default mountpoint.
pub(super) fn launch(location: &Location) -> Result<(), LaunchError> {
    launch_at(location, &location.mountpoint(), None)
}

/// Starts the daemon with its views mounted at `mountpoint`. Returns when it can be connected to, also when
/// another process started one meanwhile, perhaps mounted elsewhere.
pub(super) fn launch_at(
    location: &Location,
    mountpoint: &Path,
    data: Option<Data>,
) -> Result<(), LaunchError> {
    let failed = |doing: &str, error: io::Error| LaunchError { reason: format!("cannot {doing}: {error}") };
    check_owner(location.store()).map_err(|error| LaunchError { reason: error.to_string() })?;
    let locking = format!("lock the launch in the store {}", location.store().display());
    let lock = lock_launch(location.store()).map_err(|error| failed(&locking, error))?;
    match Daemon::connect(location) {
        Err(Error::Daemon(error)) if no_daemon(&error) => {}
        // It stands, or what is wrong with it is for the caller's own attempt to say.
        _ => return Ok(()),
    }
    wait_for_the_last(location.store()).map_err(|error| failed("start a thread", error))?;
    let (ready, theirs) = io::pipe().map_err(|error| failed("make a pipe", error))?;
    let log = open_log(&location.log()).map_err(|error| failed("open the daemon's log", error))?;
    let mut child = daemon_command(location, mountpoint, data)
        .stdin(Stdio::from(lock))
        .stdout(Stdio::from(theirs))
        .stderr(Stdio::from(log))
        .spawn()
        .map_err(|error| failed("start the daemon", error))?;
    // The command above, a temporary, has taken our copies of lock and pipe with it: the daemon's are the last.
    let mut words = Vec::new();
    ready.take(WORDS_MAX).read_to_end(&mut words).map_err(|error| failed("hear from the daemon", error))?;
    if words.starts_with(READY) {
        return reap_later(child).map_err(|error| failed("start a thread", error));
    }
    child.wait().map_err(|error| failed("wait for the daemon", error))?;
    Err(LaunchError { reason: last_words(&words, &location.log()) })
}

/// A daemon that is going down answers nobody but still has the store open. If it stays for long, the next one
/// says whose the store is.
fn wait_for_the_last(store: &Path) -> io::Result<()> {
    let (gone, wait) = channel();
    let store = store.to_owned();
    let look = move || {
        if let Err(error) = branch_store::wait_closed(&store) {
            tracing::debug!(%error, "the next daemon will say it, too");
        }
        // Nobody listens any more after the longest wait.
        gone.send(()).ok();
    };
    thread::Builder::new().name("wait-closed".into()).spawn(look)?;
    if wait.recv_timeout(GOING_MAX).is_err() {
        tracing::debug!("the store is still open");
    }
    Ok(())
}

fn daemon_command(location: &Location, mountpoint: &Path, data: Option<Data>) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("branchfs").arg("daemon").arg("--launched");
    command.arg("--base").arg(location.base());
    command.arg("--store").arg(location.store());
    command.arg("--mountpoint").arg(mountpoint);
    if let Some(data) = data {
        command.arg("--data").arg(data.wish().name());
    }
    command
}

fn lock_launch(store: &Path) -> io::Result<File> {
    let path = store.join("launch.lock");
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))?;
    Ok(file)
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// The daemon may end before us; it shall not stay a zombie until we do.
fn reap_later(mut child: Child) -> io::Result<()> {
    let reap = move || {
        if let Err(error) = child.wait() {
            tracing::debug!(%error, "the daemon was reaped by somebody else");
        }
    };
    thread::Builder::new().name("reaper".into()).spawn(reap).map(drop)
}

fn last_words(words: &[u8], log: &Path) -> String {
    let words = String::from_utf8_lossy(words);
    match words.trim() {
        "" => format!("it ended without a word; its log is {}", log.display()),
        words => words.to_owned(),
    }
}
