//! The beginning of a native view: what the branch has is frozen, and the directories come into being, durably, that take
//! what processes will do. The upper one begins with what the branch has and the base has not.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;
use rustix::fs::RenameFlags;
use rustix::io::Errno;

use crate::base::{stat_at, stat_fd};
use crate::branch::{BEFORE_NATIVE, Branch, Data, NativeView, OverlayXattrs, Shared, Start, View};
use crate::commit::set_meta;
use crate::disk::open_dir_readable;
use crate::error::{Error, Result};
use crate::ids::{BranchId, CommitId, MARKS_MAX, NodeId, Quota, STORE_DIR};
use crate::journal::record::Record;
use crate::native::lower::Lower;
use crate::native::materialise::materialise;
use crate::native::note::Note;
use crate::native::{DIR, FRESH, NativePaths, UPPER, WORK};
use crate::node::{Kind, Meta, Time};
use crate::tree::Tree;

/// Makes the directories of a native view, durably, and keeps everybody else from changing the branch.
pub(crate) fn attach(shared: &Shared, branch: &Branch, xattrs: OverlayXattrs) -> Result<NativePaths> {
    // Held all along: nobody else gives the branch a view, or takes its mark away, meanwhile.
    let mut slot = branch.attached.view();
    let (start, epoch) = freeze(shared, branch)?;
    let paths = prepare(shared, branch, &mut slot, (&start, epoch), xattrs);
    if let (Err(_), Start::Mark(_), None) = (&paths, &start, &*slot) {
        thaw(shared, branch)?;
    }
    paths
}

/// From here on the branch writes in a fresh layer, and what it has does not change. One that is as it was forked does so
/// anyway.
fn freeze(shared: &Shared, branch: &Branch) -> Result<(Start, CommitId)> {
    let _writeback = shared.writeback.lock();
    let _decide = shared.decide.lock();
    let _gate = shared.gate.read();
    let mut data = branch.data.write();
    check(shared, branch, &data)?;
    let epoch = data.epoch;
    if data.tree.shows_the_same(&data.fork_tree) {
        return Ok((Start::Fork(data.fork_tree.clone()), epoch));
    }
    remove_mark(shared, branch, &mut data)?;
    if data.marks.len() >= MARKS_MAX {
        return Err(Error::Limit { what: "checkpoints of one branch", max: MARKS_MAX as u64 });
    }
    let (time, layer) = (Time::now(), shared.counters.new_layer());
    let name = BEFORE_NATIVE.to_owned();
    shared.journal.append(&Record::Mark { branch: branch.id(), name, time, layer })?;
    data.mark(shared, BEFORE_NATIVE, time, layer);
    Ok((Start::Mark(data.tree.clone()), epoch))
}

/// The mark is not needed any more.
pub(super) fn thaw(shared: &Shared, branch: &Branch) -> Result<()> {
    let _gate = shared.gate.read();
    let mut data = branch.data.write();
    if !branch.is_live() {
        // It went with the branch.
        return Ok(());
    }
    remove_mark(shared, branch, &mut data)
}

fn remove_mark(shared: &Shared, branch: &Branch, data: &mut Data) -> Result<()> {
    if data.marks.get(BEFORE_NATIVE).is_some() {
        let name = BEFORE_NATIVE.to_owned();
        shared.journal.append(&Record::Unmark { branch: branch.id(), name })?;
        data.unmark(branch, BEFORE_NATIVE);
    }
    Ok(())
}

/// Whether the branch can have a native view.
fn check(shared: &Shared, branch: &Branch, data: &Data) -> Result<()> {
    shared.journal.check()?;
    branch.check_unsealed()?;
    shared.refuse_children(branch)?;
    let head = shared.counters.commit.load(Ordering::Acquire);
    let fit = [
        (!branch.is_main(), "main is the base itself"),
        (data.epoch == CommitId(head), "the base has changed since the branch was forked: rebase it first"),
        (data.quota == Quota::Unlimited, "what a branch may hold is not bounded in a native view"),
        (is_one_filesystem(shared)?, "the store is on another filesystem than the base"),
    ];
    match fit.into_iter().find(|(is_so, _)| !is_so) {
        Some((_, reason)) => Err(Error::NotAllowed(reason)),
        None => Ok(()),
    }
}

fn is_one_filesystem(shared: &Shared) -> Result<bool> {
    let (store, base) = (stat_fd(&shared.dir_fd)?, stat_fd(&*shared.base.places.open(NodeId::ROOT)?)?);
    Ok((store.stx_dev_major, store.stx_dev_minor) == (base.stx_dev_major, base.stx_dev_minor))
}

