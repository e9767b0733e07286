//! Mode, owner, times, extended attributes.

use rustix::io::Errno;

use super::tree::{Clock, Ino, Outcome, Tree};
use crate::call::{Expect, Stamp};
use crate::when::When;

const S_ISUID: u32 = 0o4000;
const S_ISGID_AND_X: u32 = 0o2010;
const S_ISGID: u32 = 0o2000;

impl Tree {
    pub(super) fn chmod(&mut self, ino: Ino, mode: u32, clock: Clock) {
        let node = self.node_mut(ino, clock);
        (node.mode, node.ctime) = (mode, clock.now);
    }

    /// `clear`: the kernel takes set-user-ID and set-group-ID bits off what is not a directory.
    pub(super) fn chown(&mut self, ino: Ino, uid: Option<u32>, gid: Option<u32>, clear: bool, clock: Clock) {
        let node = self.node_mut(ino, clock);
        node.uid = uid.unwrap_or(node.uid);
        node.gid = gid.unwrap_or(node.gid);
        node.ctime = clock.now;
        if clear && !node.is_dir() {
            node.mode &= !S_ISUID;
            if node.mode & S_ISGID_AND_X == S_ISGID_AND_X {
                node.mode &= !S_ISGID;
            }
        }
    }

    pub(super) fn set_times(&mut self, ino: Ino, atime: Stamp, mtime: Stamp, clock: Clock) {
        let node = self.node_mut(ino, clock);
        for (stamp, time) in [(atime, &mut node.atime), (mtime, &mut node.mtime)] {
            match stamp {
                Stamp::Omit => {}
                Stamp::Now => *time = clock.now,
                Stamp::At(sec, nsec) => *time = When::exactly((sec, nsec)),
            }
        }
        node.ctime = clock.now;
    }

    pub(super) fn set_xattr(
        &mut self,
        ino: Ino,
        name: &str,
        value: Vec<u8>,
        expect: Expect,
        clock: Clock,
    ) -> Outcome<()> {
        match (expect, self.node(ino).xattrs.contains_key(name)) {
            (Expect::Create, true) => return Err(Errno::EXIST),
            (Expect::Replace, false) => return Err(Errno::NODATA),
            _ => {}
        }
        // As on ext4, that is no change.
        if self.node(ino).xattrs.get(name) == Some(&value) {
            return Ok(());
        }
        let node = self.node_mut(ino, clock);
        node.xattrs.insert(name.to_owned(), value);
        node.ctime = clock.now;
        Ok(())
    }

    pub(super) fn remove_xattr(&mut self, ino: Ino, name: &str, clock: Clock) -> Outcome<()> {
        if !self.node(ino).xattrs.contains_key(name) {
            return Err(Errno::NODATA);
        }
        let node = self.node_mut(ino, clock);
        node.xattrs.remove(name);
        node.ctime = clock.now;
        Ok(())
    }
}
