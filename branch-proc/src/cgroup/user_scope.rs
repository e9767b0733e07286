//! A place for control groups from the user's own systemd: a transient scope with this process in it, of which
//! everything below is this process's (`Delegate=yes`; systemd's "Control Group APIs and Delegation").
//!
//! Asked for through systemd's own `busctl` and `systemctl`, which are there wherever systemd is: two calls in the life
//! of a process that needs them are no reason for a D-Bus client, and its executor, in every program with this library.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags};

use super::{files, hierarchy, v2};
use crate::pidfd::{is_of_this_pid_namespace, wait_readable};
use crate::sys;

/// Longest time for all of it. A manager that has something to do answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where systemd's programs are; the caller's `PATH` is the caller's matter.
const PROGRAMS: [&str; 3] = ["/usr/bin", "/bin", "/run/current-system/sw/bin"];
/// The group for this process and those it had made before: there may be none beside the groups that get controllers
/// (`cgroups(7)`, "no internal processes").
const CALLER: &str = "caller";
/// How often those are moved that are made meanwhile.
const ROUNDS_MAX: usize = 64;
/// What of an error message is kept, in bytes.
const MESSAGE_MAX: u64 = 512;

/// A scope that this process is in.
#[derive(Debug)]
pub(super) struct UserScope {
    pub(super) unit: String,
    pub(super) directory: PathBuf,
}

/// A user's service manager, by the directory of its sockets, and the programs that speak to it.
struct Manager {
    runtime: PathBuf,
    busctl: PathBuf,
    systemctl: PathBuf,
}

