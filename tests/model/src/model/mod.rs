//! The reference: every branch a whole copy, every answer predicted.

mod alike;
mod attributes;
mod branches;
mod files;
mod marks;
mod merge;
mod names;
pub(crate) use marks::BEFORE;
pub(crate) mod tree;
mod turns;

use std::collections::BTreeMap;

use rustix::io::Errno;

use self::branches::Branch;
use self::tree::{Clock, Ino, Outcome, ROOT, Tree};
use crate::answer::Answer;
use crate::call::{Call, Kind, Path, Place, Space, Stamp, filled};
use crate::driver::Level;
use crate::picture::Picture;
use crate::when::When;

/// Number of the base's own branch.
pub const MAIN: u32 = 0;
/// Files and directories open at a time.
pub const SLOTS: u8 = 6;

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handle {
    pub(crate) branch: u32,
    pub(crate) ino: Ino,
    pub(crate) write: bool,
    pub(crate) dir: bool,
}

/// What the host's filesystem can do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Host {
    pub(crate) zero_range: bool,
}

/// The reference filesystem.
#[derive(Debug, Clone)]
pub struct Model {
    level: Level,
    host: Host,
    serial: u64,
    pub(crate) branches: BTreeMap<u32, Branch>,
    pub(crate) slots: BTreeMap<u8, Handle>,
    turns: turns::Turns,
}

/// What may be answered.
type Allowed = Vec<Answer>;

impl Model {
    pub(crate) fn new(level: Level, host: Host, base: &Picture) -> Model {
        let tree = Tree::of(base, ROOT);
        let serial = ROOT + base.len() as u64;
        let branches = BTreeMap::from([(MAIN, Branch::main(tree))]);
        Model { level, host, serial, branches, slots: BTreeMap::new(), turns: turns::Turns::default() }
    }

    /// Whether the call speaks of things that there are, in a way that means the same at every level.
    pub fn accepts(&self, call: &Call) -> bool {
        let file = |slot: &u8| self.slots.get(slot).is_some_and(|handle| !handle.dir);
        match call {
            Call::Make { place, .. } | Call::Unlink { place } | Call::Rmdir { place } => self.is_name(place),
            Call::Link { from, to } => self.knows(from) && self.is_name(to) && self.same_branch(from, to),
            Call::Rename { from, to, .. } => {
                self.is_name(from) && self.is_name(to) && self.same_branch(from, to)
            }
            // What is open is named by a link of /proc there.
            Call::ReadLink { place } => {
                let open = matches!(place, Place::Under(_, path) if path.0.is_empty());
                self.knows(place) && !(open && self.level == Level::Mounted)
            }
            Call::Open { slot, place, write, truncate } => {
                let special = self.level == Level::Mounted || *truncate;
                *slot < SLOTS
                    && !self.slots.contains_key(slot)
                    && self.knows(place)
                    && (*write || !*truncate)
                    && !(special
                        && self.is(place, |tree, ino| !tree.node(ino).is_file() && !tree.node(ino).is_dir()))
                    && !(*truncate && self.is(place, |tree, ino| tree.node(ino).is_dir()))
                    && !(matches!(place, Place::Under(_, path) if path.0.is_empty()))
            }
            Call::Close { slot } | Call::Sync { slot, .. } => self.slots.contains_key(slot),
            // The kernel asks nobody to write nothing.
            Call::Write { slot, len, .. } | Call::Append { slot, len, .. } => {
                file(slot) && (*len > 0 || self.level == Level::Store)
            }
            Call::Read { slot, len, .. } => file(slot) && (*len > 0 || self.level == Level::Store),
            Call::Seek { slot, .. } => file(slot),
            Call::Allocate { slot, len, .. } => file(slot) && *len > 0,
            Call::Copy { from, to, .. } => file(from) && file(to),
            Call::List { slot } => self.slots.get(slot).is_some_and(|handle| handle.dir),
            Call::Truncate { place, .. } => {
                let readable = matches!(place, Place::Under(slot, path)
                    if path.0.is_empty() && self.slots.get(slot).is_some_and(|handle| !handle.write));
                self.knows(place) && !readable && !self.is(place, |tree, ino| !tree.node(ino).is_file())
            }
            Call::Chmod { place, .. } => {
                self.knows(place)
                    && !self.is(place, |tree, ino| matches!(tree.node(ino).body, tree::Body::Symlink(_)))
            }
            Call::Chown { place, uid, gid } => self.knows(place) && (uid.is_some() || gid.is_some()),
            // The kernel asks nobody to do nothing.
            Call::Times { place, atime, mtime } => {
                self.knows(place) && (*atime, *mtime) != (Stamp::Omit, Stamp::Omit)
            }
            Call::SetXattr { place, name, .. } | Call::RemoveXattr { place, name } => {
                let plain = |tree: &Tree, ino| tree.node(ino).is_file() || tree.node(ino).is_dir();
                self.knows(place)
                    && (!name.starts_with("user.") || !self.is(place, |tree, ino| !plain(tree, ino)))
            }
            Call::Fork { parent, first, count, .. } => {
                self.branches.contains_key(parent)
                    && (1..=8).contains(count)
                    && (*first..first + count)
                        .all(|number| number != MAIN && !self.branches.contains_key(&number))
            }
            Call::Commit { branch }
            | Call::Abort { branch, .. }
            | Call::Unmark { branch, .. }
            | Call::Restore { branch, .. } => self.branches.contains_key(branch),
            Call::Mark { branch, mark } => self.branches.contains_key(branch) && *mark != BEFORE,
            Call::Undo | Call::Redo | Call::Checkpoint | Call::Reclaim | Call::Forget | Call::Crash => true,
        }
    }

