//! Native views: processes of a branch write to a kernel overlayfs over the base, and what it leaves in its upper directory
//! is taken into the branch's tree (`docs/on-disk-format.md`, "Native views"). The mount itself is somebody else's
//! business: here are its directories, from before it is made until they are empty again.

mod attach;
mod handle;
mod lower;
mod materialise;
mod note;
mod recover;
mod take;
mod upper;

use std::path::PathBuf;
use std::sync::Arc;

use rustix::io::Errno;

use crate::branch::{Branch, NativeView, Shared};
use crate::commit::{Invalid, forgotten};
use crate::disk::{open_dir, open_dir_readable};
use crate::error::Result;
use crate::ids::BranchId;
use crate::journal::record::Record;

pub(crate) use attach::attach;
pub(crate) use recover::recover;
pub use take::Processes;
use upper::Upper;

/// In the store: a directory for each branch that has a native view, named by its number.
const DIR: &str = "native";
const UPPER: &[u8] = b"upper";
const WORK: &[u8] = b"work";
/// In there, made by overlayfs.
const INDEX: &[u8] = b"index";
/// Behind the number while they are made.
const FRESH: &[u8] = b".new";
/// How often an upper directory is read anew that changes while it is read.
const READ_TRIES: usize = 5;

/// What an overlayfs of a branch is mounted from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativePaths {
    /// The layer below: the base.
    pub lower: PathBuf,
    /// Takes the changes.
    pub upper: PathBuf,
    /// What overlayfs works in; on the same filesystem.
    pub work: PathBuf,
}

/// What a taking in did.
#[derive(Debug, Default)]
pub struct Taken {
    /// What views of the branch must forget.
    pub invalid: Vec<Invalid>,
}

/// Takes what is in the upper directory into the branch's tree, all or nothing; with nobody writing to it any more, for
/// good: the branch is its own again. Nothing happens to a branch without a native view.
pub(crate) fn take_in(shared: &Shared, branch: &Branch, processes: Processes) -> Result<Taken> {
    let mut slot = branch.attached.view();
    if slot.is_none() {
        return Ok(Taken::default());
    }
    let mut tries = 0;
    let taken = loop {
        let Some(view) = slot.as_mut() else { return Ok(Taken::default()) };
        tries += 1;
        match read_in(shared, branch, view, processes) {
            // Something was moved or removed between two looks.
            Err(e)
                if processes == Processes::Run
                    && tries < READ_TRIES
                    && matches!(e.errno(), Errno::NOENT | Errno::STALE | Errno::NOTDIR) => {}
            taken => break taken?,
        }
    };
    if processes == Processes::Ended {
        // The record that speaks of the files is durable before they lose the names that recovery would look for.
        shared.make_durable()?;
        let native = open_dir_readable(&shared.dir_fd, DIR.as_bytes())?;
        let name = branch.id().0.to_string();
        let trashed = shared.contents.trash_dir((&native, name.as_bytes()), DIR)?;
        shared.disk.fsync(&native)?;
        // At once: what goes on to be the base's must not lose a second name, and change its times, later.
        let removed = shared.contents.remove_from_trash(&trashed);
        {
            let _data = branch.data.write();
            branch.attached.set(&mut slot, None);
        }
        attach::thaw(shared, branch)?;
        removed?;
    }
    Ok(taken)
}

fn read_in(shared: &Shared, branch: &Branch, view: &mut NativeView, processes: Processes) -> Result<Taken> {
    branch.check_live()?;
    let native = open_dir(&shared.dir_fd, DIR.as_bytes())?;
    let own = open_dir(&native, branch.id().0.to_string().as_bytes())?;
    let index = match open_dir(&open_dir(&own, WORK)?, INDEX) {
        Err(Errno::NOENT) => None,
        index => Some(index?),
    };
    let mut upper = Upper::read(open_dir(&own, UPPER)?, index, view.xattrs)?;
    let seen = branch.data.read().clone();
    let take::Read { tree, dirs, copied } =
        take::tree_with(shared, branch.id(), &seen, view, &mut upper, processes)?;
    let _gate = shared.gate.read();
    let mut data = branch.data.write();
    branch.check_live()?;
    // Forks and marks are refused meanwhile. What nobody has open any more may have been forgotten.
    debug_assert_eq!(data.layer, seen.layer);
    let changes = data.tree.diff(&tree);
    if changes.is_empty() {
        return Ok(Taken::default());
    }
    let invalid = forgotten(branch.id(), &data.tree, &changes);
    let lent = Vec::new();
    shared.journal.append(&Record::Batch { branch: branch.id(), changes, dirs, copied, lent })?;
    data.tree = tree;
    branch.note_replaced();
    Ok(Taken { invalid })
}

/// Gets rid of the directories of branches that have ended.
pub(crate) fn discard_ended(shared: &Shared) -> Result<()> {
    // Nobody attaches meanwhile.
    let _decide = shared.decide.lock();
    for Named { name, branch, .. } in named(shared)? {
        if branch.is_none() {
            let native = open_dir(&shared.dir_fd, DIR.as_bytes())?;
            shared.contents.trash_dir((&native, &name), DIR)?;
        }
    }
    Ok(())
}

/// Something in the directory of native views.
struct Named {
    name: Vec<u8>,
    /// The live branch it belongs to.
    branch: Option<Arc<Branch>>,
    /// Or it is being made.
    is_whole: bool,
}

/// What is there.
fn named(shared: &Shared) -> Result<Vec<Named>> {
    let native = match open_dir_readable(&shared.dir_fd, DIR.as_bytes()) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        opened => opened?,
    };
    let registry = shared.registry.read();
    let told = |name: Vec<u8>| {
        let stem = name.strip_suffix(FRESH);
        let number = std::str::from_utf8(stem.unwrap_or(&name)).ok().and_then(|stem| stem.parse().ok());
        let branch = number.and_then(|id| registry.get(BranchId(id)));
        Named { branch, is_whole: stem.is_none(), name }
    };
    Ok(crate::disk::list(&native)?.into_iter().map(told).collect())
}
