//! What each operation asks of the host, call by call: every fact once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::asked::calls_of;
use crate::branch::{Access, Branch, New, NewKind, RenameMode};
use crate::ids::{GroupKind, MAIN};
use crate::node::Object;
use crate::store::{Options, Store, Unrecovered};

/// A branch over a base whose directory `d` it has changed something in before.
struct Work {
    _dir: tempfile::TempDir,
    _store: Store,
    branch: Arc<Branch>,
    d: Object,
}

fn new(kind: NewKind) -> New {
    New { kind, mode: 0o755, uid: 0, gid: 0, xattrs: BTreeMap::new() }
}

impl Work {
    fn new() -> Work {
        Work::at_depth(1)
    }

    /// Each branch has changed something in the root.
    fn at_depth(depth: usize) -> Work {
        let dir = tempfile::tempdir().unwrap();
        let (base, store) = (dir.path().join("base"), dir.path().join("base/.branchfs"));
        std::fs::create_dir_all(base.join("d")).unwrap();
        for name in ["one", "two"] {
            std::fs::write(base.join("d").join(name), name).unwrap();
        }
        let (mut branch, opened) = branch_of(&base, &store);
        for level in 2..=depth {
            branch.create(&branch.root(), format!("c{level}").as_bytes(), new(NewKind::File)).unwrap();
            branch = opened.fork(&branch, &[format!("b{level}")], GroupKind::Exclusive).unwrap().remove(0);
        }
        let (d, _) = branch.lookup(&branch.root(), b"d").unwrap();
        branch.create(&d, b"before", new(NewKind::File)).unwrap();
        Work { _dir: dir, _store: opened, branch, d }
    }

    fn make(&self, name: &[u8]) -> Object {
        let (file, _) = self.branch.create_open(&self.d, name, new(NewKind::File), Access::Write).unwrap();
        assert_eq!(file.write_at(b"bytes", 0).unwrap(), 5);
        file.object().clone()
    }
}

fn branch_of(base: &Path, dir: &Path) -> (Arc<Branch>, Store) {
    crate::store::init(base, dir).unwrap();
    let options = Options { base: base.to_owned(), store: dir.to_owned() };
    let (store, _) = Unrecovered::open(options).unwrap().recover().unwrap();
    let main = store.branch(MAIN).unwrap();
    let branch = store.fork(&main, &["b".to_owned()], GroupKind::Exclusive).unwrap().remove(0);
    (branch, store)
}

#[test]
fn a_file_is_made_with_one_look_at_each_thing_and_used_as_it_was_opened() {
    let work = Work::new();
    let create = || work.branch.create_open(&work.d, b"new", new(NewKind::File), Access::Write).unwrap();
    let ((file, stat), calls) = calls_of(create);
    // The name in the base, whether the directory may be changed; the file and its stat; the directory's time.
    assert_eq!(calls, ["stat", "stat", "create", "stat", "clock", "append"]);
    assert_eq!(stat, work.branch.stat(file.object()).unwrap());
    let (_, calls) = calls_of(|| file.write_at(b"bytes", 0).unwrap());
    assert_eq!(calls, [""; 0], "written to as it was opened");
    let (_, calls) = calls_of(|| drop(file));
    assert_eq!(calls, ["stat"], "how much it holds now");
    let (file, _) = work.branch.create_open(&work.d, b"x", new(NewKind::File), Access::Write).unwrap();
    let (_, calls) = calls_of(|| drop(file));
    assert_eq!(calls, [""; 0], "never written to: holds what it held");
}

#[test]
fn a_file_of_the_branch_is_opened_once() {
    let work = Work::new();
    let object = work.make(b"own");
    let (file, calls) = calls_of(|| work.branch.open(&object, Access::Write).unwrap());
    assert_eq!(calls, ["open"]);
    let (_, calls) = calls_of(|| file.write_at(b"more", 5).unwrap());
    assert_eq!(calls, [""; 0]);
    drop(file);
    let (file, calls) = calls_of(|| work.branch.open(&object, Access::Read).unwrap());
    assert_eq!(calls, ["open"]);
    let mut bytes = [0; 16];
    let (len, calls) = calls_of(|| file.read_at(&mut bytes, 0).unwrap());
    assert_eq!((&bytes[..len], calls), (&b"bytesmore"[..], vec![]));
}

#[test]
fn a_file_of_the_base_is_looked_at_once_and_opened() {
    let work = Work::new();
    let (object, _) = work.branch.lookup(&work.d, b"one").unwrap();
    let (_, calls) = calls_of(|| work.branch.open(&object, Access::Read).unwrap());
    assert_eq!(calls, ["stat", "open"]);
}

#[test]
fn the_first_write_to_a_large_file_of_the_base_costs_no_more_calls_than_to_a_small_one() {
    let work = Work::new();
    let small = calls_of_first_write(&work, b"one");
    let copied = ["stat", "stat", "open", "create", "stat", "clone", "truncate", "copy_file_range"];
    let installed = ["stat", "stat", "stat", "rename", "append", "open"];
    assert_eq!(small, [&copied[..], &installed].concat());
    work._store.borrow_from(1);
    let large = calls_of_first_write(&work, b"two");
    assert!(large.len() <= small.len(), "{large:?}");
    assert!(!large.contains(&"copy_file_range"), "{large:?}");
}

