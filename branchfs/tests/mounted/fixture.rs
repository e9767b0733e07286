//! A base, its store, a branch `one` and a mount, for one test.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use branch_store::{Branch, Children, GroupKind, Options, Store, Unrecovered};
use branchfs::fuse::{self, Access, Data, MountOptions, Mounted};
use branchfs::vfs::{Control, Prefetch, Vfs};
use branchfs::watch::{How, Wish};
use rustix::io::Errno;
use tempfile::TempDir;

pub(crate) struct Fixture {
    pub(crate) base: TempDir,
    pub(crate) mnt: TempDir,
    pub(crate) store: Arc<Store>,
    pub(crate) vfs: Arc<Vfs>,
    engine: Arc<Engine>,
}

/// What the daemon does for a verb, without the daemon.
struct Engine {
    store: Arc<Store>,
    mounted: OnceLock<Mounted>,
}

struct Verbs(Arc<Engine>);

/// A mounted store over a base with `a` ("base\n"), `dir/b`, `dir/sub/` and the link `to-a`; or `None` where
/// there is nothing to mount with.
pub(crate) fn mounted() -> Option<Fixture> {
    mounted_serving(data())
}

/// The same with file data served so.
pub(crate) fn mounted_serving(data: Data) -> Option<Fixture> {
    if !crate::can_mount::can_mount() {
        return None;
    }
    let base = TempDir::new().unwrap();
    fs::write(base.path().join("a"), "base\n").unwrap();
    fs::create_dir_all(base.path().join("dir/sub")).unwrap();
    fs::write(base.path().join("dir/b"), "b").unwrap();
    std::os::unix::fs::symlink("a", base.path().join("to-a")).unwrap();
    Some(mount(base, data, |vfs| vfs.watching(Wish::Only(How::Not))))
}

pub(crate) fn mounted_over(base: TempDir) -> Fixture {
    mounted_watching(base, Wish::Only(How::Not))
}

/// The same with the base watched. What this process does to it is a commit's doing to the watch.
pub(crate) fn mounted_watching(base: TempDir, wish: Wish) -> Fixture {
    mount(base, data(), |vfs| vfs.watching(wish))
}

/// The same with directories listed ahead.
pub(crate) fn mounted_prefetching(base: TempDir) -> Fixture {
    mount(base, data(), |vfs| vfs.watching(Wish::Best).prefetching(Prefetch::On))
}

fn mount(base: TempDir, data: Data, view: impl FnOnce(Vfs) -> Vfs) -> Fixture {
    let dir = base.path().join(".branchfs");
    branch_store::init(base.path(), &dir).unwrap();
    let options = Options { base: base.path().to_owned(), store: dir };
    let (store, _) = Unrecovered::open(options).unwrap().recover().unwrap();
    let store = Arc::new(store);
    let engine = Arc::new(Engine { store: Arc::clone(&store), mounted: OnceLock::new() });
    let vfs = Arc::new(view(Vfs::new(Arc::clone(&store), Box::new(Verbs(Arc::clone(&engine))))));
    vfs.reap_in_background().unwrap();
    let mnt = TempDir::new().unwrap();
    let options = MountOptions { access: Access::permitted(), data };
    let mounted = fuse::mount(Arc::clone(&vfs), mnt.path(), &options).unwrap();
    engine.mounted.set(mounted).unwrap();
    let fixture = Fixture { base, mnt, store, vfs, engine };
    fixture.fork("one");
    fixture
}

/// How file data are served: as `BRANCHFS_DATA` says.
pub(crate) fn data() -> Data {
    match std::env::var("BRANCHFS_DATA") {
        Ok(name) => Data::named(&name).unwrap_or_else(|| panic!("BRANCHFS_DATA={name} is no way")),
        Err(_) => Data::default(),
    }
}

impl Fixture {
    pub(crate) fn mounted(&self) -> &Mounted {
        self.engine.mounted()
    }

    pub(crate) fn fork(&self, name: &str) -> Arc<Branch> {
        self.fork_of("main", name)
    }

    pub(crate) fn fork_of(&self, parent: &str, name: &str) -> Arc<Branch> {
        self.engine.fork(parent, name).unwrap();
        self.store.branch(name).unwrap()
    }

    pub(crate) fn commit(&self, name: &str) {
        self.engine.commit(name).unwrap();
    }

    pub(crate) fn abort(&self, name: &str) {
        self.engine.abort(name).unwrap();
    }

    /// A path below the mount.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.mnt.path().join(path)
    }

    /// A path in branch `one`.
    pub(crate) fn one(&self, path: &str) -> PathBuf {
        self.mnt.path().join("one").join(path)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.mounted().unmount().unwrap();
        self.mounted().join().unwrap();
    }
}

impl Engine {
    fn mounted(&self) -> &Mounted {
        self.mounted.get().unwrap()
    }

    fn fork(&self, parent: &str, name: &str) -> branch_store::Result<()> {
        let parent = self.store.branch(parent)?;
        self.mounted().flush_branch(parent.id()).unwrap();
        self.store.fork(&parent, &[name.to_owned()], GroupKind::Independent)?;
        self.mounted().forget_list();
        self.mounted().settle().unwrap();
        Ok(())
    }

    fn commit(&self, name: &str) -> branch_store::Result<()> {
        let branch = self.store.branch(name)?;
        self.mounted().flush_branch(branch.id()).unwrap();
        let done = self.store.commit(&branch)?;
        self.mounted().forget(&done.invalid);
        self.mounted().forget_branches(&[branch]);
        self.mounted().forget_branches(&done.stale);
        self.mounted().settle().unwrap();
        Ok(())
    }

    fn abort(&self, name: &str) -> branch_store::Result<()> {
        let branch = self.store.branch(name)?;
        let ended = self.store.abort(&branch, Children::Cascade)?;
        self.mounted().forget_branches(&ended.branches);
        self.mounted().settle().unwrap();
        Ok(())
    }
}

impl Control for Verbs {
    fn commit(&self, branch: &str) -> Result<(), Errno> {
        self.0.commit(branch).map_err(|error| error.errno())
    }

    fn abort(&self, branch: &str) -> Result<(), Errno> {
        self.0.abort(branch).map_err(|error| error.errno())
    }

    fn fork(&self, parent: &str) -> Result<String, Errno> {
        let name = format!("{parent}-fork");
        self.0.fork(parent, &name).map(|()| name).map_err(|error| error.errno())
    }
}

/// The errno of a failure.
pub(crate) fn errno<T>(outcome: io::Result<T>) -> i32 {
    outcome.map(drop).expect_err("it should have failed").raw_os_error().unwrap()
}

/// As [`errno`], of a system call made through rustix.
pub(crate) fn raw<T>(outcome: Result<T, Errno>) -> i32 {
    errno(outcome.map_err(io::Error::from))
}

/// Names in a directory, sorted.
pub(crate) fn list(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
