//! After a crash: what processes left in native views is taken in. They are dead, and so is whoever could have told.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

use crate::branch::{BEFORE_NATIVE, Branch, NativeView, Shared, Start};
use crate::disk::open_dir;
use crate::error::{Error, Result};
use crate::native::note::{Began, Note};
use crate::native::{DIR, Named, Processes, attach, discard_ended, named, take_in};

/// After replay.
pub(crate) fn recover(shared: &Shared, lines: &mut Vec<String>) -> Result<()> {
    discard_ended(shared)?;
    for (branch, own) in attached(shared)? {
        let view = view_of(&branch, &own)?;
        branch.attached.set(&mut branch.attached.view(), Some(view));
        let name = branch.name();
        lines.push(match take_in(shared, &branch, Processes::Ended) {
            Ok(_) => format!("branch '{name}' has what its processes left in their native view"),
            // Nothing is lost: it is tried again by whoever wants the branch next.
            Err(e) => format!("what processes of branch '{name}' left in their native view waits there: {e}"),
        });
    }
    // A view was taken in, or never made, and its mark stayed.
    for branch in shared.registry.read().all().into_iter().filter(|branch| !branch.is_attached()) {
        match attach::thaw(shared, &branch) {
            // A full disk must not keep the store from being opened: the next recovery tries again.
            Err(e) if matches!(e.errno(), Errno::NOSPC | Errno::DQUOT) => {}
            thawed => thawed?,
        }
    }
    Ok(())
}

fn view_of(branch: &Branch, own: &OwnedFd) -> Result<NativeView> {
    let (note, since) = Note::read(own)?;
    let data = branch.data.read();
    let start = match note.start {
        Began::Fork => Start::Fork(data.fork_tree.clone()),
        Began::Mark => {
            let lost = || Error::Corrupt {
                file: format!("{DIR}/{}/view", branch.id().0),
                offset: 0,
                cause: "what the branch began with is not there".to_owned(),
            };
            Start::Mark(data.marks.get(BEFORE_NATIVE).ok_or_else(lost)?.tree.clone())
        }
    };
    Ok(NativeView { since, xattrs: note.xattrs, start, known: Default::default() })
}

/// Native views of live branches, with their directories.
fn attached(shared: &Shared) -> Result<Vec<(Arc<Branch>, OwnedFd)>> {
    let mut out = Vec::new();
    for Named { name, branch, is_whole } in named(shared)? {
        let native = open_dir(&shared.dir_fd, DIR.as_bytes())?;
        match branch {
            Some(branch) if is_whole => out.push((branch, open_dir(native, &name)?)),
            // Nobody is making it any more.
            Some(_) => crate::removing::remove_tree(&shared.disk, &native, &name)?,
            None => {}
        }
    }
    Ok(out)
}
