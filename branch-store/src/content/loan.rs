//! A content file that borrows: it has the size of the file it is a copy of, and of its bytes only what was written
//! since. What is missing is read from that file of the base. This is the one place that knows how.
//!
//! What is missing is a hole, on disk, and nothing else below `borrowed` is: so the host's own table of the file's
//! blocks says after a restart what was missing. That holds because a block is filled up with what it borrowed before
//! a part of it is written to, because nobody punches holes into such a file nor reserves space in it, and because a
//! file that was cut borrows nothing any more by the time it grows.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rustix::fs::{FallocateFlags, SeekFrom, Statx};
use rustix::io::Errno;

use crate::base::stat_fd;
use crate::content::ranges::Ranges;
use crate::content::set_mtime;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::node::{Lender, Time, time_of};

/// The host writes so many bytes of a file whole or not at all, as far as death is concerned, and tells holes from data
/// by no more: a page.
pub(super) const UNIT: u64 = 4096;
/// Bytes that are completed between two looks of others.
const PIECE: u64 = 1 << 20;

/// What became of the bytes that a content file borrows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edit {
    None,
    /// Somebody wrote to the base's file.
    InPlace,
    /// It is gone.
    Gone,
}

pub(crate) struct Loan {
    lender: Lender,
    /// The content file.
    holder: (u64, Time),
    /// Kept open, so that the bytes stay when somebody removes or replaces the base's file. `None`: they are gone.
    source: Option<Arc<File>>,
    state: RwLock<State>,
    /// Held by who gives it back; behind branch data.
    pub(crate) returning: Mutex<()>,
}

struct State {
    missing: Ranges,
    /// It may have become shorter than what it borrowed: before it grows it must borrow nothing.
    cut: bool,
    /// It borrows nothing any more, and the journal says so: a file like any other.
    returned: bool,
}

impl Loan {
    /// Of a file that has no bytes yet.
    pub(super) fn new(lender: Lender, source: Arc<File>) -> Loan {
        Loan { source: Some(source), ..Loan::noted(lender) }
    }

    /// As the journal has it; nobody has looked for the source yet.
    pub(super) fn noted(lender: Lender) -> Loan {
        let mut missing = Ranges::default();
        missing.push(0..lender.borrowed);
        let holder = lender.holder;
        Loan::with(lender, holder, None, (missing, false))
    }

    fn with(
        lender: Lender,
        holder: (u64, Time),
        source: Option<Arc<File>>,
        (missing, cut): (Ranges, bool),
    ) -> Loan {
        let state = RwLock::new(State { missing, cut, returned: false });
        Loan { lender, holder, source, state, returning: Mutex::default() }
    }

    /// As an earlier process left it; `file` can be written to. `down`: the power may have failed since.
    pub(super) fn found(
        disk: &Disk,
        lender: Lender,
        source: Option<File>,
        file: &File,
        down: bool,
    ) -> Result<Loan> {
        // What is still on its way to the disk looks different from one moment to the next.
        disk.fdatasync(file)?;
        let stat = stat_fd(file)?;
        let end = lender.borrowed.min(stat.stx_size);
        let holder = holder(&stat);
        let same = lender.holder == holder;
        let mut missing = Ranges::default();
        if same {
            missing = holes(file, end)?;
        } else {
            // A copy of the file, and nobody knows what became of its holes.
            missing.push(0..end);
        }
        if same && down {
            unreserve(file, &missing, end)?;
            set_mtime(file, time_of(&stat.stx_mtime))?;
        }
        let source = source.filter(|_| same).map(Arc::new);
        let cut = stat.stx_size < lender.borrowed;
        Ok(Loan::with(lender, holder, source, (missing, cut)))
    }

    /// The same for a copy of what the file has.
    ///
    /// # Errors
    /// Those of `copy`, which gets what is missing.
    pub(super) fn for_copy(
        &self,
        holder: (u64, Time),
        copy: impl FnOnce(&Ranges) -> Result<()>,
    ) -> Result<Loan> {
        let state = self.state.read();
        copy(&state.missing)?;
        let lender = Lender { holder, ..self.lender.clone() };
        Ok(Loan::with(lender, holder, self.source.clone(), (state.missing.clone(), state.cut)))
    }

    pub(crate) fn lender(&self) -> &Lender {
        &self.lender
    }

    /// Bytes that are not in the file.
    pub(crate) fn missing(&self) -> u64 {
        self.state.read().missing.bytes()
    }

