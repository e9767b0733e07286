//! Attributes and extended attributes: set together, kept, merged, and brought into the base.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use branch_store::*;
use common::{Paths, Workspace};
use rustix::io::Errno;

mod common;

fn workspace() -> Workspace {
    Workspace::new(&[("d/f", "f"), ("e", "e")])
}

fn get(branch: &Arc<Branch>, path: &str, name: &str) -> Option<String> {
    match branch.xattr(&branch.at(path).unwrap().0, name.as_bytes()) {
        Ok(value) => Some(String::from_utf8(value).unwrap()),
        Err(error) if error.errno() == Errno::NODATA => None,
        Err(error) => panic!("{path} {name}: {error}"),
    }
}

fn set(branch: &Arc<Branch>, path: &str, name: &str, value: &str) -> Result<()> {
    branch.set_xattr(&branch.at(path)?.0, name.as_bytes(), Some(value.as_bytes()), XattrMode::Any)
}

fn chmod(branch: &Arc<Branch>, path: &str, mode: u32) {
    let change = AttrChange { mode: Some(mode), ..AttrChange::default() };
    branch.set_attr(&branch.at(path).unwrap().0, &change).unwrap();
}

fn host_get(path: &Path, name: &str) -> Option<String> {
    let mut value = vec![0; 65536];
    match rustix::fs::lgetxattr(path, name, &mut value[..]) {
        Ok(len) => Some(String::from_utf8(value[..len].to_vec()).unwrap()),
        Err(Errno::NODATA) => None,
        Err(errno) => panic!("{}: {errno}", path.display()),
    }
}