/// Of a file that is open.
fn calls_of_first_write(work: &Work, name: &[u8]) -> Vec<&'static str> {
    let (object, _) = work.branch.lookup(&work.d, name).unwrap();
    let file = work.branch.open(&object, Access::Write).unwrap();
    let (_, calls) = calls_of(|| file.write_at(b"more", 3).unwrap());
    let (_, again) = calls_of(|| file.write_at(b"more", 3).unwrap());
    assert_eq!(again, [""; 0], "and the second none");
    calls
}

#[test]
fn a_name_is_made_removed_or_moved_with_one_look_at_it_and_at_its_directory() {
    let work = Work::new();
    let (branch, d) = (&work.branch, &work.d);
    work.make(b"own");
    let (_, calls) = calls_of(|| branch.create(d, b"dir", new(NewKind::Dir)).unwrap());
    assert_eq!(calls, ["stat", "stat", "clock", "append"], "mkdir");
    let (_, calls) = calls_of(|| branch.create(d, b"link", new(NewKind::Symlink(b"x".to_vec()))).unwrap());
    assert_eq!(calls, ["stat", "stat", "clock", "append"], "symlink");
    let rename = |from: &[u8], to: &[u8]| branch.rename(d, from, d, to, RenameMode::Replace).unwrap();
    let (_, calls) = calls_of(|| rename(b"own", b"moved"));
    assert_eq!(
        calls,
        ["stat", "stat", "clock", "append"],
        "rename of one's own: the new name, the directory"
    );
    let (_, calls) = calls_of(|| rename(b"one", b"gone"));
    assert_eq!(
        calls,
        ["stat", "stat", "stat", "clock", "append"],
        "rename of the base's: both names, the directory"
    );
    let (_, calls) = calls_of(|| branch.unlink(d, b"moved").unwrap());
    assert_eq!(calls, ["stat", "clock", "append"], "unlink of one's own: the directory");
    let (_, calls) = calls_of(|| branch.unlink(d, b"two").unwrap());
    assert_eq!(calls, ["stat", "stat", "clock", "append"], "unlink of the base's: name and directory");
}

#[test]
fn below_a_directory_of_the_branch_the_base_is_not_asked() {
    let work = Work::new();
    let (dir, _) = work.branch.create(&work.d, b"dir", new(NewKind::Dir)).unwrap();
    let (_, calls) = calls_of(|| work.branch.create(&dir, b"inner", new(NewKind::Dir)).unwrap());
    assert_eq!(calls, ["clock", "append"]);
    let (_, calls) = calls_of(|| work.branch.lookup(&dir, b"absent").unwrap_err());
    assert_eq!(calls, [""; 0]);
    let (_, calls) = calls_of(|| work.branch.create(&dir, b"file", new(NewKind::File)).unwrap());
    assert_eq!(calls, ["create", "stat", "clock", "append"]);
}

#[test]
fn many_objects_are_forgotten_with_one_record() {
    let work = Work::new();
    let files: Vec<Object> = (0..3).map(|n| work.make(format!("f{n}").as_bytes())).collect();
    let names = (0..3).map(|n| format!("f{n}"));
    let orphans: Vec<_> =
        names.filter_map(|name| work.branch.unlink(&work.d, name.as_bytes()).unwrap().orphan).collect();
    assert_eq!(orphans, files.iter().map(|file| file.id).collect::<Vec<_>>());
    // One that has a name, and one that nobody knows, are left alone.
    let named = work.make(b"named");
    let all = [&orphans[..], &[named.id, crate::ids::NodeId(u32::MAX)]].concat();
    let (_, calls) = calls_of(|| work.branch.reap_all(&all).unwrap());
    assert_eq!(calls, ["append", "stat", "stat", "stat"], "how much each will give back");
    assert!(files.iter().all(|file| work.branch.stat(file).is_err()) && work.branch.stat(&named).is_ok());
    let (_, calls) = calls_of(|| work.branch.reap_all(&all).unwrap());
    assert_eq!(calls, [""; 0], "nothing to do");
    let (_, calls) = calls_of(|| work.branch.sync().unwrap());
    assert_eq!(calls, ["fdatasync", "unlink", "unlink", "unlink"], "and then their bytes go");
}

#[test]
fn at_any_depth_each_operation_asks_the_host_for_the_same() {
    let calls_at = |depth| {
        let work = Work::at_depth(depth);
        let (branch, d) = (&work.branch, &work.d);
        let all = || {
            branch.lookup(d, b"one").unwrap();
            branch.lookup(d, b"absent").unwrap_err();
            branch.read_dir(d).unwrap();
            work.make(b"own");
            branch.create(d, b"dir", new(NewKind::Dir)).unwrap();
            let rename = |from: &[u8], to: &[u8]| branch.rename(d, from, d, to, RenameMode::Replace).unwrap();
            assert!(rename(b"own", b"moved").orphan.is_none());
            assert!(rename(b"one", b"gone").orphan.is_none());
            assert!(branch.unlink(d, b"moved").unwrap().orphan.is_some());
            assert!(branch.unlink(d, b"two").unwrap().orphan.is_some());
        };
        calls_of(all).1
    };
    let calls = calls_at(1);
    assert!(calls.len() > 20, "{calls:?}");
    assert_eq!(calls, calls_at(100));
}
