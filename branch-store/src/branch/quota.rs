//! Limits: what a branch may hold of its own, and how much of a change still fits.
//!
//! Counted is what the host has allocated for content files in the branch's layers. Changes that can make it more go
//! one at a time in a branch with a limit; a branch without one pays a comparison.

use std::fs::File;
use std::ops::Range;

use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, SeekFrom, Statx};
use rustix::io::Errno;

use crate::base::stat_fd;
use crate::branch::foresight;
use crate::branch::{Branch, Data};
use crate::copying::Take;
use crate::error::{Error, Result};

use crate::ids::{LayerId, NodeId, Quota};
use crate::measuring::allocated;

/// What a host says of its blocks is believed between these, in bytes.
const BLOCK_MIN: u64 = 512;
const BLOCK_MAX: u64 = 64 << 10;

/// Held by whoever makes a branch with a limit hold more: bytes promised to copies in the making.
#[derive(Default)]
pub(crate) struct Meter(Mutex<u64>);

/// Room for a copy in the making; given back when dropped.
pub(super) struct Reserved<'a> {
    branch: &'a Branch,
    bytes: u64,
}

/// What to do with a change of which only a part fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Partly {
    /// The part.
    Yes,
    /// Nothing.
    No,
}

impl Branch {
    /// How much it may hold of its own.
    pub fn quota(&self) -> Quota {
        self.data.read().quota
    }

    /// Bytes that still fit; `None` without a limit.
    ///
    /// # Errors
    /// The host's.
    pub(super) fn room(&self) -> Result<Option<u64>> {
        let data = self.data.read();
        let Quota::Bytes(limit) = data.quota else { return Ok(None) };
        Ok(Some(limit.saturating_sub(self.shared.contents.held(&data.layers)?)))
    }

    /// Whether layers that were made for the branch fit beside what it holds. `data`: the caller keeps changes away.
    ///
    /// # Errors
    /// EDQUOT, and the host's.
    pub(crate) fn admit(&self, data: &Data, layers: &[LayerId]) -> Result<()> {
        let Quota::Bytes(limit) = data.quota else { return Ok(()) };
        let contents = &self.shared.contents;
        let more = contents.held(layers)?;
        let held = contents.held(&data.layers)? + *self.meter.0.lock();
        if more > 0 && held + more > limit {
            return Err(Error::host("keep merged files in", self.name(), Errno::DQUOT));
        }
        Ok(())
    }

    /// Runs `act`, which writes to a range of a file in the branch's layer, on as much of it as fits. `act` gets the
    /// number of bytes.
    ///
    /// # Errors
    /// EDQUOT if nothing fits, or not all and it must; those of `act`.
    pub(super) fn grow<T>(
        &self,
        data: &Data,
        (id, file): (NodeId, &File),
        range: Range<u64>,
        partly: Partly,
        act: impl FnOnce(u64) -> Result<T>,
    ) -> Result<T> {
        let len = range.end - range.start;
        let Quota::Bytes(limit) = data.quota else { return act(len) };
        let contents = &self.shared.contents;
        let reserved = self.meter.0.lock();
        let mut room = limit.saturating_sub(contents.noted(&data.layers)? + *reserved);
        if len > room {
            room += foresight::give_back(file)?;
        }
        let fits = fitting(file, range, room)?;
        if fits < len && (fits == 0 || partly == Partly::No) {
            return Err(Error::Posix(Errno::DQUOT));
        }
        let done = act(fits);
        contents.look_again(data.layer, id);
        if contents.noted(&data.layers)? + *reserved > limit && foresight::give_back(file)? > 0 {
            contents.look_again(data.layer, id);
        }
        done
    }

    /// Room for a copy of a file, before it is made. `None` without a limit.
    ///
    /// # Errors
    /// EDQUOT, and the host's.
    pub(super) fn reserve(&self, source: &File, take: Take) -> Result<Option<Reserved<'_>>> {
        if self.data.read().quota == Quota::Unlimited {
            return Ok(None);
        }
        let stat = stat_fd(source)?;
        let wanted = match take {
            Take::All => stat.stx_size,
            Take::Resized(size) => size.min(stat.stx_size),
        };
        let mut reserved = Reserved { branch: self, bytes: 0 };
        reserved.resize(data_bytes(source, &stat, wanted)?)?;
        Ok(Some(reserved))
    }
}

