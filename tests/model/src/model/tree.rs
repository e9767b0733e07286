//! A tree of inodes: one branch, whole.

use std::collections::BTreeMap;

use rustix::io::Errno;

use crate::call::Path;
use crate::picture::{Picture, Thing};
use crate::when::When;

/// Number of an object in the model, the same in every branch that has it.
pub(crate) type Ino = u64;

pub(crate) const ROOT: Ino = 1;

/// The instant of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// When it ran.
    pub(crate) now: When,
    /// Its number: what it changes gets this version, what it makes this inode number.
    pub(crate) serial: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) body: Body,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) rdev: u64,
    /// Names; of a directory 1, or 0 once it is removed.
    pub(crate) names: u32,
    pub(crate) atime: When,
    pub(crate) mtime: When,
    pub(crate) ctime: When,
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
    pub(crate) version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    File(Vec<u8>),
    Dir(Dir),
    Symlink(Vec<u8>),
    Fifo,
    Socket,
    Char,
    Block,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dir {
    pub(crate) parent: Ino,
    pub(crate) entries: BTreeMap<String, Ino>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    pub(crate) nodes: BTreeMap<Ino, Node>,
    /// The last call that changed anything.
    pub(crate) version: u64,
}

pub(crate) type Outcome<T> = Result<T, Errno>;

impl Node {
    pub(crate) fn is_dir(&self) -> bool {
        matches!(self.body, Body::Dir(_))
    }

    pub(crate) fn is_file(&self) -> bool {
        matches!(self.body, Body::File(_))
    }

    pub(crate) fn bytes(&self) -> Outcome<&Vec<u8>> {
        match &self.body {
            Body::File(bytes) => Ok(bytes),
            Body::Dir(_) => Err(Errno::ISDIR),
            _ => Err(Errno::INVAL),
        }
    }
}

impl Tree {
    /// The tree a picture shows. Objects of the base have access times that others may change.
    pub(crate) fn of(picture: &Picture, first: Ino) -> Tree {
        let mut tree = Tree::default();
        let mut by_host: BTreeMap<u64, Ino> = BTreeMap::new();
        let mut next = first;
        for (path, seen) in picture {
            let known = by_host.get(&seen.ino).copied().filter(|_| !matches!(seen.thing, Thing::Dir));
            let ino = known.unwrap_or_else(|| {
                next += 1;
                if path.0.is_empty() { ROOT } else { next }
            });
            by_host.insert(seen.ino, ino);
            let parent = path.split().map_or(ROOT, |(dir, name)| {
                let dir = tree.walk(ROOT, &dir).expect("directories come before what is in them");
                tree.dir_mut(dir).entries.insert(name.to_owned(), ino);
                dir
            });
            let node = Node {
                body: Body::of(&seen.thing, parent),
                mode: seen.mode,
                uid: seen.uid,
                gid: seen.gid,
                rdev: seen.rdev,
                names: tree.nodes.get(&ino).map_or(0, |node| node.names) + 1,
                atime: When::Loose,
                mtime: When::exactly(seen.mtime),
                ctime: When::exactly(seen.ctime),
                xattrs: seen.xattrs.clone(),
                version: 0,
            };
            tree.nodes.insert(ino, node);
        }
        tree
    }

    pub(crate) fn node(&self, ino: Ino) -> &Node {
        &self.nodes[&ino]
    }

    pub(crate) fn node_mut(&mut self, ino: Ino, clock: Clock) -> &mut Node {
        self.version = clock.serial;
        let node = self.nodes.get_mut(&ino).expect("the caller found it");
        node.version = clock.serial;
        node
    }

    pub(crate) fn dir(&self, ino: Ino) -> Outcome<&Dir> {
        match &self.node(ino).body {
            Body::Dir(dir) => Ok(dir),
            _ => Err(Errno::NOTDIR),
        }
    }

    pub(crate) fn dir_mut(&mut self, ino: Ino) -> &mut Dir {
        match &mut self.nodes.get_mut(&ino).expect("the caller found it").body {
            Body::Dir(dir) => dir,
            _ => unreachable!("the caller saw a directory"),
        }
    }

    pub(crate) fn child(&self, dir: Ino, name: &str) -> Outcome<Option<Ino>> {
        Ok(self.dir(dir)?.entries.get(name).copied())
    }

    /// The object at a path, no links followed.
    pub(crate) fn walk(&self, from: Ino, path: &Path) -> Outcome<Ino> {
        let mut at = from;
        for name in path.names() {
            at = self.child(at, name)?.ok_or(Errno::NOENT)?;
        }
        Ok(at)
    }

    /// The directory of a path, which must be one.
    pub(crate) fn walk_to_dir(&self, from: Ino, path: &Path) -> Outcome<Ino> {
        let dir = self.walk(from, path)?;
        self.dir(dir).map(|_| dir)
    }

    /// Links as stat counts them.
    pub(crate) fn nlink(&self, ino: Ino) -> u32 {
        let node = self.node(ino);
        match &node.body {
            Body::Dir(_) if node.names == 0 => 0,
            Body::Dir(dir) => {
                2 + dir.entries.values().filter(|child| self.node(**child).is_dir()).count() as u32
            }
            _ => node.names,
        }
    }

    /// Whether `ino` is `top` or below it.
    pub(crate) fn is_below(&self, ino: Ino, top: Ino) -> bool {
        let mut at = ino;
        loop {
            if at == top {
                return true;
            }
            match &self.node(at).body {
                Body::Dir(dir) if dir.parent != at => at = dir.parent,
                _ => return false,
            }
        }
    }

    /// Every path with its object, parents first.
    pub(crate) fn paths(&self) -> Vec<(Path, Ino)> {
        let mut all = vec![(Path::from(""), ROOT)];
        let mut at = 0;
        while at < all.len() {
            let (path, ino) = all[at].clone();
            if let Body::Dir(dir) = &self.node(ino).body {
                all.extend(dir.entries.iter().map(|(name, child)| (path.join(name), *child)));
            }
            at += 1;
        }
        all
    }

    /// Forgets objects without a name, unless `keep` says so.
    pub(crate) fn drop_orphans(&mut self, keep: impl Fn(Ino) -> bool) {
        self.nodes.retain(|ino, node| node.names > 0 || keep(*ino));
    }
}

impl Body {
    fn of(thing: &Thing, parent: Ino) -> Body {
        match thing {
            Thing::File(bytes) => Body::File(bytes.clone()),
            Thing::Dir => Body::Dir(Dir { parent, entries: BTreeMap::new() }),
            Thing::Symlink(target) => Body::Symlink(target.clone()),
            Thing::Fifo => Body::Fifo,
            Thing::Socket => Body::Socket,
            Thing::Char => Body::Char,
            Thing::Block => Body::Block,
        }
    }
}
