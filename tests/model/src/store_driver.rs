//! Calls through the store's own API, with what the kernel does above it: walking paths, one name at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path as HostPath;
use std::sync::Arc;

use branch_store::{
    Access, AttrChange, Branch, BranchId, Children, Committed, GroupKind, New, NewKind, NodeId, Object,
    OpenFile, Options, Removed, RenameMode, SeekWhat, Stat, Store, SyncWhat, Unrecovered, XattrMode,
};
use rustix::io::Errno;

use crate::answer::{Answer, Failure};
use crate::call::{
    Call, Expect, Group, Kind, Mode, Path, Place, Space, Stamp, Whence, bytes_of, filled, letter_of,
};
use crate::driver::{Driver, Level};
use crate::model::{BEFORE, MAIN};
use crate::picture::{Picture, Seen, Thing};

/// Drives a store.
pub struct StoreDriver {
    options: Options,
    store: Option<Store>,
    branches: BTreeMap<u32, Arc<Branch>>,
    slots: BTreeMap<u8, Open>,
    orphans: BTreeSet<(BranchId, NodeId)>,
}

struct Open {
    branch: Arc<Branch>,
    object: Object,
    file: Option<OpenFile>,
}

type Result<T> = std::result::Result<T, Failure>;

impl StoreDriver {
    /// Opens the store of a base.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub fn new(base: &HostPath) -> StoreDriver {
        let options = Options { base: base.to_owned(), store: base.join(branch_store::STORE_DIR) };
        let (branches, slots) = (BTreeMap::new(), BTreeMap::new());
        let mut driver = StoreDriver { options, store: None, branches, slots, orphans: BTreeSet::new() };
        driver.open();
        driver
    }

    /// Recovers the store and finds its branches again by name.
    fn open(&mut self) {
        let opened = Unrecovered::open(self.options.clone()).and_then(Unrecovered::recover);
        let (store, _) = opened.unwrap_or_else(|error| panic!("opening the store: {error}"));
        // Of every file only what is written is the branch's, where the host allows it.
        store.borrow_from(1);
        for branch in store.branches() {
            self.branches.insert(number_of(branch.name()), branch);
        }
        self.store = Some(store);
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("open between calls")
    }

    /// As kill -9: nothing is said goodbye to.
    fn crash(&mut self) {
        self.slots.clear();
        self.branches.clear();
        self.orphans.clear();
        self.store = None;
        self.open();
    }

    fn branch(&self, number: u32) -> Result<Arc<Branch>> {
        self.branches.get(&number).cloned().ok_or_else(|| Failure::Unexpected(format!("no branch {number}")))
    }

    fn start<'p>(&self, place: &'p Place) -> Result<(Arc<Branch>, Object, &'p Path)> {
        match place {
            Place::In(number, path) => {
                let branch = self.branch(*number)?;
                let root = branch.root();
                Ok((branch, root, path))
            }
            Place::Under(slot, path) => {
                let open = self.slot(*slot)?;
                Ok((open.branch.clone(), open.object.clone(), path))
            }
        }
    }

    fn slot(&self, slot: u8) -> Result<&Open> {
        self.slots.get(&slot).ok_or_else(|| Failure::Unexpected(format!("slot {slot} is free")))
    }

    fn file(&self, slot: u8) -> Result<&OpenFile> {
        self.slot(slot)?.file.as_ref().ok_or(Failure::Errno(Errno::ISDIR))
    }

    fn object(&self, place: &Place) -> Result<(Arc<Branch>, Object)> {
        let (branch, at, path) = self.start(place)?;
        let object = walk(&branch, at, path)?;
        Ok((branch, object))
    }

    /// The directory of a name, and the name.
    fn entry<'p>(&self, place: &'p Place) -> Result<(Arc<Branch>, Object, &'p [u8])> {
        let (branch, at, path) = self.start(place)?;
        let (dir, name) = path.split().ok_or(Failure::Errno(Errno::BUSY))?;
        let dir = walk(&branch, at, &dir)?;
        if branch.stat(&dir).map_err(failure)?.kind != branch_store::Kind::Dir {
            return Err(Failure::Errno(Errno::NOTDIR));
        }
        Ok((branch, dir, bytes_of(name)))
    }

    /// What lost its last name goes now, or when it is closed.
    fn removed(&mut self, branch: &Arc<Branch>, removed: Removed) -> Result<()> {
        let Some(id) = removed.orphan else { return Ok(()) };
        if self.is_open(branch.id(), id) {
            self.orphans.insert((branch.id(), id));
            return Ok(());
        }
        branch.reap(id).map_err(failure)
    }

    fn is_open(&self, branch: BranchId, id: NodeId) -> bool {
        self.slots.values().any(|open| (open.branch.id(), open.object.id) == (branch, id))
    }

    fn open_slot(&mut self, slot: u8, place: &Place, write: bool, truncate: bool) -> Result<()> {
        let (branch, object) = self.object(place)?;
        let is_dir = branch.stat(&object).map_err(failure)?.kind == branch_store::Kind::Dir;
        let file = if is_dir && !write {
            None
        } else {
            if truncate {
                branch
                    .set_attr(&object, &AttrChange { size: Some(0), ..AttrChange::default() })
                    .map_err(failure)?;
            }
            Some(branch.open(&object, if write { Access::Write } else { Access::Read }).map_err(failure)?)
        };
        self.slots.insert(slot, Open { branch, object, file });
        Ok(())
    }

    fn close(&mut self, slot: u8) -> Result<()> {
        let Some(Open { branch, object, .. }) = self.slots.remove(&slot) else { return Ok(()) };
        let key = (branch.id(), object.id);
        if !self.is_open(key.0, key.1) && self.orphans.remove(&key) {
            branch.reap(object.id).map_err(failure)?;
        }
        Ok(())
    }

    fn carry_out(&mut self, call: &Call) -> Result<Answer> {
        if let Some(answer) = self.on_names(call)? {
            return Ok(answer);
        }
        if let Some(answer) = self.on_bytes(call)? {
            return Ok(answer);
        }
        if let Some(answer) = self.on_attributes(call)? {
            return Ok(answer);
        }
        if let Call::Restore { branch, mark } = call {
            return self.restore(*branch, *mark).map(Answer::Count);
        }
        self.on_branches(call)
    }

    fn on_names(&mut self, call: &Call) -> Result<Option<Answer>> {
        match call {
            Call::Make { place, kind, mode } => {
                let (branch, dir, name) = self.entry(place)?;
                let mode = if matches!(kind, Kind::Symlink(_)) { 0o777 } else { *mode };
                let new = New { kind: new_kind(*kind), mode, uid: 0, gid: 0, xattrs: BTreeMap::new() };
                branch.create(&dir, name, new).map_err(failure)?;
            }
            Call::Link { from, to } => {
                let (_, object) = self.object(from)?;
                let (branch, dir, name) = self.entry(to)?;
                branch.link(&object, &dir, name).map_err(failure)?;
            }
            Call::Unlink { place } => {
                let (branch, dir, name) = self.entry(place)?;
                let removed = branch.unlink(&dir, name).map_err(failure)?;
                self.removed(&branch, removed)?;
            }
            Call::Rmdir { place } => {
                let (branch, dir, name) = self.entry(place)?;
                let removed = branch.rmdir(&dir, name).map_err(failure)?;
                self.removed(&branch, removed)?;
            }
            Call::Rename { from, to, mode } => {
                let (branch, dir, name) = self.entry(from)?;
                let (_, to, to_name) = self.entry(to)?;
                let removed = branch.rename(&dir, name, &to, to_name, rename_mode(*mode)).map_err(failure)?;
                self.removed(&branch, removed)?;
            }
            Call::ReadLink { place } => {
                let (branch, object) = self.object(place)?;
                return Ok(Some(Answer::Bytes(branch.read_link(&object).map_err(failure)?)));
            }
            Call::Open { slot, place, write, truncate } => self.open_slot(*slot, place, *write, *truncate)?,
            Call::Close { slot } => self.close(*slot)?,
            Call::List { slot } => {
                let open = self.slot(*slot)?;
                let listed = open.branch.read_dir(&open.object).map_err(failure)?;
                let mut names: Vec<String> =
                    listed.iter().map(|entry| letter_of(entry.name.as_bytes())).collect();
                names.sort();
                return Ok(Some(Answer::Names(names)));
            }
            _ => return Ok(None),
        }
        Ok(Some(Answer::Done))
    }

    fn on_bytes(&mut self, call: &Call) -> Result<Option<Answer>> {
        Ok(Some(match call {
            Call::Read { slot, offset, len } => {
                let mut bytes = vec![0; *len as usize];
                let got = self.file(*slot)?.read_at(&mut bytes, *offset).map_err(failure)?;
                bytes.truncate(got);
                Answer::Bytes(bytes)
            }
            Call::Write { slot, offset, len, fill } => Answer::Count(
                self.file(*slot)?.write_at(&filled(*fill, *len), *offset).map_err(failure)? as u64,
            ),
            Call::Append { slot, len, fill } => {
                let (open, file) = (self.slot(*slot)?, self.file(*slot)?);
                if file.access() == Access::Read {
                    return Err(Failure::Errno(Errno::BADF));
                }
                let end = open.branch.stat(&open.object).map_err(failure)?.size;
                Answer::Count(file.write_at(&filled(*fill, *len), end).map_err(failure)? as u64)
            }
            Call::Allocate { slot, what, offset, len } => {
                self.file(*slot)?.allocate(allocate_mode(*what), *offset, *len).map_err(failure)?;
                Answer::Done
            }
            Call::Copy { from, offset, to, to_offset, len } => {
                let (source, target) = (self.file(*from)?, self.file(*to)?);
                Answer::Count(target.copy_from(*to_offset, source, *offset, *len).map_err(failure)?)
            }
            Call::Seek { slot, offset, whence } => {
                let what = if *whence == Whence::Data { SeekWhat::Data } else { SeekWhat::Hole };
                Answer::Count(self.file(*slot)?.seek(*offset, what).map_err(failure)?)
            }
            Call::Sync { slot, data_only } => {
                let open = self.slot(*slot)?;
                let what = if *data_only { SyncWhat::Data } else { SyncWhat::All };
                open.file
                    .as_ref()
                    .map_or_else(|| open.branch.sync(), |file| file.sync(what))
                    .map_err(failure)?;
                Answer::Done
            }
            _ => return Ok(None),
        }))
    }

    fn on_attributes(&mut self, call: &Call) -> Result<Option<Answer>> {
        let nothing = AttrChange::default();
        let (place, change) = match call {
            Call::Truncate { place, size } => (place, AttrChange { size: Some(*size), ..nothing }),
            Call::Chmod { place, mode } => (place, AttrChange { mode: Some(*mode), ..nothing }),
            Call::Chown { place, uid, gid } => (place, AttrChange { uid: *uid, gid: *gid, ..nothing }),
            Call::Times { place, atime, mtime } => {
                (place, AttrChange { atime: stamp(*atime), mtime: stamp(*mtime), ..nothing })
            }
            Call::SetXattr { place, name, len, fill, expect } => {
                let (branch, object) = self.object(place)?;
                let value = filled(*fill, *len);
                branch
                    .set_xattr(&object, name.as_bytes(), Some(&value), xattr_mode(*expect))
                    .map_err(failure)?;
                return Ok(Some(Answer::Done));
            }
            Call::RemoveXattr { place, name } => {
                let (branch, object) = self.object(place)?;
                branch.set_xattr(&object, name.as_bytes(), None, XattrMode::Replace).map_err(failure)?;
                return Ok(Some(Answer::Done));
            }
            _ => return Ok(None),
        };
        let (branch, object) = self.object(place)?;
        branch.set_attr(&object, &change).map_err(failure)?;
        Ok(Some(Answer::Done))
    }

    fn on_branches(&mut self, call: &Call) -> Result<Answer> {
        match call {
            Call::Fork { parent, first, count, group } => {
                let names: Vec<String> = (*first..first + count).map(name_of).collect();
                let forked = self
                    .store()
                    .fork(&*self.branch(*parent)?, &names, group_kind(*group))
                    .map_err(failure)?;
                self.branches.extend((*first..).zip(forked));
            }
            Call::Commit { branch } => {
                let done = self.store().commit(&*self.branch(*branch)?).map_err(failure)?;
                if !done.warnings.is_empty() {
                    return Err(Failure::Unexpected(format!("warnings: {:?}", done.warnings)));
                }
                return Ok(of_commit(&done));
            }
            Call::Undo => self.store().undo().map(drop).map_err(failure)?,
            Call::Redo => self.store().redo().map(drop).map_err(failure)?,
            Call::Abort { branch, cascade } => {
                let children = if *cascade { Children::Cascade } else { Children::Refuse };
                self.store().abort(&*self.branch(*branch)?, children).map(drop).map_err(failure)?;
            }
            Call::Mark { branch, mark } => {
                let made = self.store().mark(&*self.branch(*branch)?, Some(&mark_name(*mark)));
                made.map(drop).map_err(failure)?;
            }
            Call::Unmark { branch, mark } => {
                self.store().unmark(&*self.branch(*branch)?, &mark_name(*mark)).map_err(failure)?;
            }
            Call::Checkpoint => self.store().checkpoint().map(drop).map_err(failure)?,
            Call::Reclaim => self.store().reclaim().map_err(failure)?,
            Call::Forget => {}
            Call::Crash => self.crash(),
            other => return Err(Failure::Unexpected(format!("{other:?} is not done"))),
        }
        Ok(Answer::Done)
    }

    fn restore(&mut self, branch: u32, mark: u8) -> Result<u64> {
        let branch = self.branch(branch)?;
        let is_open = |id| self.is_open(branch.id(), id);
        let done = self.store().restore(&branch, &mark_name(mark), &is_open).map_err(failure)?;
        if let Some(stranger) = done.orphans.iter().find(|id| !is_open(**id)) {
            return Err(Failure::Unexpected(format!("{stranger:?} is kept and nobody has it open")));
        }
        self.orphans.extend(done.orphans.iter().map(|id| (branch.id(), *id)));
        Ok(u64::from(done.saved.is_some()))
    }

    fn see(&self, branch: &Arc<Branch>, object: &Object, stat: &Stat) -> Result<Seen> {
        let thing = match stat.kind {
            branch_store::Kind::File => {
                let file = branch.open(object, Access::Read).map_err(failure)?;
                Thing::File(read_all(&file, stat.size)?)
            }
            branch_store::Kind::Symlink => Thing::Symlink(branch.read_link(object).map_err(failure)?),
            kind => thing_of(kind),
        };
        see(branch, object, stat, thing)
    }
}

