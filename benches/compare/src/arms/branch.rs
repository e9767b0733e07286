//! Branches through FUSE: each view is a fresh branch at the end of a chain, every link of which has changed some of
//! the base's files. Or forked off main, with file data served in another way than by default.

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
    /// How the names of its views begin.
    name: String,
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
        Ok(Branches { daemon, name: format!("d{depth}"), parent, opened: 0 })
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

/// Ways of serving file data that are arms of their own.
const WAYS: [&str; 2] = ["opened", "passthrough"];

impl Branches {
    /// Of depth 1, with file data served as an arm's name says; `None` for a name that says nothing of it.
    pub(crate) fn served(
        name: &str,
        site: &Rc<Site>,
        program: Option<&Path>,
        daemon: &mut Running,
    ) -> Option<Result<Branches>> {
        let way = WAYS.into_iter().find(|way| *way == name)?;
        let serving = Daemon::of(site, program, daemon).and_then(|daemon| daemon.serving(way));
        let named = |daemon| Branches { daemon, name: way.to_owned(), parent: "main".to_owned(), opened: 0 };
        Some(serving.map(named))
    }
}

impl Arm for Branches {
    fn open(&mut self, purpose: Purpose) -> Result<View> {
        self.opened += 1;
        let name = format!("{}-v{}", self.name, self.opened);
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
