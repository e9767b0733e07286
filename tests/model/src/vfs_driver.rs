//! Calls through the vfs, by inode and handle numbers, as a kernel makes them: every name is looked up, every
//! lookup is counted, and what is no longer needed is forgotten.

use std::collections::BTreeMap;
use std::path::Path as HostPath;
use std::sync::Arc;

use branch_store::{AttrChange, Children, Kind as NodeKind, Options, Store, SyncWhat, Unrecovered};
use branchfs::vfs::{
    Attr, By, Caller, Control, Found, Left, NewMode, Rename, Room, Vfs, Whose, XattrFlags, ino,
};
use rustix::io::Errno;

use crate::answer::{Answer, Failure};
use crate::call::{Call, Expect, Kind, Path, Place, bytes_of, filled, letter_of};
use crate::driver::{Driver, Level};
use crate::picture::{Picture, Seen, Thing};
use crate::store_driver::{
    allocate_mode, failure, group_kind, mark_name, name_of, number_of, of_commit, rename_mode, seen_of,
    stamp, thing_of,
};

const READ_MAX: u32 = 1 << 20;

/// Drives a vfs.
pub struct VfsDriver {
    options: Options,
    open: Option<(Arc<Store>, Vfs)>,
    /// Number of the product for a branch; ended ones included.
    branches: BTreeMap<u32, u32>,
    slots: BTreeMap<u8, Slot>,
    /// What a kernel would have cached: lookups counted, by inode number.
    cached: BTreeMap<u64, u64>,
}

struct Slot {
    ino: u64,
    fh: u64,
    dir: bool,
    append_ok: bool,
}

type Result<T> = std::result::Result<T, Failure>;

/// This very thread, as root: trusted attributes are for those who are.
fn caller() -> Caller {
    let pid = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
    Caller { uid: 0, gid: 0, pid }
}

/// No calls come through control files here.
pub(crate) struct Nobody;

impl Control for Nobody {
    fn commit(&self, _branch: &str) -> std::result::Result<(), Errno> {
        Err(Errno::NOSYS)
    }

    fn abort(&self, _branch: &str) -> std::result::Result<(), Errno> {
        Err(Errno::NOSYS)
    }

    fn fork(&self, _parent: &str) -> std::result::Result<String, Errno> {
        Err(Errno::NOSYS)
    }
}

impl VfsDriver {
    /// A vfs over the store of a base.
    ///
    /// # Panics
    /// If the store cannot be opened.
    pub fn new(base: &HostPath) -> VfsDriver {
        let options = Options { base: base.to_owned(), store: base.join(branch_store::STORE_DIR) };
        let (branches, slots, cached) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut driver = VfsDriver { options, open: None, branches, slots, cached };
        driver.open();
        driver
    }

    fn open(&mut self) {
        let opened = Unrecovered::open(self.options.clone()).and_then(Unrecovered::recover);
        let (store, _) = opened.unwrap_or_else(|error| panic!("opening the store: {error}"));
        // Of every file only what is written is the branch's, where the host allows it.
        store.borrow_from(1);
        for branch in store.branches() {
            self.branches.insert(number_of(branch.name()), branch.id().0);
        }
        let store = Arc::new(store);
        self.open = Some((Arc::clone(&store), Vfs::new(store, Box::new(Nobody))));
    }

    fn crash(&mut self) {
        self.slots.clear();
        self.cached.clear();
        self.branches.clear();
        self.open = None;
        self.open();
    }

    fn store(&self) -> &Store {
        &self.open.as_ref().expect("open between calls").0
    }

    fn vfs(&self) -> &Vfs {
        &self.open.as_ref().expect("open between calls").1
    }

    fn note(&mut self, attr: &Attr) -> u64 {
        *self.cached.entry(attr.ino).or_default() += 1;
        attr.ino
    }

    /// The root of a branch: looked up while it lives, known by number afterwards.
    fn root(&mut self, number: u32) -> Result<u64> {
        let id = self.branches.get(&number).copied();
        let id = id.ok_or_else(|| Failure::Unexpected(format!("no branch {number}")))?;
        match self.vfs().lookup(ino::MOUNT_ROOT, name_of(number).as_bytes()).map_err(Failure::Errno)? {
            Found::Entry(attr) => Ok(self.note(&attr)),
            Found::Absent(_) => Ok(ino::of_root(branch_store::BranchId(id))),
        }
    }

