//! Appending: one write(2) per record before the operation is acknowledged (S10), one fdatasync shared by
//! all who wait for durability (S9).

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::journal::record::Record;
use crate::journal::{FRAME_LEN, HEADER_LEN, Header, JOURNAL_LONG, RECORD_MAX};

/// The open journal. Lock order: `writer` before `synced`; nothing else is taken under either.
pub(crate) struct Journal {
    disk: Disk,
    writer: Mutex<Writer>,
    /// Held by the one who syncs; the value is the first sequence number not yet durable.
    synced: Mutex<u64>,
    /// The same value, for those who only look.
    durable: AtomicU64,
    length: AtomicU64,
    poisoned: AtomicBool,
}

struct Writer {
    file: std::sync::Arc<File>,
    length: u64,
    /// Sequence number of the next record.
    next: u64,
    /// Of the last one that speaks of copied bytes.
    copied: Option<u64>,
}

impl Journal {
    /// `copied`: the last record that speaks of copied bytes which are not known to be durable.
    pub(crate) fn new(disk: Disk, file: File, length: u64, next: u64, copied: Option<u64>) -> Journal {
        let writer = Writer { file: std::sync::Arc::new(file), length, next, copied };
        Journal {
            disk,
            writer: Mutex::new(writer),
            synced: Mutex::new(0),
            durable: AtomicU64::new(0),
            length: AtomicU64::new(length),
            poisoned: AtomicBool::new(false),
        }
    }

    /// Writes one record. After `Ok` it survives the death of this process.
    ///
    /// # Errors
    /// The host's (ENOSPC, EIO …): then nothing was written. `Poisoned` after an earlier failure that could
    /// not be undone.
    pub(crate) fn append(&self, record: &Record) -> Result<()> {
        let payload = record.encode();
        if payload.len() > RECORD_MAX {
            return Err(Error::Limit { what: "bytes in one journal record", max: RECORD_MAX as u64 });
        }
        let mut writer = self.writer.lock();
        self.check()?;
        let frame = frame(writer.next, self.durable.load(Ordering::Acquire), &payload);
        if let Err(e) = self.write(&writer, &frame) {
            return Err(self.undo(&writer, e));
        }
        writer.length += frame.len() as u64;
        if record.has_copies() {
            writer.copied = Some(writer.next);
        }
        writer.next += 1;
        self.length.store(writer.length, Ordering::Relaxed);
        Ok(())
    }

    fn write(&self, writer: &Writer, frame: &[u8]) -> std::result::Result<(), Errno> {
        let mut at = 0;
        while at < frame.len() {
            match self.disk.append(&writer.file, &frame[at..], writer.length + at as u64) {
                Ok(0) => return Err(Errno::IO),
                Ok(n) => at += n,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// A half-written record must not stay in front of the next one.
    fn undo(&self, writer: &Writer, cause: Errno) -> Error {
        if self.disk.truncate(&writer.file, writer.length).is_err() {
            self.poison();
        }
        Error::host("append to", "journal", cause)
    }

    /// Makes every record appended before the call durable.
    ///
    /// # Errors
    /// A failed fdatasync poisons the journal: the kernel may have dropped the pages (S21).
    pub(crate) fn sync(&self) -> Result<()> {
        let (wanted, _) = self.position();
        let mut synced = self.synced.lock();
        self.check()?;
        if *synced >= wanted {
            return Ok(());
        }
        let (upto, file) = self.position();
        if let Err(e) = self.disk.fdatasync(&*file) {
            self.poison();
            return Err(Error::host("fdatasync", "journal", e));
        }
        *synced = upto;
        self.durable.store(upto, Ordering::Release);
        Ok(())
    }

    fn position(&self) -> (u64, std::sync::Arc<File>) {
        let writer = self.writer.lock();
        (writer.next, writer.file.clone())
    }

    /// Continues in another file, whose header says where. The old one is durable when this returns.
    ///
    /// # Errors
    /// The host's; then the old file goes on.
    pub(crate) fn rotate(&self, new: impl FnOnce(u64) -> Result<File>) -> Result<()> {
        self.sync()?;
        let mut writer = self.writer.lock();
        let mut synced = self.synced.lock();
        let file = new(writer.next)?;
        writer.file = std::sync::Arc::new(file);
        writer.length = HEADER_LEN as u64;
        *synced = writer.next;
        self.durable.store(writer.next, Ordering::Release);
        self.length.store(writer.length, Ordering::Relaxed);
        Ok(())
    }

    /// The sequence number of the next record, and of the last that speaks of copied bytes.
    pub(crate) fn frontier(&self) -> (u64, Option<u64>) {
        let writer = self.writer.lock();
        (writer.next, writer.copied)
    }

    /// The first sequence number that is not known to be durable.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Refuses everything from now on.
    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::SeqCst);
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.poisoned.load(Ordering::SeqCst) { Err(Error::Poisoned) } else { Ok(()) }
    }

    pub(crate) fn length(&self) -> u64 {
        self.length.load(Ordering::Relaxed)
    }

    pub(crate) fn is_long(&self) -> bool {
        self.length() > JOURNAL_LONG
    }
}

fn frame(seq: u64, durable: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME_LEN + payload.len());
    frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(&seq.to_le_bytes());
    frame.extend_from_slice(&durable.to_le_bytes());
    frame.extend_from_slice(payload);
    let crc = crc32c::crc32c(&frame[8..]);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    frame
}

/// Writes a header and records.
///
/// # Errors
/// The host's; `Limit` for a record too long to be read back.
pub(crate) fn write_records(file: &File, name: &str, header: Header, records: &[Record]) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::BufWriter::with_capacity(1 << 20, file);
    let failed =
        |e: std::io::Error| Error::host("write", name, Errno::from_io_error(&e).unwrap_or(Errno::IO));
    out.write_all(&header.encode()).map_err(failed)?;
    for (seq, record) in (header.first..).zip(records) {
        let payload = record.encode();
        // Unreadable is worse than unwritten: the journals that the file would replace stay.
        if payload.len() > RECORD_MAX {
            return Err(Error::Limit { what: "bytes in one record", max: RECORD_MAX as u64 });
        }
        out.write_all(&frame(seq, seq, &payload)).map_err(failed)?;
    }
    out.flush().map_err(failed)
}

/// Writes a whole file of records (a fresh journal has none, a checkpoint has all) and makes it durable
/// under its name.
///
/// # Errors
/// The host's; a temporary file may stay and is overwritten next time.
pub(crate) fn write_file(
    disk: &Disk,
    dir: impl AsFd,
    name: &str,
    header: Header,
    records: &[Record],
) -> Result<File> {
    let temporary = format!("{name}.tmp");
    let file = disk
        .create(&dir, temporary.as_bytes(), OFlags::RDWR | OFlags::TRUNC, 0o600)
        .map_err(|e| Error::host("create", &temporary, e))?;
    write_records(&file, name, header, records)?;
    disk.fsync(&file).map_err(|e| Error::host("fsync", name, e))?;
    let flags = rustix::fs::RenameFlags::empty();
    disk.rename((&dir, temporary.as_bytes()), (&dir, name.as_bytes()), flags)
        .map_err(|e| Error::host("rename", name, e))?;
    disk.fsync(&dir).map_err(|e| Error::host("fsync", "store directory", e))?;
    Ok(file)
}