    /// Takes over what a call did between two instants, and says what it had to answer if it did not.
    ///
    /// # Errors
    /// The answers it could have given, in words.
    pub fn step(&mut self, call: &Call, answer: &Answer, now: When) -> Result<(), String> {
        self.serial += 1;
        let clock = Clock { now, serial: self.serial };
        let allowed = match call {
            Call::Seek { slot, offset, whence } if self.is_alive(*slot) => {
                let Handle { branch, ino, .. } = self.slots[slot];
                let right = self.branches[&branch].tree.seek_is_right(ino, *offset, *whence, answer);
                return if right { Ok(()) } else { Err("something else".to_owned()) };
            }
            Call::Commit { branch } => return self.commit(*branch, answer, clock),
            Call::Restore { branch, mark } => self.restore(*branch, *mark, answer)?,
            Call::Undo => self.undo(answer, clock),
            Call::Redo => self.redo(answer, clock),
            _ => self.apply(call, clock),
        };
        if allowed.contains(answer) {
            return Ok(());
        }
        Err(allowed.iter().map(Answer::brief).collect::<Vec<_>>().join(" or "))
    }

    fn apply(&mut self, call: &Call, clock: Clock) -> Allowed {
        match call {
            Call::Open { slot, place, write, truncate } => self.open(*slot, place, *write, *truncate, clock),
            Call::Close { slot } => {
                self.slots.remove(slot);
                self.drop_orphans();
                vec![Answer::Done]
            }
            Call::Fork { parent, first, count, group } => self.fork(*parent, *first, *count, *group, clock),
            Call::Abort { branch, cascade } => self.abort(*branch, *cascade),
            Call::Mark { branch, mark } => self.mark(*branch, *mark),
            Call::Unmark { branch, mark } => self.unmark(*branch, *mark),
            Call::Crash => {
                self.crash();
                vec![Answer::Done]
            }
            Call::Reclaim => self.reclaim(clock),
            Call::Checkpoint | Call::Forget => vec![Answer::Done],
            _ => match handle_call(call) {
                Some(slot) => self.on_handle(slot, call, clock),
                None => self.on_names(call, clock),
            },
        }
    }

    fn open(&mut self, slot: u8, place: &Place, write: bool, truncate: bool, clock: Clock) -> Allowed {
        let branch = self.branch_of(place);
        if let Some(error) = self.ended(branch, place) {
            return vec![error.into()];
        }
        let mut opened = None;
        let allowed = self.attempt(
            branch,
            place,
            truncate || (write && branch == MAIN),
            |tree, ino| {
                let node = tree.node(ino);
                match (node.is_dir(), node.is_file()) {
                    (true, _) if write => return Err(Errno::ISDIR),
                    (false, false) => return Err(Errno::NXIO),
                    _ => {}
                }
                opened = Some((ino, node.is_dir()));
                if truncate { tree.truncate(ino, 0, clock) } else { Ok(Answer::Done) }
            },
            clock,
        );
        if allowed == [Answer::Done]
            && let Some((ino, dir)) = opened
        {
            self.slots.insert(slot, Handle { branch, ino, write, dir });
        }
        allowed
    }