/// What a commit answers.
pub(crate) fn of_commit(done: &Committed) -> Answer {
    match done.commit {
        None if done.into.is_main() => Answer::Nothing,
        _ => Answer::Done,
    }
}

impl Driver for StoreDriver {
    fn level(&self) -> Level {
        Level::Store
    }

    fn call(&mut self, call: &Call) -> Answer {
        self.carry_out(call).unwrap_or_else(Answer::Failed)
    }

    fn look(&mut self, branch: u32) -> std::result::Result<Picture, Answer> {
        let mut picture = Picture::new();
        let look = || -> Result<()> {
            let branch = self.branch(branch)?;
            let root = branch.root();
            let stat = branch.stat(&root).map_err(failure)?;
            let mut stack = vec![(Path::from(""), root, stat)];
            while let Some((path, object, stat)) = stack.pop() {
                if stat.kind == branch_store::Kind::Dir {
                    for entry in branch.read_dir(&object).map_err(failure)? {
                        let name = entry.name.as_bytes();
                        let (child, stat) = branch.lookup(&object, name).map_err(failure)?;
                        if (child.id, stat.kind) != (entry.object.id, entry.kind) {
                            return Err(Failure::Unexpected(format!(
                                "{path:?}: listed as {entry:?}, found as {child:?}"
                            )));
                        }
                        stack.push((path.join(&letter_of(name)), child, stat));
                    }
                }
                picture.insert(path, self.see(&branch, &object, &stat)?);
            }
            Ok(())
        };
        let mut look = look;
        look().map_err(Answer::Failed)?;
        Ok(picture)
    }

