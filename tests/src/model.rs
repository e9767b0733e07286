//! An in-memory twin of a directory and random operations that change both alike.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use crate::seed::Rng;

/// Objects above which a random operation rather removes than makes.
const OBJECTS_MAX: usize = 60;
/// Longest random write, in bytes.
const WRITE_MAX: u64 = 12_000;
/// Longest file, in bytes.
const FILE_MAX: u64 = 100_000;
/// Names to choose from in one directory: few, so that they are met again.
const NAMES: u64 = 24;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thing {
    /// A directory.
    Dir,
    /// A file with its bytes.
    File(Vec<u8>),
    /// A symbolic link with its target.
    Link(PathBuf),
}

/// What is in a directory, by relative path. The root itself is not in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Model(BTreeMap<PathBuf, Thing>);

/// One operation: one system call that changes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A new, empty file.
    Create(PathBuf),
    /// Bytes over or behind others of a file.
    Write(PathBuf, u64, Vec<u8>),
    /// Bytes at the end of a file.
    Append(PathBuf, Vec<u8>),
    /// Another length.
    Truncate(PathBuf, u64),
    /// Another name; a file may take another file's place.
    Rename(PathBuf, PathBuf),
    /// A file or link goes.
    Unlink(PathBuf),
    /// A new directory.
    Mkdir(PathBuf),
    /// An empty directory goes.
    Rmdir(PathBuf),
    /// A new symbolic link.
    Symlink(PathBuf, PathBuf),
}

impl Op {
    /// An operation that must succeed on the model.
    pub fn random(rng: &mut Rng, model: &Model) -> Op {
        let full = model.0.len() > OBJECTS_MAX;
        loop {
            let found = match rng.below(16) {
                0..=2 if !full => model.fresh(rng).map(Op::Create),
                3..=6 => model.file(rng).map(|(path, size)| {
                    let length = 1 + rng.below(WRITE_MAX);
                    Op::Write(path, rng.below(size.min(FILE_MAX - length) + 1), rng.bytes(length))
                }),
                7..=8 => model.file(rng).filter(|(_, size)| *size < FILE_MAX - WRITE_MAX).map(|(path, _)| {
                    let length = 1 + rng.below(WRITE_MAX);
                    Op::Append(path, rng.bytes(length))
                }),
                9 => model.file(rng).map(|(path, size)| Op::Truncate(path, rng.below(size + 500))),
                10..=11 => model.rename(rng),
                12 => model.removable(rng),
                13 if full => model.removable(rng),
                14 if !full => model.fresh(rng).map(Op::Mkdir),
                15 if !full => {
                    model.fresh(rng).map(|path| Op::Symlink(path, format!("to {}", rng.below(9)).into()))
                }
                _ => None,
            };
            if let Some(op) = found {
                return op;
            }
        }
    }

    /// Does it below `root`.
    ///
    /// # Errors
    /// The system's. A write may have gone in part.
    pub fn run(&self, root: &Path) -> io::Result<()> {
        let at = |path: &PathBuf| root.join(path);
        match self {
            Op::Create(path) => File::create_new(at(path)).map(drop),
            Op::Write(path, offset, bytes) => {
                File::options().write(true).open(at(path))?.write_all_at(bytes, *offset)
            }
            Op::Append(path, bytes) => File::options().append(true).open(at(path))?.write_all(bytes),
            Op::Truncate(path, length) => File::options().write(true).open(at(path))?.set_len(*length),
            Op::Rename(from, to) => fs::rename(at(from), at(to)),
            Op::Unlink(path) => fs::remove_file(at(path)),
            Op::Mkdir(path) => fs::create_dir(at(path)),
            Op::Rmdir(path) => fs::remove_dir(at(path)),
            Op::Symlink(path, target) => symlink(target, at(path)),
        }
    }
}

impl Model {
    /// What is really there, without a store.
    ///
    /// # Errors
    /// The system's.
    pub fn of(root: &Path) -> io::Result<Model> {
        let mut model = Model::default();
        model.read(root, Path::new(""))?;
        Ok(model)
    }

    fn read(&mut self, root: &Path, directory: &Path) -> io::Result<()> {
        for entry in fs::read_dir(root.join(directory))? {
            let path = directory.join(entry?.file_name());
            if path == Path::new(".branchfs") {
                continue;
            }
            let there = root.join(&path);
            let kind = fs::symlink_metadata(&there)?.file_type();
            if kind.is_dir() {
                self.0.insert(path.clone(), Thing::Dir);
                self.read(root, &path)?;
            } else if kind.is_symlink() {
                self.0.insert(path, Thing::Link(fs::read_link(&there)?));
            } else {
                self.0.insert(path, Thing::File(fs::read(&there)?));
            }
        }
        Ok(())
    }

