//! What was slow because everything waited for everything: no test here measures time. They show that an
//! operation is answered while what it used to wait for stands still.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use branch_proto::GroupKind;
use branch_store::{Options, Unrecovered};
use branchfs::vfs::{Control, Found, Vfs, ino};
use branchfs_tests::{Disk, Stopped, Workspace};
use rustix::io::Errno;

/// Bound for what should be answered at once; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// On a thread of its own: one that hangs must not hang the test, which has something to let go of.
fn answered<T: Send + 'static>(ask: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, answer) = mpsc::channel();
    thread::spawn(move || sender.send(ask()));
    answer.recv_timeout(PATIENCE).expect("it waits for something it should not need")
}

/// Waits until a thread of the daemon is in an uninterruptible wait: for the frozen disk, in these tests.
fn wait_until_blocked(pid: i32) {
    let blocked = || {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        threads.flatten().any(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('D'))
        })
    };
    while !blocked() {
        thread::yield_now();
    }
}

/// Attributes had no life time: every stat was a round trip. With the daemon stopped, only a cache answers.
#[test]
fn attributes_are_cached() {
    let Some(workspace) = Workspace::new() else { return };
    let view = workspace.branch("b");
    fs::create_dir(view.join("dir")).unwrap();
    fs::write(view.join("dir/own"), "own\n").unwrap();
    let own = view.join("dir/own");
    let seen = fs::metadata(&own).unwrap();
    let stopped = Stopped::new(workspace.daemon());
    let again = answered(move || fs::metadata(&own)).unwrap();
    drop(stopped);
    assert_eq!((again.len(), again.modified().unwrap()), (4, seen.modified().unwrap()));
}

/// One lock was held through the whole commit; a sibling's stat waited over a second for a big one.
#[test]
fn a_commit_does_not_block_a_siblings_operations() {
    let Some(disk) = Disk::new(24) else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    let fill = |base: &Path| {
        for name in ["file", "other", "third"] {
            fs::write(base.join(name), "base\n").unwrap();
        }
    };
    let placed = Workspace::placed(&disk.path().join("base"), &elsewhere.path().join("store"), fill);
    let Some(workspace) = placed else { return };
    workspace.fork(&["a", "sibling"], "main", GroupKind::Independent);
    fs::write(workspace.view("a").join("file"), "by a\n").unwrap();
    let mut client = workspace.client();
    let frozen = disk.freeze();
    let commit = thread::spawn(move || client.commit("a"));
    wait_until_blocked(workspace.daemon());
    assert!(!commit.is_finished());
    let (sibling, mut other) = (workspace.view("sibling"), workspace.client());
    let length = answered(move || {
        fs::write(sibling.join("third"), "by sibling\n").unwrap();
        other.list().unwrap();
        fs::metadata(sibling.join("other")).unwrap().len()
    });
    assert_eq!(length, 5);
    assert!(!commit.is_finished(), "the disk is still frozen");
    drop(frozen);
    assert_eq!(commit.join().unwrap().unwrap().branch, "a");
    assert_eq!(fs::read_to_string(workspace.base().join("file")).unwrap(), "by a\n");
    assert_eq!(fs::read_to_string(workspace.view("sibling").join("file")).unwrap(), "base\n");
}

/// One thread served everything.
#[test]
fn an_operation_is_answered_while_another_is_blocked() {
    let Some(disk) = Disk::new(24) else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    let fill = |base: &Path| {
        fs::create_dir(base.join("dir")).unwrap();
        fs::write(base.join("dir/file"), "base\n").unwrap();
    };
    let placed = Workspace::placed(&elsewhere.path().join("base"), &disk.path().join("store"), fill);
    let Some(workspace) = placed else { return };
    workspace.fork(&["a", "b"], "main", GroupKind::Independent);
    let (target, daemon) = (workspace.view("a").join("new"), workspace.daemon());
    fs::write(&target, "").unwrap();
    let frozen = disk.freeze();
    let write = thread::spawn(move || fs::write(target, "blocked\n"));
    wait_until_blocked(daemon);
    let dir = workspace.view("b").join("dir");
    let content = answered(move || {
        let names = fs::read_dir(&dir).unwrap().count();
        (names, fs::read_to_string(dir.join("file")).unwrap())
    });
    assert_eq!(content, (1, "base\n".to_owned()));
    assert!(!write.is_finished(), "the disk is still frozen");
    drop(frozen);
    write.join().unwrap().unwrap();
    assert_eq!(fs::read_to_string(workspace.view("a").join("new")).unwrap(), "blocked\n");
}

/// Refuses everything: this view has no daemon.
struct NoVerbs;

impl Control for NoVerbs {
    fn commit(&self, _branch: &str) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }

    fn abort(&self, _branch: &str) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }

    fn fork(&self, _parent: &str) -> Result<String, Errno> {
        Err(Errno::NOSYS)
    }
}

/// The table of inodes only grew. There is no way to make a kernel forget at will without root, hence the
/// view is called as the kernel would.
#[test]
fn the_inode_table_shrinks_when_the_kernel_forgets() {
    let base = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..100).map(|i| base.path().join(format!("file-{i}"))).collect();
    paths.iter().for_each(|path| fs::write(path, "").unwrap());
    let store = base.path().join(".branchfs");
    branch_store::init(base.path(), &store).unwrap();
    let options = Options { base: base.path().to_owned(), store };
    let store = Arc::new(Unrecovered::open(options).unwrap().recover().unwrap().0);
    let branch = store.fork(&store.main(), &["b".to_owned()], branch_store::GroupKind::Exclusive).unwrap();
    let id = branch[0].id();
    let vfs = Vfs::new(store, Box::new(NoVerbs));
    let found = |parent, name: &str| match vfs.lookup(parent, name.as_bytes()).unwrap() {
        Found::Entry(attr) => attr.ino,
        Found::Absent(_) => panic!("{name} is there"),
    };
    let root = found(ino::MOUNT_ROOT, "b");
    let inodes: Vec<u64> = (0..100).map(|i| found(root, &format!("file-{i}"))).collect();
    assert_eq!(vfs.known_inodes(id).len(), 101);
    found(root, "file-7"); // counted twice
    inodes.iter().for_each(|inode| vfs.forget(*inode, 1));
    vfs.forget(inodes[7], 1);
    vfs.forget(root, 1);
    assert_eq!(vfs.known_inodes(id), [0_u64; 0]);
}
