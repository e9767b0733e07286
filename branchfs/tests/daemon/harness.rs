//! A workspace of its own for every test, with a daemon as a child process.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use branch_proto::{BranchInfo, Client, Event, Events, GroupKind};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tempfile::TempDir;

/// Bound for waits that a working daemon ends at once.
const PATIENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

pub(crate) struct Workspace {
    dir: TempDir,
    daemon: Option<Child>,
}

/// A process that stays until it is killed.
pub(crate) struct Sleeper {
    child: Child,
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

impl Workspace {
    /// With a running daemon; `None`, with a printed reason, where nothing can be mounted.
    pub(crate) fn served() -> Option<Workspace> {
        if !crate::can_mount::can_mount() {
            return None;
        }
        let mut workspace = Workspace { dir: tempfile::tempdir().expect("directory"), daemon: None };
        fs::create_dir(workspace.base()).expect("base");
        fs::write(workspace.base().join("file"), "base\n").expect("file");
        branch_store::init(&workspace.base(), &workspace.store()).expect("initialised");
        workspace.start();
        Some(workspace)
    }

    pub(crate) fn base(&self) -> PathBuf {
        self.dir.path().join("base")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub(crate) fn mountpoint(&self) -> PathBuf {
        self.dir.path().join("views")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.store().join("daemon.sock")
    }

    /// Starts a daemon; it must become ready.
    pub(crate) fn start(&mut self) {
        let (daemon, word) = self.launch();
        assert_eq!(word, "R", "the daemon did not start");
        self.daemon = Some(daemon);
    }

    /// The same of one that may have only so many descriptors, and whose kernel opens files by itself.
    pub(crate) fn restart_with_descriptors(&mut self, descriptors: u32) {
        self.signal(Signal::TERM);
        assert!(self.ended().success());
        let mut shell = Command::new("sh");
        let limited = format!("ulimit -n {descriptors} && exec \"$@\"");
        shell
            .args(["-c", &limited, "sh", env!("CARGO_BIN_EXE_branchfs")])
            .args(["daemon", "--data", "cached"]);
        let (daemon, word) = self.launch_by(shell);
        assert_eq!(word, "R", "the daemon did not start");
        self.daemon = Some(daemon);
    }

    /// Starts a daemon and hears what it says.
    pub(crate) fn launch(&self) -> (Child, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_branchfs"));
        command.arg("daemon");
        self.launch_by(command)
    }

    fn launch_by(&self, mut command: Command) -> (Child, String) {
        let mut daemon = command
            .arg("--launched")
            .arg("--base")
            .arg(self.base())
            .arg("--store")
            .arg(self.store())
            .arg("--mountpoint")
            .arg(self.mountpoint())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the daemon's process");
        let mut word = String::new();
        daemon.stdout.take().expect("piped").read_to_string(&mut word).expect("a word");
        (daemon, word)
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.socket()).expect("connected")
    }

    pub(crate) fn subscribe(&self) -> Events {
        let mut events = self.client().subscribe().expect("subscribed");
        assert_eq!(next(&mut events), Event::Subscribed);
        events
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(self.daemon.as_ref().expect("a daemon"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("signalled");
    }

    /// Waits for the daemon's end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut daemon = self.daemon.take().expect("a daemon");
        let pidfd = pidfd_open(Pid::from_child(&daemon), PidfdFlags::empty()).expect("not reaped yet");
        assert!(is_readable_within(&pidfd, &PATIENCE), "the daemon does not end");
        daemon.wait().expect("reaped")
    }

    /// Nothing mounted, no socket.
    pub(crate) fn assert_no_trace(&self) {
        assert!(!is_mounted(&self.mountpoint()), "still mounted");
        assert!(!self.socket().exists(), "the socket is still there");
    }

    pub(crate) fn create(&self, names: &[&str], parent: &str) -> Vec<BranchInfo> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.client().create(&names, parent, GroupKind::Exclusive).expect("created")
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.client().list().expect("listed").into_iter().map(|branch| branch.name).collect()
    }

    pub(crate) fn view(&self, branch: &str) -> PathBuf {
        self.mountpoint().join(branch)
    }
}

impl Drop for Workspace {
    /// Also after a failed assertion: neither daemon nor mount stays behind.
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().expect("killed");
            daemon.wait().expect("reaped");
        }
        if is_mounted(&self.mountpoint()) {
            unmount(&self.mountpoint());
        }
    }
}

impl Sleeper {
    pub(crate) fn new() -> Sleeper {
        Sleeper::running("exec sleep 1000")
    }

    /// A shell that waits for a line on its input before it runs the script.
    pub(crate) fn waiting_to(script: &str) -> Sleeper {
        Sleeper::running(&format!("read go && {{ {script}; }}"))
    }

    fn running(script: &str) -> Sleeper {
        let mut shell = Command::new("sh");
        let child = shell.args(["-c", script]).stdin(Stdio::piped()).spawn().expect("a shell");
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("pidfd");
        Sleeper { child, pid: pid.as_raw_nonzero().get(), pidfd }
    }

    /// A new one, attached to the branch.
    pub(crate) fn in_branch(workspace: &Workspace, branch: &str) -> Sleeper {
        let sleeper = Sleeper::new();
        sleeper.attach(workspace, branch);
        sleeper
    }

    pub(crate) fn attach(&self, workspace: &Workspace, branch: &str) {
        workspace.client().attach(branch, self.pid, self.pidfd.as_fd()).expect("attached");
    }

    /// Lets the script run.
    pub(crate) fn go(&mut self) {
        self.child.stdin.take().expect("once").write_all(b"go\n").expect("written");
    }

    /// How it ended.
    pub(crate) fn wait_end(&mut self) -> ExitStatus {
        assert!(is_readable_within(&self.pidfd, &PATIENCE), "still alive");
        self.child.wait().expect("reaped")
    }

    /// Whether it has ended already, without waiting.
    pub(crate) fn is_dead(&self) -> bool {
        is_readable_within(&self.pidfd, &Timespec { tv_sec: 0, tv_nsec: 0 })
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
    }
}

pub(crate) fn next(events: &mut Events) -> Event {
    assert!(is_readable_within(&*events, &PATIENCE), "no event");
    events.next().expect("not at its end").expect("an event")
}

/// As a user would do it, also with files open in it.
pub(crate) fn unmount(path: &Path) {
    if rustix::process::geteuid().is_root() {
        return rustix::mount::unmount(path, UnmountFlags::DETACH).expect("detached");
    }
    let helper = Command::new("fusermount3").args(["-u", "-z"]).arg(path).status();
    assert!(helper.expect("fusermount3").success());
}

pub(crate) fn is_mounted(path: &Path) -> bool {
    // Paths that others mount at need not be text.
    let mounts = fs::read("/proc/self/mountinfo").expect("mountinfo");
    String::from_utf8_lossy(&mounts).lines().any(|line| line.split(' ').nth(4) == path.to_str())
}

fn is_readable_within(fd: impl AsFd, patience: &Timespec) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(patience)).expect("poll") == 1
}
