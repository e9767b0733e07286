//! What changed in the base behind our back, told to the kernel.

use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::invalidator::{Invalidator, Kernel, harmless};
use crate::vfs::{Vfs, ino};
use crate::watch::{self, Listening, Stale};

/// Has the kernel forget whatever is heard to have changed, until what is returned is dropped, or the view is.
///
/// # Errors
/// No thread to be had.
pub(super) fn listen(
    vfs: &Arc<Vfs>,
    invalidator: &Invalidator,
    mountpoint: &Path,
) -> io::Result<Option<Listening>> {
    let (view, invalidator, mountpoint) = (Arc::downgrade(vfs), invalidator.clone(), mountpoint.to_owned());
    watch::listen(vfs.told(), move || {
        let Some(vfs) = view.upgrade() else { return ControlFlow::Break(()) };
        let (stale, next) = match vfs.hear() {
            Ok(stale) if stale.is_empty() => return ControlFlow::Continue(()),
            Ok(stale) => (stale, ControlFlow::Continue(())),
            Err(error) => {
                tracing::error!("the base is not watched any more: {error}");
                vfs.told().give_up();
                (Stale { lost: true, ..Stale::default() }, ControlFlow::Break(()))
            }
        };
        pass_on(&vfs, &invalidator, &mountpoint, stale);
        next
    })
}

/// One batch after the other: what is not yet passed on waits in the source's queue, which is bounded.
fn pass_on(vfs: &Arc<Vfs>, invalidator: &Invalidator, mountpoint: &Path, stale: Stale) {
    if stale.lost {
        tracing::warn!("more changes of the base than can be told one by one: everything is looked up again");
    }
    let linked: Vec<u64> = stale.appeared.iter().flat_map(|(dir, name)| vfs.of_linked(*dir, name)).collect();
    let lost = stale.lost;
    let view = Arc::clone(vfs);
    let told = invalidator.act(move |kernel| {
        let all = if stale.lost { forget_everything(kernel, &view) } else { Ok(()) };
        all.and(forget(kernel, |ino| view.above(ino), &stale)).and(forget_inodes(kernel, &linked))
    });
    if let Err(error) = told.wait() {
        tracing::warn!("the kernel may show old content of the base: {error}");
    }
    if lost {
        show_roots_again(mountpoint, vfs);
    }
}

/// `above` tells the directory that an inode was found in.
fn forget(kernel: &dyn Kernel, above: impl Fn(u64) -> Option<u64>, stale: &Stale) -> io::Result<()> {
    let mut first = Ok(());
    let mut note =
        |outcome: io::Result<()>| first = std::mem::replace(&mut first, Ok(())).and(harmless(outcome));
    for (dir, name) in &stale.names {
        note(kernel.forget_entry(*dir, name));
    }
    let objects = stale.objects.iter().chain(&stale.moved);
    let mut busy: BTreeSet<u64> = objects.map(|(dir, ino)| ino::sibling(*ino, *dir)).collect();
    busy.extend(stale.directories.iter().filter_map(|ino| above(*ino)));
    for dir in busy {
        note(kernel.wait_for_lookups(dir));
    }
    // Of a directory the listing, too, which is what its pages are.
    for ino in stale.objects.iter().map(|(_, ino)| ino).chain(&stale.directories) {
        note(kernel.forget_inode(*ino));
    }
    for (_, ino) in &stale.moved {
        note(kernel.forget_attributes(*ino));
    }
    first
}

fn forget_inodes(kernel: &dyn Kernel, inodes: &[u64]) -> io::Result<()> {
    inodes.iter().try_for_each(|ino| harmless(kernel.forget_inode(*ino)))
}

/// First everything that nobody uses, which takes names that are believed absent along; we do not know these. Then what
/// is in use, one by one.
fn forget_everything(kernel: &dyn Kernel, vfs: &Vfs) -> io::Result<()> {
    for branch in vfs.branches() {
        harmless(kernel.forget_entry(ino::MOUNT_ROOT, branch.as_bytes()))?;
    }
    for ino in vfs.all_known_inodes() {
        if let Some((dir, name)) = vfs.entry(ino) {
            harmless(kernel.forget_entry(dir, &name))?;
        }
        harmless(kernel.forget_inode(ino))?;
    }
    Ok(())
}

/// Who is in a branch's root directory would take it for removed until somebody looks it up again.
fn show_roots_again(mountpoint: &Path, vfs: &Vfs) {
    for branch in vfs.branches() {
        if let Err(error) = std::fs::symlink_metadata(mountpoint.join(&branch)) {
            tracing::debug!("looking up '{branch}' again: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use branch_store::NodeId;
    use parking_lot::Mutex;

    use super::*;

    #[derive(Default)]
    struct Recorded(Mutex<Vec<String>>);

    impl Recorded {
        fn note(&self, what: String) -> io::Result<()> {
            self.0.lock().push(what);
            Err(io::Error::from_raw_os_error(libc::ENOENT))
        }
    }

    impl Kernel for Recorded {
        fn forget_entry(&self, parent: u64, name: &[u8]) -> io::Result<()> {
            self.note(format!("{parent}/{}", String::from_utf8_lossy(name)))
        }

        fn forget_inode(&self, ino: u64) -> io::Result<()> {
            self.note(format!("#{ino}"))
        }

        fn forget_attributes(&self, ino: u64) -> io::Result<()> {
            self.note(format!("@{ino}"))
        }
    }

    /// An inode that a lookup under way is about to make cannot be forgotten before.
    #[test]
    fn an_inode_is_forgotten_when_lookups_under_way_in_its_directory_are_over() {
        let kernel = Recorded::default();
        let stale = Stale {
            names: [(7, b"a".to_vec())].into(),
            objects: [(NodeId(7), 31), (NodeId(7), 32)].into(),
            moved: [(NodeId(8), 33)].into(),
            directories: [7].into(),
            ..Stale::default()
        };
        forget(&kernel, |ino| Some(ino + 100), &stale).unwrap();
        assert_eq!(*kernel.0.lock(), ["7/a", "7/.", "8/.", "107/.", "#31", "#32", "#7", "@33"]);
    }
}