/// Moves this process, all its threads with it, to a scope of its own. Why not, in words.
pub(super) fn enter() -> Result<UserScope, String> {
    let manager = Manager::of(rustix::process::getuid().as_raw())?;
    manager.is_in_reach()?;
    let unit = format!("branchfs-{}-{}.scope", process::id(), sys::monotonic_nanos());
    manager.start(&unit, Instant::now() + PATIENCE)?;
    let read = |file: &str| fs::read_to_string(file).map_err(|error| format!("{file}: {error}"));
    let own = hierarchy::own(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?).unified;
    match own {
        Some((_, directory)) if directory.file_name() == Some(OsStr::new(&unit)) => {
            make_room(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
            Ok(UserScope { unit, directory })
        }
        _ => Err(format!("{unit} was started, but this process is not in it")),
    }
}

impl Manager {
    fn of(uid: u32) -> Result<Manager, String> {
        let program = |name: &str| {
            let found = PROGRAMS.iter().map(|place| Path::new(place).join(name)).find(|path| path.exists());
            found.ok_or_else(|| format!("there is no {name} here"))
        };
        let runtime = PathBuf::from(format!("/run/user/{uid}"));
        Ok(Manager { runtime, busctl: program("busctl")?, systemctl: program("systemctl")? })
    }

    fn bus(&self) -> PathBuf {
        self.runtime.join("bus")
    }

    /// Whether there is one that knows processes by the same numbers. Else it would move some other process:
    /// containers are given the sockets of their host.
    fn is_in_reach(&self) -> Result<(), String> {
        let peer = peer(&self.bus()).map_err(|e| format!("{}: {e}", self.bus().display()))?;
        let same = peer.is_some_and(|pid| is_of_this_pid_namespace(&pid.to_string()));
        match same && is_of_this_pid_namespace("self") {
            true => Ok(()),
            false => Err("the user's systemd is in another pid namespace".to_owned()),
        }
    }

    /// Starts a scope with this process; returns when the manager is done with that.
    fn start(&self, unit: &str, deadline: Instant) -> Result<(), String> {
        let mut ask = process::Command::new(&self.busctl);
        ask.arg(format!("--address=unix:path={}", self.bus().display()));
        ask.args(request(unit, process::id())).env_clear();
        run(&mut ask, deadline)?;
        // The answer says that there is a job for it. To start what is being started waits for that job's end.
        let mut wait = process::Command::new(&self.systemctl);
        wait.args(["--user", "--quiet", "--no-ask-password", "start", unit]);
        run(wait.env_clear().env("XDG_RUNTIME_DIR", &self.runtime), deadline)
    }
}

/// The arguments of `busctl` (source: `org.freedesktop.systemd1(5)`, `StartTransientUnit`).
fn request(unit: &str, pid: u32) -> Vec<String> {
    let timeout = format!("--timeout={}", PATIENCE.as_secs());
    let manager = "org.freedesktop.systemd1.Manager";
    let call = [&timeout, "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1", manager];
    let pid = pid.to_string();
    let unit = ["StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "fail"];
    let properties = ["4", "PIDs", "au", "1", &pid, "Delegate", "b", "true"];
    let collect = ["CollectMode", "s", "inactive-or-failed", "Description", "s", "Groups of branchfs"];
    let nothing_else = ["0"];
    let all = call.into_iter().chain(unit).chain(properties).chain(collect).chain(nothing_else);
    all.map(str::to_owned).collect()
}

/// Makes the scope's own directory one for groups: whoever is in it goes to one below.
fn make_room(directory: &Path) -> std::io::Result<()> {
    let below = directory.join(CALLER);
    fs::create_dir(&below)?;
    for _ in 0..ROUNDS_MAX {
        let inside = fs::read_to_string(directory.join("cgroup.procs"))?;
        if inside.is_empty() {
            break;
        }
        for pid in inside.lines() {
            match files::write(&below.join("cgroup.procs"), pid) {
                // It has ended.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                moved => moved?,
            }
        }
    }
    v2::delegate(directory);
    Ok(())
}

/// Who listens at a socket, if it is of this user and seen from here: systemd, for those it hands on, else the bus.
fn peer(path: &Path) -> Result<Option<i32>, Errno> {
    // Non-blocking: nobody may be there to take connections.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    let (pid, uid) = sys::peer(socket.as_fd())?;
    Ok((pid > 0 && uid == rustix::process::getuid().as_raw()).then_some(pid))
}

/// Runs a program to its end; its complaint, if it has one.
fn run(command: &mut process::Command, deadline: Instant) -> Result<(), String> {
    let name = Path::new(command.get_program()).file_name().unwrap_or_default().display().to_string();
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = quiet.spawn().map_err(|error| format!("{name}: {error}"))?;
    match has_ended(&child, deadline) {
        Ok(true) => {}
        ended => {
            let killed = child.kill().and_then(|()| child.wait());
            let why = match (ended, killed) {
                (Err(error), _) => error.to_string(),
                (_, Err(error)) => format!("no answer, and it cannot be killed: {error}"),
                (_, Ok(_)) => format!("no answer for {} s", PATIENCE.as_secs()),
            };
            return Err(format!("{name}: {why}"));
        }
    }
    let status = child.wait().map_err(|error| format!("{name}: {error}"))?;
    if status.success() {
        return Ok(());
    }
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take()
        && let Err(error) = stderr.take(MESSAGE_MAX).read_to_end(&mut said)
    {
        return Err(format!("{name}: {status}; its message cannot be read: {error}"));
    }
    let said = String::from_utf8_lossy(&said).split_whitespace().collect::<Vec<_>>().join(" ");
    Err(if said.is_empty() { format!("{name}: {status}") } else { format!("{name}: {said}") })
}

fn has_ended(child: &Child, deadline: Instant) -> Result<bool, Errno> {
    let pidfd = rustix::process::pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    wait_readable(&pidfd, Some(deadline))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// With scripts in place of systemd's programs.
    fn manager(directory: &Path, busctl: &str, systemctl: &str) -> Manager {
        let script = |name: &str, text: &str| {
            let path = directory.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let (busctl, systemctl) = (script("busctl", busctl), script("systemctl", systemctl));
        Manager { runtime: directory.to_owned(), busctl, systemctl }
    }

    fn started(busctl: &str, systemctl: &str, time: Duration) -> (tempfile::TempDir, Result<(), String>) {
        let dir = tempfile::tempdir().unwrap();
        let manager = manager(dir.path(), busctl, systemctl);
        // Another test's child may hold a script open for writing while it is being made (ETXTBSY).
        let done = loop {
            match manager.start("x.scope", Instant::now() + time) {
                Err(why) if why.contains("Text file busy") => {}
                done => break done,
            }
        };
        (dir, done)
    }

    #[test]
    fn this_process_is_what_is_asked_for_and_then_the_job_is_waited_for() {
        let log =
            "#!/bin/sh\necho \"$0 $*\" >> \"${0%/*}/log\"\necho \"$XDG_RUNTIME_DIR\" >> \"${0%/*}/log\"\n";
        let (dir, done) = started(log, log, PATIENCE);
        done.unwrap();
        let seen = fs::read_to_string(dir.path().join("log")).unwrap();
        let place = dir.path().display();
        assert!(seen.starts_with(&format!("{place}/busctl --address=unix:path={place}/bus ")), "{seen}");
        let asked = format!("x.scope fail 4 PIDs au 1 {} Delegate b true", process::id());
        assert!(seen.contains(&asked), "{seen}");
        let waited = format!("systemctl --user --quiet --no-ask-password start x.scope\n{place}\n");
        assert!(seen.ends_with(&waited), "{seen}");
    }

    #[test]
    fn what_systemd_says_is_told() {
        let (_dir, refused) = started("#!/bin/sh\necho 'Access\ndenied' >&2; exit 1\n", "", PATIENCE);
        assert_eq!(refused.unwrap_err(), "busctl: Access denied");
        let (_dir, mute) = started("#!/bin/sh\n", "#!/bin/sh\nexit 3\n", PATIENCE);
        assert_eq!(mute.unwrap_err(), "systemctl: exit status: 3");
    }

    #[test]
    fn a_manager_that_does_not_answer_is_waited_for_no_longer_than_said() {
        let begun = Instant::now();
        let (_dir, hung) = started("#!/bin/sh\nexec sleep 60\n", "", Duration::from_millis(100));
        assert_eq!(hung.unwrap_err(), "busctl: no answer for 5 s");
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn without_a_bus_nobody_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let why = manager(dir.path(), "", "").is_in_reach().unwrap_err();
        assert!(why.contains("/bus: "), "{why}");
    }

    #[test]
    fn a_bus_of_this_user_and_pid_namespace_is_in_reach() {
        let dir = tempfile::tempdir().unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(dir.path().join("bus")).unwrap();
        let peer = peer(&dir.path().join("bus")).unwrap();
        assert_eq!(peer, Some(process::id() as i32));
        let expected = is_of_this_pid_namespace("self");
        assert_eq!(manager(dir.path(), "", "").is_in_reach().is_ok(), expected);
    }
}