    fn start<'p>(&mut self, place: &'p Place) -> Result<(u64, &'p Path)> {
        match place {
            Place::In(number, path) => Ok((self.root(*number)?, path)),
            Place::Under(slot, path) => Ok((self.slot(*slot)?.ino, path)),
        }
    }

    fn slot(&self, slot: u8) -> Result<&Slot> {
        self.slots.get(&slot).ok_or_else(|| Failure::Unexpected(format!("slot {slot} is free")))
    }

    fn kind(&self, ino: u64) -> Result<NodeKind> {
        Ok(self.vfs().attributes(ino).map_err(Failure::Errno)?.stat.kind)
    }

    fn walk(&mut self, from: u64, path: &Path) -> Result<u64> {
        let mut at = from;
        for name in path.names() {
            self.must_be_dir(at)?;
            at = match self.vfs().lookup(at, bytes_of(name)).map_err(Failure::Errno)? {
                Found::Entry(attr) => self.note(&attr),
                Found::Absent(_) => return Err(Failure::Errno(Errno::NOENT)),
            };
        }
        self.vfs().access(at).map_err(Failure::Errno)?;
        Ok(at)
    }

    fn must_be_dir(&self, ino: u64) -> Result<()> {
        if self.kind(ino)? == NodeKind::Dir { Ok(()) } else { Err(Failure::Errno(Errno::NOTDIR)) }
    }

    fn object(&mut self, place: &Place) -> Result<u64> {
        let (from, path) = self.start(place)?;
        self.walk(from, path)
    }

    fn entry<'p>(&mut self, place: &'p Place) -> Result<(u64, &'p [u8])> {
        let (from, path) = self.start(place)?;
        let (dir, name) = path.split().ok_or(Failure::Errno(Errno::BUSY))?;
        let dir = self.walk(from, &dir)?;
        self.must_be_dir(dir)?;
        Ok((dir, bytes_of(name)))
    }

    /// Everything that is not open.
    fn forget(&mut self) {
        let open: Vec<u64> = self.slots.values().map(|slot| slot.ino).collect();
        let (kept, gone) =
            std::mem::take(&mut self.cached).into_iter().partition(|(ino, _)| open.contains(ino));
        self.cached = kept;
        let gone: BTreeMap<u64, u64> = gone;
        gone.into_iter().for_each(|(ino, lookups)| self.vfs().forget(ino, lookups));
    }

    fn open_slot(&mut self, number: u8, place: &Place, write: bool, truncate: bool) -> Result<()> {
        let ino = self.object(place)?;
        let dir = self.kind(ino)? == NodeKind::Dir && !write;
        let flags = if write { libc::O_RDWR } else { libc::O_RDONLY };
        let opened = if dir { Ok(0) } else { self.vfs().open(ino, flags).map(|opened| opened.fh) };
        let fh = opened.map_err(Failure::Errno)?;
        if truncate && let Err(error) = self.empty(ino) {
            self.vfs().release(fh);
            return Err(error);
        }
        self.slots.insert(number, Slot { ino, fh, dir, append_ok: write });
        Ok(())
    }

    /// What the kernel does for O_TRUNC once it has opened.
    fn empty(&self, ino: u64) -> Result<()> {
        let change = AttrChange { size: Some(0), ..AttrChange::default() };
        self.vfs().set_attributes(ino, &change).map(drop).map_err(Failure::Errno)
    }

    fn carry_out(&mut self, call: &Call) -> Result<Answer> {
        let done = match call {
            Call::Make { .. }
            | Call::Link { .. }
            | Call::Unlink { .. }
            | Call::Rmdir { .. }
            | Call::Rename { .. } => self.on_names(call),
            Call::Open { slot, place, write, truncate } => self.open_slot(*slot, place, *write, *truncate),
            Call::Close { slot } => {
                if let Some(slot) = self.slots.remove(slot) {
                    self.vfs().release(slot.fh);
                }
                Ok(())
            }
            Call::ReadLink { place } => {
                let ino = self.object(place)?;
                return self.vfs().read_link(ino).map(Answer::Bytes).map_err(Failure::Errno);
            }
            Call::Read { .. }
            | Call::Write { .. }
            | Call::Append { .. }
            | Call::Allocate { .. }
            | Call::Copy { .. }
            | Call::Seek { .. }
            | Call::Sync { .. }
            | Call::List { .. } => return self.on_handles(call),
            Call::Forget => {
                self.forget();
                Ok(())
            }
            Call::Crash => {
                self.crash();
                Ok(())
            }
            Call::Fork { .. }
            | Call::Commit { .. }
            | Call::Undo
            | Call::Redo
            | Call::Abort { .. }
            | Call::Mark { .. }
            | Call::Unmark { .. }
            | Call::Checkpoint
            | Call::Reclaim => return self.on_branches(call),
            Call::Restore { branch, mark } => return self.restore(*branch, *mark).map(Answer::Count),
            _ => self.on_attributes(call),
        };
        done.map(|()| Answer::Done)
    }

    fn on_names(&mut self, call: &Call) -> Result<()> {
        match call {
            Call::Make { place, kind, mode } => {
                let (dir, name) = self.entry(place)?;
                let attr = make(self.vfs(), dir, name, *kind, *mode).map_err(Failure::Errno)?;
                self.note(&attr);
            }
            Call::Link { from, to } => {
                let ino = self.object(from)?;
                let (dir, name) = self.entry(to)?;
                let attr = self.vfs().link(ino, dir, name).map_err(Failure::Errno)?;
                self.note(&attr);
            }
            Call::Unlink { place } => {
                let (dir, name) = self.entry(place)?;
                self.vfs().unlink(dir, name).map_err(Failure::Errno)?;
            }
            Call::Rmdir { place } => {
                let (dir, name) = self.entry(place)?;
                self.vfs().remove_dir(dir, name).map_err(Failure::Errno)?;
            }
            Call::Rename { from, to, mode } => {
                let (dir, name) = self.entry(from)?;
                let (to, to_name) = self.entry(to)?;
                let rename = Rename { mode: rename_mode(*mode), left: Left::Nothing };
                self.vfs().rename((dir, name), (to, to_name), caller(), rename).map_err(Failure::Errno)?;
            }
            other => return Err(Failure::Unexpected(format!("{other:?} is about no name"))),
        }
        Ok(())
    }

    fn on_handles(&mut self, call: &Call) -> Result<Answer> {
        let vfs = self.vfs();
        // What the kernel answers for a directory, which has no handle.
        let fh = |slot: &u8| match self.slot(*slot)? {
            Slot { dir: true, .. } => Err(Failure::Errno(Errno::ISDIR)),
            open => Ok(By::Handle(open.fh)),
        };
        let answer = match call {
            Call::Read { slot, offset, len } => {
                vfs.read(fh(slot)?, *offset, *len, |got| got.map(|bytes| Answer::Bytes(bytes.to_vec())))
            }
            Call::Write { slot, offset, len, fill } => vfs
                .write(fh(slot)?, *offset, &filled(*fill, *len), Whose::Call)
                .map(|n| Answer::Count(u64::from(n))),
            Call::Append { slot, len, fill } => {
                let open = self.slot(*slot)?;
                if !open.append_ok {
                    return Err(Failure::Errno(Errno::BADF));
                }
                let end = vfs.attributes(open.ino).map_err(Failure::Errno)?.stat.size;
                vfs.write(By::Handle(open.fh), end, &filled(*fill, *len), Whose::Call)
                    .map(|n| Answer::Count(u64::from(n)))
            }
            Call::Allocate { slot, what, offset, len } => {
                vfs.allocate(fh(slot)?, allocate_mode(*what), *offset, *len).map(|()| Answer::Done)
            }
            Call::Copy { from, offset, to, to_offset, len } => {
                let copied = vfs.copy((fh(from)?, *offset), (fh(to)?, *to_offset), *len);
                copied.map(|n| Answer::Count(u64::from(n)))
            }
            Call::Seek { slot, offset, whence } => {
                let whence = match whence {
                    crate::call::Whence::Data => libc::SEEK_DATA,
                    crate::call::Whence::Hole => libc::SEEK_HOLE,
                };
                vfs.seek(fh(slot)?, *offset as i64, whence).map(|at| Answer::Count(at as u64))
            }
            Call::Sync { slot, data_only } => {
                let open = self.slot(*slot)?;
                let what = if *data_only { SyncWhat::Data } else { SyncWhat::All };
                let synced =
                    if open.dir { vfs.sync_dir(open.ino) } else { vfs.sync_file(By::Handle(open.fh), what) };
                synced.map(|()| Answer::Done)
            }
            Call::List { slot } => {
                let names = list(vfs, self.slot(*slot)?.ino);
                names.map(|names| Answer::Names(names.into_iter().map(|(name, ..)| name).collect()))
            }
            other => return Err(Failure::Unexpected(format!("{other:?} has no handle"))),
        };
        answer.map_err(Failure::Errno)
    }

    fn on_attributes(&mut self, call: &Call) -> Result<()> {
        let nothing = AttrChange::default();
        let (place, change) = match call {
            Call::Truncate { place, size } => (place, AttrChange { size: Some(*size), ..nothing }),
            Call::Chmod { place, mode } => (place, AttrChange { mode: Some(*mode), ..nothing }),
            Call::Chown { place, uid, gid } => (place, AttrChange { uid: *uid, gid: *gid, ..nothing }),
            Call::Times { place, atime, mtime } => {
                (place, AttrChange { atime: stamp(*atime), mtime: stamp(*mtime), ..nothing })
            }
            Call::SetXattr { place, name, len, fill, expect } => {
                let ino = self.object(place)?;
                let flags = match expect {
                    Expect::Any => XattrFlags::Any,
                    Expect::Create => XattrFlags::Create,
                    Expect::Replace => XattrFlags::Replace,
                };
                let value = filled(*fill, *len);
                return self
                    .vfs()
                    .set_xattr(ino, caller(), name.as_bytes(), &value, flags)
                    .map_err(Failure::Errno);
            }
            Call::RemoveXattr { place, name } => {
                let ino = self.object(place)?;
                return self.vfs().remove_xattr(ino, name.as_bytes()).map_err(Failure::Errno);
            }
            other => return Err(Failure::Unexpected(format!("{other:?} is not done"))),
        };
        let ino = self.object(place)?;
        self.vfs().set_attributes(ino, &change).map(drop).map_err(Failure::Errno)
    }

    fn on_branches(&mut self, call: &Call) -> Result<Answer> {
        let (answer, forked) = on_branches(self.store(), &self.branches, call)?;
        self.branches.extend(forked);
        Ok(answer)
    }

    fn restore(&self, number: u32, mark: u8) -> Result<u64> {
        let branch = match self.store().branch(&name_of(number)) {
            Err(branch_store::Error::NoSuchBranch(_)) => return Err(Failure::Ended),
            other => other.map_err(failure)?,
        };
        let is_known = |id| self.vfs().knows(branch.id(), id);
        let done = self.store().restore(&branch, &mark_name(mark), &is_known).map_err(failure)?;
        done.revived.iter().for_each(|id| self.vfs().revived(&branch, *id));
        done.orphans.iter().for_each(|id| self.vfs().orphaned(&branch, Some(*id)));
        Ok(u64::from(done.saved.is_some()))
    }

    fn see(&self, ino: u64, attr: &Attr, fh: Option<u64>) -> Result<Seen> {
        let vfs = self.vfs();
        let thing = match attr.stat.kind {
            NodeKind::File => {
                let handle = match fh {
                    Some(fh) => Ok(fh),
                    None => vfs.open(ino, libc::O_RDONLY).map(|opened| opened.fh),
                };
                let handle = handle.map_err(Failure::Errno)?;
                let bytes = vfs.read(By::Handle(handle), 0, READ_MAX, |got| got.map(<[u8]>::to_vec));
                if fh.is_none() {
                    vfs.release(handle);
                }
                Thing::File(bytes.map_err(Failure::Errno)?)
            }
            NodeKind::Symlink => Thing::Symlink(vfs.read_link(ino).map_err(Failure::Errno)?),
            kind => thing_of(kind),
        };
        let mut xattrs = BTreeMap::new();
        for name in vfs
            .xattr_names(ino, caller())
            .map_err(Failure::Errno)?
            .split(|b| *b == 0)
            .filter(|n| !n.is_empty())
        {
            let value = vfs.xattr(ino, name).map_err(Failure::Errno)?;
            xattrs.insert(String::from_utf8_lossy(name).into_owned(), value);
        }
        Ok(seen_of(&attr.stat, thing, attr.ino & u64::from(u32::MAX), xattrs))
    }

    fn look_below(&mut self, number: u32) -> Result<Picture> {
        let root = self.root(number)?;
        let half = u64::from(self.branches[&number] + 1) << 32;
        let mut picture = Picture::new();
        let mut stack = vec![(Path::from(""), self.vfs().attributes(root).map_err(Failure::Errno)?)];
        while let Some((path, attr)) = stack.pop() {
            if attr.ino & !u64::from(u32::MAX) != half {
                return Err(Failure::Unexpected(format!(
                    "{path:?}: inode number {:x} of another branch",
                    attr.ino
                )));
            }
            if attr.stat.kind == NodeKind::Dir {
                let listed = list(self.vfs(), attr.ino);
                for (name, listed, kind) in listed.map_err(Failure::Errno)? {
                    let Found::Entry(child) =
                        self.vfs().lookup(attr.ino, bytes_of(&name)).map_err(Failure::Errno)?
                    else {
                        return Err(Failure::Unexpected(format!("{path:?}: {name} is listed and absent")));
                    };
                    self.note(&child);
                    if (child.ino, child.stat.kind) != (listed, kind) {
                        return Err(Failure::Unexpected(format!("{path:?}: {name} is not what was listed")));
                    }
                    stack.push((path.join(&name), child));
                }
            }
            let seen = self.see(attr.ino, &attr, None)?;
            picture.insert(path, seen);
        }
        Ok(picture)
    }
}

