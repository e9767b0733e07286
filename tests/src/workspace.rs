//! A workspace of its own for every test: base, store, daemon, mount; nothing of it is left afterwards.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use branch_proto::{BranchInfo, Client, CommitReport, Event, Events, GroupKind};
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{binary, can_mount, pidfd, wait_dead, wait_until_readable};

/// A base directory (with a blank in its path) that is a workspace. The daemon starts with the first verb
/// that needs it, as for any user. Dropping stops it and asserts that nothing is left mounted.
#[derive(Debug)]
pub struct Workspace {
    dir: TempDir,
    base: PathBuf,
    store: PathBuf,
}

impl Workspace {
    /// An empty base; `None`, with a printed reason, where nothing can be mounted.
    pub fn new() -> Option<Workspace> {
        Workspace::over(|_| ())
    }

    /// A base filled by `fill`.
    pub fn over(fill: impl FnOnce(&Path)) -> Option<Workspace> {
        if !can_mount() {
            return None;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let base = dir.path().join("the base");
        fs::create_dir(&base).expect("the base");
        let store = base.join(".branchfs");
        let workspace = Workspace { dir, base, store };
        workspace.initialise(fill, &["init"]);
        Some(workspace)
    }

    /// As [`Workspace::over`], with base and store (which are made) where the test wants them, perhaps on
    /// different filesystems.
    pub fn placed(base: &Path, store: &Path, fill: impl FnOnce(&Path)) -> Option<Workspace> {
        if !can_mount() {
            return None;
        }
        fs::create_dir(base).expect("the base");
        let dir = tempfile::tempdir().expect("a directory");
        let workspace = Workspace { dir, base: base.to_owned(), store: store.to_owned() };
        workspace.initialise(fill, &[OsStr::new("init"), OsStr::new("--store"), store.as_os_str()]);
        Some(workspace)
    }

    fn initialise<S: AsRef<OsStr>>(&self, fill: impl FnOnce(&Path), init: &[S]) {
        fs::create_dir(self.dir.path().join("home")).expect("the home");
        fill(&self.base);
        self.ok(init);
    }

    /// A directory that is not in the base, for what the test needs.
    pub fn outside(&self) -> &Path {
        self.dir.path()
    }

    /// The base directory.
    pub fn base(&self) -> PathBuf {
        self.base.clone()
    }

    /// The store directory.
    pub fn store(&self) -> PathBuf {
        self.store.clone()
    }

    /// Where the views are mounted.
    pub fn mountpoint(&self) -> PathBuf {
        self.store().join("mnt")
    }

    /// The view of a branch.
    pub fn view(&self, branch: &str) -> PathBuf {
        self.mountpoint().join(branch)
    }

    /// `branchfs` in the base, isolated from the user's environment.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(binary());
        command.args(args).current_dir(self.base());
        clean_environment(&mut command, &self.dir.path().join("home"));
        command
    }

    /// Runs a verb to its end.
    pub fn cli<S: AsRef<OsStr>>(&self, args: &[S]) -> Output {
        self.command(args).output().expect("branchfs runs")
    }

    /// Runs a verb that must succeed; its output.
    pub fn ok<S: AsRef<OsStr>>(&self, args: &[S]) -> String {
        run_ok(&mut self.command(args))
    }

    /// A connection to the daemon, started if need be.
    pub fn client(&self) -> Client {
        let socket = self.store().join("daemon.sock");
        Client::connect(&socket).unwrap_or_else(|_| {
            self.ok(&["status"]);
            Client::connect(&socket).expect("connected")
        })
    }

    /// What happens from here on.
    pub fn subscribe(&self) -> Events {
        let mut events = self.client().subscribe().expect("subscribed");
        assert_eq!(Workspace::next(&mut events), Event::Subscribed);
        events
    }

    /// The next event; it must come.
    pub fn next(events: &mut Events) -> Event {
        wait_until_readable(&*events);
        events.next().expect("not at its end").expect("an event")
    }

    /// Forks branches off `parent`.
    pub fn fork(&self, names: &[&str], parent: &str, group: GroupKind) -> Vec<BranchInfo> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.client().create(&names, parent, group).expect("created")
    }

    /// Forks one branch off main; its view.
    pub fn branch(&self, name: &str) -> PathBuf {
        self.fork(&[name], "main", GroupKind::Exclusive);
        self.view(name)
    }

    /// Commits a branch, which must work without a warning.
    pub fn commit(&self, name: &str) -> CommitReport {
        let report = self.client().commit(name).expect("committed");
        assert_eq!(report.warnings, Vec::<String>::new(), "warnings of the commit");
        report
    }

    /// Names of the live branches, `main` included.
    pub fn names(&self) -> Vec<String> {
        self.client().list().expect("listed").into_iter().map(|branch| branch.name).collect()
    }

    /// The daemon's process id, the daemon started if need be.
    pub fn daemon(&self) -> i32 {
        self.client().welcome().pid
    }

    /// Ends the daemon as a power cut would, and returns when it is dead. The next verb starts another.
    pub fn kill_daemon(&self) {
        let pid = self.daemon();
        let watched = pidfd(pid);
        kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL).expect("killed");
        wait_dead(watched);
    }

    /// Unmounts and stops the daemon, also after a crash of it.
    fn take_down(&self) -> Result<(), String> {
        let output = self.cli(&["umount"]);
        if is_mounted(&self.mountpoint()) {
            rustix::mount::unmount(self.mountpoint(), UnmountFlags::DETACH).map_err(|e| e.to_string())?;
            return Err(format!("left mounted: {output:?}"));
        }
        if output.status.success() { Ok(()) } else { Err(format!("umount: {output:?}")) }
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        let down = self.take_down();
        // A second panic would hide the first.
        if !std::thread::panicking() {
            down.expect("nothing is left");
        } else if let Ok(log) = fs::read_to_string(self.store().join("daemon.log")) {
            eprintln!("--- the daemon's log\n{log}---");
        }
    }
}

/// Takes the user's settings away from a command: only PATH, the toolchain's home and a C locale stay.
pub fn clean_environment(command: &mut Command, home: &Path) {
    command.env_clear().env("HOME", home).env("LC_ALL", "C").env("TZ", "UTC");
    for name in [
        "PATH",
        "BRANCHFS_LOG",
        "BRANCHFS_DATA",
        "LLVM_PROFILE_FILE",
        "CARGO_HOME",
        "RUSTUP_HOME",
        "RUST_BACKTRACE",
    ] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    // The proxies of rustup find their toolchain through the real home.
    if let Some(user) = std::env::var_os("HOME") {
        let user = PathBuf::from(user);
        for (name, directory) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
            if std::env::var_os(name).is_none() {
                command.env(name, user.join(directory));
            }
        }
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "t").env(format!("GIT_{role}_EMAIL"), "t@example.org");
        command.env(format!("GIT_{role}_DATE"), "2020-01-01T00:00:00Z");
    }
}

/// Runs a command that must succeed; its standard output.
pub fn run_ok(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// Whether something is mounted at exactly this path.
pub fn is_mounted(path: &Path) -> bool {
    // Blanks are written as octal escapes there, and paths that other tests mount at need not be text.
    let mounts = fs::read("/proc/self/mountinfo").expect("mountinfo");
    let wanted = path.display().to_string().replace(' ', "\\040");
    String::from_utf8_lossy(&mounts).lines().any(|line| line.split(' ').nth(4) == Some(&wanted))
}
