//! Attaching the FUSE device to a directory, and detaching it.
//!
//! Not left to the crate: at the end of a session it takes a mount that is gone for one that is there, and
//! unmounts by path whatever is there then, be it the next daemon's mount. Here a path is unmounted only
//! while it shows the mount that was made.

use std::ffi::{CString, OsStr};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{AtFlags, CWD, Statx, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::Access;

const DEVICE: &str = "/dev/fuse";
const NAME: &str = "branchfs";
const TYPE: &str = "fuse.branchfs";
const HELPERS: [&str; 2] = ["fusermount3", "fusermount"];
const CONNECTIONS: &str = "/sys/fs/fuse/connections";
const DEVICES: &str = "/sys/class/bdi";
/// Dead mounts on top of each other that are cleared in one go.
const DEAD_MAX: usize = 64;
/// `STATX_MNT_ID_UNIQUE`
const UNIQUE_MOUNT_ID: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// A mount that was made, told apart from any other at the same path.
#[derive(Debug)]
pub(super) struct Attachment {
    mountpoint: PathBuf,
    /// Never given to another mount before the next boot, from Linux 6.8 on; before that, sooner or later.
    mount_id: u64,
    /// Minor number of the mount's device, which is also the name of the connection.
    connection: u32,
}

/// What detaching came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detached {
    /// The session ends, or has ended.
    Over,
    /// Processes inside keep the session until they leave or this process ends.
    InUse,
}

/// What [`clear_dead_mount`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadMount {
    /// A mount whose server is gone; it is detached now.
    Cleared,
    /// No mount.
    NotMounted,
    /// A mount that answers, ours or not.
    Alive,
}

/// Mounts a new FUSE device: directly where that is permitted, else with the set-user-ID helper.
pub(super) fn attach(mountpoint: &Path, access: Access) -> io::Result<(OwnedFd, Attachment)> {
    let mountpoint = mountpoint.canonicalize()?;
    let device = match attach_directly(&mountpoint, access) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            attach_by_helper(&mountpoint, access)?
        }
        other => other?,
    };
    let seen = look(&mountpoint, AtFlags::STATX_DONT_SYNC)?;
    let attachment = Attachment { mountpoint, mount_id: seen.stx_mnt_id, connection: seen.stx_dev_minor };
    Ok((device, attachment))
}

/// Detaches a mount left behind by a server that died: every access to it answers ENOTCONN.
///
/// # Errors
/// The host's, also for a path that does not exist.
pub fn clear_dead_mount(path: &Path) -> io::Result<DeadMount> {
    for cleared in 0..DEAD_MAX {
        match look(path, AtFlags::STATX_FORCE_SYNC) {
            Err(Errno::NOTCONN | Errno::CONNABORTED) => detach(path)?,
            Err(other) => return Err(other.into()),
            Ok(_) if cleared > 0 => return Ok(DeadMount::Cleared),
            Ok(seen) if seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) => {
                return Ok(DeadMount::Alive);
            }
            Ok(_) => return Ok(DeadMount::NotMounted),
        }
    }
    Err(io::Error::other(format!("more than {DEAD_MAX} dead mounts on {}", path.display())))
}

impl Attachment {
    pub(super) fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Minor number of the device, whose major number is 0.
    pub(super) fn connection(&self) -> u32 {
        self.connection
    }

    /// Has the kernel read so far ahead, in bytes. What a connection asks for itself it bounds by its default of 128 KiB,
    /// which is an eighth of what one request may be. Root only: for others it stays as it is.
    pub(super) fn read_ahead(&self, bytes: u32) {
        let file = Path::new(DEVICES).join(format!("0:{}", self.connection)).join("read_ahead_kb");
        if let Err(error) = std::fs::write(&file, (bytes / 1024).to_string()) {
            tracing::debug!("{}: {error}", file.display());
        }
    }

    /// Unmounts, also under processes that are still inside, here or through a bind in another namespace: they
    /// get ENOTCONN. A mount that is gone, or covered by another, is left alone.
    pub(super) fn detach(&self) -> io::Result<Detached> {
        if !self.is_on_top() {
            return Ok(Detached::Over);
        }
        // Forced: the connection ends, and the workers with it, even where the mount lives on.
        match rustix::mount::unmount(&self.mountpoint, UnmountFlags::FORCE | UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(Errno::INVAL) => Ok(Detached::Over),
            Err(Errno::BUSY) => detach(&self.mountpoint).map(|()| Detached::Over),
            Err(Errno::PERM) => self.detach_unprivileged(),
            Err(other) => Err(other.into()),
        }
    }

