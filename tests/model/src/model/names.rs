//! Names: make, link, unlink, rmdir, rename. The order of checks is Linux's.

use std::collections::BTreeMap;

use rustix::io::Errno;

use super::tree::{Body, Clock, Dir, Ino, Node, Outcome, Tree};
use crate::call::{Kind, Mode};

/// A name in a directory that was found.
pub(super) type Slot<'a> = (Ino, &'a str);

const S_ISGID: u32 = 0o2000;

impl Tree {
    pub(super) fn make(
        &mut self,
        (dir, name): Slot<'_>,
        kind: Kind,
        mode: u32,
        inherit: bool,
        clock: Clock,
    ) -> Outcome<()> {
        self.free(dir, name)?;
        let above = self.node(dir);
        let setgid = inherit && above.mode & S_ISGID != 0;
        let gid = if setgid { above.gid } else { 0 };
        let (body, rdev) = match kind {
            Kind::File => (Body::File(Vec::new()), 0),
            Kind::Dir => (Body::Dir(Dir { parent: dir, entries: BTreeMap::new() }), 0),
            Kind::Symlink(letter) => (Body::Symlink(vec![letter]), 0),
            Kind::Fifo => (Body::Fifo, 0),
            Kind::Socket => (Body::Socket, 0),
            Kind::Char(minor) => (Body::Char, 1 << 32 | u64::from(minor)),
            Kind::Block(minor) => (Body::Block, 7 << 32 | u64::from(minor)),
        };
        let mode = match kind {
            Kind::Symlink(_) => 0o777,
            Kind::Dir if setgid => mode | S_ISGID,
            _ => mode,
        };
        let (now, version) = (clock.now, clock.serial);
        let (atime, mtime, ctime) = (now, now, now);
        let xattrs = BTreeMap::new();
        let node = Node { body, mode, uid: 0, gid, rdev, names: 1, atime, mtime, ctime, xattrs, version };
        self.nodes.insert(clock.serial, node);
        self.enter((dir, name), clock.serial, clock);
        Ok(())
    }

    pub(super) fn link(&mut self, ino: Ino, (dir, name): Slot<'_>, clock: Clock) -> Outcome<()> {
        self.free(dir, name)?;
        let node = self.node(ino);
        if node.is_dir() {
            return Err(Errno::PERM);
        }
        if node.names == 0 {
            return Err(Errno::NOENT);
        }
        self.enter((dir, name), ino, clock);
        let node = self.node_mut(ino, clock);
        node.names += 1;
        node.ctime = clock.now;
        Ok(())
    }

    pub(super) fn unlink(&mut self, (dir, name): Slot<'_>, clock: Clock) -> Outcome<()> {
        let ino = self.child(dir, name)?.ok_or(Errno::NOENT)?;
        if self.node(ino).is_dir() {
            return Err(Errno::ISDIR);
        }
        self.leave((dir, name), clock);
        self.lose_name(ino, clock);
        Ok(())
    }

    pub(super) fn rmdir(&mut self, (dir, name): Slot<'_>, clock: Clock) -> Outcome<()> {
        let ino = self.child(dir, name)?.ok_or(Errno::NOENT)?;
        if !self.dir(ino)?.entries.is_empty() {
            return Err(Errno::NOTEMPTY);
        }
        self.leave((dir, name), clock);
        self.lose_name(ino, clock);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: Slot<'_>, to: Slot<'_>, mode: Mode, clock: Clock) -> Outcome<()> {
        let ino = self.child(from.0, from.1)?.ok_or(Errno::NOENT)?;
        let target = self.child(to.0, to.1)?;
        match (mode, target) {
            (Mode::NoReplace, Some(_)) => return Err(Errno::EXIST),
            (Mode::Exchange, None) => return Err(Errno::NOENT),
            _ => {}
        }
        // No name is looked for in a directory that was removed, so this comes before any other refusal.
        if self.node(to.0).names == 0 {
            return Err(Errno::NOENT);
        }
        if self.is_below(to.0, ino) {
            return Err(Errno::INVAL);
        }
        if target.is_some_and(|target| self.is_below(from.0, target)) {
            return Err(if mode == Mode::Exchange { Errno::INVAL } else { Errno::NOTEMPTY });
        }
        match target {
            Some(target) if target == ino => return Ok(()),
            Some(target) if mode == Mode::Exchange => {
                self.enter(from, target, clock);
                self.enter(to, ino, clock);
                self.node_mut(target, clock).ctime = clock.now;
                self.node_mut(ino, clock).ctime = clock.now;
                return Ok(());
            }
            Some(target) => self.may_replace(ino, target)?,
            None => {}
        }
        if let Some(target) = target {
            self.lose_name(target, clock);
        }
        self.leave(from, clock);
        self.enter(to, ino, clock);
        self.node_mut(ino, clock).ctime = clock.now;
        Ok(())
    }

    fn may_replace(&self, ino: Ino, target: Ino) -> Outcome<()> {
        match (self.node(ino).is_dir(), &self.node(target).body) {
            (true, Body::Dir(dir)) if !dir.entries.is_empty() => Err(Errno::NOTEMPTY),
            (true, Body::Dir(_)) => Ok(()),
            (true, _) => Err(Errno::NOTDIR),
            (false, Body::Dir(_)) => Err(Errno::ISDIR),
            (false, _) => Ok(()),
        }
    }

    /// The name can be made here.
    fn free(&self, dir: Ino, name: &str) -> Outcome<()> {
        match self.child(dir, name)? {
            Some(_) => Err(Errno::EXIST),
            None if self.node(dir).names == 0 => Err(Errno::NOENT),
            None => Ok(()),
        }
    }

    fn enter(&mut self, (dir, name): Slot<'_>, ino: Ino, clock: Clock) {
        self.dir_mut(dir).entries.insert(name.to_owned(), ino);
        if let Body::Dir(moved) = &mut self.node_mut(ino, clock).body {
            moved.parent = dir;
        }
        self.stamp_dir(dir, clock);
    }

    fn leave(&mut self, (dir, name): Slot<'_>, clock: Clock) {
        self.dir_mut(dir).entries.remove(name);
        self.stamp_dir(dir, clock);
    }

    fn stamp_dir(&mut self, dir: Ino, clock: Clock) {
        let node = self.node_mut(dir, clock);
        (node.mtime, node.ctime) = (clock.now, clock.now);
    }

    fn lose_name(&mut self, ino: Ino, clock: Clock) {
        let node = self.node_mut(ino, clock);
        node.names -= 1;
        node.ctime = clock.now;
    }
}
