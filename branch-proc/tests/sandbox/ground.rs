//! Where attempts are made: a base with a view over it, a directory outside that the user may do anything
//! with, and a home.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use branch_proc::{Command, PathPattern, Policy, Preset};
use tempfile::TempDir;

use crate::common::copy_for_everyone;

/// Says to this binary, when it runs as an ordinary user, where its directory outside is.
pub(crate) const OUTSIDE: &str = "BRANCH_PROC_TEST_OUTSIDE";
const NOBODY: u32 = 65534;

pub(crate) struct Ground {
    dir: TempDir,
    outside: TempDir,
    program: (TempDir, PathBuf),
    listener: UnixListener,
}

/// A directory no preset knows of: not in /tmp, as all else here.
pub(crate) fn outside() -> Option<TempDir> {
    let parent = match std::env::var_os(OUTSIDE) {
        Some(parent) => PathBuf::from(parent),
        None if rustix::process::geteuid().is_root() => PathBuf::from("/var/lib"),
        None => std::env::var_os("HOME").map(PathBuf::from)?,
    };
    match tempfile::tempdir_in(&parent) {
        Ok(dir) => Some(dir),
        Err(e) => {
            println!("SKIPPED: no directory outside of /tmp can be made: {}: {e}", parent.display());
            None
        }
    }
}

/// Gives a directory to nobody, until dropped (which removes what is in it).
pub(crate) fn hand_over(dir: &Path) -> impl Drop + use<> {
    struct Back(PathBuf);
    impl Drop for Back {
        fn drop(&mut self) {
            for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
                drop(fs::remove_dir_all(entry.path()));
            }
        }
    }
    if rustix::process::geteuid().is_root() {
        chown(dir, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    Back(dir.to_owned())
}

impl Ground {
    /// None where there is no place for it, which it says.
    pub(crate) fn new() -> Option<Ground> {
        let outside = outside()?;
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        fs::create_dir(dir.path().join("scratch")).unwrap();
        let name = SocketAddr::from_abstract_name(dir.path().as_os_str().as_bytes()).unwrap();
        let listener = UnixListener::bind_addr(&name).unwrap();
        let ground = Ground { dir, outside, program: copy_for_everyone(), listener };
        for place in [ground.outside(""), ground.dir("base"), ground.dir("view")] {
            fs::create_dir_all(place.join("dir/deep")).unwrap();
            fs::create_dir(place.join("empty")).unwrap();
            for file in ["file", "victim", "dir/file", "dir/deep/file", "other", "sized"] {
                fs::write(place.join(file), "something").unwrap();
            }
            // A program that ends well; true(1) may be a link to what looks at its own name.
            fs::write(place.join("tool"), "#!/bin/sh\nexit 0\n").unwrap();
            fs::set_permissions(place.join("tool"), Permissions::from_mode(0o755)).unwrap();
        }
        let link =
            |to: &Path, name: &str| std::os::unix::fs::symlink(to, ground.dir("view").join(name)).unwrap();
        link(&ground.outside("file"), "link-out");
        link(&ground.outside(""), "dir-out");
        for dir in [".ssh", ".cargo/registry"] {
            fs::create_dir_all(ground.home().join(dir)).unwrap();
            fs::write(ground.home().join(dir).join("file"), "secret").unwrap();
        }
        Some(ground)
    }

    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        self.outside.path().join(name)
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn base(&self) -> PathBuf {
        self.dir("base")
    }

    /// Not under /tmp, which the presets allow.
    fn home(&self) -> PathBuf {
        self.outside("home")
    }

    pub(crate) fn bound(&self, command: Command) -> Command {
        command.bind(self.dir("view"), self.base()).current_dir(self.base())
    }

    /// This binary, to make attempts in the view.
    pub(crate) fn command(&self) -> Command {
        let exe = self.program.1.as_os_str();
        let args = [
            exe,
            "--exact".as_ref(),
            "the_attempts_themselves".as_ref(),
            "--nocapture".as_ref(),
            "--test-threads=1".as_ref(),
        ];
        let command = self.bound(Command::new(args));
        command
            .env("BASE", self.base())
            .env("OUTSIDE", self.outside(""))
            .env("HOME", self.home())
            .env("SCRATCH", self.dir("scratch"))
            .env("LISTENER", self.listener_name())
            .env("NETWORK", fs::read_link("/proc/self/ns/net").unwrap())
    }

    fn listener_name(&self) -> OsString {
        let address = self.listener.local_addr().unwrap();
        OsStr::from_bytes(address.as_abstract_name().unwrap()).to_owned()
    }

    /// A preset that also lets this binary run.
    pub(crate) fn policy(&self, preset: Preset) -> Policy {
        let policy = Policy::preset(preset, Some(&self.home())).unwrap();
        policy.exec(PathPattern::new(&self.program.1).unwrap())
    }
}
