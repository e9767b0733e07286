//! What recovery has to know of a native view: a file beside its upper directory.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};

use crate::base::{stat_at, stat_fd};
use crate::branch::{OverlayXattrs, Start};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::node::{Time, time_of};

/// Its name.
const VIEW: &[u8] = b"view";
/// Longer it never is.
const LENGTH_MAX: usize = 64;

/// Its change time is that of the attachment.
pub(super) struct Note {
    pub(super) xattrs: OverlayXattrs,
    /// What the branch began with.
    pub(super) start: Began,
}

/// Which tree is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Began {
    Fork,
    Mark,
}

impl Note {
    pub(super) fn new(xattrs: OverlayXattrs, start: &Start) -> Note {
        let start = match start {
            Start::Fork(_) => Began::Fork,
            Start::Mark(_) => Began::Mark,
        };
        Note { xattrs, start }
    }

    /// Writes it, durably but for its name. When that was.
    pub(super) fn write(&self, disk: &Disk, dir: &OwnedFd) -> Result<Time> {
        let file = disk.create(dir, VIEW, OFlags::WRONLY, 0o600)?;
        disk.copy_write(&file, self.text().as_bytes(), 0)?;
        disk.fsync(&file)?;
        Ok(time_of(&stat_fd(&file)?.stx_ctime))
    }

    /// Reads it. When the view was attached comes with it.
    pub(super) fn read(dir: &OwnedFd) -> Result<(Note, Time)> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, VIEW, flags, Mode::empty())?;
        let mut text = [0; LENGTH_MAX];
        let length = rustix::io::read(&file, &mut text[..])?;
        let note = std::str::from_utf8(&text[..length]).ok().and_then(Note::of);
        let corrupt =
            || Error::Corrupt { file: "view".to_owned(), offset: 0, cause: "is no native view's".to_owned() };
        Ok((note.ok_or_else(corrupt)?, time_of(&stat_at(dir, VIEW)?.stx_ctime)))
    }

    fn text(&self) -> String {
        let style = match self.xattrs {
            OverlayXattrs::Trusted => "trusted",
            OverlayXattrs::User => "user",
        };
        let start = match self.start {
            Began::Fork => "fork",
            Began::Mark => "mark",
        };
        format!("{style} {start}\n")
    }

    fn of(text: &str) -> Option<Note> {
        let mut words = text.strip_suffix('\n')?.split(' ');
        let xattrs = match words.next()? {
            "trusted" => OverlayXattrs::Trusted,
            "user" => OverlayXattrs::User,
            _ => return None,
        };
        let start = match words.next()? {
            "fork" => Began::Fork,
            "mark" => Began::Mark,
            _ => return None,
        };
        words.next().is_none().then_some(Note { xattrs, start })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_read_and_nothing_else() {
        for text in ["trusted fork\n", "user mark\n", "trusted mark\n"] {
            assert_eq!(Note::of(text).unwrap().text(), text);
            assert!(text.len() < LENGTH_MAX);
        }
        for text in ["", "trusted\n", "trusted fork", "trusted fork 1\n", "nobody fork\n", "user tree\n"] {
            assert!(Note::of(text).is_none(), "{text:?}");
        }
    }
}
