//! Where everything is: the base, what the works bring along, and a room for each arm, all on one filesystem.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::error::{Result, While, succeed};

/// A directory that is gone when it is dropped.
pub(crate) struct Site {
    directory: TempDir,
    base: PathBuf,
}

impl Site {
    pub(crate) fn new(dir: &Path) -> Result<Site> {
        let directory =
            tempfile::Builder::new().prefix("compare-").tempdir_in(dir).on("making a directory in", dir)?;
        let base = directory.path().join("base");
        let site = Site { directory, base };
        for made in [site.base().to_owned(), site.materials()] {
            fs::create_dir(&made).on("making", &made)?;
        }
        Ok(site)
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// What all arms show.
    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    /// What works bring along: read, never changed, and on no arm.
    pub(crate) fn materials(&self) -> PathBuf {
        self.path().join("materials")
    }

    /// A directory for an arm's own.
    pub(crate) fn room(&self, name: &str) -> Result<PathBuf> {
        let room = self.path().join(name);
        fs::create_dir(&room).on("making", &room)?;
        Ok(room)
    }

    /// What the filesystem is, as stat(1) names it.
    pub(crate) fn filesystem(&self) -> Result<String> {
        Ok(succeed(Command::new("stat").args(["-f", "-c", "%T"]).arg(self.path()))?
            .trim()
            .replace("ext2/ext3", "ext4"))
    }

    /// Makes everything written so far durable, so that nobody pays for what another wrote.
    pub(crate) fn settle(&self) -> Result<()> {
        let top = fs::File::open(self.path()).on("opening", self.path())?;
        rustix::fs::syncfs(&top).on("syncing", self.path())
    }

    /// Whether [`Site::forget`] may be called.
    pub(crate) fn can_forget() -> bool {
        rustix::process::geteuid().is_root()
    }

    /// Makes the kernel forget names and attributes that it can have again; for root.
    pub(crate) fn forget(&self) -> Result<()> {
        let file = Path::new("/proc/sys/vm/drop_caches");
        fs::write(file, "2").on("writing", file)
    }
}