    /// The operation has succeeded.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Create(path) => self.put(path, Thing::File(Vec::new())),
            Op::Write(path, offset, bytes) => overwrite(self.bytes(path), *offset, bytes),
            Op::Append(path, bytes) => self.bytes(path).extend(bytes),
            Op::Truncate(path, length) => self.bytes(path).resize(*length as usize, 0),
            Op::Rename(from, to) => self.rename_all(from, to),
            Op::Unlink(path) | Op::Rmdir(path) => drop(self.0.remove(path).expect("it was there")),
            Op::Mkdir(path) => self.put(path, Thing::Dir),
            Op::Symlink(path, target) => self.put(path, Thing::Link(target.clone())),
        }
    }

    /// Whether `real` can be what an operation left behind that began on this model and was not
    /// acknowledged: it happened, it did not, or a write happened in part.
    pub fn explains(&self, op: &Op, real: &Model) -> bool {
        let mut done = self.clone();
        done.apply(op);
        if real == self || *real == done {
            return true;
        }
        let prefixes = |bytes: &[u8], part: &dyn Fn(&[u8]) -> Op| {
            (1..bytes.len()).any(|length| {
                let mut partly = self.clone();
                partly.apply(&part(&bytes[..length]));
                partly == *real
            })
        };
        match op {
            Op::Write(path, offset, bytes) => {
                prefixes(bytes, &|part| Op::Write(path.clone(), *offset, part.to_vec()))
            }
            Op::Append(path, bytes) => prefixes(bytes, &|part| Op::Append(path.clone(), part.to_vec())),
            _ => false,
        }
    }

    /// Where they differ, in words short enough to read.
    pub fn difference(&self, real: &Model) -> String {
        let mut lines = String::new();
        let paths: std::collections::BTreeSet<_> = self.0.keys().chain(real.0.keys()).collect();
        for path in paths {
            let (wanted, found) = (self.0.get(path), real.0.get(path));
            if wanted != found {
                lines += &format!("{}: {} expected, {} found\n", path.display(), words(wanted), words(found));
            }
        }
        lines
    }

    fn put(&mut self, path: &Path, thing: Thing) {
        let before = self.0.insert(path.to_owned(), thing);
        assert_eq!(before, None, "{}", path.display());
    }

    fn bytes(&mut self, path: &Path) -> &mut Vec<u8> {
        match self.0.get_mut(path) {
            Some(Thing::File(bytes)) => bytes,
            other => panic!("{} is no file but {other:?}", path.display()),
        }
    }

    fn rename_all(&mut self, from: &Path, to: &Path) {
        let moved: Vec<PathBuf> = self.0.keys().filter(|path| path.starts_with(from)).cloned().collect();
        for path in moved {
            let thing = self.0.remove(&path).expect("it was there");
            let below = path.strip_prefix(from).expect("below");
            let target = if below.as_os_str().is_empty() { to.to_owned() } else { to.join(below) };
            self.0.insert(target, thing);
        }
    }

    fn file(&self, rng: &mut Rng) -> Option<(PathBuf, u64)> {
        let size = |(path, thing): (&PathBuf, &Thing)| match thing {
            Thing::File(bytes) => Some((path.clone(), bytes.len() as u64)),
            Thing::Dir | Thing::Link(_) => None,
        };
        let files: Vec<_> = self.0.iter().filter_map(size).collect();
        (!files.is_empty()).then(|| rng.pick(&files).clone())
    }

    /// A path at which nothing is, in a directory that is there.
    fn fresh(&self, rng: &mut Rng) -> Option<PathBuf> {
        let mut directories = vec![PathBuf::new()];
        directories.extend(self.0.iter().filter(|(_, t)| **t == Thing::Dir).map(|(path, _)| path.clone()));
        let directory = rng.pick(&directories);
        let path = directory.join(format!("n{}", rng.below(NAMES)));
        (!self.0.contains_key(&path) && directory.components().count() < 6).then_some(path)
    }

    /// Anything to a path at which nothing is, or a file over a file; never a directory into itself.
    fn rename(&self, rng: &mut Rng) -> Option<Op> {
        let paths: Vec<_> = self.0.keys().cloned().collect();
        if paths.is_empty() {
            return None;
        }
        let from = rng.pick(&paths).clone();
        let to = match rng.below(2) {
            0 if matches!(self.0[&from], Thing::File(_)) => self.file(rng)?.0,
            _ => self.fresh(rng)?,
        };
        (!to.starts_with(&from)).then_some(Op::Rename(from, to))
    }

    fn removable(&self, rng: &mut Rng) -> Option<Op> {
        let paths: Vec<_> = self.0.keys().cloned().collect();
        if paths.is_empty() {
            return None;
        }
        let path = rng.pick(&paths).clone();
        if self.0[&path] != Thing::Dir {
            return Some(Op::Unlink(path));
        }
        let empty = !paths.iter().any(|other| other.parent() == Some(&path));
        empty.then_some(Op::Rmdir(path))
    }
}

fn overwrite(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let (start, end) = (offset as usize, offset as usize + bytes.len());
    content.resize(content.len().max(end), 0);
    content[start..end].copy_from_slice(bytes);
}

fn words(thing: Option<&Thing>) -> String {
    match thing {
        None => "nothing".to_owned(),
        Some(Thing::Dir) => "a directory".to_owned(),
        Some(Thing::Link(target)) => format!("a link to {}", target.display()),
        Some(Thing::File(bytes)) => {
            let start = &bytes[..bytes.len().min(8)];
            format!("a file of {} bytes starting {start:02x?}", bytes.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_and_directory_agree_over_many_operations() {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut rng, mut model) = (Rng::new(1, 0), Model::default());
        for _ in 0..2000 {
            let op = Op::random(&mut rng, &model);
            op.run(directory.path()).unwrap_or_else(|error| panic!("{op:?}: {error}"));
            model.apply(&op);
        }
        let real = Model::of(directory.path()).expect("read");
        assert_eq!(model.difference(&real), "");
    }

    #[test]
    fn a_write_in_part_is_explained_and_another_files_change_is_not() {
        let mut model = Model::default();
        for path in ["a", "b"] {
            model.apply(&Op::Create(path.into()));
        }
        let op = Op::Write("a".into(), 2, b"xyz".to_vec());
        let mut partly = model.clone();
        partly.apply(&Op::Write("a".into(), 2, b"xy".to_vec()));
        assert!(model.explains(&op, &partly));
        partly.apply(&Op::Append("b".into(), b"!".to_vec()));
        assert!(!model.explains(&op, &partly));
    }
}
