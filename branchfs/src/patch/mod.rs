//! What differs between two sides as a patch that `git apply` takes: git's extended headers, text as hunks, all
//! else as `GIT binary patch`. Each file is read once, so that hunks, binary content and object names agree.
//!
//! Git knows regular files, one executable bit, and symbolic links. What it cannot say is left out and counted.

mod binary;
mod format;
mod omitted;
mod plan;
mod quote;
mod text;

use std::io::{self, Write};

use branch_store::{PathChange, Side};

use self::format::Blob;
use self::omitted::Tally;
pub use self::omitted::{Omitted, Why};
use self::plan::{File, Mode, Step, plan};
pub(crate) use self::quote::quoted;
pub(crate) use self::text::{Lines, count as count_lines};

/// Longest file in a patch, in bytes. Git takes no patch of 1023 MiB or more, and both sides may have to be in it.
pub const CONTENT_MAX: u64 = 256 << 20;

/// Why there is no patch, or only a part of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A side cannot be read.
    #[error("{}: {source}", .path)]
    Side {
        /// What was being read, quoted.
        path: String,
        /// Why not.
        source: branch_store::Error,
    },
    /// A file is longer than [`CONTENT_MAX`].
    #[error("{path} is too long for a patch (at most {CONTENT_MAX} bytes)")]
    TooLong {
        /// The file, quoted.
        path: String,
    },
    /// Whoever reads the patch takes no more of it.
    #[error("cannot write the patch: {0}")]
    Output(#[from] io::Error),
}

/// Writes the patch that leads from one side to the other, given what differs: directories expanded
/// ([`branch_store::Directories::Expanded`]). Says what git has no words for.
///
/// # Errors
/// See [`Error`]. What has been written by then is whole up to some line.
pub fn write(
    out: &mut dyn Write,
    (old, new): (&Side, &Side),
    changes: &[PathChange],
) -> Result<Vec<Omitted>, Error> {
    let mut tally = Tally::default();
    for step in plan(changes, &mut tally) {
        match step {
            Step::Delete(file) => format::deleted(out, &blob(old, file)?)?,
            Step::Create(file) => format::created(out, &blob(new, file)?)?,
            Step::Change { from, to, other_attributes } => {
                let (before, after) = (blob(old, from)?, blob(new, to)?);
                if before == after {
                    // Another object, and yet the same to git.
                    continue;
                }
                if other_attributes {
                    tally.add(Why::Attributes, to.path);
                }
                format::changed(out, &before, &after)?;
            }
        }
    }
    out.flush()?;
    Ok(tally.into_all())
}

fn blob<'a>(side: &Side, file: File<'a>) -> Result<Blob<'a>, Error> {
    let failed = |source| Error::Side { path: quoted(file.path), source };
    let gone = || failed(branch_store::Error::Posix(rustix::io::Errno::NOENT));
    let (object, _) = side.resolve(file.path).map_err(failed)?.ok_or_else(gone)?;
    let content = match file.mode {
        Mode::Link => side.read_link(&object).map_err(failed)?,
        Mode::Plain | Mode::Executable => {
            let read = side.read(&object, CONTENT_MAX).map_err(failed)?;
            read.ok_or_else(|| Error::TooLong { path: quoted(file.path) })?
        }
    };
    Ok(Blob { file, content })
}