    /// Calls on what a slot holds open, with no name involved.
    fn on_handle(&mut self, slot: u8, call: &Call, clock: Clock) -> Allowed {
        let handle = self.slots[&slot];
        let changes = matches!(
            call,
            Call::Write { .. } | Call::Append { .. } | Call::Allocate { .. } | Call::Copy { .. }
        );
        if changes && !handle.write {
            return vec![Errno::BADF.into()];
        }
        if let Some(allowed) = self.copy_by_kernel(slot, call) {
            return allowed;
        }
        if !self.is_alive(slot) {
            return vec![Errno::STALE.into()];
        }
        let copied = match call {
            Call::Copy { from, .. } if !self.is_alive(*from) => Err(Errno::STALE),
            Call::Copy { from, offset, to, to_offset, len } => {
                self.copied(*from, *offset, *to, *to_offset, *len)
            }
            _ => Ok(Vec::new()),
        };
        if matches!(call, Call::Allocate { what: Space::Zero, .. }) && !self.host.zero_range {
            return self.refuse_range(handle, clock);
        }
        let level = self.level;
        let on = Place::Under(slot, "".into());
        self.attempt(
            handle.branch,
            &on,
            changes,
            |tree, ino| match call {
                Call::Read { offset, len, .. } => tree.read(ino, *offset, *len),
                Call::Write { offset, len, fill, .. } => {
                    tree.write(ino, *offset, &filled(*fill, *len), clock)
                }
                Call::Append { len, fill, .. } => {
                    let end = tree.node(ino).bytes()?.len() as u64;
                    tree.write(ino, end, &filled(*fill, *len), clock)
                }
                Call::Allocate { what, offset, len, .. } => tree.allocate(ino, *what, *offset, *len, clock),
                Call::Copy { to_offset, .. } => tree.write(ino, *to_offset, &copied?, clock),
                // Linux lets nobody read a directory that is gone.
                Call::List { .. } if level == Level::Mounted && tree.node(ino).names == 0 => {
                    Err(Errno::NOENT)
                }
                Call::List { .. } => Ok(Answer::Names(tree.dir(ino)?.entries.keys().cloned().collect())),
                _ => Ok(Answer::Done),
            },
            clock,
        )
    }

    /// Of a branch that ended, the kernel may refuse a copy, or say that there is nothing to copy, itself.
    fn copy_by_kernel(&self, slot: u8, call: &Call) -> Option<Allowed> {
        let Call::Copy { from, offset, to, to_offset, len } = call else { return None };
        if self.level != Level::Mounted || (self.is_alive(slot) && self.is_alive(*from)) {
            return None;
        }
        let natural = match self.copied(*from, *offset, *to, *to_offset, *len) {
            Ok(bytes) if bytes.is_empty() => Answer::Count(0),
            Ok(_) => return None,
            Err(errno) => errno.into(),
        };
        Some(vec![natural, Errno::STALE.into()])
    }

    /// What the host's filesystem cannot do is known once the file was copied up, which stamps it.
    fn refuse_range(&mut self, handle: Handle, clock: Clock) -> Allowed {
        if self.is_readonly(handle.branch) {
            return vec![Errno::OPNOTSUPP.into(), Errno::ROFS.into()];
        }
        let tree = &mut self.branches.get_mut(&handle.branch).expect("it is known").tree;
        let node = tree.node_mut(handle.ino, clock);
        // A refusal does not tell the kernel of the stamp: it shows the old one until it asks again.
        let mounted = self.level == Level::Mounted;
        node.ctime = if mounted { When::Loose } else { node.ctime.or(clock.now) };
        vec![Errno::OPNOTSUPP.into()]
    }

    fn copied(&self, from: u8, offset: u64, to: u8, to_offset: u64, len: u64) -> Outcome<Vec<u8>> {
        let (source, target) = (self.slots[&from], self.slots[&to]);
        let bytes = self.branches[&source.branch].tree.range(source.ino, offset, len)?;
        let same = (source.branch, source.ino) == (target.branch, target.ino);
        let overlap = offset.abs_diff(to_offset) < bytes.len() as u64;
        if same && overlap { Err(Errno::INVAL) } else { Ok(bytes) }
    }