fn host_set(path: &Path, name: &str, value: &str) {
    rustix::fs::lsetxattr(path, name, value.as_bytes(), rustix::fs::XattrFlags::empty()).unwrap();
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn an_object_is_born_with_its_extended_attributes() {
    let mut ws = workspace();
    let one = ws.fork("main", "one");
    let xattrs = [(b"user.k".to_vec(), b"v".to_vec())].into();
    let new = New { kind: NewKind::Dir, mode: 0o750, uid: 0, gid: 0, xattrs };
    one.create(&one.root(), b"made", new).unwrap();
    drop(one);
    ws.reopen();
    let one = ws.branch("one");
    assert_eq!(get(&one, "made", "user.k").as_deref(), Some("v"));
    ws.store().commit(&one).unwrap();
    assert_eq!(host_get(&ws.base().join("made"), "user.k").as_deref(), Some("v"));
}

#[test]
fn a_mode_and_an_extended_attribute_change_in_one_step() {
    let mut ws = workspace();
    let one = ws.fork("main", "one");
    let (object, _) = one.at("e").unwrap();
    let change = AttrChange { mode: Some(0o640), ..AttrChange::default() };
    let with = |value| Some(XattrChange { name: b"user.k", value });
    let stat = one.set_attr_and_xattr(&object, &change, with(Some(&b"v"[..]))).unwrap();
    assert_eq!(stat.mode, 0o640);
    drop(one);
    ws.reopen();
    let one = ws.branch("one");
    assert_eq!(get(&one, "e", "user.k").as_deref(), Some("v"));
    for _ in 0..2 {
        one.set_attr_and_xattr(&object, &AttrChange::default(), with(None)).unwrap();
        assert_eq!(get(&one, "e", "user.k"), None, "what is not there may be taken away");
    }
    let value = vec![0; XATTR_SIZE_MAX + 1];
    let refused = one.set_attr_and_xattr(&object, &change, with(Some(&value[..])));
    assert_eq!(refused.unwrap_err().errno(), Errno::TOOBIG);
}

/// On ext4 a block has to hold them all; on other filesystems our own bound comes first.
#[test]
fn extended_attributes_that_the_host_would_not_take_are_refused_when_they_are_set() {
    let ws = workspace();
    let beside = tempfile::tempdir().unwrap();
    let one = ws.fork("main", "one");
    for (path, len) in [("e", 700), ("d/f", 9_000), ("e", XATTR_SIZE_MAX)] {
        let value = "x".repeat(len);
        for n in 0.. {
            let name = format!("user.{len}.{n}");
            let set = set(&one, path, &name, &value).map_err(|error| error.errno());
            let host = beside.path().join(path.replace('/', "."));
            std::fs::OpenOptions::new().create(true).append(true).open(&host).unwrap();
            let flags = rustix::fs::XattrFlags::empty();
            let on_host = rustix::fs::lsetxattr(&host, &name, value.as_bytes(), flags);
            if n as usize * (len + name.len()) < XATTRS_SIZE_MAX - len - name.len() {
                assert_eq!(set, on_host, "{name} of {len}");
            }
            if set.is_err() {
                assert_eq!(get(&one, path, &name), None);
                break;
            }
        }
    }
    ws.store().commit(&one).unwrap();
}

#[test]
fn extended_attributes_have_a_bound_together() {
    let ws = workspace();
    let one = ws.fork("main", "one");
    let name = |n: usize| (format!("user.{n}").into_bytes(), vec![b'x'; XATTR_SIZE_MAX - 6]);
    let xattrs = (0..4).map(name).collect();
    let new = New { kind: NewKind::File, mode: 0o600, uid: 0, gid: 0, xattrs };
    let (object, _) = one.create(&one.root(), b"full", new).unwrap();
    let refused = one.set_xattr(&object, b"user.more", Some(b"value"), XattrMode::Any);
    assert_eq!(refused.unwrap_err().errno(), Errno::NOSPC);
    assert_eq!(get(&one, "full", "user.more"), None);
}

/// The commit had been decided, and could never be finished.
#[test]
fn an_attribute_too_large_for_the_host_is_reported_and_does_not_stop_the_commit() {
    let ws = workspace();
    let one = ws.fork("main", "one");
    let xattrs = [(b"user.large".to_vec(), vec![0; 60_000]), (b"user.small".to_vec(), b"s".to_vec())].into();
    let new = New { kind: NewKind::Dir, mode: 0o700, uid: 0, gid: 0, xattrs };
    one.create(&one.root(), b"made", new).unwrap();
    let done = ws.store().commit(&one).unwrap();
    let made = ws.base().join("made");
    assert_eq!(host_get(&made, "user.small").as_deref(), Some("s"));
    let arrived = host_get(&made, "user.large").is_some();
    assert_eq!(done.warnings.len(), usize::from(!arrived), "{:?}", done.warnings);
    assert!(arrived || done.warnings[0].contains("user.large"), "{:?}", done.warnings);
}

#[test]
fn one_attribute_of_a_base_object_is_read_without_a_node() {
    let ws = workspace();
    let long = "l".repeat(1000);
    host_set(&ws.base().join("e"), "user.long", &long);
    host_set(&ws.base().join("d"), "user.empty", "");
    host_set(&ws.base(), "user.root", "r");
    let one = ws.fork("main", "one");
    assert_eq!(get(&one, "e", "user.long"), Some(long));
    assert_eq!(get(&one, "e", "user.none"), None);
    assert_eq!(get(&one, "d", "user.empty").as_deref(), Some(""));
    assert_eq!(get(&one, "", "user.root").as_deref(), Some("r"));
    assert_eq!(one.changed(), 0);
}

/// The branch had compared its directory with what the base was by then, not with what it saw, and took the
/// sibling's mode back.
#[test]
fn a_directory_a_sibling_changed_keeps_the_change_when_a_branch_only_works_in_it() {
    let ws = workspace();
    let d = ws.base().join("d");
    std::fs::set_permissions(&d, PermissionsExt::from_mode(0o755)).unwrap();
    let both = ws.fork_as("main", &["one", "two"], GroupKind::Independent);
    chmod(&both[0], "d", 0o700);
    set(&both[0], "d", "user.k", "one").unwrap();
    ws.store().commit(&both[0]).unwrap();
    both[1].put("d/new", "two").unwrap();
    ws.store().commit(&both[1]).unwrap();
    assert_eq!((mode(&d), host_get(&d, "user.k").as_deref()), (0o700, Some("one")));
    assert!(d.join("new").exists());
}

#[test]
fn what_was_set_on_a_base_directory_from_outside_survives_a_commit_of_its_children() {
    let ws = workspace();
    for (dir, path) in [("d", "d/new"), ("", "new")] {
        let one = ws.fork("main", "one");
        one.put(path, "new").unwrap();
        let dir = ws.base().join(dir);
        host_set(&dir, "user.outside", "kept");
        ws.store().commit(&one).unwrap();
        assert_eq!(host_get(&dir, "user.outside").as_deref(), Some("kept"), "{path}");
    }
}

#[test]
fn siblings_that_set_different_attributes_of_a_directory_both_win() {
    for parent in ["main", "above"] {
        let ws = workspace();
        ws.fork("main", "above");
        let both = ws.fork_as(parent, &["one", "two"], GroupKind::Independent);
        set(&both[0], "d", "user.one", "1").unwrap();
        set(&both[1], "d", "user.two", "2").unwrap();
        for branch in &both {
            ws.store().commit(branch).unwrap();
        }
        if parent == "above" {
            ws.store().commit(&ws.branch("above")).unwrap();
        }
        let d = ws.base().join("d");
        assert_eq!(host_get(&d, "user.one").as_deref(), Some("1"), "{parent}");
        assert_eq!(host_get(&d, "user.two").as_deref(), Some("2"), "{parent}");
    }
}

#[test]
fn siblings_that_set_the_same_attribute_of_a_directory_differently_conflict() {
    for parent in ["main", "above"] {
        let ws = workspace();
        ws.fork("main", "above");
        let both = ws.fork_as(parent, &["one", "two"], GroupKind::Independent);
        chmod(&both[0], "d", 0o700);
        chmod(&both[1], "d", 0o711);
        ws.store().commit(&both[0]).unwrap();
        let Error::Conflicts(conflicts) = ws.store().commit(&both[1]).unwrap_err() else {
            panic!("conflicts expected")
        };
        assert_eq!(conflicts[0].path, b"d", "{parent}");
        chmod(&both[1], "d", 0o700);
        ws.store().commit(&both[1]).unwrap();
    }
}