/// Makes the directories under a name that means nothing, which can take long and holds nobody up, and then gives them
/// the branch's.
fn prepare(
    shared: &Shared,
    branch: &Branch,
    slot: &mut MutexGuard<'_, Option<NativeView>>,
    (start, epoch): (&Start, CommitId),
    xattrs: OverlayXattrs,
) -> Result<NativePaths> {
    let seen = View { base: &shared.base, contents: &shared.contents, tree: start.tree(), epoch };
    let native = native_dir(shared)?;
    let (name, fresh) = names(branch.id());
    let since = make(shared, &native, branch.id(), &seen, &Note::new(xattrs, start))?;
    // The directories are the record that there is a view: the branch and its mark must not be lost before them.
    shared.make_durable()?;
    // Neither a commit into the base nor the beginning or end of a branch is under way.
    let _writeback = shared.writeback.lock();
    let _decide = shared.decide.lock();
    let data = branch.data.write();
    check(shared, branch, &data)?;
    if data.epoch != epoch || !data.tree.shows_the_same(start.tree()) {
        return Err(Error::Busy(branch.name().to_owned()));
    }
    shared.disk.rename((&native, &fresh), (&native, &name), RenameFlags::NOREPLACE)?;
    let view = NativeView { since, xattrs, start: start.clone(), known: Default::default() };
    branch.attached.set(slot, Some(view));
    // A failure leaves a view in which nothing is done: recovery would find it, so whoever wants the branch takes it in.
    shared.disk.fsync(&native)?;
    let here = shared.dir_path.join(DIR).join(OsStr::from_bytes(&name));
    let of = |name: &[u8]| here.join(OsStr::from_bytes(name));
    Ok(NativePaths { lower: shared.base_path.clone(), upper: of(UPPER), work: of(WORK) })
}

fn native_dir(shared: &Shared) -> Result<OwnedFd> {
    let disk = &shared.disk;
    match disk.mkdir(&shared.dir_fd, DIR.as_bytes(), 0o700) {
        Ok(()) => disk.fsync(&shared.dir_fd)?,
        Err(Errno::EXIST) => {}
        Err(e) => return Err(Error::host("mkdir", DIR, e)),
    }
    Ok(open_dir_readable(&shared.dir_fd, DIR.as_bytes())?)
}

/// What the directory of a branch is called, and what until it is whole: that one belongs to whoever has the branch's slot.
fn names(branch: BranchId) -> (Vec<u8>, Vec<u8>) {
    let name = branch.0.to_string().into_bytes();
    let fresh = [&name, FRESH].concat();
    (name, fresh)
}

/// Makes the directories, durable but for their name. When they were ready.
fn make(shared: &Shared, native: &OwnedFd, branch: BranchId, seen: &View<'_>, note: &Note) -> Result<Time> {
    let disk = &shared.disk;
    let (name, fresh) = names(branch);
    for leftover in [&name, &fresh] {
        crate::removing::remove_tree(disk, native, leftover)?;
    }
    disk.mkdir(native, &fresh, 0o700)?;
    let own = open_dir_readable(native, &fresh)?;
    let filled = fill(shared, &own, seen, note);
    if filled.is_err() {
        // Best effort: the next one, or recovery, removes what stays.
        crate::removing::remove_tree(disk, native, &fresh).ok();
    }
    filled
}

fn fill(shared: &Shared, own: &OwnedFd, seen: &View<'_>, note: &Note) -> Result<Time> {
    let disk = &shared.disk;
    disk.mkdir(own, WORK, 0o700)?;
    make_upper(shared, own, seen, note.xattrs)?;
    if !seen.tree.shows_the_same(&Tree::default()) {
        // Should the power fail, what is not there was removed by processes.
        disk.syncfs(own)?;
    }
    let since = note.write(disk, own)?;
    disk.fsync(own)?;
    Ok(since)
}

/// The root of an overlayfs has the attributes of its upper directory: those that the branch's has. The store is nobody's.
fn make_upper(shared: &Shared, own: &OwnedFd, seen: &View<'_>, style: OverlayXattrs) -> Result<()> {
    let disk = &shared.disk;
    let lower = Lower::new(*seen);
    let root = lower.attributes(&lower.root()?)?;
    disk.mkdir(own, UPPER, 0o700)?;
    let upper = open_dir_readable(own, UPPER)?;
    disk.mknod(&upper, STORE_DIR.as_bytes(), Kind::Char, 0, 0)?;
    materialise(shared, *seen, style, own, upper)?;
    let meta = Meta {
        mode: root.mode,
        uid: root.uid,
        gid: root.gid,
        nlink: 1,
        rdev: 0,
        atime: root.atime,
        mtime: root.mtime,
        ctime: Time::default(),
        xattrs: style.dress(&root.xattrs, &[]),
    };
    let found = stat_at(own, UPPER)?;
    match set_meta(disk, (own, UPPER), &found, Kind::Dir, &meta)?.first() {
        None => Ok(()),
        Some(refused) => Err(Error::host("set attributes of", UPPER, refused.errno)),
    }
}