    /// Calls on objects and names.
    fn on_names(&mut self, call: &Call, clock: Clock) -> Allowed {
        let (place, other) = places(call);
        let branch = self.branch_of(place);
        if let Some(error) = self.ended(branch, place) {
            return vec![error.into()];
        }
        let (inherit, clear) = (self.level != Level::Store, self.level == Level::Mounted);
        let from = self.start(place);
        let to = other.map(|other| self.start(other));
        let done = |outcome: Outcome<()>| outcome.map(|()| Answer::Done);
        match call {
            Call::Make { kind, mode, .. } => self.attempt_in(branch, clock, |tree| {
                let (dir, name) = entry(tree, from)?;
                // mkdir(2) takes no set-ID bits.
                let kept = if *kind == Kind::Dir && clear { 0o1777 } else { 0o7777 };
                done(tree.make((dir, name), *kind, *mode & kept, inherit, clock))
            }),
            Call::Link { .. } => self.attempt_in(branch, clock, |tree| {
                let ino = tree.walk(from.0, from.1)?;
                let (dir, name) = entry(tree, to.expect("links have two"))?;
                done(tree.link(ino, (dir, name), clock))
            }),
            Call::Unlink { .. } => self.attempt_in(branch, clock, |tree| {
                let (dir, name) = entry(tree, from)?;
                done(tree.unlink((dir, name), clock))
            }),
            Call::Rmdir { .. } => self.attempt_in(branch, clock, |tree| {
                let (dir, name) = entry(tree, from)?;
                done(tree.rmdir((dir, name), clock))
            }),
            Call::Rename { mode, .. } => self.attempt_in(branch, clock, |tree| {
                let from = entry(tree, from)?;
                let to = entry(tree, to.expect("renames have two"))?;
                done(tree.rename(from, to, *mode, clock))
            }),
            Call::ReadLink { .. } => self.attempt(
                branch,
                place,
                false,
                |tree, ino| match &tree.node(ino).body {
                    tree::Body::Symlink(target) => Ok(Answer::Bytes(target.clone())),
                    _ => Err(Errno::INVAL),
                },
                clock,
            ),
            Call::Truncate { size, .. } => {
                self.attempt(branch, place, true, |tree, ino| tree.truncate(ino, *size, clock), clock)
            }
            Call::Chmod { mode, .. } => self.attempt(
                branch,
                place,
                true,
                |tree, ino| {
                    tree.chmod(ino, *mode, clock);
                    Ok(Answer::Done)
                },
                clock,
            ),
            Call::Chown { uid, gid, .. } => self.attempt(
                branch,
                place,
                true,
                |tree, ino| {
                    tree.chown(ino, *uid, *gid, clear, clock);
                    Ok(Answer::Done)
                },
                clock,
            ),
            Call::Times { atime, mtime, .. } => self.attempt(
                branch,
                place,
                true,
                |tree, ino| {
                    tree.set_times(ino, *atime, *mtime, clock);
                    Ok(Answer::Done)
                },
                clock,
            ),
            Call::SetXattr { name, len, fill, expect, .. } => self.attempt(
                branch,
                place,
                true,
                |tree, ino| done(tree.set_xattr(ino, name, filled(*fill, *len), *expect, clock)),
                clock,
            ),
            Call::RemoveXattr { name, .. } => self.attempt(
                branch,
                place,
                true,
                |tree, ino| done(tree.remove_xattr(ino, name, clock)),
                clock,
            ),
            _ => unreachable!("the caller took the others"),
        }
    }

    /// Something done to the object at a place.
    fn attempt(
        &mut self,
        branch: u32,
        place: &Place,
        changes: bool,
        act: impl FnOnce(&mut Tree, Ino) -> Outcome<Answer>,
        clock: Clock,
    ) -> Allowed {
        let (root, path) = self.start(place);
        let path = path.clone();
        let run = |tree: &mut Tree| {
            let ino = tree.walk(root, &path)?;
            act(tree, ino)
        };
        if changes {
            return self.attempt_in(branch, clock, run);
        }
        let tree = &mut self.branches.get_mut(&branch).expect("it is known").tree;
        vec![run(tree).unwrap_or_else(Answer::from)]
    }

    /// A change of a branch. Where none is allowed, it may be refused for that or for what is wrong anyway.
    fn attempt_in(
        &mut self,
        branch: u32,
        clock: Clock,
        act: impl FnOnce(&mut Tree) -> Outcome<Answer>,
    ) -> Allowed {
        if self.is_readonly(branch) {
            let mut scratch = self.branches[&branch].tree.clone();
            let outcome = act(&mut scratch);
            let refused = Answer::from(Errno::ROFS);
            return match outcome {
                Ok(_) if scratch.version == clock.serial => vec![refused],
                Ok(nothing_changed) => vec![nothing_changed, refused],
                Err(errno) => vec![errno.into(), refused],
            };
        }
        let tree = &mut self.branches.get_mut(&branch).expect("it is known").tree;
        let answer = act(tree).unwrap_or_else(Answer::from);
        self.drop_orphans();
        vec![answer]
    }

