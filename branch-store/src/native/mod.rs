//! Native views: processes of a branch write to a kernel overlayfs over the base, and what it leaves in its upper directory
//! is taken into the branch's tree (`docs/on-disk-format.md`, "Native views"). The mount itself is somebody else's
//! business: here are its directories, from before it is made until they are empty again.

mod handle;
mod lower;
mod take;
mod upper;

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::base::{stat_at, stat_fd};
use crate::branch::{Branch, NativeView, OverlayXattrs, Shared};
use crate::commit::{Invalid, forgotten};
use crate::disk::{open_dir, open_dir_readable};
use crate::error::{Error, Result};
use crate::ids::{BranchId, CommitId, NodeId, Quota, STORE_DIR};
use crate::node::{Kind, Time, time_of};
use crate::tree::Tree;

pub use take::Processes;
use upper::Upper;

/// In the store: a directory for each branch that has a native view, named by its number.
const DIR: &str = "native";
const UPPER: &[u8] = b"upper";
const WORK: &[u8] = b"work";
/// In there, made by overlayfs.
const INDEX: &[u8] = b"index";
/// Says which extended attributes overlayfs uses; its change time is that of the attachment.
const VIEW: &[u8] = b"view";
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

/// Makes the directories of a native view, durably, and keeps everybody else from changing the branch.
pub(crate) fn attach(shared: &Shared, branch: &Branch, xattrs: OverlayXattrs) -> Result<NativePaths> {
    // Neither a commit into the base nor the beginning or end of a branch is under way.
    let _writeback = shared.writeback.lock();
    let _decide = shared.decide.lock();
    shared.journal.check()?;
    let mut slot = branch.attached.view();
    let data = branch.data.write();
    branch.check_unsealed()?;
    shared.refuse_children(branch)?;
    let head = shared.counters.commit.load(std::sync::atomic::Ordering::Acquire);
    let nothing = Tree::default();
    let fit = [
        (!branch.is_main(), "main is the base itself"),
        (data.epoch == CommitId(head), "the base has changed since the branch was forked: rebase it first"),
        (data.fork_tree.shows_the_same(&nothing), "it was forked from a branch with changes of its own"),
        (data.tree.shows_the_same(&data.fork_tree), "the branch has changes already"),
        (data.quota == Quota::Unlimited, "what a branch may hold is not bounded in a native view"),
        (is_one_filesystem(shared)?, "the store is on another filesystem than the base"),
    ];
    if let Some((_, reason)) = fit.into_iter().find(|(is_so, _)| !is_so) {
        return Err(Error::NotAllowed(reason));
    }
    let since = make(shared, branch.id(), xattrs)?;
    branch.attached.set(&mut slot, Some(NativeView { since, xattrs, known: Default::default() }));
    let here = shared.dir_path.join(DIR).join(branch.id().0.to_string());
    let of = |name: &[u8]| here.join(Path::new(std::ffi::OsStr::from_bytes(name)));
    Ok(NativePaths { lower: shared.base_path.clone(), upper: of(UPPER), work: of(WORK) })
}

fn is_one_filesystem(shared: &Shared) -> Result<bool> {
    let (store, base) = (stat_fd(&shared.dir_fd)?, stat_fd(&*shared.base.places.open(NodeId::ROOT)?)?);
    Ok((store.stx_dev_major, store.stx_dev_minor) == (base.stx_dev_major, base.stx_dev_minor))
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
    let (tree, record) = take::tree_with(shared, branch.id(), &seen, view, &mut upper, processes)?;
    let Some(record) = record else { return Ok(Taken::default()) };
    let _gate = shared.gate.read();
    let mut data = branch.data.write();
    branch.check_live()?;
    // Forks and marks are refused meanwhile; what is forgotten as nobody has it open any more is no change.
    debug_assert_eq!(data.layer, seen.layer);
    shared.journal.append(&record)?;
    let changes = data.tree.diff(&tree);
    let invalid = forgotten(branch.id(), &data.tree, &changes);
    data.tree = tree;
    branch.note_replaced();
    Ok(Taken { invalid })
}

/// Makes the directories under a name that means nothing, and then gives them the branch's. When that was.
fn make(shared: &Shared, branch: BranchId, xattrs: OverlayXattrs) -> Result<Time> {
    let disk = &shared.disk;
    match disk.mkdir(&shared.dir_fd, DIR.as_bytes(), 0o700) {
        Ok(()) => disk.fsync(&shared.dir_fd)?,
        Err(Errno::EXIST) => {}
        Err(e) => return Err(Error::host("mkdir", DIR, e)),
    }
    let native = open_dir_readable(&shared.dir_fd, DIR.as_bytes())?;
    let name = branch.0.to_string();
    let fresh = format!("{name}.new");
    for leftover in [name.as_bytes(), fresh.as_bytes()] {
        crate::removing::remove_tree(disk, &native, leftover)?;
    }
    disk.mkdir(&native, fresh.as_bytes(), 0o700)?;
    let own = open_dir_readable(&native, fresh.as_bytes())?;
    disk.mkdir(&own, WORK, 0o700)?;
    make_upper(shared, &own)?;
    let view = disk.create(&own, VIEW, OFlags::WRONLY, 0o600)?;
    let text: &[u8] = match xattrs {
        OverlayXattrs::Trusted => b"trusted\n",
        OverlayXattrs::User => b"user\n",
    };
    disk.copy_write(&view, text, 0)?;
    disk.fsync(&view)?;
    let since = time_of(&stat_fd(&view)?.stx_ctime);
    disk.fsync(&own)?;
    let named = (&native, name.as_bytes());
    disk.rename((&native, fresh.as_bytes()), named, rustix::fs::RenameFlags::NOREPLACE)?;
    disk.fsync(&native)?;
    Ok(since)
}

