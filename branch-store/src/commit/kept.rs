//! What was decided, kept beside the preimages for as long as they are: who undoes the commit starts from it.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::branch::Shared;
use crate::disk::open_dir;
use crate::error::{Error, Result};
use crate::ids::CommitId;
use crate::journal::record::{Decide, Record};
use crate::journal::{Header, Unsynced, scan, write_records};

/// Its name in the preimage directory, beside numbers.
const NAME: &str = "decision";

/// Writes it; the caller makes it durable before the commit is called done.
pub(super) fn write(shared: &Shared, park: &OwnedFd, decided: &Decide) -> Result<File> {
    let failed = |op: &'static str| move |e| Error::host(op, NAME, e);
    let flags = OFlags::RDWR | OFlags::TRUNC;
    let file = shared.disk.create(park, NAME.as_bytes(), flags, 0o600).map_err(failed("create"))?;
    let header = Header { workspace: shared.workspace, first: 1 };
    write_records(&file, NAME, header, &[Record::Decide(decided.clone())])?;
    Ok(file)
}

/// Reads it; `None` once the preimages are gone.
///
/// # Errors
/// `Corrupt`, and the host's.
pub(super) fn read(shared: &Shared, commit: CommitId) -> Result<Option<Decide>> {
    let name = format!("preimage/{}/{NAME}", commit.0);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = open_dir(&shared.park_fd, commit.0.to_string().as_bytes())
        .and_then(|dir| rustix::fs::openat(&dir, NAME, flags, Mode::empty()));
    let mut file = match opened {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(Error::host("open", &name, e)),
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .map_err(|e| Error::host("read", &name, Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
    let mut decided = None;
    scan(&bytes, &name, &shared.workspace, Unsynced::Kept, |_, record| {
        if let Record::Decide(record) = record {
            decided = Some(record);
        }
        Ok(())
    })?;
    match decided {
        Some(decided) if decided.commit == commit => Ok(Some(decided)),
        _ => Err(Error::Corrupt {
            file: name,
            offset: 0,
            cause: "is not the decision of its commit".to_owned(),
        }),
    }
}