impl Driver for VfsDriver {
    fn level(&self) -> Level {
        Level::Vfs
    }

    fn call(&mut self, call: &Call) -> Answer {
        self.carry_out(call).unwrap_or_else(Answer::Failed)
    }

    fn look(&mut self, branch: u32) -> std::result::Result<Picture, Answer> {
        self.look_below(branch).map_err(Answer::Failed)
    }

    fn look_at_slot(&mut self, slot: u8) -> std::result::Result<Seen, Answer> {
        let look = || {
            let open = self.slot(slot)?;
            let attr = self.vfs().attributes(open.ino).map_err(Failure::Errno)?;
            self.see(open.ino, &attr, (!open.dir).then_some(open.fh))
        };
        look().map_err(Answer::Failed)
    }
}

/// Names of an open directory, sorted, each with what the listing says of it. The dots are left out.
fn list(vfs: &Vfs, dir: u64) -> std::result::Result<Vec<(String, u64, NodeKind)>, Errno> {
    let mut names = Vec::new();
    vfs.read_dir(dir, 0, &mut |item| {
        if item.name != b"." && item.name != b".." {
            names.push((letter_of(item.name), item.ino, item.kind));
        }
        Room::Left
    })?;
    names.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(names)
}

fn make(vfs: &Vfs, dir: u64, name: &[u8], kind: Kind, mode: u32) -> std::result::Result<Attr, Errno> {
    let new = |mode| NewMode { mode, umask: 0 };
    let node = |kind: u32, rdev| vfs.make_node(dir, name, caller(), new(kind | mode), rdev);
    match kind {
        Kind::File => node(libc::S_IFREG, 0),
        Kind::Dir => vfs.make_dir(dir, name, caller(), new(mode)),
        Kind::Symlink(letter) => vfs.make_symlink(dir, name, caller(), &[letter]),
        Kind::Fifo => node(libc::S_IFIFO, 0),
        Kind::Socket => node(libc::S_IFSOCK, 0),
        Kind::Char(minor) => node(libc::S_IFCHR, 1 << 32 | u64::from(minor)),
        Kind::Block(minor) => node(libc::S_IFBLK, 7 << 32 | u64::from(minor)),
    }
}

