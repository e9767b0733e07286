//! A `/tmp` of the group's own: a tmpfs, with what is bound below `/tmp` in it. Made beside it, because the views to be
//! bound may lie in the old one, and moved over it when it is whole.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::c_path::path_of;
use crate::error::Step;
use crate::wire::Fail;

/// What becomes private.
pub(crate) const TMP: &str = "/tmp";
/// Where it is made: a directory that is always there, and is mounted over afterwards in any case.
const STAGING: &str = "/proc";

/// What is to be made, with every string ready for the kernel.
#[derive(Debug, Default)]
pub(crate) struct PrivateTmp {
    binds: Vec<StagedBind>,
}

/// A directory bound below `/tmp`.
#[derive(Debug)]
struct StagedBind {
    /// The directories on the way, outermost first.
    way: Vec<CString>,
    view: CString,
    place: CString,
}

impl PrivateTmp {
    /// Takes a bind over if it lies below `/tmp`; whether it did.
    pub(crate) fn take(&mut self, view: &CStr, over: &CStr) -> bool {
        let Ok(below) = path_of(over).strip_prefix(TMP) else { return false };
        if below.as_os_str().is_empty() {
            return false;
        }
        let place = staged(below);
        // In what another bind shows there are directories already, and they are the view's.
        let inside = self.binds.iter().any(|bind| path_of(&place).starts_with(path_of(&bind.place)));
        let ancestors: Vec<&Path> = below.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
        let way = if inside { Vec::new() } else { ancestors.into_iter().rev().map(staged).collect() };
        self.binds.push(StagedBind { way, view: view.to_owned(), place });
        true
    }

    /// Makes it aside; async-signal-safe. Before anything else is bound.
    pub(crate) fn stage(&self) -> Result<(), Fail> {
        let failed = |e| Fail::new(Step::PrivateTmp, e);
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount(c"tmpfs", c"/proc", c"tmpfs", flags, Some(c"mode=1777")).map_err(failed)?;
        for bind in &self.binds {
            for directory in &bind.way {
                match rustix::fs::mkdir(directory.as_c_str(), Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(failed(e)),
                }
            }
            rustix::mount::mount_bind_recursive(bind.view.as_c_str(), bind.place.as_c_str())
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Puts it in its place; async-signal-safe. After everything else is bound.
    pub(crate) fn enter(&self) -> Result<(), Fail> {
        rustix::mount::mount_move(c"/proc", c"/tmp").map_err(|e| Fail::new(Step::PrivateTmp, e))
    }
}

fn staged(below: &Path) -> CString {
    let path = Path::new(STAGING).join(below);
    // It came from a string of the kernel's, and nothing with a NUL was added.
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_tmp_is_staged_with_the_directories_on_the_way() {
        let mut tmp = PrivateTmp::default();
        assert!(!tmp.take(c"/view", c"/home/me/project"));
        assert!(!tmp.take(c"/view", c"/tmp"));
        assert!(!tmp.take(c"/view", c"/tmpfiles/x"));
        assert!(tmp.take(c"/view", c"/tmp/a/base"));
        assert!(tmp.take(c"/other", c"/tmp/a/base/sub"));
        assert_eq!(tmp.binds[0].way, [c"/proc/a".to_owned(), c"/proc/a/base".to_owned()]);
        assert_eq!(tmp.binds[0].place, c"/proc/a/base".to_owned());
        assert!(tmp.binds[1].way.is_empty(), "the view has it");
    }
}
