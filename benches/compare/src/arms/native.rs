//! Branches that are kernel overlayfs in a process's own mount namespace: `branchfs run --view native`. Each view is a fresh
//! branch of main; the work is done at the base's own path, where the command sees it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use crate::arms::{Arm, Daemon, Purpose, Running, View};
use crate::error::{Failed, Result, succeed};
use crate::site::Site;

pub(crate) struct Native {
    daemon: Daemon,
    site: Rc<Site>,
    opened: usize,
}

impl Native {
    /// The daemon is started by the first arm that needs it.
    pub(crate) fn new(site: &Rc<Site>, program: Option<&Path>, daemon: &mut Running) -> Result<Native> {
        let daemon = Daemon::of(site, program, daemon)?;
        if !succeed(Command::new(daemon.program()).args(["run", "--help"]))?.contains("--view") {
            return Err(Failed::Other("this branchfs has no native views".to_owned()));
        }
        Ok(Native { daemon, site: site.clone(), opened: 0 })
    }
}

impl Arm for Native {
    fn open(&mut self, purpose: Purpose) -> Result<View> {
        self.opened += 1;
        let name = format!("native-v{}", self.opened);
        let top = self.daemon.fork(&name, "main")?;
        Ok(View { name, top, purpose })
    }

    fn command(&self, view: &View, program: &Path) -> Command {
        let mut command = Command::new(self.daemon.program());
        command.args(["run", "--branch", &view.name, "--keep", "--view", "native", "--"]).arg(program);
        let directory: PathBuf = self.site.base().join(view.purpose.tree.name());
        command.current_dir(directory);
        command
    }

    fn close(&mut self, view: View) -> Result<()> {
        self.daemon.close(&view)
    }

    fn commit(&mut self, view: View, _: &Path) -> Result<()> {
        self.daemon.commit(&view)
    }
}
