//! This workspace: its store, its daemon, its mount.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use branch_core::{Backend, ClientError, Daemon, Error, GcMode, KeepChange, Location, no_daemon};
use rustix::io::Errno;

use super::super::context::Context;
use super::super::error::CliError;
use super::super::text;
use super::Finding;

const STORE: &str = "store";
const DAEMON: &str = "daemon";
const MOUNT: &str = "mount";
const SPACE: &str = "space";

pub(super) fn look(context: &Context) -> Vec<Finding> {
    match context.location() {
        Ok(location) => {
            let mut findings = vec![store(&location), daemon(&location), mount(&location)];
            findings.extend(space(&location));
            findings
        }
        Err(CliError::Core(Error::NoWorkspace { .. })) => {
            vec![Finding::ok("workspace", "none here; 'branchfs init' makes one")]
        }
        Err(error) => vec![Finding::failed("workspace", error.to_string(), error.hint())],
    }
}

fn store(location: &Location) -> Finding {
    let path = location.store();
    match fs::read_to_string(path.join("format")) {
        Ok(format) => {
            let version = format.lines().next().unwrap_or_default().to_owned();
            let detail = format!("{} ({version})", path.display());
            match strangers(path) {
                None => Finding::ok(STORE, detail),
                Some((file, uid)) => Finding::failed(
                    STORE,
                    format!("{detail}: {file} belongs to user {uid}"),
                    "only its owner's daemon may write there; give back what another made (chown -R)",
                ),
            }
        }
        Err(error) => {
            let detail = format!("{}: {error}", path.display());
            Finding::failed(STORE, detail, "is its disk mounted? Without it the branches are not to be had")
        }
    }
}

/// A file in the store that its owner's daemon has not made, and whose it is.
fn strangers(store: &Path) -> Option<(String, u32)> {
    let owner = fs::metadata(store).ok()?.uid();
    // What cannot be looked at is told by the daemon that cannot open it.
    let files = fs::read_dir(store).ok()?.flatten();
    let others = files.filter_map(|file| Some((file.file_name(), file.metadata().ok()?)));
    let mut others = others.filter(|(_, found)| !found.is_dir() && found.uid() != owner);
    others.next().map(|(name, found)| (name.to_string_lossy().into_owned(), found.uid()))
}

fn daemon(location: &Location) -> Finding {
    match Daemon::connect(location).and_then(|daemon| daemon.status()) {
        Ok(status) => Finding::ok(DAEMON, format!("pid {}, {}", status.pid, status.mode)),
        Err(Error::Daemon(error)) if no_daemon(&error) => absent(location),
        Err(Error::Daemon(error @ ClientError::Version { .. })) => Finding::failed(
            DAEMON,
            error.to_string(),
            "run 'branchfs stop' with the version that started it, or end its process",
        ),
        Err(error) => {
            let hint = format!("see {}", location.log().display());
            Finding::failed(DAEMON, error.to_string(), hint)
        }
    }
}

/// What the store takes, if there is a daemon to ask.
fn space(location: &Location) -> Option<Finding> {
    let daemon = Daemon::connect(location).ok()?;
    let asked =
        daemon.status().and_then(|status| Ok((status, daemon.gc(KeepChange::default(), GcMode::Preview)?)));
    Some(match asked {
        Ok((status, gc)) => {
            let history = gc.preimage_bytes + gc.kept_bytes;
            let all = status.content_bytes + status.journal_bytes + history + gc.remains_bytes;
            let free = text::size(gc.preimage_bytes + gc.remains_bytes);
            let [all, content, history] = [all, status.content_bytes, history].map(text::size);
            Finding::ok(
                SPACE,
                format!("{all}: {content} of branches, {history} for undo; 'branchfs gc' frees {free}"),
            )
        }
        Err(error) => Finding::warning(SPACE, error.to_string(), "run 'branchfs gc --dry-run' to see more"),
    })
}

/// No daemon answers: is the store free for the next one?
fn absent(location: &Location) -> Finding {
    match lock_holder(&location.store().join("lock")) {
        Ok(Some(pid)) => Finding::failed(
            DAEMON,
            format!("process {pid} holds the store, but nobody answers at its socket"),
            format!("it starts, stops, or hangs; if it stays, 'kill {pid}'"),
        ),
        Ok(None) => Finding::ok(DAEMON, "not running; the next command starts it"),
        Err(error) => Finding::failed(DAEMON, format!("the store's lock: {error}"), "check its permissions"),
    }
}

/// Who holds a flock(2) on the file, by proc_locks(5). Trying the lock would disturb a daemon that starts.
fn lock_holder(path: &Path) -> io::Result<Option<i32>> {
    let file = match fs::metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    let id = format!("{major:02x}:{minor:02x}:{}", file.ino());
    Ok(fs::read_to_string("/proc/locks")?.lines().find_map(|line| holder(line, &id)))
}

fn holder(line: &str, id: &str) -> Option<i32> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    match fields[..] {
        // With "->" in the second place the process only waits.
        [_, "FLOCK", _, _, pid, file, ..] if file == id => pid.parse().ok(),
        _ => None,
    }
}

fn mount(location: &Location) -> Finding {
    let mountpoint = location.mountpoint();
    match rustix::fs::statfs(&mountpoint) {
        Err(Errno::NOTCONN | Errno::CONNABORTED) => Finding::failed(
            MOUNT,
            format!("{}: its daemon was killed", mountpoint.display()),
            "run 'branchfs umount'; the next start of the daemon clears it too",
        ),
        Ok(_) | Err(Errno::NOENT) => Finding::ok(MOUNT, mountpoint.display().to_string()),
        Err(error) => {
            Finding::failed(MOUNT, format!("{}: {error}", mountpoint.display()), "check its permissions")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found_and_a_waiter_is_not_it() {
        let id = "fd:00:1234";
        assert_eq!(holder("1: FLOCK  ADVISORY  WRITE 77 fd:00:1234 0 EOF", id), Some(77));
        assert_eq!(holder("1: -> FLOCK  ADVISORY  WRITE 78 fd:00:1234 0 EOF", id), None);
        assert_eq!(holder("2: POSIX  ADVISORY  WRITE 79 fd:00:1234 0 EOF", id), None);
        assert_eq!(holder("3: FLOCK  ADVISORY  WRITE 80 fd:00:12345 0 EOF", id), None);
        assert_eq!(holder("", id), None);
    }
}
