//! A file's bytes, wherever they are: in one host file, or in a content file and the file of the base it borrows from.

use std::fs::File;
use std::sync::Arc;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::content::Loan;
use crate::copying::copy_range;
use crate::disk::Disk;
use crate::error::Result;

/// Bytes that are copied at a time where the host cannot do it.
const BUFFER: u64 = 256 << 10;

/// An open host file, and what it borrows.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) file: Arc<File>,
    pub(super) loan: Option<Arc<Loan>>,
}

impl Reading {
    pub(super) fn whole(file: Arc<File>) -> Reading {
        Reading { file, loan: None }
    }

    /// Fewer bytes than asked for only at the end of the file.
    pub(super) fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        if let Some(loan) = &self.loan {
            return loan.read_at(&self.file, buf, offset);
        }
        let mut done = 0;
        while done < buf.len() {
            match rustix::io::pread(&*self.file, &mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(done)
    }

    /// Writes all of `data`, or what fits; the branch's own file.
    pub(super) fn write_at(&self, disk: &Disk, data: &[u8], offset: u64) -> Result<usize> {
        if let Some(loan) = &self.loan {
            return loan.write_at(disk, &self.file, data, offset);
        }
        let mut done = 0;
        while done < data.len() {
            match rustix::io::pwrite(&*self.file, &data[done..], offset + done as u64) {
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(_) if done > 0 => break,
                Err(e) => return Err(e.into()),
            }
        }
        Ok(done)
    }

    pub(super) fn seek(&self, from: SeekFrom) -> Result<u64> {
        match &self.loan {
            Some(loan) => loan.seek(&self.file, from),
            None => Ok(rustix::fs::seek(&*self.file, from)?),
        }
    }
}

/// Copies a range, or the part of it that comes before the end of the source or an error.
///
/// # Errors
/// The host's, if nothing was copied.
pub(super) fn copy_between(disk: &Disk, from: (&Reading, u64), to: (&Reading, u64), len: u64) -> Result<u64> {
    if from.0.loan.is_none() && to.0.loan.is_none() {
        return copy_range(disk, (&from.0.file, from.1), (&to.0.file, to.1), len);
    }
    // One after the other: two files may be copied to each other at once.
    let mut buffer = vec![0; len.min(BUFFER) as usize];
    let mut done = 0;
    while done < len {
        let wanted = (len - done).min(BUFFER) as usize;
        let copied = from.0.read_at(&mut buffer[..wanted], from.1 + done).and_then(|got| match got {
            0 => Ok(0),
            got => to.0.write_at(disk, &buffer[..got], to.1 + done),
        });
        match copied {
            Ok(0) => break,
            Ok(n) => done += n as u64,
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}
