//! Copying the bytes of one file to another, holes and all. Each call passes the gatekeeper: a disk that fills up
//! in the middle is a case every caller has to survive.

use std::fs::File;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::base::stat_fd;
use crate::disk::Disk;
use crate::error::Result;

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
        copy_range(disk, source, start, to, start, end.saturating_sub(start))?;
        at = end.max(start + 1);
    }
    Ok(())
}

/// Copies a range; stops early only at the end of the source.
///
/// # Errors
/// The host's.
pub(crate) fn copy_range(disk: &Disk, source: &File, from: u64, to: &File, at: u64, len: u64) -> Result<u64> {
    let (mut from, mut at, end) = (from, at, from + len);
    let start = from;
    while from < end {
        let chunk = usize::try_from((end - from).min(COPY_CHUNK)).unwrap_or(usize::MAX);
        match disk.copy_file_range((source, &mut from), (to, &mut at), chunk) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => {
                return copy_by_hand(disk, (source, from), (to, at), end - from).map(|n| from - start + n);
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(from - start)
}

fn copy_by_hand(disk: &Disk, source: (&File, u64), to: (&File, u64), len: u64) -> Result<u64> {
    let mut buffer = vec![0u8; BUFFER];
    let mut done = 0;
    while done < len {
        let want = usize::try_from(len - done).unwrap_or(usize::MAX).min(buffer.len());
        let piece = &mut buffer[..want];
        let got = rustix::io::retry_on_intr(|| rustix::io::pread(source.0, &mut *piece, source.1 + done))?;
        if got == 0 {
            break;
        }
        write_all_at(disk, to.0, &buffer[..got], to.1 + done)?;
        done += got as u64;
    }
    Ok(done)
}

fn write_all_at(disk: &Disk, file: &File, mut bytes: &[u8], mut at: u64) -> Result<()> {
    while !bytes.is_empty() {
        let n = rustix::io::retry_on_intr(|| disk.copy_write(file, bytes, at))?;
        bytes = &bytes[n..];
        at += n as u64;
    }
    Ok(())
}
