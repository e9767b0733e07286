//! What is made ahead is used as if it had been made when it was needed, and never stays.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::asked::calls_of;
use crate::branch::{Access, Branch, New, NewKind};
use crate::disk::Disk;
use crate::gatekeeper::Gatekeeper;
use crate::ids::{GroupKind, LayerId, MAIN, NodeId};
use crate::node::{Object, Time};
use crate::store::{Children, Options, Store, Unrecovered};

const PATIENCE: Duration = Duration::from_secs(30);

struct Work {
    dir: tempfile::TempDir,
    store: Store,
    branch: Arc<Branch>,
}

fn open(dir: &tempfile::TempDir) -> Store {
    let options = Options { base: dir.path().to_owned(), store: dir.path().join(".branchfs") };
    Unrecovered::open(options).unwrap().recover().unwrap().0
}

impl Work {
    fn new() -> Work {
        let dir = tempfile::tempdir().unwrap();
        crate::store::init(dir.path(), &dir.path().join(".branchfs")).unwrap();
        let store = open(&dir);
        let main = store.branch(MAIN).unwrap();
        let branch = store.fork(&main, &["b".to_owned()], GroupKind::Independent).unwrap().remove(0);
        Work { dir, store, branch }
    }

    /// Runs `act` while files are made ahead.
    fn making(&self, act: impl FnOnce()) {
        thread::scope(|scope| {
            scope.spawn(|| self.store.make_ahead());
            // Ends it whatever becomes of `act`.
            let _stop = Stop(&self.store);
            act();
        });
    }

    fn create(&self, name: &str, mode: u32) -> (Object, crate::node::Stat) {
        let new = New { kind: NewKind::File, mode, uid: 0, gid: 0, xattrs: BTreeMap::new() };
        let made = self.branch.create_open(&self.branch.root(), name.as_bytes(), new, Access::Write).unwrap();
        (made.0.object().clone(), made.1)
    }

    fn layer(&self) -> LayerId {
        self.branch.data.read().layer
    }

    fn layer_path(&self, layer: LayerId) -> PathBuf {
        self.dir.path().join(".branchfs/content").join(layer.0.to_string())
    }

    /// Content files there are in a layer.
    fn there(&self, layer: LayerId) -> BTreeSet<NodeId> {
        self.store.shared.contents.files(layer).unwrap().into_iter().collect()
    }

    /// Those that the branch knows.
    fn known(&self) -> BTreeSet<NodeId> {
        let mut known = BTreeSet::new();
        self.branch.data.read().own_files(|_, id, _| _ = known.insert(id));
        known
    }

    fn unknown(&self) -> usize {
        self.there(self.layer()).difference(&self.known()).count()
    }

    /// Makes files until the next one has been made ahead.
    fn until_ahead(&self, name: &str) {
        let begin = Instant::now();
        for n in 0.. {
            self.create(&format!("{name}{n}"), 0o644);
            if self.unknown() > 1 {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "nothing is made ahead");
        }
    }
}

struct Stop<'s>(&'s Store);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop_making_ahead();
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_file_that_was_made_ahead_is_as_if_it_had_been_made_when_it_was_needed() {
    let work = Work::new();
    let mut seen = Vec::new();
    work.making(|| {
        work.until_ahead("first");
        // The name in the base, whether the directory may be changed; the file and its stat; the directory's time.
        for (name, mode, calls) in [
            ("same", 0o644, &["stat", "stat", "utimens", "stat", "clock", "append"][..]),
            ("other", 0o755, &["stat", "stat", "chmod", "utimens", "stat", "clock", "append"]),
        ] {
            let before = Time::now();
            let ((object, stat), asked) = calls_of(|| work.create(name, mode));
            assert_eq!(asked, calls, "{name}");
            assert!(before <= stat.mtime && stat.mtime <= Time::now(), "{name}: made now, not before");
            assert_eq!((stat.mtime, stat.ctime, stat.atime), (stat.ctime, stat.ctime, stat.ctime));
            assert_eq!((stat.mode, stat.size), (mode, 0));
            assert_eq!(stat, work.branch.stat(&object).unwrap());
            let host = work.layer_path(work.layer()).join(object.id.0.to_string());
            assert_eq!(std::fs::metadata(host).unwrap().permissions().mode() & 0o777, mode, "{name}");
            seen.push((object, stat));
        }
    });
    assert_eq!(work.unknown(), 0, "what was not used is gone");
    let Work { dir, store, branch } = work;
    drop((store, branch));
    let store = open(&dir);
    let branch = store.branch("b").unwrap();
    for (object, stat) in seen {
        assert_eq!(branch.stat(&object).unwrap(), stat, "the same after a restart");
    }
}