    fn look_at_slot(&mut self, slot: u8) -> std::result::Result<Seen, Answer> {
        let look = || {
            let open = self.slot(slot)?;
            let stat = open.branch.stat(&open.object).map_err(failure)?;
            let thing = match &open.file {
                Some(file) => Thing::File(read_all(file, stat.size)?),
                None => Thing::Dir,
            };
            see(&open.branch, &open.object, &stat, thing)
        };
        look().map_err(Answer::Failed)
    }
}

fn see(branch: &Branch, object: &Object, stat: &Stat, thing: Thing) -> Result<Seen> {
    let mut xattrs = BTreeMap::new();
    for name in branch.xattrs(object).map_err(failure)? {
        let value = branch.xattr(object, &name).map_err(failure)?;
        xattrs.insert(String::from_utf8_lossy(&name).into_owned(), value);
    }
    Ok(seen_of(stat, thing, u64::from(stat.id.0), xattrs))
}

/// What a stat of the engine says.
pub(crate) fn seen_of(stat: &Stat, thing: Thing, ino: u64, xattrs: BTreeMap<String, Vec<u8>>) -> Seen {
    Seen {
        thing,
        ino,
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        nlink: stat.nlink,
        rdev: stat.rdev,
        size: stat.size,
        atime: (stat.atime.sec, stat.atime.nsec),
        mtime: (stat.mtime.sec, stat.mtime.nsec),
        ctime: (stat.ctime.sec, stat.ctime.nsec),
        xattrs,
    }
}

