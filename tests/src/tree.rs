//! Directory trees compared in everything a commit must keep.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Whether modification times count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// To the nanosecond.
    Compare,
    /// Not at all.
    Ignore,
}

/// Path to a line that describes what is there: kind, mode, owner, content, link target, extended
/// attributes, and which earlier path it is a hard link of.
pub type Tree = BTreeMap<PathBuf, String>;

/// The tree below `root`, without a store in it. The root itself is `.`, in mode and owner.
pub fn tree(root: &Path, times: Times) -> Tree {
    tree_without(root, times, &[])
}

/// As [`tree`], without what is at or below the paths in `but` (relative to the root).
pub fn tree_without(root: &Path, times: Times, but: &[&str]) -> Tree {
    let mut walk = Walk { root, times, but, first: HashMap::new(), found: Tree::new() };
    walk.directory(Path::new(""));
    let seen = fs::symlink_metadata(root).expect("the root");
    walk.found.insert(".".into(), format!("dir {:o} {}:{}", seen.mode() & 0o7777, seen.uid(), seen.gid()));
    walk.found
}

/// One number for [`tree`].
pub fn tree_hash(root: &Path, times: Times) -> u64 {
    let mut hasher = DefaultHasher::new();
    tree(root, times).hash(&mut hasher);
    hasher.finish()
}

struct Walk<'a> {
    root: &'a Path,
    times: Times,
    but: &'a [&'a str],
    /// Inode to the first path it was met at.
    first: HashMap<(u64, u64), PathBuf>,
    found: Tree,
}

impl Walk<'_> {
    fn directory(&mut self, relative: &Path) {
        let entries = fs::read_dir(self.root.join(relative)).expect("a directory");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        for name in names {
            let path = relative.join(name);
            if path == Path::new(".branchfs") || self.but.iter().any(|but| path == Path::new(but)) {
                continue;
            }
            let (line, is_dir) = self.line(&path);
            self.found.insert(path.clone(), line);
            if is_dir {
                self.directory(&path);
            }
        }
    }

    fn line(&mut self, relative: &Path) -> (String, bool) {
        let path = self.root.join(relative);
        let seen = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut line = kind(&path, &seen);
        let owner = (seen.uid(), seen.gid());
        write!(line, " {:o} {}:{}", seen.mode() & 0o7777, owner.0, owner.1).expect("a string");
        if self.times == Times::Compare {
            write!(line, " at {}.{:09}", seen.mtime(), seen.mtime_nsec()).expect("a string");
        }
        line.push_str(&xattrs(&path));
        if !seen.is_dir() && seen.nlink() > 1 {
            let first = self.first.entry((seen.dev(), seen.ino())).or_insert_with(|| relative.to_owned());
            write!(line, " links {} of {}", seen.nlink(), first.display()).expect("a string");
        }
        (line, seen.is_dir())
    }
}

fn kind(path: &Path, seen: &fs::Metadata) -> String {
    let kind = seen.file_type();
    if kind.is_dir() {
        "dir".to_owned()
    } else if kind.is_symlink() {
        format!("link to {:?}", fs::read_link(path).expect("a link"))
    } else if kind.is_file() {
        let content = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        format!("file of {} {:016x}", content.len(), hasher.finish())
    } else if kind.is_fifo() {
        "fifo".to_owned()
    } else if kind.is_socket() {
        "socket".to_owned()
    } else {
        format!("device {:x}", seen.rdev())
    }
}

fn xattrs(path: &Path) -> String {
    let mut list = vec![0_u8; 64 << 10];
    let length = match rustix::fs::llistxattr(path, &mut list[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(errno) => panic!("{}: listxattr: {errno}", path.display()),
    };
    let mut names: Vec<&[u8]> =
        list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    names.sort();
    let mut line = String::new();
    for name in names {
        let mut value = vec![0_u8; 64 << 10];
        let attribute = std::ffi::OsStr::from_bytes(name);
        let length = rustix::fs::lgetxattr(path, attribute, &mut value[..]).expect("a listed attribute");
        write!(line, " {}={:?}", attribute.display(), value[..length].escape_ascii().to_string())
            .expect("a string");
    }
    line
}
