//! A workspace and the files that a branch writes in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use branch_store::{
    Access, AttrChange, Branch, GroupKind, New, NewKind, Object, Options, Store, Unrecovered, init,
};

pub(crate) const FILE_LEN: usize = 1024;
pub(crate) const FILES_PER_DIR: usize = 100;

pub(crate) struct Ground {
    pub(crate) store: Store,
    dir: tempfile::TempDir,
}

impl Ground {
    pub(crate) fn new(place: &Path) -> Ground {
        let dir = tempfile::tempdir_in(place).unwrap();
        let base = dir.path().join("base");
        std::fs::create_dir(&base).unwrap();
        init(&base, &base.join(".branchfs")).unwrap();
        let options = Options { store: base.join(".branchfs"), base };
        let (store, _) = Unrecovered::open(options).unwrap().recover().unwrap();
        Ground { store, dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn base(&self) -> PathBuf {
        self.path().join("base")
    }

    pub(crate) fn fork(&self, parent: &Branch, name: &str) -> Arc<Branch> {
        self.store.fork(parent, &[name.to_owned()], GroupKind::Independent).unwrap().remove(0)
    }
}

/// Ordinary files: what a branch changes, or what `cp` copies. On the disk when this returns.
pub(crate) fn fill(top: &Path, files: usize) {
    make_dirs(top, files);
    for i in 0..files {
        std::fs::write(top.join(dir_of(i)).join(format!("f{i}")), [b'x'; FILE_LEN]).unwrap();
    }
    sync(top);
}

/// The directories of `fill`, empty.
pub(crate) fn make_dirs(top: &Path, files: usize) {
    for i in (0..files).step_by(FILES_PER_DIR) {
        std::fs::create_dir_all(top.join(dir_of(i))).unwrap();
    }
}

pub(crate) fn sync(top: &Path) {
    rustix::fs::syncfs(std::fs::File::open(top).unwrap()).unwrap();
}

fn dir_of(i: usize) -> String {
    format!("d{}", i / FILES_PER_DIR)
}

/// Makes the files of `fill` in a branch: all in a new directory, or in directories that are there.
pub(crate) fn create(branch: &Arc<Branch>, files: usize, whole: bool) {
    let top = if whole { make(branch, &branch.root(), "new", NewKind::Dir) } else { branch.root() };
    let mut dir = top.clone();
    for i in 0..files {
        if i % FILES_PER_DIR == 0 {
            let name = dir_of(i);
            dir = match branch.lookup(&top, name.as_bytes()) {
                Ok((dir, _)) => dir,
                Err(_) => make(branch, &top, &name, NewKind::Dir),
            };
        }
        let file = make(branch, &dir, &format!("f{i}"), NewKind::File);
        write(branch, &file);
    }
}

/// Writes every file of `fill` anew, as programs do: emptied, then written.
pub(crate) fn modify(branch: &Arc<Branch>, files: usize) {
    for i in 0..files {
        let (dir, _) = branch.lookup(&branch.root(), dir_of(i).as_bytes()).unwrap();
        let (file, _) = branch.lookup(&dir, format!("f{i}").as_bytes()).unwrap();
        branch.set_attr(&file, &AttrChange { size: Some(0), ..AttrChange::default() }).unwrap();
        write(branch, &file);
    }
}

fn make(branch: &Arc<Branch>, dir: &Object, name: &str, kind: NewKind) -> Object {
    let mode = if matches!(kind, NewKind::Dir) { 0o755 } else { 0o644 };
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let new = New { kind, mode, uid, gid, xattrs: Default::default() };
    branch.create(dir, name.as_bytes(), new).unwrap().0
}

fn write(branch: &Arc<Branch>, file: &Object) {
    branch.open(file, Access::Write).unwrap().write_at(&[b'y'; FILE_LEN], 0).unwrap();
}
