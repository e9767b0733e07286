//! Which view of its branch a program gets: the daemon's mount, or a kernel overlayfs of its own.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use branch_proc::{Command, Group, Overlay, SpawnError, Step};
use branch_proto::{Mounter, NativeView, ViewKind};

use crate::error::Error;
use crate::program::{Program, View};
use crate::workspace::Branch;

/// Bytes that are copied without being asked for: a native view begins with a copy of what the branch has.
const AUTO_COPY_MAX: u64 = 64 << 20;

/// A program that runs, and on what.
#[derive(Debug)]
pub struct Started {
    /// Its processes.
    pub group: Group,
    /// What they work on.
    pub view: ViewKind,
    /// Why not on a native view, if that was wished for.
    pub because: Option<String>,
}

impl Branch {
    /// Starts a program in this branch on the view it wants. `shape` gives its command streams and session; it is
    /// called again if a native view turns out not to be mountable. `together` are the branches that end with this one.
    ///
    /// # Errors
    /// As [`Branch::spawn`]; for [`View::Native`] also why there is none.
    pub fn start(
        &self,
        program: &Program,
        together: &[String],
        shape: &dyn Fn(Command) -> Result<Command, Error>,
    ) -> Result<Started, Error> {
        let wanted = program.wanted_view();
        let fuse = |because| -> Result<Started, Error> {
            let group = self.spawn(shape(self.command(program))?)?;
            Ok(Started { group, view: ViewKind::Fuse, because })
        };
        if wanted == View::Fuse {
            return fuse(None);
        }
        let reason = match self.start_native(program, together, shape) {
            Ok(started) => return Ok(started),
            Err(NotNative::Failed(error)) => return Err(error),
            Err(NotNative::Because(error)) => error,
        };
        if wanted == View::Native { Err(reason) } else { fuse(Some(reason.to_string())) }
    }

    fn start_native(
        &self,
        program: &Program,
        together: &[String],
        shape: &dyn Fn(Command) -> Result<Command, Error>,
    ) -> Result<Started, NotNative> {
        let base = self.workspace().base();
        if program.wanted_view() == View::Auto {
            self.bothers_nobody(together)?;
        }
        let mounter = if Overlay::is_mounted_by_root() { Mounter::Root } else { Mounter::UserNamespace };
        if let Some(mount) = mount_below(base, mounter).map_err(NotNative::Failed)? {
            return Err(because(format!("something is mounted below the base, at {}", mount.display())));
        }
        let backend = self.workspace().backend();
        let view = backend.native_view(self.name(), mounter).map_err(NotNative::Because)?;
        let command = program.command(base).overlay(overlay(base, view)).env("BRANCH_NAME", self.name());
        let held = shape(command).map_err(NotNative::Failed)?.hold();
        let started = held.map_err(refused).and_then(|held| {
            let attached = backend.attach_native(self.name(), held.pid(), held.pidfd());
            attached.map_err(NotNative::Failed)?;
            held.release().map_err(|source| NotNative::Failed(Error::Spawn { source }))
        });
        match started {
            Ok(group) => Ok(Started { group, view: ViewKind::Native, because: None }),
            Err(not) => {
                // Nothing was done in it: the branch is its own again.
                backend.take_in(self.name()).map_err(NotNative::Failed)?;
                Err(not)
            }
        }
    }

    /// While there is a native view, no other branch can commit into the base.
    fn bothers_nobody(&self, together: &[String]) -> Result<(), NotNative> {
        if !Overlay::is_mounted_by_root() {
            return Err(because("overlayfs in a user namespace cannot move directories of the base".into()));
        }
        let all = self.workspace().list().map_err(NotNative::Failed)?;
        if all.iter().any(|own| own.name == self.name() && own.content > AUTO_COPY_MAX) {
            return Err(because(format!("more than {} MiB would be copied for it", AUTO_COPY_MAX >> 20)));
        }
        // Those above could not in any case, with one below them.
        let mut own = vec![self.name()];
        while let Some(parent) = all.iter().find(|branch| own.last() == Some(&&*branch.name))
            && let Some(parent) = &parent.parent
        {
            own.push(parent);
        }
        let other = all.iter().find(|other| !own.contains(&&*other.name) && !together.contains(&other.name));
        match other {
            Some(other) => Err(because(format!("branch '{}' could not commit meanwhile", other.name))),
            None => Ok(()),
        }
    }
}

enum NotNative {
    /// There is none here; the other view will do.
    Because(Error),
    /// Nothing will do.
    Failed(Error),
}

fn because(reason: String) -> NotNative {
    NotNative::Because(Error::Invalid { reason: format!("no native view: {reason}") })
}

fn refused(source: SpawnError) -> NotNative {
    let overlay = source.step == Step::Overlay || source.step == Step::Require;
    let error = Error::Spawn { source };
    if overlay { NotNative::Because(error) } else { NotNative::Failed(error) }
}

fn overlay(base: &Path, view: NativeView) -> Overlay {
    Overlay {
        over: base.to_owned(),
        lower: vec![view.lower.as_path().to_owned()],
        upper: view.upper.as_path().to_owned(),
        work: view.work.as_path().to_owned(),
    }
}

/// A mount below the base, which overlayfs would not show. Those in the store nobody sees in any case; but in a user
/// namespace the kernel takes no layer from which a mount would have to be left out.
fn mount_below(base: &Path, mounter: Mounter) -> Result<Option<PathBuf>, Error> {
    let failed = |source| Error::System { doing: "read the list of mounts", source };
    let mounts = fs::read("/proc/self/mountinfo").map_err(failed)?;
    let store = crate::location::Location::default_store(base);
    let places =
        mounts.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    let matters = |place: &PathBuf| mounter == Mounter::UserNamespace || !place.starts_with(&store);
    Ok(places.map(unescaped).find(|place| place.starts_with(base) && place != base && matters(place)))
}

/// proc_pid_mountinfo(5) writes blanks and backslashes as three octal digits.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| byte == b'\\') {
            Some(meant) => {
                out.push(meant);
                rest = &tail[3..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    OsString::from_vec(out).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_mount_with_blanks_in_its_name_is_read() {
        assert_eq!(unescaped(b"/a\\040b\\134c"), Path::new("/a b\\c"));
        assert_eq!(unescaped(b"/x\\9").as_os_str().as_bytes(), b"/x\\9");
    }
}
