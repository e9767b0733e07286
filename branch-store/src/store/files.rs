//! The files of a store and how a fresh one is laid out. `docs/on-disk-format.md` describes each.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::disk::{Disk, Locked, open_dir_readable};
use crate::error::{Error, Result};
use crate::ids::STORE_DIR;
use crate::journal::{FORMAT, Header, WorkspaceId, check_format, write_file};
use crate::keep::Keep;

/// Version and workspace id, as text.
pub(super) const FORMAT_FILE: &str = "format";
/// Locked by the one process that has the store open (S22).
pub(super) const LOCK_FILE: &str = "lock";
/// In a base whose store is elsewhere: the store's path.
pub(super) const POINTER_FILE: &str = "store";
/// Holds one directory for each commit: what it replaced.
pub(super) const PREIMAGE_DIR: &str = "preimage";
/// How much of the past is kept, if somebody said so.
const KEEP_FILE: &str = "keep";
/// Machine boot during which the store was last open.
const BOOT_FILE: &str = "boot";

/// Makes a store for a base. `store` is usually `<base>/.branchfs`; elsewhere, a small `.branchfs` in the
/// base points there and holds the preimages, which must be on the base's filesystem.
///
/// # Errors
/// `StoreExists`, and the host's.
pub fn init(base: &Path, store: &Path) -> Result<()> {
    let failed = |op: &'static str, path: &Path| {
        let thing = path.as_os_str().as_bytes().to_vec();
        move |e: std::io::Error| Error::host(op, &thing, Errno::from_io_error(&e).unwrap_or(Errno::IO))
    };
    if store.join(FORMAT_FILE).exists() {
        return Err(Error::StoreExists(store.display().to_string()));
    }
    let private = |path: &Path| {
        std::fs::DirBuilder::new().mode(0o700).recursive(true).create(path).map_err(failed("mkdir", path))
    };
    for dir in [store.to_owned(), store.join("content"), store.join("trash"), park_dir(base, store)] {
        private(&dir)?;
    }
    let own = base.join(STORE_DIR);
    if own != store {
        private(&own)?;
        write_small(&own, POINTER_FILE, store.as_os_str().as_bytes()).map_err(failed("write", &own))?;
    }
    for dir in [&own, store] {
        write_small(dir, ".gitignore", b"*\n").map_err(failed("write", dir))?;
    }
    let dir = open(store)?;
    let mut workspace: WorkspaceId = [0; 16];
    rustix::rand::getrandom(&mut workspace, rustix::rand::GetRandomFlags::empty())?;
    write_file(&Disk::default(), &dir, &journal_name(1), Header { workspace, first: 1 }, &[])?;
    // Last: a store without this file is none.
    let text = format!("branchfs {FORMAT}\n{}\n", hex(&workspace));
    write_small(store, FORMAT_FILE, text.as_bytes()).map_err(failed("write", store))?;
    Ok(rustix::fs::fsync(&dir)?)
}

fn write_small(dir: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = tempfile_in(dir, name)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(dir.join(format!("{name}.tmp")), dir.join(name))
}

fn tempfile_in(dir: &Path, name: &str) -> std::io::Result<std::fs::File> {
    std::fs::File::create(dir.join(format!("{name}.tmp")))
}

pub(super) fn park_dir(base: &Path, store: &Path) -> PathBuf {
    let own = base.join(STORE_DIR);
    let holder = if own == store { store } else { &own };
    holder.join(PREIMAGE_DIR)
}

pub(super) fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|e| Error::host("open", path.as_os_str().as_bytes(), e))
}

/// Reads the format file: which version, which workspace.
pub(super) fn read_format(store: &Path) -> Result<WorkspaceId> {
    let shown = store.display().to_string();
    let bytes = match std::fs::read(store.join(FORMAT_FILE)) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(Error::NoStore(shown)),
        Err(e) => return Err(Error::host("read", shown, Errno::from_io_error(&e).unwrap_or(Errno::IO))),
    };
    let corrupt =
        |cause: &str| Error::Corrupt { file: FORMAT_FILE.to_owned(), offset: 0, cause: cause.to_owned() };
    let text = std::str::from_utf8(&bytes).map_err(|_| corrupt("not text"))?;
    let mut lines = text.lines();
    let version = lines.next().and_then(|l| l.strip_prefix("branchfs ")).and_then(|v| v.parse::<u32>().ok());
    let found = version.ok_or_else(|| corrupt("first line is not 'branchfs VERSION'"))?;
    check_format(found)?;
    lines.next().and_then(unhex).ok_or_else(|| corrupt("second line is not a workspace id"))
}