    /// What became of what is missing, as far as size and modification time tell.
    pub(crate) fn edit(&self) -> Result<Edit> {
        let Some(source) = self.source.as_ref().filter(|_| !self.is_complete()) else {
            return Ok(if self.is_complete() { Edit::None } else { Edit::Gone });
        };
        let (now, then) = (stat_fd(&**source)?, &self.lender.print);
        let same = (now.stx_size, time_of(&now.stx_mtime)) == (then.size, then.mtime);
        Ok(if same { Edit::None } else { Edit::InPlace })
    }

    /// Whether bytes are missing that are there only as long as the source is open.
    pub(crate) fn is_nameless(&self) -> Result<bool> {
        let Some(source) = self.source.as_ref().filter(|_| !self.is_complete()) else { return Ok(false) };
        Ok(stat_fd(&**source)?.stx_nlink == 0)
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.state.read().missing.is_empty()
    }

    /// Whether it is the loan of this file.
    pub(super) fn is_of(&self, file: &File) -> Result<bool> {
        Ok(self.holder == holder(&stat_fd(file)?))
    }

    pub(crate) fn note_returned(&self) {
        let mut state = self.state.write();
        debug_assert!(state.missing.is_empty(), "what is returned is complete");
        state.returned = true;
    }

    /// Whether it is over.
    pub(crate) fn is_returned(&self) -> bool {
        self.state.read().returned
    }

    /// Whether it must borrow nothing before it is changed again.
    pub(crate) fn is_cut(&self) -> bool {
        self.state.read().cut
    }

    /// Reads at most `buf.len()` bytes at `offset`; fewer only at the end of the file.
    pub(crate) fn read_at(&self, file: &File, buf: &mut [u8], offset: u64) -> Result<usize> {
        let state = self.state.read();
        let end = offset.saturating_add(buf.len() as u64);
        let mut at = offset;
        while at < end {
            let rest = &mut buf[(at - offset) as usize..];
            match state.missing.next(at).filter(|missing| missing.start < end) {
                Some(missing) if missing.start == at => {
                    let len = missing.end.min(end) - at;
                    self.borrow(&mut rest[..len as usize], at)?;
                    at += len;
                }
                own => {
                    let len = own.map_or(end, |missing| missing.start) - at;
                    let got = read_fully(file, &mut rest[..len as usize], at)?;
                    at += got as u64;
                    if (got as u64) < len {
                        break;
                    }
                }
            }
        }
        Ok((at - offset) as usize)
    }

    /// Writes all of `data`, or what fits.
    pub(crate) fn write_at(&self, disk: &Disk, file: &File, data: &[u8], offset: u64) -> Result<usize> {
        let mut state = self.state.write();
        let end = offset.saturating_add(data.len() as u64);
        debug_assert!(!state.cut || state.returned, "who grows borrows nothing");
        for edge in [offset, end] {
            self.take(disk, &mut state.missing, file, block_of(edge))?;
        }
        let mut done = 0;
        let failed = loop {
            match rustix::io::pwrite(file, &data[done..], offset + done as u64) {
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(e) => break Some(e),
            }
            if done == data.len() {
                break None;
            }
        };
        let reached = offset + done as u64;
        state.missing.remove(offset..reached);
        if failed.is_some() {
            // Of the block that it got stuck in all is data now.
            self.take(disk, &mut state.missing, file, block_of(reached))?;
        }
        match failed {
            Some(e) if done == 0 => Err(e.into()),
            _ => Ok(done),
        }
    }

    /// Gives the file another size.
    pub(crate) fn resize(&self, disk: &Disk, file: &File, size: u64) -> Result<()> {
        let mut state = self.state.write();
        if size < self.lender.borrowed {
            self.take(disk, &mut state.missing, file, 0..size)?;
        }
        rustix::fs::ftruncate(file, size)?;
        state.missing.remove(size..u64::MAX);
        state.cut |= size < self.lender.borrowed;
        Ok(())
    }

    /// How much of the file is needed whole for it to get another size.
    pub(crate) fn needs(&self, size: u64) -> u64 {
        if size < self.lender.borrowed { size } else { 0 }
    }

    /// Copies everything that is missing; the modification time stays.
    pub(crate) fn complete(&self, disk: &Disk, file: &File) -> Result<()> {
        loop {
            let mut state = self.state.write();
            let Some(next) = state.missing.next(0) else { return Ok(()) };
            let mtime = time_of(&stat_fd(file)?.stx_mtime);
            let piece = next.start..next.end.min((next.start + PIECE) / UNIT * UNIT);
            let taken = self.take(disk, &mut state.missing, file, piece);
            set_mtime(file, mtime)?;
            taken?;
        }
    }

