//! One run of a test's calls in one directory, and the log of what they answered.

use std::fmt::{Debug, Display};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Where a run takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Ext4,
    Branch,
}

pub(crate) struct Play {
    root: PathBuf,
    side: Side,
    log: Mutex<Vec<String>>,
}

impl Play {
    pub(crate) fn at_root(root: &Path, side: Side) -> Play {
        Play { root: root.to_owned(), side, log: Mutex::default() }
    }

    pub(crate) fn into_log(self) -> Vec<String> {
        self.log.into_inner().unwrap()
    }

    pub(crate) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    pub(crate) fn note(&self, what: impl Display, seen: impl Debug) {
        self.log.lock().unwrap().push(format!("{what}: {seen:?}"));
    }

    /// Notes whether a call succeeded, or its errno; hands on what it returned.
    pub(crate) fn call<T, E: Into<io::Error>>(&self, what: impl Display, outcome: Result<T, E>) -> Option<T> {
        match outcome.map_err(Into::into) {
            Ok(value) => {
                self.note(what, "done");
                Some(value)
            }
            Err(error) => {
                self.note(what, error.to_string());
                None
            }
        }
    }

    /// A difference that `docs/semantics.md` explains.
    pub(crate) fn unlike<T: PartialEq + Debug>(&self, what: &str, seen: T, ext4: T, branch: T) {
        match self.side {
            Side::Ext4 => assert_eq!(seen, ext4, "{what} on ext4"),
            Side::Branch => assert_eq!(seen, branch, "{what} in a branch"),
        }
    }

    /// As [`Play::call`], noting also what it returned.
    pub(crate) fn answer<T: Debug, E: Into<io::Error>>(&self, what: impl Display, outcome: Result<T, E>) {
        match outcome.map_err(Into::into) {
            Ok(value) => self.note(what, value),
            Err(error) => self.note(what, error.to_string()),
        }
    }

    /// Notes what stat(2) must tell alike everywhere. Sizes of directories and all times are left out.
    pub(crate) fn stat(&self, name: impl AsRef<Path>) {
        let name = name.as_ref();
        self.answer(
            format!("stat {}", name.display()),
            fs::symlink_metadata(self.at(name)).map(|m| seen(&m)),
        );
    }

    pub(crate) fn stats(&self, names: &[&str]) {
        names.iter().for_each(|name| self.stat(name));
    }

    /// Notes the bytes of a file, those of long ones by their number and a hash.
    pub(crate) fn bytes(&self, name: impl AsRef<Path>) {
        let name = name.as_ref();
        self.answer(format!("bytes of {}", name.display()), fs::read(self.at(name)).map(|b| short(&b)));
    }

    /// Notes every path below a directory, with its kind, link count and size.
    pub(crate) fn tree(&self) {
        let mut found = Vec::new();
        walk(&self.root, Path::new(""), &mut found);
        found.sort();
        found.into_iter().for_each(|line| self.note("there is", line));
    }
}

/// What stat(2) says that does not depend on where.
pub(crate) fn seen(m: &fs::Metadata) -> String {
    let size = if m.is_dir() { 0 } else { m.size() };
    format!("{:o} {}:{} nlink {} size {size} rdev {:x}", m.mode(), m.uid(), m.gid(), m.nlink(), m.rdev())
}

pub(crate) fn short(bytes: &[u8]) -> String {
    if bytes.len() <= 64 {
        return format!("{:?}", String::from_utf8_lossy(bytes));
    }
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("{} bytes, {:x}", bytes.len(), hasher.finish())
}

fn walk(root: &Path, below: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let path = below.join(entry.unwrap().file_name());
        let meta = fs::symlink_metadata(root.join(&path)).unwrap();
        let name = String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned();
        found.push(format!("{name} {}", seen(&meta)));
        if meta.is_dir() {
            walk(root, &path, found);
        }
    }
}
