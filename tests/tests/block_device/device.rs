//! A recorded disk under a mounted filesystem, and plain disks made of what was recorded. All mounts are in a mount
//! namespace of the test's own and end with it, whatever happens.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};

use crate::log::{Logged, read_all};
use crate::recorder;

/// Runs `test` on a thread with a mount namespace of its own, in an empty directory in memory.
pub(crate) fn in_own_namespace(test: impl FnOnce(&Path) + Send) {
    let dir = tempfile::tempdir().unwrap();
    let run = || {
        // SAFETY: from here on this thread shares mounts, umask and directory with no other.
        unsafe { assert_eq!(libc::unshare(libc::CLONE_NEWNS | libc::CLONE_FS), 0) };
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        mount("none", dir.path(), "tmpfs", MountFlags::empty(), None).unwrap();
        test(dir.path());
    };
    let ended = std::thread::scope(|scope| scope.spawn(run).join());
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

/// Held while a process is made, and while something is unmounted. Until it runs its program a new process has copies of
/// all that is open here, also of what another test has on its disk, which that test then cannot unmount.
static FORKS: Mutex<()> = Mutex::new(());

fn no_other_forks() -> MutexGuard<'static, ()> {
    FORKS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let _alone = no_other_forks();
    command.spawn()
}

/// Runs a command to its end.
pub(crate) fn output(command: &mut Command) -> std::io::Result<Output> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    spawn(command)?.wait_with_output()
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command) {
    let output = output(command).unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
}

/// A mount that ends when this is dropped.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// Of an image, through a loop device that goes with the mount. `options` are as for mount(8).
    pub(crate) fn image(image: &Path, at: &Path, options: &str) -> Mounted {
        run(Command::new("mount").args(["-o", "loop", "-o", &format!("rw,{options}")]).arg(image).arg(at));
        Mounted(at.to_owned())
    }

    /// A native view, as a group mounts it.
    pub(crate) fn overlay(paths: &branch_store::NativePaths, at: &Path) -> Mounted {
        let dirs = [("lowerdir", &paths.lower), ("upperdir", &paths.upper), ("workdir", &paths.work)];
        let dirs = dirs.map(|(key, path)| format!("{key}={}", path.display())).join(",");
        let options = format!("{dirs},index=on,redirect_dir=on,metacopy=off,noatime");
        run(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(at));
        Mounted(at.to_owned())
    }

    /// Makes the machine another boot of itself, with an id that `file` will hold.
    pub(crate) fn boot_id(file: &Path) -> Mounted {
        let at = Path::new("/proc/sys/kernel/random/boot_id");
        std::fs::write(file, std::fs::read("/proc/sys/kernel/random/uuid").unwrap()).unwrap();
        mount_bind(file, at).unwrap();
        Mounted(at.to_owned())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let flags = if std::thread::panicking() { UnmountFlags::DETACH } else { UnmountFlags::empty() };
        let unmounted = {
            let _alone = no_other_forks();
            unmount(&self.0, flags)
        };
        // The first panic tells more.
        if !std::thread::panicking() {
            unmounted.unwrap();
        }
    }
}

/// A loop device kept from others, so that what was on it is on another one the next time: the same filesystem then
/// has another device number, as after many a start of a machine.
pub(crate) struct Taken(Option<PathBuf>);

impl Taken {
    /// The device of a filesystem, once that is unmounted. `file` is any file.
    pub(crate) fn take(device: u64, file: &Path) -> Taken {
        let device = PathBuf::from(format!("/dev/loop{}", rustix::fs::minor(device)));
        let taken = output(Command::new("losetup").arg(&device).arg(file)).unwrap();
        // If not, it is somebody else's, which is as good.
        Taken(taken.status.success().then_some(device))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(device) = &self.0 {
            let freed = output(Command::new("losetup").arg("-d").arg(device));
            // The first panic tells more.
            if !std::thread::panicking() {
                assert!(freed.unwrap().status.success(), "{} is free again", device.display());
            }
        }
    }
}

/// An image that a recorder shows as a file, and what it has written down so far.
pub(crate) struct Recording {
    file: Option<Mounted>,
    server: Child,
    log: File,
}

impl Recording {
    /// Begins with the image's content; the image itself stays as it is. `test` is the name of the running test.
    pub(crate) fn start(test: &str, image: &Path, dir: &Path) -> Recording {
        let log = File::from(memfd_create("recording", MemfdFlags::CLOEXEC).unwrap());
        let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let shown = dir.join("recorded");
        File::create(&shown).unwrap();
        mount_fuse(&device, &shown);
        let mut server = Command::new(std::env::current_exe().unwrap());
        server
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(recorder::IMAGE, image)
            .env(recorder::LOG, format!("/proc/{}/fd/{}", std::process::id(), log.as_raw_fd()))
            .stdin(Stdio::from(device))
            .stdout(Stdio::null());
        let server = spawn(&mut server).unwrap();
        Recording { file: Some(Mounted(shown)), server, log }
    }

    /// The file that is the disk.
    pub(crate) fn path(&self) -> &Path {
        self.file.as_ref().unwrap().path()
    }

    /// Where the next request will be in the log. What the host was told so far lies before it.
    pub(crate) fn position(&self) -> u64 {
        self.log.metadata().unwrap().len()
    }

    /// Ends the recorder.
    pub(crate) fn finish(mut self) -> Vec<Logged> {
        self.file = None;
        assert!(self.server.wait().unwrap().success(), "the recorder");
        read_all(&File::open(format!("/proc/self/fd/{}", self.log.as_raw_fd())).unwrap())
    }
}

impl Drop for Recording {
    /// Killed, it fails what is asked of the disk, so that nobody waits for it.
    fn drop(&mut self) {
        if self.server.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.server.kill().ok();
            self.server.wait().ok();
        }
    }
}

/// The file system's root is a regular file, so it is mounted on one.
fn mount_fuse(device: &OwnedFd, at: &Path) {
    let data = format!("fd={},rootmode=100000,user_id=0,group_id=0\0", device.as_fd().as_raw_fd());
    let data = std::ffi::CStr::from_bytes_with_nul(data.as_bytes()).unwrap();
    mount("recorder", at, "fuse", MountFlags::NOSUID | MountFlags::NODEV, data).unwrap();
}
