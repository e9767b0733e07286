//! A workspace at a place of the test's choice: another filesystem, an odd path, a store elsewhere. Unlike
//! [`crate::Workspace`] it cares for nothing but its daemon.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use branch_proto::Client;
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{binary, clean_environment, pidfd, wait_dead};

/// A base and its store. Dropping stops the daemon.
#[derive(Debug)]
pub struct Site {
    base: PathBuf,
    store: PathBuf,
    home: TempDir,
}

impl Site {
    /// `branchfs init` in a directory that is there, with the store in it.
    pub fn init(base: &Path) -> Site {
        let site = Site::at(base, &base.join(".branchfs"));
        site.ok(&["init"]);
        site
    }

    /// The same with the store elsewhere.
    pub fn init_with_store(base: &Path, store: &Path) -> Site {
        let site = Site::at(base, store);
        let output = site.cli(&[OsStr::new("init"), OsStr::new("--store"), store.as_os_str()]);
        assert!(output.status.success(), "{output:?}");
        site
    }

    /// One that has been initialised, or never will be.
    pub fn at(base: &Path, store: &Path) -> Site {
        let home = tempfile::tempdir().expect("a home");
        Site { base: base.to_owned(), store: store.to_owned(), home }
    }

    /// The base directory.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The store directory.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// The view of a branch.
    pub fn view(&self, branch: &str) -> PathBuf {
        self.store.join("mnt").join(branch)
    }

    /// Runs a verb to its end.
    pub fn cli<S: AsRef<OsStr>>(&self, args: &[S]) -> Output {
        let mut command = Command::new(binary());
        // Not the current directory: the base may be gone.
        command.arg("-C").arg(&self.base).args(args).current_dir("/");
        clean_environment(&mut command, self.home.path());
        command.output().expect("branchfs runs")
    }

    /// Runs a verb that must succeed.
    pub fn ok<S: AsRef<OsStr>>(&self, args: &[S]) {
        let output = self.cli(args);
        assert!(output.status.success(), "{output:?}\n{}", self.log());
    }

    /// Runs a verb that must fail in words; these.
    pub fn refused<S: AsRef<OsStr>>(&self, args: &[S]) -> String {
        let output = self.cli(args);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(1..=8)), "{output:?}");
        assert!(words.starts_with("branchfs: "), "no words of ours: {words}");
        assert!(!words.contains("panicked"), "{words}");
        words
    }

    /// A connection to the daemon, started if need be.
    pub fn client(&self) -> Client {
        let socket = self.store.join("daemon.sock");
        Client::connect(&socket).unwrap_or_else(|_| {
            self.ok(&["status"]);
            Client::connect(&socket).expect("connected")
        })
    }

    /// Kills the daemon and returns when it is dead. The next verb starts another.
    pub fn kill_daemon(&self) {
        let pid = self.client().welcome().pid;
        let watched = pidfd(pid);
        kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL).expect("killed");
        wait_dead(watched);
    }

    /// What the daemons have said.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.store.join("daemon.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// No daemon has panicked.
    pub fn assert_no_panic(&self) {
        let log = self.log();
        assert!(!log.contains("panicked"), "{log}");
    }

    /// Stops the daemon, however broken the rest is.
    fn stop(&self) {
        if let Ok(mut client) = Client::connect(&self.store.join("daemon.sock")) {
            let watched = pidfd(client.welcome().pid);
            // A stop that fails on the way still ends the process.
            if let Err(error) = client.shutdown() {
                eprintln!("stopping the daemon: {error}");
            }
            wait_dead(watched);
        }
        // A dead mount is left only where the test has killed the daemon last.
        if let Err(errno) = rustix::mount::unmount(self.store.join("mnt"), UnmountFlags::DETACH)
            && !matches!(errno, rustix::io::Errno::INVAL | rustix::io::Errno::NOENT)
        {
            eprintln!("unmounting: {errno}");
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the daemon's log\n{}---", self.log());
        }
        self.stop();
    }
}
