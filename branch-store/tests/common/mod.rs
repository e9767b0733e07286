//! A workspace in a temporary directory and shorthand for paths in branches.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "every test file uses its own part"
)]

pub mod gate;
pub mod nobody;
pub mod picture;
pub mod random;
pub mod seen;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use branch_store::*;
use rustix::io::Errno;

pub struct Workspace {
    /// Removed in the end, unless somebody else looks after the base.
    _dir: Option<tempfile::TempDir>,
    base: PathBuf,
    store: Option<Store>,
}

impl Workspace {
    /// A fresh base with these files (`a/b/` makes a directory), and an open store.
    pub fn new(files: &[(&str, &str)]) -> Workspace {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base");
        std::fs::create_dir(&base).unwrap();
        for (path, content) in files {
            let path = base.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        Workspace::open(Some(dir), base)
    }

    /// Over a base that is there.
    pub fn over(base: &Path) -> Workspace {
        Workspace::open(None, base.to_owned())
    }

    fn open(dir: Option<tempfile::TempDir>, base: PathBuf) -> Workspace {
        init(&base, &base.join(".branchfs")).unwrap();
        let mut workspace = Workspace { _dir: dir, base, store: None };
        workspace.reopen();
        workspace
    }

    pub fn base(&self) -> PathBuf {
        self.base.clone()
    }

    pub fn options(&self) -> Options {
        Options { base: self.base(), store: self.base().join(".branchfs") }
    }

    pub fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// Closes without any farewell, as kill -9 does, and recovers.
    pub fn reopen(&mut self) -> Report {
        self.store = None;
        let (store, report) = Unrecovered::open(self.options()).unwrap().recover().unwrap();
        self.store = Some(store);
        report
    }

    pub fn close(&mut self) {
        self.store = None;
    }

    pub fn reopen_on(&mut self, disk: Disk) -> Result<Report> {
        self.store = None;
        let (store, report) = Unrecovered::open_on(self.options(), disk)?.recover()?;
        self.store = Some(store);
        Ok(report)
    }

    pub fn fork(&self, parent: &str, name: &str) -> Arc<Branch> {
        self.fork_as(parent, &[name], GroupKind::Exclusive).remove(0)
    }

    pub fn fork_as(&self, parent: &str, names: &[&str], kind: GroupKind) -> Vec<Arc<Branch>> {
        let parent = self.store().branch(parent).unwrap();
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        self.store().fork(&parent, &names, kind).unwrap()
    }

    pub fn branch(&self, name: &str) -> Arc<Branch> {
        self.store().branch(name).unwrap()
    }

    /// Everything below the base but the store: path → description.
    pub fn base_tree(&self) -> BTreeMap<String, String> {
        host_tree(&self.base())
    }
}

/// Leaves every conflict undecided.
pub fn refuse(_: &Conflict) -> Choice {
    Choice::Refuse
}

pub fn chmod(branch: &Arc<Branch>, path: &str, mode: u32) -> Result<()> {
    let change = AttrChange { mode: Some(mode), ..AttrChange::default() };
    branch.set_attr(&branch.at(path)?.0, &change).map(drop)
}

/// A symbolic link.
pub fn link(branch: &Arc<Branch>, path: &str, target: &str) -> Result<()> {
    let (dir, name) = branch.parent_of(path)?;
    branch.create(&dir, name.as_bytes(), new(NewKind::Symlink(target.as_bytes().to_vec()), 0o777)).map(drop)
}

pub trait Paths {
    fn at(&self, path: &str) -> Result<(Object, Stat)>;
    fn parent_of<'p>(&self, path: &'p str) -> Result<(Object, &'p str)>;
    fn read_all(&self, path: &str) -> Result<String>;
    fn put(&self, path: &str, content: &str) -> Result<()>;
    fn overwrite(&self, path: &str, content: &str) -> Result<()>;
    fn make_dir(&self, path: &str) -> Result<()>;
    fn remove(&self, path: &str) -> Result<()>;
    fn remove_dir(&self, path: &str) -> Result<()>;
    fn mv(&self, from: &str, to: &str) -> Result<()>;
    fn ln(&self, from: &str, to: &str) -> Result<()>;
    fn names(&self, path: &str) -> Result<Vec<String>>;
    fn tree(&self) -> BTreeMap<String, String>;
}

impl Paths for Arc<Branch> {
    fn at(&self, path: &str) -> Result<(Object, Stat)> {
        let mut object = self.root();
        let mut stat = self.stat(&object)?;
        for name in path.split('/').filter(|n| !n.is_empty()) {
            (object, stat) = self.lookup(&object, name.as_bytes())?;
        }
        Ok((object, stat))
    }

    fn parent_of<'p>(&self, path: &'p str) -> Result<(Object, &'p str)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.at(parent)?.0, name))
    }

    fn read_all(&self, path: &str) -> Result<String> {
        let (object, stat) = self.at(path)?;
        let file = self.open(&object, Access::Read)?;
        let mut bytes = vec![0; stat.size as usize + 10];
        let n = file.read_at(&mut bytes, 0)?;
        assert_eq!(n as u64, stat.size, "size and content of {path} agree");
        Ok(String::from_utf8_lossy(&bytes[..n]).into_owned())
    }

