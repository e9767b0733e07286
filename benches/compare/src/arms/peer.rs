//! `branchfs` 0.1.1 from the registry, as its manual has it: a mount for each view, switched to a branch of its own, with
//! passthrough for root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use crate::arms::{Arm, Purpose, View};
use crate::error::{Failed, Result, While, succeed};
use crate::site::Site;

pub(crate) struct Peer {
    site: Rc<Site>,
    program: PathBuf,
    room: PathBuf,
    opened: usize,
    mounted: Vec<PathBuf>,
}

impl Peer {
    pub(crate) fn new(site: &Rc<Site>, program: Option<&Path>) -> Result<Peer> {
        let program = match program {
            Some(program) => program.to_owned(),
            None => installed()?,
        };
        if !program.exists() {
            return Err(Failed::Other(format!("there is no {}: install-peer says why", program.display())));
        }
        let room = site.room("peer")?;
        let mut peer = Peer { site: site.clone(), program, room, opened: 0, mounted: Vec::new() };
        // Its daemon ends with its last mount, and another cannot start before it has gone: one stays mounted.
        let kept = peer.room.join("kept");
        fs::create_dir(&kept).on("making", &kept)?;
        peer.mount(kept)?;
        Ok(peer)
    }

    fn call(&self, verb: &str, arguments: impl FnOnce(&mut Command)) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.arg(verb).arg("--storage").arg(self.room.join("storage"));
        arguments(&mut command);
        succeed(&mut command).map(drop)
    }

    fn mount(&mut self, top: PathBuf) -> Result<()> {
        self.call("mount", |command| {
            command.arg("--base").arg(self.site.base());
            if rustix::process::geteuid().is_root() {
                command.arg("--passthrough");
            }
            command.arg(&top);
        })?;
        self.mounted.push(top);
        Ok(())
    }

    fn unmount(&self, top: &Path) -> Result<()> {
        self.call("unmount", |command| {
            command.arg(top);
        })
    }
}

/// Where `install-peer` puts it: beside the build.
fn installed() -> Result<PathBuf> {
    let own = std::env::current_exe().on("looking for", Path::new("target"))?;
    let target = own.ancestors().find(|dir| dir.ends_with("target"));
    Ok(target.unwrap_or(Path::new("target")).join("tools/bin/branchfs"))
}

impl Arm for Peer {
    fn open(&mut self, purpose: Purpose) -> Result<View> {
        self.opened += 1;
        let name = format!("v{}", self.opened);
        let top = self.room.join(&name);
        fs::create_dir(&top).on("making", &top)?;
        self.mount(top.clone())?;
        self.call("create", |command| {
            command.arg(&name).arg(&top);
        })?;
        Ok(View { name, top, purpose })
    }

    fn close(&mut self, view: View) -> Result<()> {
        if view.purpose.changes.goes_at_once() {
            self.call("abort", |command| {
                command.arg(&view.top);
            })?;
        }
        self.unmount(&view.top)?;
        self.mounted.retain(|top| *top != view.top);
        Ok(())
    }

    fn commit(&mut self, view: View, _: &Path) -> Result<()> {
        self.call("commit", |command| {
            command.arg(&view.top);
        })?;
        // It is on its main branch now.
        self.unmount(&view.top)?;
        self.mounted.retain(|top| *top != view.top);
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        for top in &self.mounted {
            if let Err(failed) = self.unmount(top) {
                eprintln!("compare: the peer leaves {} mounted: {failed}", top.display());
            }
        }
    }
}
