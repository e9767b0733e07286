//! A workspace on a filesystem in memory, unpacked from an archive or packed into one.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use branch_store::Options;
use rustix::fs::Statx;

use crate::archive::{Entry, Tag};
use crate::frames::{FORMAT, Log, WORKSPACE};
use crate::tokens;

/// So many entries are unpacked: more only make it slow.
const ENTRIES_MAX: usize = 200;
/// Directories between the outermost one and the base, so that `..` out of the base is seen.
const MOAT: &str = "1/2/3";
const CANARY: &str = "canary";

/// A directory that goes when this is dropped, with the base deep in it and nothing else that may change.
pub struct Workspace {
    outer: tempfile::TempDir,
    options: Options,
}

impl Workspace {
    /// An empty base.
    ///
    /// # Panics
    /// Where no directory can be made.
    pub fn new(parent: &Path) -> Workspace {
        let outer =
            tempfile::Builder::new().prefix("branchfs-fuzz-").tempdir_in(parent).expect("a directory");
        let base = outer.path().join(MOAT).join("base");
        fs::create_dir_all(&base).expect("a base");
        for dir in moat(outer.path()) {
            fs::write(dir.join(CANARY), CANARY).expect("a canary");
        }
        Workspace { outer, options: Options { store: base.join(".branchfs"), base } }
    }

    /// A workspace out of an archive. Entries that cannot be are left out.
    pub fn unpack(entries: &[Entry]) -> Workspace {
        let workspace = Workspace::new(memory());
        let entries = &entries[..entries.len().min(ENTRIES_MAX)];
        let mut paths: Vec<Option<PathBuf>> = Vec::new();
        for entry in entries {
            let made =
                workspace.path_of(&entry.path, &paths).filter(|path| make(entry, path, &paths).is_ok());
            paths.push(made);
        }
        let objects: Vec<Option<Statx>> = paths.iter().map(|path| tokens::stat(path.as_ref()?)).collect();
        for (entry, path) in entries.iter().zip(&paths) {
            if let (Tag::Log, Some(path)) = (entry.tag, path) {
                let bytes = entry.log().map_or_else(|| entry.body.clone(), |log| filled(log, &objects));
                fs::write(path, bytes).expect("the log was made already");
            }
        }
        workspace
    }

    /// Base and store.
    pub fn options(&self) -> Options {
        self.options.clone()
    }

    /// The base directory.
    pub fn base(&self) -> &Path {
        &self.options.base
    }

    /// What nobody may have touched.
    ///
    /// # Panics
    /// If somebody wrote outside the base.
    pub fn check_moat(&self) {
        let dirs = moat(self.outer.path());
        for (depth, dir) in dirs.iter().enumerate() {
            assert_eq!(
                fs::read(dir.join(CANARY)).ok().as_deref(),
                Some(CANARY.as_bytes()),
                "{}",
                dir.display()
            );
            let names = fs::read_dir(dir).expect("it is there").count();
            assert_eq!(names, 2, "depth {depth}: something was made or removed outside the base");
        }
    }

    /// The archive of the workspace as it is.
    ///
    /// # Errors
    /// The host's.
    pub fn pack(&self) -> io::Result<Vec<Entry>> {
        let mut packed = Packed::default();
        packed.dir(self.base(), self.base())?;
        let objects = &packed.objects;
        for entry in packed.entries.iter_mut().filter(|entry| entry.tag == Tag::Log) {
            let Some(mut log) = Log::parse(&entry.body) else { continue };
            for frame in &mut log.frames {
                frame.payload = tokens::extract(&frame.payload, objects);
            }
            entry.body = log.encode();
        }
        Ok(packed.entries)
    }

    fn path_of(&self, path: &[u8], paths: &[Option<PathBuf>]) -> Option<PathBuf> {
        let path = Path::new(OsStr::from_bytes(path));
        let mut out = self.base().to_owned();
        for component in path.components() {
            let Component::Normal(name) = component else { return None };
            match name.to_str().and_then(|name| name.strip_prefix('%')?.parse::<usize>().ok()) {
                Some(index) => {
                    let object = tokens::stat(paths.get(index)?.as_ref()?)?;
                    out.push(object.stx_ino.to_string());
                }
                None => out.push(name),
            }
        }
        // Nothing is unpacked through a link.
        let inside = out.parent()?.canonicalize().ok()?.starts_with(self.base());
        (inside && !path.as_os_str().as_bytes().contains(&0)).then_some(out)
    }
}

