//! Small files, and many names.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::error::{Result, While};
use crate::scale::Scale;

/// Bytes of the first files; sizes go from here to four times as much.
const LEAST: usize = 512;

/// Where the file of a number is.
pub(crate) fn path_of(number: usize) -> PathBuf {
    PathBuf::from(format!("d{:04}/f{number:06}", number / Scale::FILES_IN_DIRECTORY))
}

pub(super) fn make(top: &Path, files: usize) -> Result<()> {
    for number in 0..files {
        let path = top.join(path_of(number));
        if number % Scale::FILES_IN_DIRECTORY == 0 {
            let parent = path.parent().unwrap_or(top);
            fs::create_dir(parent).on("making", parent)?;
        }
        let line = format!("line of file {number}\n");
        let size = LEAST * (1 + number % 4);
        fs::write(&path, line.repeat(size.div_ceil(line.len()))).on("writing", &path)?;
    }
    Ok(())
}

/// Empty files, a thousand in a directory.
pub(super) fn make_many(top: &Path, files: usize) -> Result<()> {
    const IN_DIRECTORY: usize = 1_000;
    for first in (0..files).step_by(IN_DIRECTORY) {
        let directory = top.join(format!("d{first:07}"));
        fs::create_dir(&directory).on("making", &directory)?;
        make_wide(&directory, IN_DIRECTORY.min(files - first))?;
    }
    Ok(())
}

/// Empty files, all in one directory.
pub(super) fn make_wide(top: &Path, entries: usize) -> Result<()> {
    for number in 0..entries {
        let path = top.join(format!("entry-{number:07}"));
        File::create(&path).on("making", &path)?;
    }
    Ok(())
}
