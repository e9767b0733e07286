//! Files whose bytes no operation of the store changes any more: whoever has one open can read it from the host, without
//! asking.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::base::stat_fd;
use crate::branch::open_file::{Access, OpenFile};
use crate::error::Result;
use crate::node::Content;

/// A host file that has the bytes of an open file, as long as somebody holds it: a copy-up, a commit or the end of the
/// branch puts another file in its place, or none, and leaves this one alone. (In the base anybody may edit it, S15.)
#[derive(Debug, Clone)]
pub struct Stable {
    file: Arc<File>,
    dev: u64,
    ino: u64,
    len: u64,
}

impl Stable {
    /// Device and inode on the host: while it is held, no other file has both.
    pub fn identity(&self) -> (u64, u64) {
        (self.dev, self.ino)
    }

    /// How long it was when it was looked at, in bytes.
    pub fn len_then(&self) -> u64 {
        self.len
    }

    /// How long it is now, in bytes, and how much it takes, in blocks of 512.
    ///
    /// # Errors
    /// The host's.
    pub fn size(&self) -> Result<(u64, u64)> {
        let stat = stat_fd(&self.file)?;
        Ok((stat.stx_size, stat.stx_blocks))
    }
}

impl AsFd for Stable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl OpenFile {
    /// The host file that has the bytes, if nothing that is done through the store will change them there: a file of the
    /// base with one name (one with several is rewritten by commits), or one in an older layer (I-4) that borrows
    /// nothing. Also the object has one name in the branch, or none any more.
    ///
    /// # Errors
    /// ESTALE, and the host's.
    pub fn stable(&self) -> Result<Option<Stable>> {
        if self.access() != Access::Read {
            return Ok(None);
        }
        let Some((content, file)) = self.content_read()? else { return Ok(None) };
        let (current, linked) = {
            let data = self.branch().data.read();
            (data.layer, data.tree.get(self.object().id).is_some_and(|node| node.inode.meta.nlink > 1))
        };
        // Compared after the look: a layer is never the current one again.
        let frozen = match content {
            Content::Base(_) => true,
            // What main shows is on its way into the base.
            Content::Own(layer) => !self.branch().is_main() && layer != current,
        };
        let stat = stat_fd(&file)?;
        if !frozen || linked || stat.stx_nlink != 1 {
            return Ok(None);
        }
        let dev = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
        Ok(Some(Stable { file, dev, ino: stat.stx_ino, len: stat.stx_size }))
    }

    /// Reads from this file only from now on, whatever becomes of the object: as the one who reads from it without
    /// asking. The first counts.
    pub fn pin(&self, stable: &Stable) {
        self.pinned.get_or_init(|| stable.file.clone());
    }
}