    /// Copies what of `wanted` is missing here to another file.
    pub(super) fn fill(&self, disk: &Disk, missing: &Ranges, wanted: Range<u64>, to: &File) -> Result<()> {
        self.take(disk, &mut missing.clone(), to, wanted)
    }

    /// The next data or hole, as `from` asks for. What is borrowed is data.
    pub(crate) fn seek(&self, file: &File, from: SeekFrom) -> Result<u64> {
        let state = self.state.read();
        let seek = |from| rustix::fs::seek(file, from);
        match from {
            SeekFrom::Hole(offset) => {
                let mut at = offset;
                loop {
                    let hole = seek(SeekFrom::Hole(at))?;
                    match state.missing.next(hole).filter(|missing| missing.start == hole) {
                        Some(missing) if missing.end < stat_fd(file)?.stx_size => at = missing.end,
                        Some(missing) => return Ok(missing.end),
                        None => return Ok(hole),
                    }
                }
            }
            SeekFrom::Data(offset) => {
                let borrowed = state.missing.next(offset).map(|missing| missing.start);
                match (seek(from), borrowed) {
                    (Ok(own), Some(borrowed)) => Ok(own.min(borrowed)),
                    (Ok(own), None) => Ok(own),
                    (Err(Errno::NXIO), Some(borrowed)) => Ok(borrowed),
                    (Err(e), _) => Err(e.into()),
                }
            }
            other => Ok(seek(other)?),
        }
    }

    /// Copies what of `wanted` is missing to `to`, block by block whole.
    fn take(&self, disk: &Disk, missing: &mut Ranges, to: &File, wanted: Range<u64>) -> Result<()> {
        for range in missing.within(wanted) {
            let mut at = range.start;
            while at < range.end {
                let end = range.end.min((at + PIECE) / UNIT * UNIT);
                let mut bytes = vec![0; (end - at) as usize];
                self.borrow(&mut bytes, at)?;
                let (done, failed) = write_fully(disk, to, &bytes, at);
                let mut reached = at + done as u64;
                let block = reached / UNIT * UNIT;
                if failed.is_some() && block < reached && block >= at {
                    unwrite(to, block)?;
                    reached = block;
                }
                missing.remove(at..reached);
                failed.map_or(Ok(()), Err)?;
                at = end;
            }
        }
        Ok(())
    }

    /// Bytes of the source, all of them: a shorter file is another one.
    fn borrow(&self, buf: &mut [u8], at: u64) -> Result<()> {
        let source = self.source.as_ref().ok_or(Error::Posix(Errno::IO))?;
        if read_fully(source, buf, at)? < buf.len() { Err(Error::Posix(Errno::IO)) } else { Ok(()) }
    }
}

/// The block that an offset is inside of; empty at the start of one.
fn block_of(offset: u64) -> Range<u64> {
    let start = offset / UNIT * UNIT;
    start..if start == offset { start } else { start.saturating_add(UNIT) }
}

fn read_fully(file: &File, buf: &mut [u8], offset: u64) -> Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match rustix::io::pread(file, &mut buf[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(done)
}

fn write_fully(disk: &Disk, file: &File, bytes: &[u8], offset: u64) -> (usize, Option<Error>) {
    let mut done = 0;
    while done < bytes.len() {
        match disk.fill(file, &bytes[done..], offset + done as u64) {
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            Err(e) => return (done, Some(e.into())),
        }
    }
    (done, None)
}

/// A block that was written in part is a hole again.
fn unwrite(file: &File, block: u64) -> Result<()> {
    let punch = FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE;
    Ok(rustix::fs::fallocate(file, punch, block, UNIT)?)
}

/// What a power failure left reserved without bytes becomes a hole for good.
fn unreserve(file: &File, holes: &Ranges, end: u64) -> Result<()> {
    let punch = FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE;
    for hole in holes.within(0..end) {
        let len = hole.end.next_multiple_of(UNIT) - hole.start;
        rustix::fs::fallocate(file, punch, hole.start, len)?;
    }
    Ok(())
}

/// What tells a content file from a copy of it.
pub(super) fn holder(stat: &Statx) -> (u64, Time) {
    (stat.stx_ino, time_of(&stat.stx_btime))
}

/// Holes before `end`.
fn holes(file: &File, end: u64) -> Result<Ranges> {
    let mut holes = Ranges::default();
    let mut at = 0;
    while at < end {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data.min(end),
            Err(Errno::NXIO) => end,
            Err(e) => return Err(e.into()),
        };
        holes.push(at..data);
        if data == end {
            break;
        }
        at = rustix::fs::seek(file, SeekFrom::Hole(data))?;
    }
    Ok(holes)
}
