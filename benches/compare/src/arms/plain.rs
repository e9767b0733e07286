//! No view at all: the filesystem that base and store are on. Who only reads, reads the base itself; who changes it
//! gets a copy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use crate::arms::{Arm, Changes, Purpose, View, bring};
use crate::error::{Result, While, succeed};
use crate::site::Site;

pub(crate) struct Plain {
    site: Rc<Site>,
    directory: PathBuf,
    opened: usize,
}

impl Plain {
    pub(crate) fn new(site: &Rc<Site>) -> Result<Plain> {
        Ok(Plain { site: site.clone(), directory: site.room("plain")?, opened: 0 })
    }
}

impl Arm for Plain {
    fn open(&mut self, purpose: Purpose) -> Result<View> {
        self.opened += 1;
        let name = format!("v{}", self.opened);
        if purpose.changes == Changes::Nothing {
            return Ok(View { name, top: self.site.base().to_owned(), purpose });
        }
        let top = self.directory.join(&name);
        let tree = top.join(purpose.tree.name());
        if purpose.changes == Changes::Adds {
            fs::create_dir_all(&tree).on("making", &tree)?;
        } else {
            fs::create_dir(&top).on("making", &top)?;
            succeed(Command::new("cp").arg("-a").arg(self.site.base().join(purpose.tree.name())).arg(&tree))?;
        }
        Ok(View { name, top, purpose })
    }

    fn close(&mut self, view: View) -> Result<()> {
        if view.purpose.changes == Changes::Bulk {
            fs::remove_dir_all(&view.top).on("removing", &view.top)?;
        }
        Ok(())
    }

    fn commit(&mut self, view: View, changed: &Path) -> Result<()> {
        bring(&view.top.join(changed), &self.site.base().join(changed))?;
        self.close(view)
    }
}