#[test]
fn every_file_has_a_number_and_bytes_of_its_own() {
    let work = Work::new();
    work.making(|| {
        let mut ids = HashSet::new();
        for n in 0..500 {
            let new = New { kind: NewKind::File, mode: 0o644, uid: 0, gid: 0, xattrs: BTreeMap::new() };
            let name = format!("{n}");
            let root = work.branch.root();
            let (file, _) = work.branch.create_open(&root, name.as_bytes(), new, Access::Write).unwrap();
            assert_eq!(file.write_at(name.as_bytes(), 0).unwrap(), name.len());
            assert!(ids.insert(file.object().id));
        }
        for n in 0..500 {
            let name = format!("{n}");
            let (object, stat) = work.branch.lookup(&work.branch.root(), name.as_bytes()).unwrap();
            let mut bytes = [0; 8];
            let len = work.branch.open(&object, Access::Read).unwrap().read_at(&mut bytes, 0).unwrap();
            assert_eq!((&bytes[..len], stat.size), (name.as_bytes(), len as u64));
        }
    });
    assert_eq!(work.there(work.layer()), work.known());
}

#[test]
fn what_is_not_used_goes_after_a_while_also_from_a_layer_that_was_frozen() {
    let work = Work::new();
    work.making(|| {
        work.until_ahead("a");
        let frozen = work.layer();
        work.store.fork(&work.branch, &["child".to_owned()], GroupKind::Independent).unwrap();
        assert_ne!(work.layer(), frozen);
        work.until_ahead("b");
        wait_until("they are still there", || {
            work.unknown() == 0 && work.there(frozen).is_subset(&work.known())
        });
    });
}

#[test]
fn a_branch_that_ends_leaves_nothing_of_it() {
    let work = Work::new();
    work.making(|| {
        work.until_ahead("a");
        let layer = work.layer();
        work.store.abort(&work.branch, Children::Refuse).unwrap();
        work.store.reclaim().unwrap();
        assert!(!work.layer_path(layer).exists());
        let trash = work.dir.path().join(".branchfs/trash");
        assert_eq!(std::fs::read_dir(trash).unwrap().count(), 0);
    });
}

#[test]
fn what_a_killed_process_had_made_ahead_is_gone_after_recovery() {
    let work = Work::new();
    let (object, _) = work.create("a", 0o644);
    let layer = work.layer();
    let litter = work.layer_path(layer).join((object.id.0 + 1).to_string());
    std::fs::write(&litter, "").unwrap();
    let Work { dir, store, branch } = work;
    drop((store, branch));
    let store = open(&dir);
    assert!(!litter.exists());
    assert_eq!(store.branch("b").unwrap().stat(&object).unwrap().size, 0, "what is known stays");
}

struct Passive;

impl Gatekeeper for Passive {
    fn before(&self, _call: &'static str) -> rustix::io::Result<()> {
        Ok(())
    }
}

/// Tests that stop at the k-th call need it to be the same one each time.
#[test]
fn under_a_gatekeeper_nothing_is_made_ahead() {
    let dir = tempfile::tempdir().unwrap();
    crate::store::init(dir.path(), &dir.path().join(".branchfs")).unwrap();
    let options = Options { base: dir.path().to_owned(), store: dir.path().join(".branchfs") };
    let disk = Disk::guarded(Arc::new(Passive));
    let (store, _) = Unrecovered::open_on(options, disk).unwrap().recover().unwrap();
    store.make_ahead();
}
