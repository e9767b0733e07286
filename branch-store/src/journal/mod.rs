//! The journal: what was acknowledged, in order, with checksums. `docs/on-disk-format.md` has the bytes.

mod log;
pub(crate) mod record;
mod scan;

pub(crate) use log::{Journal, write_file, write_records};
pub(crate) use scan::{Tail, Unsynced, scan};

use std::cmp::Ordering;

use crate::error::{Error, Result};

/// First bytes of every journal and checkpoint.
pub(crate) const MAGIC: &[u8; 8] = b"BFSLOG\r\n";
/// Version of the format; any other is refused, never reinterpreted (S22). What 1 lacked: `docs/on-disk-format.md`.
pub(crate) const FORMAT: u32 = 3;
/// magic, format, workspace id, first sequence number, crc32c of all before.
pub(crate) const HEADER_LEN: usize = 8 + 4 + 16 + 8 + 4;
/// length, crc32c of all that follows, sequence, first sequence number not yet durable when it was written.
pub(crate) const FRAME_LEN: usize = 4 + 4 + 8 + 8;
/// Longest payload of one record, in bytes.
pub(crate) const RECORD_MAX: usize = 1 << 30;
/// A journal longer than this is due for a checkpoint, in bytes.
pub(crate) const JOURNAL_LONG: u64 = 64 << 20;

/// Greatest sequence number a file may begin with: no journal gets there, and counting on from it cannot overflow.
pub(crate) const SEQUENCE_MAX: u64 = 1 << 62;

const _: () = assert!(RECORD_MAX <= u32::MAX as usize, "the length field has 32 bits");

/// Whether this program can read the format.
///
/// # Errors
/// `Newer`, `Older`.
pub(crate) fn check_format(found: u32) -> Result<()> {
    match found.cmp(&FORMAT) {
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(Error::Newer { found, known: FORMAT }),
        Ordering::Less => Err(Error::Older { found, known: FORMAT }),
    }
}

/// Identity of a store, in every file of it: files of another store are not replayed.
pub(crate) type WorkspaceId = [u8; 16];

/// Header of a journal or checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) workspace: WorkspaceId,
    /// Sequence number of the first record.
    pub(crate) first: u64,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0u8; HEADER_LEN];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[12..28].copy_from_slice(&self.workspace);
        bytes[28..36].copy_from_slice(&self.first.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..36]);
        bytes[36..40].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8], file: &str) -> Result<Header> {
        let corrupt = |offset: u64, cause: &str| Error::Corrupt {
            file: file.to_owned(),
            offset,
            cause: cause.to_owned(),
        };
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(corrupt(bytes.len() as u64, "shorter than its header"));
        };
        if &header[0..8] != MAGIC {
            return Err(corrupt(0, "no branchfs journal"));
        }
        // The version is judged before the checksum: a newer format may checksum differently.
        let format = u32_at(header, 8);
        check_format(format)?;
        if crc32c::crc32c(&header[..36]) != u32_at(header, 36) {
            return Err(corrupt(36, "header checksum does not match"));
        }
        let mut workspace = [0u8; 16];
        workspace.copy_from_slice(&header[12..28]);
        let first = u64_at(header, 28);
        if first > SEQUENCE_MAX {
            return Err(corrupt(28, "impossible sequence number"));
        }
        Ok(Header { workspace, first })
    }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0u8; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0u8; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}