    /// Creates or truncates, then writes.
    fn put(&self, path: &str, content: &str) -> Result<()> {
        let (parent, name) = self.parent_of(path)?;
        let object = match self.lookup(&parent, name.as_bytes()) {
            Ok((object, _)) => {
                self.set_attr(&object, &AttrChange { size: Some(0), ..AttrChange::default() })?;
                object
            }
            Err(e) if e.errno() == Errno::NOENT => {
                let new = new(NewKind::File, 0o644);
                self.create(&parent, name.as_bytes(), new)?.0
            }
            Err(e) => return Err(e),
        };
        let n = self.open(&object, Access::Write)?.write_at(content.as_bytes(), 0)?;
        assert_eq!(n, content.len());
        Ok(())
    }

    /// Writes over the beginning of an existing file.
    fn overwrite(&self, path: &str, content: &str) -> Result<()> {
        let (object, _) = self.at(path)?;
        let n = self.open(&object, Access::Write)?.write_at(content.as_bytes(), 0)?;
        assert_eq!(n, content.len());
        Ok(())
    }

    fn make_dir(&self, path: &str) -> Result<()> {
        let (parent, name) = self.parent_of(path)?;
        self.create(&parent, name.as_bytes(), new(NewKind::Dir, 0o755))?;
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<()> {
        let (parent, name) = self.parent_of(path)?;
        reap(self, self.unlink(&parent, name.as_bytes())?)
    }

    fn remove_dir(&self, path: &str) -> Result<()> {
        let (parent, name) = self.parent_of(path)?;
        reap(self, self.rmdir(&parent, name.as_bytes())?)
    }

    fn mv(&self, from: &str, to: &str) -> Result<()> {
        let (dir, name) = self.parent_of(from)?;
        let (to_dir, to_name) = self.parent_of(to)?;
        reap(self, self.rename(&dir, name.as_bytes(), &to_dir, to_name.as_bytes(), RenameMode::Replace)?)
    }

    fn ln(&self, from: &str, to: &str) -> Result<()> {
        let (object, _) = self.at(from)?;
        let (to_dir, to_name) = self.parent_of(to)?;
        self.link(&object, &to_dir, to_name.as_bytes())?;
        Ok(())
    }

    fn names(&self, path: &str) -> Result<Vec<String>> {
        let (dir, _) = self.at(path)?;
        let entries = self.read_dir(&dir)?;
        Ok(entries.iter().map(|e| String::from_utf8_lossy(e.name.as_bytes()).into_owned()).collect())
    }

    /// The same shape as `host_tree`, read through the branch.
    fn tree(&self) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        walk(self, "", &mut out);
        out
    }
}

fn reap(branch: &Branch, removed: Removed) -> Result<()> {
    removed.orphan.map_or(Ok(()), |id| branch.reap(id))
}

fn walk(branch: &Arc<Branch>, path: &str, out: &mut BTreeMap<String, String>) {
    for name in branch.names(path).unwrap_or_else(|e| panic!("{}:{path}: {e}", branch.name())) {
        let path = if path.is_empty() { name } else { format!("{path}/{name}") };
        let (object, stat) = branch.at(&path).unwrap();
        let body = match stat.kind {
            Kind::File => branch.read_all(&path).unwrap(),
            Kind::Symlink => String::from_utf8_lossy(&branch.read_link(&object).unwrap()).into_owned(),
            _ => String::new(),
        };
        let links = if stat.kind == Kind::Dir { 0 } else { stat.nlink };
        out.insert(path.clone(), format!("{:?} {:o} x{links} {body}", stat.kind, stat.mode));
        if stat.kind == Kind::Dir {
            walk(branch, &path, out);
        }
    }
}

/// Links are counted among the names below `base`: a removed name of a file with several may live on as a
/// preimage.
pub fn host_tree(base: &Path) -> BTreeMap<String, String> {
    use std::os::unix::fs::MetadataExt;
    let mut found = BTreeMap::new();
    walk_host(base, base, &mut found);
    let mut links: BTreeMap<u64, u64> = BTreeMap::new();
    for (meta, _) in found.values() {
        *links.entry(meta.ino()).or_default() += 1;
    }
    let describe = |meta: &std::fs::Metadata, body: &str| {
        let kind = Kind::of_mode(meta.mode()).unwrap();
        let links = if kind == Kind::Dir { 0 } else { links[&meta.ino()] };
        format!("{kind:?} {:o} x{links} {body}", meta.mode() & 0o7777)
    };
    found.iter().map(|(name, (meta, body))| (name.clone(), describe(meta, body))).collect()
}

fn walk_host(base: &Path, dir: &Path, out: &mut BTreeMap<String, (std::fs::Metadata, String)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(base).unwrap().to_string_lossy().into_owned();
        if name == ".branchfs" {
            continue;
        }
        let meta = path.symlink_metadata().unwrap();
        let body = if meta.is_file() {
            String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned()
        } else if meta.is_symlink() {
            std::fs::read_link(&path).unwrap().to_string_lossy().into_owned()
        } else {
            String::new()
        };
        if meta.is_dir() {
            walk_host(base, &path, out);
        }
        out.insert(name, (meta, body));
    }
}

pub fn errno<T: std::fmt::Debug>(result: Result<T>) -> Errno {
    result.unwrap_err().errno()
}

/// Whether a test that gives files away must be left out, saying so.
pub fn skip_unless_root() -> bool {
    let skip = !rustix::process::geteuid().is_root();
    if skip {
        println!("SKIPPED: only root gives files away and sets trusted attributes");
    }
    skip
}

/// An object of this process's user.
pub fn new(kind: NewKind, mode: u32) -> New {
    let [uid, gid] = [rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()];
    New { kind, mode, uid, gid, xattrs: BTreeMap::new() }
}
