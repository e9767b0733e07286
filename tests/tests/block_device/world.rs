//! Everything a store shows at one moment: the base as the host shows it, and every live branch.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use branch_store::{Access, Branch, Kind, Object, Owner, Stat, Store};
use branchfs_tests::{Times, Tree, tree};

/// Base and branches.
#[derive(Clone, PartialEq)]
pub(crate) struct World {
    pub(crate) base: Tree,
    pub(crate) branches: BTreeMap<String, View>,
}

/// Path to what is there.
pub(crate) type View = BTreeMap<String, Thing>;

/// An object of a branch.
#[derive(Clone, PartialEq)]
pub(crate) struct Thing {
    /// What the journal and the tree know: kind, mode, owner, links, attributes, target, times of directories.
    pub(crate) what: String,
    /// A file's content.
    pub(crate) bytes: Vec<u8>,
    /// Whether the bytes are sure to survive a power failure.
    pub(crate) sure: bool,
}

impl World {
    /// `fsynced` says whether the bytes of a branch's file were made durable since they changed.
    pub(crate) fn of(store: &Store, fsynced: impl Fn(&str, &Stat) -> bool) -> World {
        let view = |branch: Arc<Branch>| {
            let mut found = View::new();
            let walk = Walk { branch: &branch, fsynced: &|stat: &Stat| fsynced(branch.name(), stat) };
            walk.dir(&branch.root(), "", &mut found);
            (branch.name().to_owned(), found)
        };
        World {
            base: tree(store.base(), Times::Compare),
            branches: store.branches().into_iter().map(view).collect(),
        }
    }

    /// Whether the two are the same to the last byte.
    pub(crate) fn is(&self, other: &World) -> bool {
        let bytes = |view: &View| view.values().map(|thing| thing.bytes.clone()).collect::<Vec<_>>();
        self.difference(other).is_empty()
            && self.branches.values().map(bytes).eq(other.branches.values().map(bytes))
    }

    /// How what was found after a power failure differs from this; nothing if it is this, but for bytes that nobody
    /// made durable.
    pub(crate) fn difference(&self, found: &World) -> String {
        let mut out = String::new();
        let lines = |a: &String, b: &String| (a != b).then(|| (a.clone(), b.clone()));
        compare("base", &self.base, &found.base, lines, &mut out);
        compare("branch", &self.branches, &found.branches, |_, _| None, &mut out);
        for (name, view) in &self.branches {
            let Some(found) = found.branches.get(name) else { continue };
            compare(name, view, found, Thing::difference, &mut out);
        }
        out
    }
}

impl Thing {
    fn difference(&self, found: &Thing) -> Option<(String, String)> {
        if self.what != found.what {
            return Some((self.what.clone(), found.what.clone()));
        }
        let shown = |thing: &Thing| {
            let start = thing.bytes[..thing.bytes.len().min(40)].escape_ascii();
            format!("{} bytes, {start}…", thing.bytes.len())
        };
        (self.sure && self.bytes != found.bytes).then(|| (shown(self), shown(found)))
    }
}

fn compare<K: Ord + std::fmt::Debug, V>(
    of: &str,
    left: &BTreeMap<K, V>,
    right: &BTreeMap<K, V>,
    differ: impl Fn(&V, &V) -> Option<(String, String)>,
    out: &mut String,
) {
    for (key, value) in left {
        match right.get(key) {
            None => writeln!(out, "{of}: {key:?} is missing").unwrap(),
            Some(found) => {
                if let Some((wanted, found)) = differ(value, found) {
                    writeln!(out, "{of}: {key:?}: wanted {wanted}, found {found}").unwrap();
                }
            }
        }
    }
    for key in right.keys().filter(|key| !left.contains_key(key)) {
        writeln!(out, "{of}: {key:?} is too much").unwrap();
    }
}

struct Walk<'a> {
    branch: &'a Arc<Branch>,
    fsynced: &'a dyn Fn(&Stat) -> bool,
}

impl Walk<'_> {
    fn dir(&self, dir: &Object, path: &str, found: &mut View) {
        for entry in self.branch.read_dir(dir).unwrap() {
            let name = entry.name.as_bytes();
            let (object, stat) = self.branch.lookup(dir, name).unwrap();
            let path = format!("{path}/{}", String::from_utf8_lossy(name));
            let bytes = if stat.kind == Kind::File { self.content(&object, &stat) } else { Vec::new() };
            let sure = stat.owner != Owner::Branch || (self.fsynced)(&stat);
            found.insert(path.clone(), Thing { what: self.what(&object, &stat), bytes, sure });
            if stat.kind == Kind::Dir {
                self.dir(&object, &path, found);
            }
        }
    }

    fn what(&self, object: &Object, stat: &Stat) -> String {
        let Stat { kind, mode, uid, gid, nlink, rdev, .. } = stat;
        let mut what = format!("{kind:?} {mode:o} {uid}:{gid} x{nlink} {rdev:x}");
        // A file's is in its content file: not the journal's to keep.
        if *kind != Kind::File {
            write!(what, " at {}.{:09}", stat.mtime.sec, stat.mtime.nsec).unwrap();
        }
        if *kind == Kind::Symlink {
            write!(what, " to {}", self.branch.read_link(object).unwrap().escape_ascii()).unwrap();
        }
        for name in self.branch.xattrs(object).unwrap() {
            let value = self.branch.xattr(object, &name).unwrap();
            write!(what, " {}={}", name.escape_ascii(), value.escape_ascii()).unwrap();
        }
        what
    }

    fn content(&self, object: &Object, stat: &Stat) -> Vec<u8> {
        let mut bytes = vec![0; stat.size as usize + 1];
        let read = self.branch.open(object, Access::Read).unwrap().read_at(&mut bytes, 0).unwrap();
        assert_eq!(read as u64, stat.size, "size and content agree");
        bytes.truncate(read);
        bytes
    }
}
