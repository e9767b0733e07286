//! The kernel's overlayfs over the base, a mount of its own for each view. Only root may.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use rustix::mount::{UnmountFlags, unmount};

use crate::arms::{Arm, Purpose, View, bring};
use crate::error::{Failed, Result, While, succeed};
use crate::site::Site;

pub(crate) struct Overlay {
    site: Rc<Site>,
    directory: PathBuf,
    opened: usize,
}

impl Overlay {
    pub(crate) fn new(site: &Rc<Site>) -> Result<Overlay> {
        if !rustix::process::geteuid().is_root() {
            return Err(Failed::Other("only root may mount it".to_owned()));
        }
        Ok(Overlay { site: site.clone(), directory: site.room("overlay")?, opened: 0 })
    }
}

impl Arm for Overlay {
    fn open(&mut self, purpose: Purpose) -> Result<View> {
        self.opened += 1;
        let name = format!("v{}", self.opened);
        let room = self.directory.join(&name);
        let [upper, work, top] = ["upper", "work", "view"].map(|part| room.join(part));
        for part in [&upper, &work, &top] {
            fs::create_dir_all(part).on("making", part)?;
        }
        let parts = [("lowerdir", self.site.base()), ("upperdir", &upper), ("workdir", &work)];
        let options = parts.map(|(part, path)| format!("{part}={}", path.display())).join(",");
        succeed(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(&top))?;
        Ok(View { name, top, purpose })
    }

    fn close(&mut self, view: View) -> Result<()> {
        unmount(&view.top, UnmountFlags::empty()).on("unmounting", &view.top)?;
        if view.purpose.changes.goes_at_once() {
            let room = self.directory.join(&view.name);
            fs::remove_dir_all(&room).on("removing", &room)?;
        }
        Ok(())
    }

    fn commit(&mut self, view: View, changed: &Path) -> Result<()> {
        let upper = self.directory.join(&view.name).join("upper").join(changed);
        // Before the mount goes, and with it what was changed; only then may the layer below be touched.
        let kept =
            tempfile::NamedTempFile::new_in(self.site.path()).on("making a file in", self.site.path())?;
        fs::copy(&upper, kept.path()).on("copying", &upper)?;
        self.close(view)?;
        bring(kept.path(), &self.site.base().join(changed))
    }
}
