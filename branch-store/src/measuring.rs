//! How many bytes would be free if something of the store's own were deleted.

use std::collections::HashMap;
use std::os::fd::AsFd;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::base::stat_at;
use crate::disk::{list, open_dir_readable};
use crate::error::{Error, Result};

/// Unit of `st_blocks`, in bytes.
const BLOCK: u64 = 512;

/// Names found so far of files that have several, by inode number.
type Links = HashMap<u64, u32>;

/// Bytes below a directory of the store, as the host allocates them. A file counts if all its names are there: another
/// one, in the base or in a layer, keeps it. A directory that this user may not list counts nothing.
///
/// # Errors
/// The host's.
pub(crate) fn bytes_below(dir: impl AsFd) -> Result<u64> {
    below(&dir, &mut Links::new())
}

/// Bytes that a file has allocated, from its stat.
pub(crate) fn allocated(stat: &rustix::fs::Statx) -> u64 {
    stat.stx_blocks * BLOCK
}

fn below(dir: impl AsFd, links: &mut Links) -> Result<u64> {
    let mut bytes = 0;
    for name in list(&dir)? {
        let found = match stat_at(&dir, &name) {
            // It is being deleted.
            Err(Errno::NOENT) => continue,
            found => found.map_err(|e| Error::host("stat", &name, e))?,
        };
        let is_dir = FileType::from_raw_mode(found.stx_mode.into()) == FileType::Directory;
        if !is_dir && found.stx_nlink > 1 {
            let seen = links.entry(found.stx_ino).or_default();
            *seen += 1;
            if *seen < found.stx_nlink {
                continue;
            }
        }
        bytes += allocated(&found);
        if is_dir {
            bytes += match open_dir_readable(&dir, &name) {
                Ok(inner) => below(inner, links)?,
                Err(Errno::ACCESS | Errno::NOENT) => 0,
                Err(e) => return Err(Error::host("open", &name, e)),
            };
        }
    }
    Ok(bytes)
}
