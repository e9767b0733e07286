//! Reading a store's files: the newest checkpoint and the journals from there on. Decides nothing.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use crate::error::{Error, Result};
use crate::ids::{LayerId, NodeId};
use crate::journal::record::Record;
use crate::journal::{Tail, Unsynced, WorkspaceId, scan};
use crate::store::files::{checkpoint_name, journal_name, numbered};

/// A record with the file and the offset it was read from.
pub(super) type Located = (Arc<str>, u64, Record);

/// What the files say.
pub(super) struct Read {
    pub(super) records: Vec<Located>,
    /// The journal to go on with: number, length of its good part, next sequence number.
    pub(super) journal: (u64, u64, u64),
    pub(super) torn: Option<(String, u64)>,
    /// Copied content files that are not known to be durable.
    pub(super) copied: Vec<(LayerId, NodeId)>,
    /// Operations that relied on them, or came after one that did, and are given up.
    pub(super) undone: usize,
    /// The sequence number before which copied bytes are durable.
    synced: u64,
    /// Records that speak of copied bytes: journal, sequence number, place in `records`.
    copies: Vec<(u64, u64, usize)>,
}

/// Reads the newest checkpoint and the journals from there on.
pub(super) fn read_all(dir: &OwnedFd, workspace: &WorkspaceId, unsynced: Unsynced) -> Result<Read> {
    let checkpoint = numbered(dir, "checkpoint")?.pop();
    let first = checkpoint.unwrap_or(1);
    let journals: Vec<u64> = numbered(dir, "journal")?.into_iter().filter(|n| *n >= first).collect();
    let mut read = Read {
        records: Vec::new(),
        journal: (0, 0, 0),
        torn: None,
        copied: Vec::new(),
        undone: 0,
        synced: 0,
        copies: Vec::new(),
    };
    if let Some(number) = checkpoint {
        read_checkpoint(dir, workspace, number, &mut read)?;
    }
    if journals.first() != Some(&first) || journals.windows(2).any(|w| w[0] + 1 != w[1]) {
        let cause = format!("journal {first} or a later one is missing");
        return Err(Error::Corrupt { file: journal_name(first), offset: 0, cause });
    }
    let mut expected = None;
    for number in &journals {
        let last = journals.last() == Some(number);
        read_journal(dir, workspace, unsynced, (*number, last), &mut expected, &mut read)?;
    }
    match unsynced {
        Unsynced::Kept => read.note_copied(),
        Unsynced::MayBeGone => read.cut_doubtful(),
    }
    Ok(read)
}

impl Read {
    /// Nobody knows how much of a copy has reached the disk by itself, and what it was copied from may be worth
    /// more: the journal ends before it. Whoever was told that something is durable was told after `Synced`.
    fn cut_doubtful(&mut self) {
        let doubtful =
            self.copies.iter().find(|(journal, seq, _)| *seq >= self.synced && *journal == self.journal.0);
        let Some((number, seq, at)) = doubtful.copied() else { return };
        let offset = self.records[at].1;
        self.undone = self.records.len() - at;
        self.records.truncate(at);
        self.torn = Some((journal_name(number), offset));
        self.journal = (number, offset, seq);
    }

    fn note_copied(&mut self) {
        for (_, _, at) in self.copies.iter().filter(|(_, seq, _)| *seq >= self.synced) {
            if let Record::Batch { copied, .. } = &self.records[*at].2 {
                self.copied.extend(copied);
            }
        }
    }

    /// The last record that speaks of copied bytes.
    pub(super) fn last_copy(&self) -> Option<u64> {
        self.copies.last().filter(|_| !self.copied.is_empty()).map(|(_, seq, _)| *seq)
    }
}

fn read_checkpoint(dir: &OwnedFd, workspace: &WorkspaceId, number: u64, read: &mut Read) -> Result<()> {
    let name = checkpoint_name(number);
    let bytes = read_file(dir, &name)?;
    let file: Arc<str> = name.as_str().into();
    let (_, _, tail) = scan(&bytes, &name, workspace, Unsynced::Kept, |offset, record| {
        // Counters, branches, the end: each in its place and nothing else.
        let placed = match (&record, read.records.last()) {
            (Record::Counters(_), None) => true,
            (Record::Branch(_) | Record::End, Some((_, _, last))) => !matches!(last, Record::End),
            _ => false,
        };
        if !placed {
            let cause = "a record that no checkpoint has here".to_owned();
            return Err(Error::Corrupt { file: name.clone(), offset, cause });
        }
        read.records.push((file.clone(), offset, record));
        Ok(())
    })?;
    // It was durable before it got its name: anything missing is damage, not a torn write.
    let whole = tail == Tail::Clean && matches!(read.records.last(), Some((_, _, Record::End)));
    if whole {
        return Ok(());
    }
    let offset = if let Tail::Torn(at) = tail { at } else { bytes.len() as u64 };
    Err(Error::Corrupt { file: name, offset, cause: "the checkpoint ends early".to_owned() })
}

fn read_journal(
    dir: &OwnedFd,
    workspace: &WorkspaceId,
    unsynced: Unsynced,
    (number, last): (u64, bool),
    expected: &mut Option<u64>,
    read: &mut Read,
) -> Result<()> {
    let name = journal_name(number);
    let bytes = read_file(dir, &name)?;
    let file: Arc<str> = name.as_str().into();
    let corrupt = |offset, cause: String| Error::Corrupt { file: name.clone(), offset, cause };
    let before = read.records.len();
    let (header, next, tail) = scan(&bytes, &name, workspace, unsynced, |offset, record| {
        if matches!(record, Record::Counters(_) | Record::Branch(_) | Record::End) {
            return Err(corrupt(offset, "a record of a checkpoint in a journal".to_owned()));
        }
        read.records.push((file.clone(), offset, record));
        Ok(())
    })?;
    if expected.is_some_and(|expected| expected != header.first) {
        return Err(corrupt(
            28,
            format!("starts with record {}, not where the one before ended", header.first),
        ));
    }
    *expected = Some(next);
    for (seq, at) in (header.first..).zip(before..read.records.len()) {
        let (_, offset, record) = &read.records[at];
        match record {
            Record::Synced { upto } if *upto > seq => {
                return Err(corrupt(*offset, "vouches for records that came after it".to_owned()));
            }
            Record::Synced { upto } => read.synced = read.synced.max(*upto),
            record if record.has_copies() => read.copies.push((number, seq, at)),
            _ => {}
        }
    }
    let length = match tail {
        Tail::Clean => bytes.len() as u64,
        Tail::Torn(at) if last => {
            read.torn = Some((name.clone(), at));
            at
        }
        Tail::Torn(at) => {
            return Err(corrupt(at, "ends in the middle of a record, and a later journal exists".into()));
        }
    };
    read.journal = (number, length, next);
    Ok(())
}

fn read_file(dir: &OwnedFd, name: &str) -> Result<Vec<u8>> {
    let file = rustix::fs::openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::host("open", name, e))?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::fs::File::from(file), &mut bytes).map_err(|e| {
        Error::host("read", name, rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::IO))
    })?;
    Ok(bytes)
}