fn walk(branch: &Branch, from: Object, path: &Path) -> Result<Object> {
    let mut at = from;
    for name in path.names() {
        if branch.stat(&at).map_err(failure)?.kind != branch_store::Kind::Dir {
            return Err(Failure::Errno(Errno::NOTDIR));
        }
        at = branch.lookup(&at, bytes_of(name)).map_err(failure)?.0;
    }
    // An ended branch answers even where nothing is walked.
    branch.stat(&at).map_err(failure)?;
    Ok(at)
}

fn read_all(file: &OpenFile, size: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; size as usize + 1];
    let got = file.read_at(&mut bytes, 0).map_err(failure)?;
    bytes.truncate(got);
    Ok(bytes)
}

/// What the store's error is among the model's failures.
pub(crate) fn failure(error: branch_store::Error) -> Failure {
    use branch_store::Error;
    match error {
        Error::Posix(errno) => Failure::Errno(errno),
        Error::HasChildren { .. } => Failure::HasChildren,
        Error::Stale(_) => Failure::Stale,
        Error::Ended(_) => Failure::Ended,
        Error::NoSuchMark { .. } => Failure::NoMark,
        Error::MarkExists { .. } => Failure::MarkExists,
        Error::NotAllowed(_) => Failure::NotAllowed,
        Error::Conflicts(all) => {
            Failure::Conflicts(all.iter().map(|c| format!("{}: {:?}", letter_of(&c.path), c.kind)).collect())
        }
        other => Failure::Unexpected(format!("{other:?}")),
    }
}

