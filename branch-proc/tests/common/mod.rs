//! What the tests of this crate share.
#![allow(dead_code)] // each test binary uses its own part

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use branch_proc::{CaptureOptions, Captured, Command, Stdio};
use rustix::event::{PollFd, PollFlags, Timespec};

/// Far longer than anything here takes: a test that reaches it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Ways out of a process group, each of which writes a byte to descriptor 9 and keeps it open: sessions of their own,
/// deaf to signals, orphaned, stopped. A line that says for what the program then waits belongs after it.
pub(crate) const ESCAPES: &str = r#"
    setsid sh -c 'echo >&9; exec sleep 60' &
    (trap '' TERM HUP INT QUIT; echo >&9; exec sleep 60) &
    nohup sh -c 'echo >&9; exec sleep 60' >/dev/null 2>&1 &
    (setsid sh -c '(setsid sh -c "echo >&9; exec sleep 60" &)' &)
    sh -c 'kill -STOP $$' &
    while ! grep -q '^State:.T' /proc/$!/status; do :; done
    echo >&9
"#;
/// How many bytes come of it.
pub(crate) const ESCAPES_COUNT: usize = 5;

/// A shell script to run.
pub(crate) fn sh(script: &str) -> Command {
    Command::new(["/bin/sh", "-c", script])
}

/// Runs to the end, with output kept and nothing on stdin.
pub(crate) fn run(command: Command) -> Captured {
    command.stdin(Stdio::Null).capture(CaptureOptions::default()).unwrap()
}

/// Standard output of a run that must have succeeded.
pub(crate) fn stdout_of(command: Command) -> String {
    let captured = run(command);
    let stderr = String::from_utf8_lossy(&captured.stderr.bytes).into_owned();
    assert!(captured.outcome.success(), "{:?}: {stderr}", captured.outcome);
    assert!(!captured.stdout.truncated());
    String::from_utf8(captured.stdout.bytes).unwrap()
}

/// Held while the writing end of a [`Witness`] is open here, and by whoever makes a process: one that is made
/// meanwhile has a copy until it has come to close it, and on a busy machine that can be after the group's end.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pipe whose writing end goes into a group: bytes say "I am there", end of file says "all of us are gone".
pub(crate) struct Witness {
    read: File,
    /// Everything seen so far.
    pub(crate) text: Vec<u8>,
}

/// What a witness pipe shows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Bytes(usize),
    AllGone,
    Nothing,
}

impl Witness {
    pub(crate) fn new() -> (Witness, OwnedFd) {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        (Witness { read: read.into(), text: Vec::new() }, write)
    }

    /// Waits for the next event, at most `patience`.
    pub(crate) fn look(&mut self, patience: Duration) -> Seen {
        let mut watched = [PollFd::new(&self.read, PollFlags::IN)];
        let timeout = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: 0 };
        if rustix::event::poll(&mut watched, Some(&timeout)).unwrap() == 0 {
            return Seen::Nothing;
        }
        let mut piece = [0; 64];
        let count = self.read.read(&mut piece).unwrap();
        self.text.extend_from_slice(&piece[..count]);
        if count == 0 { Seen::AllGone } else { Seen::Bytes(count) }
    }

    /// Waits until `count` bytes have come.
    pub(crate) fn wait_for(&mut self, count: usize) {
        let mut seen = 0;
        while seen < count {
            match self.look(PATIENCE) {
                Seen::Bytes(more) => seen += more,
                other => panic!("{seen} of {count} came, then {other:?}"),
            }
        }
    }
}

/// Set in the environment of a test binary that runs again as an ordinary user.
const AS_USER: &str = "BRANCH_PROC_TEST_AS_USER";

/// Runs all tests of this binary again as `nobody`.
pub(crate) fn again_as_an_ordinary_user(this_test: &str) {
    again_as_an_ordinary_user_with(this_test, &[]);
}

/// As above, with more variables in the environment.
pub(crate) fn again_as_an_ordinary_user_with(this_test: &str, env: &[(&str, &Path)]) {
    if std::env::var_os(AS_USER).is_some() {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: already an ordinary user");
        return;
    }
    let alone = alone();
    if process::Command::new("setpriv").arg("--version").output().is_err() {
        println!("skipped: no setpriv (util-linux)");
        return;
    }
    if !branch_proc::host::Report::probe().user_namespaces.is_available() {
        println!("skipped: no user namespaces on this host");
        return;
    }
    let (_dir, copy) = copy_for_everyone();
    let again = process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy)
        .args(["--skip", this_test])
        .env(AS_USER, "1")
        .envs(env.iter().copied())
        .current_dir("/")
        .stdin(process::Stdio::null())
        .stdout(process::Stdio::piped())
        .stderr(process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(alone);
    let output = again.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "as nobody:\n{text}");
    assert!(!text.contains("running 0 tests"), "{text}");
}

/// A copy of this test binary that every user can reach, as the build folder may be out of reach.
pub(crate) fn copy_for_everyone() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = dir.path().join("tests");
    // Not by this process: children that other tests fork meanwhile would have it open for writing (ETXTBSY).
    let copied = process::Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&copy).status();
    assert!(copied.unwrap().success());
    (dir, copy)
}