/// The root of an overlayfs has the attributes of its upper directory: those of the base. The store is nobody's.
fn make_upper(shared: &Shared, own: &OwnedFd) -> Result<()> {
    let disk = &shared.disk;
    let base = shared
        .base
        .resolve_root(CommitId(shared.counters.commit.load(std::sync::atomic::Ordering::Acquire)))?;
    let meta = base.meta(shared.base.xattrs(&base, true)?);
    disk.mkdir(own, UPPER, 0o700)?;
    let upper = open_dir_readable(own, UPPER)?;
    disk.mknod(&upper, STORE_DIR.as_bytes(), Kind::Char, 0, 0)?;
    disk.set_meta(own)?;
    let now = stat_at(own, UPPER)?;
    if (now.stx_uid, now.stx_gid) != (meta.uid, meta.gid) {
        rustix::fs::fchown(&upper, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))?;
    }
    disk.chmod(&upper, meta.mode)?;
    if let Some((name, errno)) = crate::xattr::write_all(own, UPPER, &meta.xattrs)?.refused.pop() {
        return Err(Error::host("set extended attribute", name, errno));
    }
    let timespec = |time: Time| Timespec { tv_sec: time.sec, tv_nsec: i64::from(time.nsec) as _ };
    let (last_access, last_modification) = (timespec(meta.atime), timespec(meta.mtime.unwrap_or_default()));
    let times = Timestamps { last_access, last_modification };
    Ok(rustix::fs::utimensat(own, UPPER, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// After replay: what processes left in native views is taken in. They are dead, and so is whoever could have told.
pub(crate) fn recover(shared: &Shared, lines: &mut Vec<String>) -> Result<()> {
    discard_ended(shared)?;
    for (branch, own) in attached(shared)? {
        let xattrs = match read_view(&own)?.as_slice() {
            b"user\n" => OverlayXattrs::User,
            _ => OverlayXattrs::Trusted,
        };
        let since = time_of(&stat_at(&own, VIEW)?.stx_ctime);
        let view = NativeView { since, xattrs, known: Default::default() };
        branch.attached.set(&mut branch.attached.view(), Some(view));
        let name = branch.name();
        lines.push(match take_in(shared, &branch, Processes::Ended) {
            Ok(_) => format!("branch '{name}' has what its processes left in their native view"),
            // Nothing is lost: it is tried again by whoever wants the branch next.
            Err(e) => format!("what processes of branch '{name}' left in their native view waits there: {e}"),
        });
    }
    Ok(())
}

fn read_view(own: &OwnedFd) -> Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(own, VIEW, flags, Mode::empty())?;
    let mut text = vec![0; 16];
    let length = rustix::io::read(&file, &mut text[..])?;
    text.truncate(length);
    Ok(text)
}

/// Native views of live branches, with their directories.
fn attached(shared: &Shared) -> Result<Vec<(Arc<Branch>, OwnedFd)>> {
    let mut out = Vec::new();
    for (name, branch) in named(shared)? {
        if let Some(branch) = branch {
            out.push((branch, open_dir(open_dir(&shared.dir_fd, DIR.as_bytes())?, &name)?));
        }
    }
    Ok(out)
}

/// Gets rid of the directories of branches that have ended, and of those that were never finished.
pub(crate) fn discard_ended(shared: &Shared) -> Result<()> {
    // Nobody attaches meanwhile.
    let _decide = shared.decide.lock();
    for (name, branch) in named(shared)? {
        if branch.is_none() {
            let native = open_dir(&shared.dir_fd, DIR.as_bytes())?;
            shared.contents.trash_dir((&native, &name), DIR)?;
        }
    }
    Ok(())
}

/// Something in the directory of native views, with the live branch it belongs to.
type Named = (Vec<u8>, Option<Arc<Branch>>);

/// What is there.
fn named(shared: &Shared) -> Result<Vec<Named>> {
    let native = match open_dir_readable(&shared.dir_fd, DIR.as_bytes()) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        opened => opened?,
    };
    let registry = shared.registry.read();
    let branch = |name: &Vec<u8>| {
        let id = std::str::from_utf8(name).ok()?.parse().ok()?;
        registry.get(BranchId(id))
    };
    let names = crate::disk::list(&native)?;
    Ok(names.into_iter().map(|name| (name.clone(), branch(&name))).collect())
}