    fn drop_orphans(&mut self) {
        for (number, branch) in &mut self.branches {
            let slots = &self.slots;
            branch.tree.drop_orphans(|ino| slots.values().any(|h| (h.branch, h.ino) == (*number, ino)));
        }
    }

    /// What an ended branch answers. By path a mount has no such directory any more.
    fn ended(&self, branch: u32, place: &Place) -> Option<Errno> {
        let by_path = matches!(place, Place::In(..));
        (!self.branches[&branch].is_live()).then_some(if by_path && self.level == Level::Mounted {
            Errno::NOENT
        } else {
            Errno::STALE
        })
    }

    fn is_alive(&self, slot: u8) -> bool {
        self.branches[&self.slots[&slot].branch].is_live()
    }

    pub(crate) fn branch_of(&self, place: &Place) -> u32 {
        match place {
            Place::In(branch, _) => *branch,
            Place::Under(slot, _) => self.slots[slot].branch,
        }
    }

    fn start<'p>(&self, place: &'p Place) -> (Ino, &'p Path) {
        match place {
            Place::In(_, path) => (ROOT, path),
            Place::Under(slot, path) => (self.slots[slot].ino, path),
        }
    }

    fn knows(&self, place: &Place) -> bool {
        let known = match place {
            Place::In(branch, _) => self.branches.contains_key(branch),
            Place::Under(slot, _) => self.slots.contains_key(slot),
        };
        known && !(self.level == Level::Mounted && self.leads_through_link(place))
    }

    /// The kernel would follow it.
    fn leads_through_link(&self, place: &Place) -> bool {
        let tree = &self.branches[&self.branch_of(place)].tree;
        let (mut at, path) = self.start(place);
        for name in path.names() {
            let Some(node) = tree.nodes.get(&at) else { return false };
            if matches!(node.body, tree::Body::Symlink(_)) {
                return true;
            }
            let Ok(Some(child)) = tree.child(at, name) else { return false };
            at = child;
        }
        false
    }

    fn is_name(&self, place: &Place) -> bool {
        let (Place::In(_, path) | Place::Under(_, path)) = place;
        self.knows(place) && !path.0.is_empty()
    }

    fn same_branch(&self, one: &Place, other: &Place) -> bool {
        self.branch_of(one) == self.branch_of(other)
    }

    /// Whether there is something at the place, and it is such.
    fn is(&self, place: &Place, such: impl Fn(&Tree, Ino) -> bool) -> bool {
        let tree = &self.branches[&self.branch_of(place)].tree;
        let (root, path) = self.start(place);
        tree.nodes.contains_key(&root) && tree.walk(root, path).is_ok_and(|ino| such(tree, ino))
    }
}

fn entry<'p>(tree: &Tree, (root, path): (Ino, &'p Path)) -> Outcome<(Ino, &'p str)> {
    let (dir, name) = path.split().expect("only names are accepted");
    Ok((tree.walk_to_dir(root, &dir)?, name))
}

fn handle_call(call: &Call) -> Option<u8> {
    match call {
        Call::Read { slot, .. }
        | Call::Write { slot, .. }
        | Call::Append { slot, .. }
        | Call::Allocate { slot, .. }
        | Call::Copy { to: slot, .. }
        | Call::Seek { slot, .. }
        | Call::Sync { slot, .. }
        | Call::List { slot } => Some(*slot),
        _ => None,
    }
}

fn places(call: &Call) -> (&Place, Option<&Place>) {
    match call {
        Call::Link { from, to } | Call::Rename { from, to, .. } => (from, Some(to)),
        Call::Make { place, .. }
        | Call::Unlink { place }
        | Call::Rmdir { place }
        | Call::ReadLink { place }
        | Call::Truncate { place, .. }
        | Call::Chmod { place, .. }
        | Call::Chown { place, .. }
        | Call::Times { place, .. }
        | Call::SetXattr { place, .. }
        | Call::RemoveXattr { place, .. } => (place, None),
        _ => unreachable!("{call:?} has no place"),
    }
}