pub(crate) fn thing_of(kind: branch_store::Kind) -> Thing {
    match kind {
        branch_store::Kind::File => Thing::File(Vec::new()),
        branch_store::Kind::Dir => Thing::Dir,
        branch_store::Kind::Symlink => Thing::Symlink(Vec::new()),
        branch_store::Kind::Fifo => Thing::Fifo,
        branch_store::Kind::Socket => Thing::Socket,
        branch_store::Kind::Char => Thing::Char,
        branch_store::Kind::Block => Thing::Block,
    }
}

fn new_kind(kind: Kind) -> NewKind {
    let special = |kind, rdev| NewKind::Special { kind, rdev };
    match kind {
        Kind::File => NewKind::File,
        Kind::Dir => NewKind::Dir,
        Kind::Symlink(letter) => NewKind::Symlink(vec![letter]),
        Kind::Fifo => special(branch_store::Kind::Fifo, 0),
        Kind::Socket => special(branch_store::Kind::Socket, 0),
        Kind::Char(minor) => special(branch_store::Kind::Char, 1 << 32 | u64::from(minor)),
        Kind::Block(minor) => special(branch_store::Kind::Block, 7 << 32 | u64::from(minor)),
    }
}

pub(crate) fn rename_mode(mode: Mode) -> RenameMode {
    match mode {
        Mode::Replace => RenameMode::Replace,
        Mode::NoReplace => RenameMode::NoReplace,
        Mode::Exchange => RenameMode::Exchange,
    }
}

fn xattr_mode(expect: Expect) -> XattrMode {
    match expect {
        Expect::Any => XattrMode::Any,
        Expect::Create => XattrMode::Create,
        Expect::Replace => XattrMode::Replace,
    }
}

pub(crate) fn group_kind(group: Group) -> GroupKind {
    match group {
        Group::Exclusive => GroupKind::Exclusive,
        Group::Independent => GroupKind::Independent,
        Group::Frozen => GroupKind::Frozen,
    }
}

pub(crate) fn stamp(stamp: Stamp) -> Option<branch_store::Time> {
    match stamp {
        Stamp::Omit => None,
        Stamp::Now => Some(branch_store::Time::now()),
        Stamp::At(sec, nsec) => Some(branch_store::Time { sec, nsec }),
    }
}

pub(crate) fn allocate_mode(what: Space) -> i32 {
    match what {
        Space::Extend => 0,
        Space::KeepSize => libc::FALLOC_FL_KEEP_SIZE,
        Space::Punch => libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
        Space::Zero => libc::FALLOC_FL_ZERO_RANGE,
    }
}

pub(crate) fn name_of(number: u32) -> String {
    if number == MAIN { branch_store::MAIN.to_owned() } else { format!("b{number}") }
}

pub(crate) fn mark_name(number: u8) -> String {
    if number == BEFORE { branch_store::BEFORE_RESTORE.to_owned() } else { format!("m{number}") }
}

pub(crate) fn number_of(name: &str) -> u32 {
    name.strip_prefix('b').and_then(|digits| digits.parse().ok()).unwrap_or(MAIN)
}
