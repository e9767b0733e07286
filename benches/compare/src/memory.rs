//! What the daemon has in memory: after it started, after a walk of many files, and when the kernel has forgotten them.

use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::arms::{Arm, Branches, Changes, Purpose};
use crate::error::{Failed, Result};
use crate::options::Options;
use crate::scale::Scale;
use crate::site::Site;
use crate::trees::Tree;
use crate::works::walk;

/// The name to choose it by.
const NAME: &str = "memory";
/// The reading after the kernel forgot is the one after which there is none that is less for so long. There is no event for it: the daemon
/// is told of each object alone.
const QUIET: Duration = Duration::from_secs(1);

/// Bytes resident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Memory {
    pub(crate) files: usize,
    pub(crate) started: u64,
    pub(crate) walked: u64,
    pub(crate) forgotten: u64,
}

/// Whether it was asked for, and can be had: only root can make the kernel forget.
pub(crate) fn wanted(options: &Options) -> bool {
    let branches = options.arms.iter().any(|arm| arm.starts_with("depth-"));
    branches && options.memory_files != Some(0) && options.wants(NAME, NAME) && Site::can_forget()
}

/// With a base and a daemon of its own. `None` if it is not wanted, or no daemon can be had here.
pub(crate) fn measure(options: &Options) -> Result<Option<Memory>> {
    if !wanted(options) {
        return Ok(None);
    }
    let scale = Scale::of(options.scale);
    let files = options.memory_files.unwrap_or(scale.remembered);
    eprintln!("compare: memory after a walk of {files} files");
    let site = Rc::new(Site::new(&options.dir)?);
    Tree::Many.make(&site, &Scale { remembered: files, ..scale })?;
    let mut daemon = None;
    let mut branches = Branches::new(&site, options.branchfs.as_deref(), 1, &mut daemon)?;
    let Some(Ok(daemon)) = daemon else { return Ok(None) };
    let view = branches.open(Purpose { tree: Tree::Many, changes: Changes::Nothing })?;
    let started = daemon.resident()?;
    let found = walk(&view.directory())?;
    if found != files {
        return Err(Failed::Other(format!("the walk found {found} files of {files}")));
    }
    let walked = daemon.resident()?;
    site.settle()?;
    site.forget()?;
    let forgotten = least(|| daemon.resident())?;
    branches.close(view)?;
    Ok(Some(Memory { files, started, walked, forgotten }))
}

fn least(read: impl Fn() -> Result<u64>) -> Result<u64> {
    let mut least = read()?;
    let mut since = Instant::now();
    while since.elapsed() < QUIET {
        thread::sleep(QUIET / 20);
        let now = read()?;
        if now < least {
            (least, since) = (now, Instant::now());
        }
    }
    Ok(least)
}
