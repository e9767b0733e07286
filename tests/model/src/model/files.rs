//! The bytes of files.

use std::ops::Range;

use rustix::io::Errno;

use super::tree::{Body, Clock, Ino, Outcome, Tree};
use crate::answer::{Answer, Failure};
use crate::call::{Space, Whence};

impl Tree {
    pub(super) fn read(&self, ino: Ino, offset: u64, len: u32) -> Outcome<Answer> {
        let bytes = self.node(ino).bytes()?;
        Ok(Answer::Bytes(bytes[within(offset, u64::from(len), bytes.len())].to_vec()))
    }

    pub(super) fn write(&mut self, ino: Ino, offset: u64, data: &[u8], clock: Clock) -> Outcome<Answer> {
        self.node(ino).bytes()?;
        if !data.is_empty() {
            let bytes = self.content(ino, clock);
            let (start, end) = (offset as usize, offset as usize + data.len());
            bytes.resize(bytes.len().max(end), 0);
            bytes[start..end].copy_from_slice(data);
            self.modified(ino, clock);
        }
        Ok(Answer::Count(data.len() as u64))
    }

    pub(super) fn truncate(&mut self, ino: Ino, size: u64, clock: Clock) -> Outcome<Answer> {
        let before = self.node(ino).bytes()?.len();
        self.content(ino, clock).resize(size as usize, 0);
        if before == size as usize {
            self.perhaps_modified(ino, clock);
        } else {
            self.modified(ino, clock);
        }
        Ok(Answer::Done)
    }

    /// Which times a range operation sets differs from one Linux filesystem to the next.
    pub(super) fn allocate(
        &mut self,
        ino: Ino,
        what: Space,
        offset: u64,
        len: u64,
        clock: Clock,
    ) -> Outcome<Answer> {
        self.node(ino).bytes()?;
        let bytes = self.content(ino, clock);
        if matches!(what, Space::Extend | Space::Zero) {
            bytes.resize(bytes.len().max((offset + len) as usize), 0);
        }
        if matches!(what, Space::Punch | Space::Zero) {
            let hole = within(offset, len, bytes.len());
            bytes[hole].fill(0);
        }
        self.perhaps_modified(ino, clock);
        Ok(Answer::Done)
    }

    /// What a copy from here moves.
    pub(super) fn range(&self, ino: Ino, offset: u64, len: u64) -> Outcome<Vec<u8>> {
        let bytes = self.node(ino).bytes()?;
        Ok(bytes[within(offset, len, bytes.len())].to_vec())
    }

    /// Whether an answer to SEEK_DATA or SEEK_HOLE can be right: what it calls a hole reads as zeros.
    pub(super) fn seek_is_right(&self, ino: Ino, offset: u64, whence: Whence, answer: &Answer) -> bool {
        let Ok(bytes) = self.node(ino).bytes() else { return false };
        let size = bytes.len() as u64;
        let zeros =
            |range: Range<u64>| bytes[range.start as usize..range.end as usize].iter().all(|b| *b == 0);
        match (whence, answer) {
            (_, Answer::Failed(Failure::Errno(Errno::NXIO))) if offset >= size => true,
            (Whence::Data, Answer::Failed(Failure::Errno(Errno::NXIO))) => zeros(offset..size),
            (Whence::Data, Answer::Count(at)) => offset <= *at && *at < size && zeros(offset..*at),
            (Whence::Hole, Answer::Count(at)) if offset < size => {
                offset <= *at && *at <= size && (*at == size || bytes[*at as usize] == 0)
            }
            _ => false,
        }
    }

    fn content(&mut self, ino: Ino, clock: Clock) -> &mut Vec<u8> {
        match &mut self.node_mut(ino, clock).body {
            Body::File(bytes) => bytes,
            _ => unreachable!("the caller saw a file"),
        }
    }

    fn modified(&mut self, ino: Ino, clock: Clock) {
        let node = self.node_mut(ino, clock);
        (node.mtime, node.ctime) = (clock.now, clock.now);
    }

    fn perhaps_modified(&mut self, ino: Ino, clock: Clock) {
        let node = self.node_mut(ino, clock);
        (node.mtime, node.ctime) = (node.mtime.or(clock.now), node.ctime.or(clock.now));
    }
}

fn within(offset: u64, len: u64, size: usize) -> Range<usize> {
    let start = (offset as usize).min(size);
    start..(offset + len).min(size as u64).max(start as u64) as usize
}