/// How much of the past is kept; the default if nobody said.
pub(super) fn read_keep(store: &Path) -> Result<Keep> {
    let text = match std::fs::read(store.join(KEEP_FILE)) {
        Ok(bytes) => String::from_utf8(bytes).ok(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Keep::default()),
        Err(e) => return Err(Error::host("read", KEEP_FILE, Errno::from_io_error(&e).unwrap_or(Errno::IO))),
    };
    text.as_deref().and_then(Keep::parse).ok_or_else(|| {
        let cause = "is not 'commits N', 'age SECONDS' and 'bytes N' (or 'none'), a line each";
        Error::Corrupt { file: KEEP_FILE.to_owned(), offset: 0, cause: cause.to_owned() }
    })
}

/// Durable when it returns.
pub(super) fn write_keep(store: &Path, dir: &OwnedFd, keep: &Keep) -> Result<()> {
    write_small(store, KEEP_FILE, keep.text().as_bytes())
        .map_err(|e| Error::host("write", KEEP_FILE, Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
    rustix::fs::fsync(dir).map_err(|e| Error::host("fsync", "store", e))
}

/// The lock; held until it is dropped, or the process ends.
pub(super) fn lock(store: &Path, dir: &OwnedFd) -> Result<Locked> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let lock = rustix::fs::openat(dir, LOCK_FILE, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|e| Error::host("open", LOCK_FILE, e))?;
    match Locked::new(lock) {
        Ok(locked) => Ok(locked),
        Err(Errno::WOULDBLOCK) => Err(Error::Locked(store.display().to_string())),
        Err(e) => Err(Error::host("lock", LOCK_FILE, e)),
    }
}

/// Waits until no process has the store open. One that opens it the next moment is not kept from it.
///
/// # Errors
/// `NoStore`, and the host's.
pub fn wait_closed(store: &Path) -> Result<()> {
    let lock = match std::fs::File::open(store.join(LOCK_FILE)) {
        Ok(lock) => lock,
        // Never opened so far.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && store.is_dir() => return Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::NoStore(store.display().to_string()));
        }
        Err(e) => {
            return Err(Error::host("open", LOCK_FILE, Errno::from_io_error(&e).unwrap_or(Errno::IO)));
        }
    };
    rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockShared))
        .map_err(|e| Error::host("lock", LOCK_FILE, e))
}

/// Where Linux tells one run of the machine from the next.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Whether the machine may have gone down since the store was last open: then what was not fsynced may be gone.
pub(super) fn rebooted(store: &Path) -> bool {
    let then = std::fs::read(store.join(BOOT_FILE));
    !std::fs::read(BOOT_ID).is_ok_and(|now| then.is_ok_and(|then| then == now))
}

/// After what a reboot calls for has been done: a crash before this repeats it.
pub(super) fn note_boot(store: &Path) -> Result<()> {
    let Ok(now) = std::fs::read(BOOT_ID) else { return Ok(()) };
    std::fs::write(store.join(BOOT_FILE), &now)
        .map_err(|e| Error::host("write", BOOT_FILE, Errno::from_io_error(&e).unwrap_or(Errno::IO)))
}

pub(super) fn journal_name(number: u64) -> String {
    format!("journal.{number}")
}

pub(super) fn checkpoint_name(number: u64) -> String {
    format!("checkpoint.{number}")
}

/// Numbers of the files `<stem>.<number>` in the store, ascending.
pub(super) fn numbered(dir: &OwnedFd, stem: &str) -> Result<Vec<u64>> {
    let names = crate::disk::list(open_dir_readable(dir, b".")?)?;
    let number = |name: &Vec<u8>| {
        let rest = name.strip_prefix(stem.as_bytes())?.strip_prefix(b".")?;
        std::str::from_utf8(rest).ok()?.parse().ok()
    };
    let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<WorkspaceId> {
    let mut id = [0u8; 16];
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    for (i, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(id)
}