impl Reserved<'_> {
    /// What the copy turned out to need.
    ///
    /// # Errors
    /// EDQUOT, and the host's.
    pub(super) fn settle(&mut self, copy: &File) -> Result<()> {
        if allocated(&stat_fd(copy)?) > self.bytes {
            foresight::give_back(copy)?;
        }
        self.resize(allocated(&stat_fd(copy)?))
    }

    fn resize(&mut self, bytes: u64) -> Result<()> {
        let data = self.branch.data.read();
        let mut reserved = self.branch.meter.0.lock();
        let others = *reserved - self.bytes;
        if let Quota::Bytes(limit) = data.quota
            && self.branch.shared.contents.noted(&data.layers)? + others + bytes > limit
        {
            return Err(Error::Posix(Errno::DQUOT));
        }
        *reserved = others + bytes;
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        *self.branch.meter.0.lock() -= self.bytes;
    }
}

/// How many bytes from the start of a range can be written if the file may grow by `room` bytes.
fn fitting(file: &File, range: Range<u64>, room: u64) -> Result<u64> {
    let len = range.end - range.start;
    let stat = stat_fd(file)?;
    let block = block(&stat);
    // Whole blocks, as if none were there: most writes fit, and cost no more than this.
    let whole = range.start / block * block..range.end.div_ceil(block).saturating_mul(block);
    if whole.end - whole.start <= room {
        return Ok(len);
    }
    let holes = holes(file, whole, block)?;
    let missing: u64 = holes.iter().map(|hole| hole.end - hole.start).sum();
    if missing <= room {
        return Ok(len);
    }
    // What fallocate(2) reserved looks like a hole, too.
    let spare = allocated(&stat).saturating_sub(data_bytes(file, &stat, stat.stx_size)?);
    if missing.saturating_sub(spare) <= room && is_reserved(file, &holes, &range, room)? {
        return Ok(len);
    }
    let mut left = room;
    for hole in holes {
        let bytes = hole.end - hole.start;
        if bytes > left {
            let end = hole.start + left / block * block;
            return Ok(end.saturating_sub(range.start).min(len));
        }
        left -= bytes;
    }
    Ok(len)
}

/// Whether a range grows the file by no more than `room`, found out by reserving it. What did not fit is given back,
/// with what had been reserved there before.
fn is_reserved(file: &File, holes: &[Range<u64>], range: &Range<u64>, room: u64) -> Result<bool> {
    let before = allocated(&stat_fd(file)?);
    let made = rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, range.start, range.end - range.start);
    if made.is_ok() && allocated(&stat_fd(file)?).saturating_sub(before) <= room {
        return Ok(true);
    }
    let punch = FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE;
    for hole in holes {
        match rustix::fs::fallocate(file, punch, hole.start, hole.end - hole.start) {
            // Where the host cannot do one, it could not do the other.
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(false)
}

/// Bytes of the blocks with data before `end`.
fn data_bytes(file: &File, stat: &Statx, end: u64) -> Result<u64> {
    let block = block(stat);
    let whole = 0..end.div_ceil(block).saturating_mul(block);
    let holes: u64 = holes(file, whole.clone(), block)?.iter().map(|hole| hole.end - hole.start).sum();
    Ok(whole.end - holes)
}

/// Holes in a range of whole blocks, as whole blocks.
fn holes(file: &File, range: Range<u64>, block: u64) -> Result<Vec<Range<u64>>> {
    let mut holes = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => (data / block * block).min(range.end),
            Err(Errno::NXIO) => range.end,
            Err(Errno::INVAL | Errno::NOTSUP) => return beyond(file, range, block),
            Err(e) => return Err(e.into()),
        };
        if data > at {
            holes.push(at..data);
        }
        if data == range.end {
            break;
        }
        at = match rustix::fs::seek(file, SeekFrom::Hole(data)) {
            Ok(hole) => hole.div_ceil(block).saturating_mul(block).max(data + block),
            // It became shorter.
            Err(Errno::NXIO) => data,
            Err(e) => return Err(e.into()),
        };
    }
    Ok(holes)
}

/// The same where the host knows no holes.
fn beyond(file: &File, range: Range<u64>, block: u64) -> Result<Vec<Range<u64>>> {
    let end = stat_fd(file)?.stx_size.div_ceil(block) * block;
    let start = end.clamp(range.start, range.end);
    Ok(Some(start..range.end).into_iter().filter(|hole| !hole.is_empty()).collect())
}

fn block(stat: &Statx) -> u64 {
    u64::from(stat.stx_blksize).clamp(BLOCK_MIN, BLOCK_MAX)
}
