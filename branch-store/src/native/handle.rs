//! File handles: how overlayfs notes which object of the base a file was copied up from.

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

/// Bytes of a handle, at most (`MAX_HANDLE_SZ`).
const HANDLE_MAX: usize = 128;
/// Version, magic, length, flags, type and 16 bytes of the filesystem's id before the handle itself in the attribute
/// `overlay.origin` (`struct ovl_fb` in fs/overlayfs/overlayfs.h).
const ORIGIN_HEAD: usize = 21;
const ORIGIN_MAGIC: u8 = 0xfb;

/// Names an inode of one filesystem for as long as it exists.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Handle {
    kind: u8,
    bytes: Vec<u8>,
}

/// As name_to_handle_at(2) fills it in.
#[repr(C)]
struct FileHandle {
    bytes: u32,
    kind: i32,
    handle: [u8; HANDLE_MAX],
}

impl Handle {
    /// The handle of a name, which is not followed; `None` on a filesystem without handles.
    pub(super) fn of(dir: impl AsFd, name: &[u8]) -> Result<Option<Handle>, Errno> {
        let mut path = name.to_vec();
        path.push(0);
        let mut answer = FileHandle { bytes: HANDLE_MAX as u32, kind: 0, handle: [0; HANDLE_MAX] };
        let mut mount: libc::c_int = 0;
        // SAFETY: the path ends with a NUL byte; the handle has room for as many bytes as it says; both places live
        // until the call returns.
        let result = unsafe {
            libc::syscall(
                libc::SYS_name_to_handle_at,
                dir.as_fd().as_raw_fd(),
                path.as_ptr(),
                &raw mut answer,
                &raw mut mount,
                0,
            )
        };
        if result == 0 {
            let bytes = answer.handle[..(answer.bytes as usize).min(HANDLE_MAX)].to_vec();
            return Ok(Some(Handle { kind: answer.kind as u8, bytes }));
        }
        match Errno::from_io_error(&std::io::Error::last_os_error()) {
            Some(Errno::NOTSUP | Errno::OVERFLOW) => Ok(None),
            other => Err(other.unwrap_or(Errno::IO)),
        }
    }

    /// From the value of `overlay.origin`; `None` for one that names nothing.
    pub(super) fn of_origin(value: &[u8]) -> Option<Handle> {
        let [_, magic, length, _, kind, ..] = *value else { return None };
        let whole = magic == ORIGIN_MAGIC && usize::from(length) == value.len();
        let bytes = value.get(ORIGIN_HEAD..).filter(|bytes| whole && !bytes.is_empty())?;
        Some(Handle { kind, bytes: bytes.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux 6.18 writes it for a file of ext4.
    #[test]
    fn an_origin_is_read_and_what_is_none_is_not() {
        let mut origin = vec![0, 0xfb, 0x1d, 0, 1];
        origin.extend([0; 16]);
        origin.extend([0x26, 0x4b, 0xaf, 0, 0x36, 0x74, 0xdd, 0xf3]);
        let handle = Handle::of_origin(&origin).unwrap();
        assert_eq!((handle.kind, &handle.bytes[..4]), (1, &[0x26, 0x4b, 0xaf, 0][..]));
        assert_eq!(Handle::of_origin(&origin[..28]), None);
        assert_eq!(Handle::of_origin(b""), None);
    }

    #[test]
    fn two_names_of_a_file_have_one_handle_and_two_files_have_two() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "").unwrap();
        std::fs::write(dir.path().join("c"), "").unwrap();
        std::fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        let fd = std::fs::File::open(dir.path()).unwrap();
        let [a, b, c] = [b"a", b"b", b"c"].map(|name| Handle::of(&fd, name).unwrap());
        assert!(a == b && a != c && a.is_some());
    }
}
