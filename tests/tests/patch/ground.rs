//! A store over a small base, edits in its branches, and git on a copy of the base.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use branch_store::*;
use branchfs::patch::{self, Omitted};
use rustix::io::Errno;

/// Path to git's mode and the content; a link's content is its target.
pub(crate) type Picture = BTreeMap<Vec<u8>, (&'static str, Vec<u8>)>;

pub(crate) struct Ground {
    temp: tempfile::TempDir,
    pub(crate) store: Store,
}

impl Ground {
    /// The base is what `build` makes of an empty directory.
    pub(crate) fn new(build: impl FnOnce(&Path)) -> Ground {
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path().join("base");
        fs::create_dir(&base).unwrap();
        build(&base);
        init(&base, &temp.path().join("store")).unwrap();
        let options = Options { base, store: temp.path().join("store") };
        let (store, _) = Unrecovered::open(options).unwrap().recover().unwrap();
        Ground { temp, store }
    }

    pub(crate) fn fork(&self, name: &str) -> Editor {
        self.fork_off(&self.store.main(), name)
    }

    pub(crate) fn fork_off(&self, parent: &Branch, name: &str) -> Editor {
        let names = [name.to_owned()];
        Editor(self.store.fork(parent, &names, GroupKind::Independent).unwrap().remove(0))
    }

    pub(crate) fn base(&self) -> PathBuf {
        self.temp.path().join("base")
    }

    /// A fresh copy of the base.
    pub(crate) fn copy(&self) -> PathBuf {
        let copy = self.temp.path().join("copy");
        if copy.exists() {
            fs::remove_dir_all(&copy).unwrap();
        }
        copy_tree(&self.base(), &copy);
        copy
    }

    /// What leads from the fork to the branch.
    pub(crate) fn patch(&self, branch: &Arc<Branch>) -> (Vec<u8>, Vec<Omitted>) {
        let (old, new) = self.store.fork_and_now(branch).unwrap();
        self.patch_between(&old, &new)
    }

    pub(crate) fn patch_between(&self, old: &Side, new: &Side) -> (Vec<u8>, Vec<Omitted>) {
        let changes = self.store.compare(old, new, Directories::Expanded).unwrap();
        let mut out = Vec::new();
        let omitted = patch::write(&mut out, (old, new), &changes).unwrap();
        (out, omitted)
    }
}

/// A branch and ways to change it.
pub(crate) struct Editor(pub(crate) Arc<Branch>);

impl Editor {
    fn at(&self, path: &[u8]) -> Result<Object> {
        let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        names.into_iter().try_fold(self.0.root(), |dir, name| Ok(self.0.lookup(&dir, name)?.0))
    }

    fn parent<'p>(&self, path: &'p [u8]) -> Result<(Object, &'p [u8])> {
        match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => Ok((self.at(&path[..slash])?, &path[slash + 1..])),
            None => Ok((self.0.root(), path)),
        }
    }

    fn create(&self, path: &[u8], kind: NewKind, mode: u32) -> Result<Object> {
        let (dir, name) = self.parent(path)?;
        let new = New { kind, mode, uid: 0, gid: 0, xattrs: Default::default() };
        Ok(self.0.create(&dir, name, new)?.0)
    }

    /// Makes the file if it is not there, and gives it this content.
    pub(crate) fn put(&self, path: &[u8], content: &[u8]) -> Result<()> {
        let file = match self.at(path) {
            Ok(file) => file,
            Err(e) if e.errno() == Errno::NOENT => self.create(path, NewKind::File, 0o644)?,
            Err(e) => return Err(e),
        };
        self.0.set_attr(&file, &AttrChange { size: Some(0), ..AttrChange::default() })?;
        self.0.open(&file, Access::Write)?.write_at(content, 0)?;
        Ok(())
    }

    pub(crate) fn chmod(&self, path: &[u8], mode: u32) -> Result<()> {
        let change = AttrChange { mode: Some(mode), ..AttrChange::default() };
        self.0.set_attr(&self.at(path)?, &change).map(drop)
    }

    pub(crate) fn link(&self, path: &[u8], target: &[u8]) -> Result<()> {
        self.create(path, NewKind::Symlink(target.to_vec()), 0o777).map(drop)
    }

    pub(crate) fn mkdir(&self, path: &[u8]) -> Result<()> {
        self.create(path, NewKind::Dir, 0o755).map(drop)
    }

    pub(crate) fn fifo(&self, path: &[u8]) -> Result<()> {
        self.create(path, NewKind::Special { kind: Kind::Fifo, rdev: 0 }, 0o644).map(drop)
    }

    pub(crate) fn rename(&self, from: &[u8], to: &[u8], mode: RenameMode) -> Result<()> {
        let (dir, name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        let removed = self.0.rename(&dir, name, &to_dir, to_name, mode)?;
        removed.orphan.map_or(Ok(()), |id| self.0.reap(id))
    }

    /// With all below.
    pub(crate) fn remove(&self, path: &[u8]) -> Result<()> {
        let object = self.at(path)?;
        let (dir, name) = self.parent(path)?;
        let removed = if self.0.stat(&object)?.kind == Kind::Dir {
            for entry in self.0.read_dir(&object)? {
                self.remove(&[path, b"/", entry.name.as_bytes()].concat())?;
            }
            self.0.rmdir(&dir, name)?
        } else {
            self.0.unlink(&dir, name)?
        };
        removed.orphan.map_or(Ok(()), |id| self.0.reap(id))
    }

    /// All paths, directories too.
    pub(crate) fn paths(&self) -> Vec<(Vec<u8>, Kind)> {
        let mut found = Vec::new();
        let mut open = vec![(Vec::new(), self.0.root())];
        while let Some((path, dir)) = open.pop() {
            for entry in self.0.read_dir(&dir).unwrap() {
                let path = below(&path, entry.name.as_bytes());
                found.push((path.clone(), entry.kind));
                if entry.kind == Kind::Dir {
                    open.push((path, entry.object));
                }
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    pub(crate) fn read(&self, path: &[u8]) -> Vec<u8> {
        let object = self.at(path).unwrap();
        let mut content = vec![0; self.0.stat(&object).unwrap().size as usize];
        let file = self.0.open(&object, Access::Read).unwrap();
        assert_eq!(file.read_at(&mut content, 0).unwrap(), content.len());
        content
    }

    pub(crate) fn picture(&self) -> Picture {
        let entry = |(path, kind): (Vec<u8>, Kind)| {
            let object = self.at(&path).unwrap();
            let seen = match kind {
                Kind::File if self.0.stat(&object).unwrap().mode & 0o100 != 0 => ("755", self.read(&path)),
                Kind::File => ("644", self.read(&path)),
                Kind::Symlink => ("link", self.0.read_link(&object).unwrap()),
                _ => return None,
            };
            Some((path, seen))
        };
        self.paths().into_iter().filter_map(entry).collect()
    }
}

fn below(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

pub(crate) fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// The same of a directory of the host.
pub(crate) fn picture_of(root: &Path) -> Picture {
    let mut found = Picture::new();
    let mut open = vec![Vec::new()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(root.join(path(&dir))).unwrap() {
            let entry = entry.unwrap();
            let inner = below(&dir, entry.file_name().as_bytes());
            if inner == STORE_DIR.as_bytes() {
                continue;
            }
            let seen = fs::symlink_metadata(entry.path()).unwrap();
            if seen.is_dir() {
                open.push(inner);
            } else if seen.is_symlink() {
                let target = fs::read_link(entry.path()).unwrap();
                found.insert(inner, ("link", target.as_os_str().as_bytes().to_vec()));
            } else if seen.is_file() {
                let mode = if seen.mode() & 0o100 != 0 { "755" } else { "644" };
                found.insert(inner, (mode, fs::read(entry.path()).unwrap()));
            }
        }
    }
    found
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() == STORE_DIR {
            continue;
        }
        let (kind, target) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy_tree(&entry.path(), &target);
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path()).unwrap(), target).unwrap();
        } else if kind.is_file() {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub(crate) fn write(root: &Path, inner: &[u8], content: &[u8], mode: u32) {
    let at = root.join(path(inner));
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    fs::write(&at, content).unwrap();
    fs::set_permissions(&at, fs::Permissions::from_mode(mode)).unwrap();
}

/// Which way a patch is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Forth,
    Back,
}

/// `git apply` as anybody would call it, in a directory that is no repository.
#[track_caller]
pub(crate) fn git_apply(dir: &Path, patch: &[u8], way: Way) {
    if patch.is_empty() {
        // Git takes no empty patch, and there is nothing to do.
        return;
    }
    let mut git = Command::new("git");
    git.arg("apply").args((way == Way::Back).then_some("-R")).current_dir(dir);
    git.env("GIT_CEILING_DIRECTORIES", dir.parent().unwrap());
    git.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    let mut git = git.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    git.stdin.take().unwrap().write_all(patch).unwrap();
    let ended = git.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{way:?}: {said}\n{}", patch.escape_ascii());
}
