//! Branches through FUSE: each view is a fresh branch at the end of a chain, every link of which has changed some of
//! the base's files.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use crate::arms::{Arm, Daemon, Purpose, Running, View};
use crate::error::{Result, While};
use crate::site::Site;
use crate::trees;

pub(crate) struct Branches {
    daemon: Daemon,
    depth: usize,
    /// What the views are forked off.
    parent: String,
    opened: usize,
}

impl Branches {
    /// Of one depth; the daemon is started by the first.
    pub(crate) fn new(
        site: &Rc<Site>,
        program: Option<&Path>,
        depth: usize,
        daemon: &mut Running,
    ) -> Result<Branches> {
        let daemon = Daemon::of(site, program, daemon)?;
        let mut parent = "main".to_owned();
        for level in 1..depth {
            let name = format!("level-{level}-of-{depth}");
            let top = daemon.fork(&name, &parent)?;
            change(&top, level)?;
            parent = name;
        }
        Ok(Branches { daemon, depth, parent, opened: 0 })
    }
}

/// Gives a link of the chain some files of its own, with the bytes that they had.
fn change(top: &Path, level: usize) -> Result<()> {
    for path in trees::changed_at(top, level) {
        let file = OpenOptions::new().read(true).write(true).open(&path).on("opening", &path)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, 0).on("reading", &path)?;
        file.write_all_at(&byte, 0).on("writing", &path)?;
    }
    Ok(())
}

impl Arm for Branches {
    fn open(&mut self, purpose: Purpose) -> Result<View> {
        self.opened += 1;
        let name = format!("d{}-v{}", self.depth, self.opened);
        let top = self.daemon.fork(&name, &self.parent)?;
        Ok(View { name, top, purpose })
    }

    fn close(&mut self, view: View) -> Result<()> {
        self.daemon.close(&view)
    }

    fn commit(&mut self, view: View, _: &Path) -> Result<()> {
        self.daemon.commit(&view)
    }
}
