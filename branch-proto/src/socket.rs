//! Unix sockets whose path may be longer than `sun_path` (108 bytes with the final NUL, unix(7)).

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Longest path `sun_path` holds.
const SUN_PATH_MAX: usize = 107;

/// Calls `act` with a path that means `socket` and fits: through a descriptor of its directory if need be.
pub(crate) fn with_short_path<T>(socket: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if socket.as_os_str().as_bytes().len() <= SUN_PATH_MAX {
        return act(socket);
    }
    let (Some(directory), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket path has no file name"));
    };
    let directory =
        rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    act(&short)
}
