//! A branch as a mount shows it, without the mount.

use std::path::Path;
use std::sync::Arc;

use branch_store::{GroupKind, Store, Unrecovered};
use branchfs::vfs::{Caller, Control, Found, Vfs, ino};

use crate::workspace::{Workspace, memory};

/// Nobody in particular.
pub const CALLER: Caller = Caller { uid: 0, gid: 0, pid: 0 };
const BRANCH: &str = "one";

/// A branch of a base with the file `file` and the directory `dir`.
pub struct View {
    /// The view.
    pub vfs: Vfs,
    /// Inode number of the branch's root.
    pub root: u64,
    workspace: Workspace,
}

impl View {
    /// A fresh one. Control orders go to `control`.
    ///
    /// # Panics
    /// If there is none to be had.
    pub fn new(control: Box<dyn Control>) -> View {
        let workspace = Workspace::new(memory());
        std::fs::write(workspace.base().join("file"), "bytes").expect("a file");
        std::fs::create_dir(workspace.base().join("dir")).expect("a directory");
        let vfs = Vfs::new(Arc::new(store(&workspace)), control);
        let root = entry(&vfs, ino::MOUNT_ROOT, BRANCH.as_bytes());
        View { vfs, root, workspace }
    }

    /// Inode number of a name in the branch's root.
    ///
    /// # Panics
    /// If there is no such name.
    pub fn entry(&self, name: &[u8]) -> u64 {
        entry(&self.vfs, self.root, name)
    }

    /// The base directory.
    pub fn base(&self) -> &Path {
        self.workspace.base()
    }
}

fn store(workspace: &Workspace) -> Store {
    let options = workspace.options();
    branch_store::init(&options.base, &options.store).expect("a store");
    let (store, _) = Unrecovered::open(options).and_then(Unrecovered::recover).expect("a sound store");
    store.fork(&store.main(), &[BRANCH.to_owned()], GroupKind::Exclusive).expect("a branch");
    store
}

fn entry(vfs: &Vfs, dir: u64, name: &[u8]) -> u64 {
    match vfs.lookup(dir, name).expect("a lookup") {
        Found::Entry(attr) => attr.ino,
        Found::Absent(_) => panic!("{} is absent", String::from_utf8_lossy(name)),
    }
}
