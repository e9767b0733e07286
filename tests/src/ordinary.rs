//! A workspace of an ordinary user, for tests that run as root: nobody's, with a `/dev/fuse` that is open meanwhile.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Command, Output};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::{binary, can_mount, clean_environment, is_mounted, skip};

/// The ordinary user's id.
pub const NOBODY: u32 = 65534;

/// `/dev/fuse` open to all, as distributions have it; the mode found is restored. One test at a time, over all
/// processes: otherwise one would restore while another mounts.
#[derive(Debug)]
struct OpenDevice {
    device: File,
    mode: u32,
}

impl OpenDevice {
    fn new() -> OpenDevice {
        let device =
            File::options().read(true).write(true).open("/dev/fuse").expect("can_mount has opened it");
        flock(&device, FlockOperation::LockExclusive).expect("locked");
        let mode = device.metadata().expect("its mode").mode() & 0o7777;
        let opened = OpenDevice { device, mode };
        opened.device.set_permissions(Permissions::from_mode(0o666)).expect("opened up");
        opened
    }
}

impl Drop for OpenDevice {
    fn drop(&mut self) {
        self.device.set_permissions(Permissions::from_mode(self.mode)).expect("as it was");
    }
}

/// A workspace of an ordinary user. Views and daemon are out of reach for us, root or not: the kernel shows a
/// user's mount to that user only. What a test wants to know it asks by commands of that user.
#[derive(Debug)]
pub struct Ordinary {
    dir: TempDir,
    _device: OpenDevice,
}

impl Ordinary {
    /// In the directory `the base`, with a file `file`, initialised; `None`, with a printed reason, where this cannot
    /// be done.
    pub fn new() -> Option<Ordinary> {
        let missing = |tool: &&str| Command::new(tool).arg("--version").output().is_err();
        if !rustix::process::geteuid().is_root() {
            skip("not root: all other tests run as this ordinary user");
            return None;
        }
        if let Some(tool) = ["fusermount3", "setpriv"].iter().find(|tool| missing(tool)) {
            skip(&format!("no {tool}"));
            return None;
        }
        if !can_mount() {
            return None;
        }
        let user = Ordinary { dir: tempfile::tempdir().expect("a directory"), _device: OpenDevice::new() };
        user.make();
        user.ok("branchfs init");
        Some(user)
    }

    fn make(&self) {
        fs::set_permissions(self.dir.path(), Permissions::from_mode(0o755)).expect("readable");
        // The build may lie where nobody can look.
        fs::create_dir(self.bin()).expect("made");
        fs::copy(binary(), self.bin().join("branchfs")).expect("copied");
        for name in ["home", "tmp", "the base"] {
            let path = self.dir.path().join(name);
            fs::create_dir(&path).expect("made");
            chown(path, Some(NOBODY), Some(NOBODY)).expect("given away");
        }
        self.ok("echo base >file; chmod 640 file");
    }

    /// The base directory.
    pub fn base(&self) -> PathBuf {
        self.dir.path().join("the base")
    }

    /// Where the views are mounted.
    pub fn mountpoint(&self) -> PathBuf {
        self.base().join(".branchfs/mnt")
    }

    /// The user's home.
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// The user's directory for temporary files.
    pub fn tmp(&self) -> PathBuf {
        self.dir.path().join("tmp")
    }

    /// A directory in front of the user's PATH, root's; anybody can read what is put there.
    pub fn bin(&self) -> PathBuf {
        self.dir.path().join("bin")
    }

    /// A shell of a user, in the base.
    pub fn shell(&self, user: u32, script: &str) -> Output {
        let mut command = Command::new("setpriv");
        clean_environment(&mut command, &self.home());
        let mut path = self.bin().into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        command.env("PATH", path).env("TMPDIR", self.tmp());
        command.args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()]);
        command.args(["sh", "-c", script]).current_dir(self.base());
        command.output().expect("a shell")
    }

    /// The exit code of a script.
    pub fn code(&self, script: &str) -> i32 {
        self.shell(NOBODY, script).status.code().expect("it has exited")
    }

    /// The output of a script that must succeed.
    pub fn ok(&self, script: &str) -> String {
        let output = self.shell(NOBODY, &format!("set -e; {script}"));
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{script}: {}\n{out}{err}\n{}", output.status, self.log());
        out.into_owned()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.base().join(".branchfs/daemon.log")).unwrap_or_default()
    }
}

impl Drop for Ordinary {
    fn drop(&mut self) {
        let output = self.shell(NOBODY, "branchfs umount");
        let mounted = is_mounted(&self.mountpoint());
        if mounted {
            rustix::mount::unmount(self.mountpoint(), rustix::mount::UnmountFlags::DETACH)
                .expect("unmounted");
        }
        if !std::thread::panicking() {
            assert!(output.status.success() && !mounted, "{output:?}");
        }
    }
}