/// The format file of every store the fuzzer makes.
pub fn format_file() -> Vec<u8> {
    let id: String = WORKSPACE.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("branchfs {FORMAT}\n{id}\n").into_bytes()
}

/// Where everything is fast.
pub fn memory() -> &'static Path {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared } else { Path::new("/tmp") }
}

fn moat(outer: &Path) -> Vec<PathBuf> {
    let inner = outer.join(MOAT);
    inner.ancestors().take_while(|dir| dir.starts_with(outer)).map(Path::to_owned).collect()
}

fn make(entry: &Entry, path: &Path, paths: &[Option<PathBuf>]) -> io::Result<()> {
    match entry.tag {
        Tag::Dir => fs::create_dir(path),
        // A name that is there may be a link out of the base.
        Tag::File => fs::File::create_new(path)?.write_all(&entry.body),
        // Its bytes speak of objects that may come later.
        Tag::Log => fs::File::create_new(path).map(drop),
        Tag::Symlink => std::os::unix::fs::symlink(OsStr::from_bytes(&entry.body), path),
        Tag::Link => {
            let index = entry.body.first().map(|index| usize::from(*index));
            let first = index.and_then(|index| paths.get(index)?.as_ref());
            fs::hard_link(first.ok_or(io::ErrorKind::NotFound)?, path)
        }
    }
}

fn filled(mut log: Log, objects: &[Option<Statx>]) -> Vec<u8> {
    for frame in &mut log.frames {
        frame.payload = tokens::fill(&frame.payload, objects);
    }
    log.encode()
}

#[derive(Default)]
struct Packed {
    entries: Vec<Entry>,
    objects: Vec<Option<Statx>>,
}

impl Packed {
    fn dir(&mut self, base: &Path, dir: &Path) -> io::Result<()> {
        let mut paths = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        // The store last: its names speak of objects of the base.
        paths.sort_by_key(|path| path.ends_with(".branchfs"));
        for path in paths {
            self.object(base, &path)?;
            if path.is_dir() && !path.is_symlink() {
                self.dir(base, &path)?;
            }
        }
        Ok(())
    }

    fn object(&mut self, base: &Path, path: &Path) -> io::Result<()> {
        let st = tokens::stat(path);
        let plain = fs::symlink_metadata(path)?.file_type();
        if !(plain.is_file() || plain.is_dir() || plain.is_symlink()) {
            return Ok(());
        }
        let first = self.objects.iter().position(|known| match (known, &st) {
            (Some(known), Some(st)) => known.stx_ino == st.stx_ino,
            _ => false,
        });
        let name = path.file_name().unwrap_or_default().as_bytes();
        let (tag, body) = if path.is_symlink() {
            (Tag::Symlink, fs::read_link(path)?.as_os_str().as_bytes().to_vec())
        } else if path.is_dir() {
            (Tag::Dir, Vec::new())
        } else if let Some(first) = first {
            (Tag::Link, vec![first as u8])
        } else if name.starts_with(b"journal.") || name.starts_with(b"checkpoint.") {
            (Tag::Log, fs::read(path)?)
        } else if name == b"format" {
            (Tag::File, format_file())
        } else {
            (Tag::File, fs::read(path)?)
        };
        let path = self.archived(path.strip_prefix(base).unwrap_or(path));
        self.entries.push(Entry { tag, path, body });
        self.objects.push(st);
        Ok(())
    }

    /// Names that are inode numbers of entries become their numbers.
    fn archived(&self, path: &Path) -> Vec<u8> {
        let named = |name: &OsStr| {
            let number = name.to_str()?.parse::<u64>().ok()?;
            self.objects.iter().position(|known| known.as_ref().is_some_and(|st| st.stx_ino == number))
        };
        let component = |name: &OsStr| match named(name) {
            Some(index) => format!("%{index}").into_bytes(),
            None => name.as_bytes().to_vec(),
        };
        path.iter().map(component).collect::<Vec<_>>().join(&b'/')
    }
}