    fn detach_unprivileged(&self) -> io::Result<Detached> {
        if unmount_by_helper(&["-u", "--"], &self.mountpoint).is_ok() {
            return Ok(Detached::Over);
        }
        unmount_by_helper(&["-u", "-z", "--"], &self.mountpoint)?;
        Ok(self.abort())
    }

    fn is_on_top(&self) -> bool {
        let seen = look(&self.mountpoint, AtFlags::STATX_DONT_SYNC);
        seen.is_ok_and(|seen| (seen.stx_mnt_id, seen.stx_dev_minor) == (self.mount_id, self.connection))
    }

    /// Ends the connection of a mount that is detached but in use, where the control filesystem is mounted.
    fn abort(&self) -> Detached {
        let file = Path::new(CONNECTIONS).join(self.connection.to_string()).join("abort");
        match std::fs::write(&file, b"1") {
            Ok(()) => Detached::Over,
            Err(error) => {
                tracing::debug!("aborting connection {}: {error}", self.connection);
                Detached::InUse
            }
        }
    }
}

fn attach_directly(mountpoint: &Path, access: Access) -> io::Result<OwnedFd> {
    let device = OpenOptions::new().read(true).write(true).open(DEVICE)?;
    let options = CString::new(kernel_options(&device, mountpoint, access)?)?;
    rustix::mount::mount(NAME, mountpoint, TYPE, mount_flags(), options.as_c_str())?;
    Ok(OwnedFd::from(device))
}

fn kernel_options(device: &File, mountpoint: &Path, access: Access) -> io::Result<String> {
    let mode = std::fs::metadata(mountpoint)?.mode();
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let fd = device.as_raw_fd();
    let others = others(access);
    Ok(format!("fd={fd},rootmode={mode:o},user_id={uid},group_id={gid},default_permissions{others}"))
}

/// Device nodes and set-user-ID files work as on the base for root; an ordinary user's mount has neither.
fn mount_flags() -> MountFlags {
    if rustix::process::geteuid().is_root() {
        MountFlags::empty()
    } else {
        MountFlags::NODEV | MountFlags::NOSUID
    }
}

/// The helper mounts and sends the device back over the socket it finds as its standard input.
fn attach_by_helper(mountpoint: &Path, access: Access) -> io::Result<OwnedFd> {
    let (ours, its) = UnixStream::pair()?;
    let options = format!("fsname={NAME},subtype={NAME},default_permissions{}", others(access));
    let arguments = [OsStr::new("-o"), OsStr::new(&options), OsStr::new("--"), mountpoint.as_os_str()];
    let helper = run_helper(&arguments, Stdio::from(OwnedFd::from(its)))?;
    let device = receive_device(&ours);
    let output = helper.wait_with_output()?;
    match device? {
        Some(device) => Ok(device),
        None => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

fn run_helper(arguments: &[&OsStr], input: Stdio) -> io::Result<Child> {
    let mut command = Command::new(helper()?);
    command.args(arguments).env("_FUSE_COMMFD", "0");
    command.stdin(input).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
}

fn helper() -> io::Result<&'static str> {
    let runs = |name: &&str| {
        let mut command = Command::new(name);
        command.arg("-V").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    };
    HELPERS.into_iter().find(runs).ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, "mounting needs root or fusermount3 (package fuse3)")
    })
}

fn receive_device(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut data = [IoSliceMut::new(&mut byte)];
    rustix::io::retry_on_intr(|| recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC))?;
    let device = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(device)
}

fn detach(path: &Path) -> io::Result<()> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(Errno::PERM) => unmount_by_helper(&["-u", "-z", "--"], path),
        Err(other) => Err(other.into()),
    }
}

fn unmount_by_helper(flags: &[&str], path: &Path) -> io::Result<()> {
    let mut arguments: Vec<&OsStr> = flags.iter().map(OsStr::new).collect();
    arguments.push(path.as_os_str());
    let output = run_helper(&arguments, Stdio::null())?.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

fn others(access: Access) -> &'static str {
    match access {
        Access::Owner => "",
        Access::All => ",allow_other",
    }
}

fn look(path: &Path, sync: AtFlags) -> rustix::io::Result<Statx> {
    // The mode makes it a question to the server, where `sync` says to ask it.
    let wanted = StatxFlags::MODE | StatxFlags::MNT_ID | UNIQUE_MOUNT_ID;
    statx(CWD, path, sync | AtFlags::NO_AUTOMOUNT, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_directory_is_not_a_dead_mount() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(clear_dead_mount(dir.path()).unwrap(), DeadMount::NotMounted);
        assert!(clear_dead_mount(&dir.path().join("missing")).is_err());
    }

    #[test]
    fn a_mount_that_answers_is_alive() {
        assert_eq!(clear_dead_mount(Path::new("/proc")).unwrap(), DeadMount::Alive);
    }
}
