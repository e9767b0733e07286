//! What the work runs on. An arm opens views of the base: directories that look like it, and can be written to
//! without changing it or any other view.
//!
//! A further arm is a file here with an [`Arm`] and a line in [`seat`].

mod branch;
mod daemon;
mod native;
mod overlay;
mod peer;
mod plain;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use crate::error::{Failed, Result, While};
use crate::options::Options;
use crate::site::Site;
use crate::trees::Tree;

pub(crate) use branch::Branches;
pub(crate) use daemon::{Daemon, Running};

/// What a work does to what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Changes {
    /// Reads.
    Nothing,
    /// Makes files of its own.
    Adds,
    /// Changes what is there.
    Base,
    /// As [`Changes::Base`], so many bytes that they are not kept until the end.
    Bulk,
}

impl Changes {
    /// Whether what was written goes as soon as the work is done, not at the end of all. ext4 looks long for an
    /// inode where many were freed within the last minutes, so nothing small is deleted between measurements.
    fn goes_at_once(self) -> bool {
        matches!(self, Changes::Nothing | Changes::Bulk)
    }
}

/// What a view is wanted for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purpose {
    pub(crate) tree: Tree,
    pub(crate) changes: Changes,
}

/// An open view.
#[derive(Debug)]
pub(crate) struct View {
    /// Its name among the arm's.
    name: String,
    /// The directory that looks like the base.
    top: PathBuf,
    purpose: Purpose,
}

impl View {
    /// Where the work's tree is.
    pub(crate) fn directory(&self) -> PathBuf {
        self.top.join(self.purpose.tree.name())
    }
}

/// Something that shows the base.
pub(crate) trait Arm {
    /// Opens a view for one run of one work.
    fn open(&mut self, purpose: Purpose) -> Result<View>;

    /// The command that runs `program` with the view's directory as its current one.
    fn command(&self, view: &View, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(view.directory());
        command
    }

    /// Ends a view.
    fn close(&mut self, view: View) -> Result<()>;

    /// Ends a view and brings the one file that it changed, named from the top, into what it was opened of.
    fn commit(&mut self, view: View, changed: &Path) -> Result<()>;
}

/// What those do who have no commit: a copy that is there as a whole or not at all, also after a power failure.
fn bring(from: &Path, to: &Path) -> Result<()> {
    let staged = to.with_extension("staged");
    std::fs::copy(from, &staged).on("copying", from)?;
    File::open(&staged).and_then(|file| file.sync_all()).on("syncing", &staged)?;
    std::fs::rename(&staged, to).on("renaming", &staged)?;
    let parent = to.parent().unwrap_or(to);
    File::open(parent).and_then(|parent| parent.sync_all()).on("syncing", parent)
}

/// A column of the table: an arm, or why there is none.
pub(crate) struct Seat {
    pub(crate) name: String,
    pub(crate) arm: std::result::Result<Box<dyn Arm>, String>,
}

/// The arms asked for, plain ext4 first.
pub(crate) fn seats(options: &Options, site: &Rc<Site>) -> Result<Vec<Seat>> {
    let mut names: Vec<&str> =
        options.arms.iter().map(String::as_str).filter(|name| *name != "ext4").collect();
    names.insert(0, "ext4");
    let mut daemon = None;
    names.into_iter().map(|name| seat(name, options, site, &mut daemon)).collect()
}

fn seat(name: &str, options: &Options, site: &Rc<Site>, daemon: &mut Running) -> Result<Seat> {
    let program = options.branchfs.as_deref();
    if let Some(served) = Branches::served(name, site, program, daemon) {
        let arm = served.map(|arm| Box::new(arm) as _).map_err(|failed| failed.to_string());
        return Ok(Seat { name: name.to_owned(), arm });
    }
    let arm: Result<Box<dyn Arm>> = match name {
        "ext4" => plain::Plain::new(site).map(|arm| Box::new(arm) as _),
        "overlayfs" => overlay::Overlay::new(site).map(|arm| Box::new(arm) as _),
        "native" => native::Native::new(site, program, daemon).map(|arm| Box::new(arm) as _),
        "peer" => peer::Peer::new(site, options.peer.as_deref()).map(|arm| Box::new(arm) as _),
        _ => {
            let depth =
                name.strip_prefix("depth-").and_then(|depth| depth.parse().ok()).filter(|depth| *depth > 0);
            let depth = depth.ok_or_else(|| Failed::Other(format!("there is no arm '{name}'")))?;
            Branches::new(site, program, depth, daemon).map(|arm| Box::new(arm) as _)
        }
    };
    Ok(Seat { name: name.to_owned(), arm: arm.map_err(|failed| failed.to_string()) })
}