/// The verbs, on a store; returns what was forked, too.
fn on_branches(store: &Store, known: &BTreeMap<u32, u32>, call: &Call) -> Result<(Answer, Vec<(u32, u32)>)> {
    let find = |number: u32| match store.branch(&name_of(number)) {
        Err(branch_store::Error::NoSuchBranch(_)) => Err(Failure::Ended),
        other => other.map_err(failure),
    };
    debug_assert!(known.contains_key(&0), "main is always known");
    match call {
        Call::Fork { parent, first, count, group } => {
            let names: Vec<String> = (*first..first + count).map(name_of).collect();
            let forked = store.fork(&*find(*parent)?, &names, group_kind(*group)).map_err(failure)?;
            let forked = forked.iter().map(|branch| branch.id().0);
            return Ok((Answer::Done, (*first..).zip(forked).collect()));
        }
        Call::Commit { branch } => {
            let done = store.commit(&*find(*branch)?).map_err(failure)?;
            if !done.warnings.is_empty() {
                return Err(Failure::Unexpected(format!("warnings: {:?}", done.warnings)));
            }
            return Ok((of_commit(&done), Vec::new()));
        }
        Call::Undo => store.undo().map(drop).map_err(failure)?,
        Call::Redo => store.redo().map(drop).map_err(failure)?,
        Call::Abort { branch, cascade } => {
            let children = if *cascade { Children::Cascade } else { Children::Refuse };
            store.abort(&*find(*branch)?, children).map(drop).map_err(failure)?;
        }
        Call::Mark { branch, mark } => {
            store.mark(&*find(*branch)?, Some(&mark_name(*mark))).map(drop).map_err(failure)?;
        }
        Call::Unmark { branch, mark } => {
            store.unmark(&*find(*branch)?, &mark_name(*mark)).map_err(failure)?;
        }
        Call::Checkpoint => store.checkpoint().map(drop).map_err(failure)?,
        Call::Reclaim => store.reclaim().map_err(failure)?,
        other => return Err(Failure::Unexpected(format!("{other:?} is no verb"))),
    }
    Ok((Answer::Done, Vec::new()))
}
