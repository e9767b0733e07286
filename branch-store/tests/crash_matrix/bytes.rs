//! Which bytes are durable: of each file, what it was when it was last synced.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom;

/// A file as it is on the disk for certain; a directory without bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct State {
    bytes: Vec<u8>,
    mode: u32,
    /// Where it has data, not holes.
    data: Vec<Range<u64>>,
}

/// What a power failure leaves of bytes that were not synced (H3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unsynced {
    /// All of them.
    Newest,
    /// None.
    Lost,
    /// The size, and zeros.
    Zeros,
    /// An empty file, if it was new or cut in between.
    Cut,
    /// The journal's alone.
    JournalNewest,
    /// All but the journal's.
    JournalLost,
    /// All; but of the journal's so many 64ths.
    Torn(u8),
    /// All; but the journal's first record is zeros.
    Hole,
}

#[derive(Default)]
pub struct Bytes {
    durable: HashMap<u64, State>,
    cut: HashSet<u64>,
}

impl Bytes {
    pub fn sync(&mut self, path: &Path) {
        let meta = std::fs::metadata(path).unwrap();
        self.durable.insert(meta.ino(), State::read(path, &meta));
        self.cut.remove(&meta.ino());
    }

    pub fn sync_all(&mut self, root: &Path) {
        walk(root, &mut |path| self.sync(path));
    }

    pub fn note_cut(&mut self, path: &Path) {
        self.cut.insert(std::fs::metadata(path).unwrap().ino());
    }

    /// Files and directories below that are not on the disk as they are.
    fn changed(&self, roots: &[PathBuf]) -> Vec<(PathBuf, State)> {
        let (mut seen, mut changed) = (HashSet::new(), Vec::new());
        for root in roots {
            walk(root, &mut |path| {
                let meta = std::fs::metadata(path).unwrap();
                let now = State::read(path, &meta);
                if seen.insert(meta.ino()) && self.durable.get(&meta.ino()) != Some(&now) {
                    changed.push((path.to_owned(), now));
                }
            });
        }
        changed
    }

    /// The ways in which a power failure can treat what was not synced.
    pub fn choices(&self, roots: &[PathBuf]) -> Vec<Unsynced> {
        let changed = self.changed(roots);
        let mut choices = vec![Unsynced::Newest];
        if changed.is_empty() {
            return choices;
        }
        choices.extend([Unsynced::Lost, Unsynced::Zeros, Unsynced::Cut]);
        if changed.iter().any(|(path, _)| is_journal(path)) {
            choices.extend([Unsynced::JournalNewest, Unsynced::JournalLost]);
            choices.extend([1, 16, 40, 63].map(Unsynced::Torn));
            choices.push(Unsynced::Hole);
        }
        choices
    }

    /// Makes it so.
    pub fn lose(&self, roots: &[PathBuf], how: Unsynced) {
        for (path, now) in self.changed(roots) {
            let meta = std::fs::metadata(&path).unwrap();
            let known = self.durable.get(&meta.ino());
            let was = known.cloned().unwrap_or(State { mode: now.mode, ..State::default() });
            let cut = known.is_none() || self.cut.contains(&meta.ino());
            now.left(&was, how, is_journal(&path), cut).write(&path, &meta);
        }
    }
}

impl State {
    fn read(path: &Path, meta: &std::fs::Metadata) -> State {
        let bytes = if meta.is_file() { std::fs::read(path).unwrap() } else { Vec::new() };
        let data = if meta.is_file() { data(&std::fs::File::open(path).unwrap()) } else { Vec::new() };
        State { bytes, mode: meta.mode() & 0o7777, data }
    }

    fn left(&self, was: &State, how: Unsynced, journal: bool, cut: bool) -> State {
        let zeros = |from: usize, upto: usize| {
            let mut bytes = self.bytes.clone();
            bytes[from.min(self.bytes.len())..upto.min(self.bytes.len())].fill(0);
            bytes
        };
        let new_part = was.bytes.len();
        match how {
            Unsynced::Newest => self.clone(),
            Unsynced::Lost => was.clone(),
            Unsynced::Zeros => State { bytes: zeros(new_part, usize::MAX), ..self.clone() },
            Unsynced::Cut if cut && !journal => State { mode: was.mode, ..State::default() },
            Unsynced::Cut => was.clone(),
            Unsynced::JournalNewest => if journal { self } else { was }.clone(),
            Unsynced::JournalLost => if journal { was } else { self }.clone(),
            Unsynced::Torn(part) if journal => {
                let more = self.bytes.len().saturating_sub(new_part);
                let end = new_part + more * usize::from(part) / 64;
                State { bytes: self.bytes[..end.min(self.bytes.len())].to_vec(), ..self.clone() }
            }
            Unsynced::Hole if journal && self.bytes.len() > new_part + 4 => {
                let length = u32::from_le_bytes(self.bytes[new_part..new_part + 4].try_into().unwrap());
                State { bytes: zeros(new_part, new_part + 24 + length as usize), ..self.clone() }
            }
            Unsynced::Torn(_) | Unsynced::Hole => self.clone(),
        }
    }

    fn write(&self, path: &Path, meta: &std::fs::Metadata) {
        let now = State::read(path, meta);
        if meta.is_file() && (&now.bytes, &now.data) != (&self.bytes, &self.data) {
            let file = std::fs::File::options().write(true).truncate(true).open(path).unwrap();
            file.set_len(self.bytes.len() as u64).unwrap();
            for data in &self.data {
                let data = data.start as usize..self.bytes.len().min(data.end as usize);
                file.write_all_at(self.bytes.get(data.clone()).unwrap_or_default(), data.start as u64)
                    .unwrap();
            }
            file.set_modified(meta.modified().unwrap()).unwrap();
        }
        if meta.mode() & 0o7777 != self.mode {
            std::fs::set_permissions(path, PermissionsExt::from_mode(self.mode)).unwrap();
        }
    }
}

fn data(file: &std::fs::File) -> Vec<Range<u64>> {
    let mut data = Vec::new();
    let mut at = 0;
    while let Ok(start) = rustix::fs::seek(file, SeekFrom::Data(at)) {
        at = rustix::fs::seek(file, SeekFrom::Hole(start)).unwrap();
        data.push(start..at);
    }
    data
}

fn is_journal(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"journal."))
}

/// Files and directories below, the root too; no links are followed.
pub fn walk(root: &Path, each: &mut impl FnMut(&Path)) {
    let meta = root.symlink_metadata().unwrap();
    if meta.is_dir() {
        for entry in std::fs::read_dir(root).unwrap() {
            walk(&entry.unwrap().path(), each);
        }
    }
    if meta.is_dir() || meta.is_file() {
        each(root);
    }
}
