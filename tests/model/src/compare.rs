//! What is seen against what the model has. What was known only roughly is known exactly afterwards.

use std::collections::BTreeMap;

use crate::model::Model;
use crate::model::tree::{Body, Ino, Node, Tree};
use crate::picture::{Picture, Seen, Thing};
use crate::when::{Time, When};

/// Whether the inode numbers of a picture are a branch's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// They are: each object has one, for good.
    Own,
    /// They are the host's.
    Foreign,
}

impl Model {
    /// Compares a whole branch.
    pub(crate) fn compare(&mut self, branch: u32, picture: &Picture, numbers: Numbers) -> Result<(), String> {
        let mine = self.branches.get_mut(&branch).expect("it is known");
        let paths = mine.tree.paths();
        for (path, ino) in &paths {
            let Some(seen) = picture.get(path) else { return Err(format!("{path:?} is missing")) };
            let nlink = mine.tree.nlink(*ino);
            let node = mine.tree.nodes.get_mut(ino).expect("it has a path");
            node.compare(nlink, seen).map_err(|what| format!("{path:?}: {what}"))?;
            if numbers == Numbers::Own {
                same_number(&mut mine.ids, *ino, seen.ino).map_err(|what| format!("{path:?}: {what}"))?;
            }
        }
        if paths.len() != picture.len() {
            let extra = picture.keys().find(|path| !paths.iter().any(|(known, _)| known == *path));
            return Err(format!("{extra:?} should not be there"));
        }
        if numbers == Numbers::Own { distinct(&mine.tree, &mine.ids) } else { Ok(()) }
    }

    /// Compares what a slot holds open.
    pub(crate) fn compare_slot(&mut self, slot: u8, seen: &Seen) -> Result<(), String> {
        let handle = self.slots[&slot];
        let branch = self.branches.get_mut(&handle.branch).expect("it is known");
        let nlink = branch.tree.nlink(handle.ino);
        let node = branch.tree.nodes.get_mut(&handle.ino).expect("an open object is kept");
        node.compare(nlink, seen)?;
        same_number(&mut branch.ids, handle.ino, seen.ino)
    }
}

fn same_number(ids: &mut BTreeMap<Ino, u64>, ino: Ino, seen: u64) -> Result<(), String> {
    let known = *ids.entry(ino).or_insert(seen);
    if known == seen { Ok(()) } else { Err(format!("inode number {seen}, and it was {known}")) }
}

fn distinct(tree: &Tree, ids: &BTreeMap<Ino, u64>) -> Result<(), String> {
    let mut taken = BTreeMap::new();
    for (ino, id) in ids.iter().filter(|(ino, _)| tree.nodes.contains_key(ino)) {
        if let Some(other) = taken.insert(id, ino) {
            return Err(format!("objects {ino} and {other} share inode number {id}"));
        }
    }
    Ok(())
}

impl Node {
    fn compare(&mut self, nlink: u32, seen: &Seen) -> Result<(), String> {
        self.compare_body(seen)?;
        same("mode", format!("{:o}", self.mode), format!("{:o}", seen.mode))?;
        same("uid", self.uid, seen.uid)?;
        same("gid", self.gid, seen.gid)?;
        same("rdev", self.rdev, seen.rdev)?;
        same("nlink", nlink, seen.nlink)?;
        same("xattrs", &self.xattrs, &seen.xattrs)?;
        time("atime", &mut self.atime, seen.atime)?;
        time("mtime", &mut self.mtime, seen.mtime)?;
        time("ctime", &mut self.ctime, seen.ctime)
    }

    fn compare_body(&self, seen: &Seen) -> Result<(), String> {
        match (&self.body, &seen.thing) {
            (Body::File(wanted), Thing::File(found)) => {
                same("size", wanted.len() as u64, seen.size)?;
                same("length", wanted.len(), found.len())?;
                match wanted.iter().zip(found).position(|(a, b)| a != b) {
                    Some(at) => Err(format!("byte {at} is {}, not {}", found[at], wanted[at])),
                    None => Ok(()),
                }
            }
            (Body::Symlink(wanted), Thing::Symlink(found)) => {
                same("size", wanted.len() as u64, seen.size)?;
                same("target", wanted, found)
            }
            (Body::Dir(_), Thing::Dir)
            | (Body::Fifo, Thing::Fifo)
            | (Body::Socket, Thing::Socket)
            | (Body::Char, Thing::Char)
            | (Body::Block, Thing::Block) => Ok(()),
            (wanted, found) => Err(format!("is a {found:?}, not a {wanted:?}")),
        }
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, wanted: T, found: T) -> Result<(), String> {
    if wanted == found { Ok(()) } else { Err(format!("{what} is {found:?}, not {wanted:?}")) }
}

fn time(what: &str, wanted: &mut When, seen: Time) -> Result<(), String> {
    if !wanted.allows(seen) {
        return Err(format!("{what} is {seen:?}, not {wanted:?}"));
    }
    wanted.settle(seen);
    Ok(())
}
