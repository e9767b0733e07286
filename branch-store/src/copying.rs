//! Copying the bytes of one file to another, holes and all. Each call passes the gatekeeper: a disk that fills up
//! in the middle is a case every caller has to survive.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::base::stat_fd;
use crate::disk::Disk;
use crate::error::{Error, Result};

/// Bytes moved per copy_file_range call.
const COPY_CHUNK: u64 = 8 << 20;
/// Bytes moved per read where the host cannot copy by itself.
const BUFFER: usize = 256 * 1024;

/// How much of a file is taken along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Take {
    All,
    /// As much as fits in the new size, in bytes; what is missing is a hole.
    Resized(u64),
}

/// Makes an empty file equal: cloned where the filesystem can, else data are copied and holes kept.
///
/// # Errors
/// The host's; then `to` holds anything.
pub(crate) fn copy_bytes(disk: &Disk, source: &File, to: &File, take: Take) -> Result<()> {
    copy_bytes_watched(disk, source, to, take, &mut |_| Ok(()))
}

/// The same; `heard` is told of each piece as it is copied, in bytes, and can end it.
///
/// # Errors
/// The host's, and what `heard` says; then `to` holds anything.
pub(crate) fn copy_bytes_watched(
    disk: &Disk,
    source: &File,
    to: &File,
    take: Take,
    heard: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let size = stat_fd(source)?.stx_size;
    let wanted = match take {
        Take::All => size,
        Take::Resized(wanted) => wanted,
    };
    if wanted == size && disk.clone_file(source, to).is_ok() {
        return Ok(());
    }
    disk.truncate(to, wanted)?;
    let end_of_data = wanted.min(size);
    let mut at = 0;
    while at < end_of_data {
        let start = match rustix::fs::seek(source, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::NOTSUP) => at,
            Err(e) => return Err(e.into()),
        };
        let end = match rustix::fs::seek(source, SeekFrom::Hole(start)) {
            Ok(end) => end.min(end_of_data),
            Err(_) => end_of_data,
        };
        at = start;
        while at < end {
            let copied = copy_range(disk, (source, at), (to, at), (end - at).min(COPY_CHUNK))?;
            heard(copied)?;
            // Nothing: the source has become shorter.
            at = if copied == 0 { end } else { at + copied };
        }
        at = at.max(start + 1);
    }
    Ok(())
}

/// Copies a range, or the part of it that comes before the end of the source or an error, as copy_file_range(2)
/// does: what was copied is there, and the caller has to hear of it.
///
/// # Errors
/// The host's, if nothing was copied.
pub(crate) fn copy_range(disk: &Disk, from: (&File, u64), to: (&File, u64), len: u64) -> Result<u64> {
    let mut done = 0;
    while done < len {
        match copy_piece(disk, (from.0, from.1 + done), (to.0, to.1 + done), len - done) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            Err(_) if done > 0 => break,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(done)
}

fn copy_piece(
    disk: &Disk,
    (source, mut from): (&File, u64),
    (to, mut at): (&File, u64),
    len: u64,
) -> std::result::Result<u64, Errno> {
    let chunk = usize::try_from(len.min(COPY_CHUNK)).unwrap_or(usize::MAX);
    match disk.copy_file_range((source, &mut from), (to, &mut at), chunk) {
        Err(Errno::XDEV | Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => {
            let mut buffer = vec![0u8; chunk.min(BUFFER)];
            let got = rustix::io::pread(source, &mut buffer[..], from)?;
            if got == 0 { Ok(0) } else { disk.copy_write(to, &buffer[..got], at).map(|n| n as u64) }
        }
        copied => copied.map(|n| n as u64),
    }
}

/// Whether two files of one size hold the same bytes.
pub(crate) fn same_bytes(one: &File, other: &File) -> Result<bool> {
    let mut buffers = [vec![0; BUFFER], vec![0; BUFFER]];
    let mut at = 0;
    loop {
        let [a, b] = &mut buffers;
        let got = one.read_at(a, at).map_err(host)?;
        match other.read_exact_at(&mut b[..got], at) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(e) => return Err(host(e)),
        }
        if a[..got] != b[..got] {
            return Ok(false);
        }
        if got == 0 {
            return Ok(other.read_at(b, at).map_err(host)? == 0);
        }
        at += got as u64;
    }
}

fn host(e: std::io::Error) -> Error {
    Error::Posix(Errno::from_io_error(&e).unwrap_or(Errno::IO))
}
