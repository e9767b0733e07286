//! Somebody else works in the base, or has a file open, while a commit goes on.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use branch_store::*;
use common::gate::hook;
use common::{Paths, Workspace};

/// Story: a directory that somebody removed between the decision and its step stopped the write-back, and every
/// opening of the store after it: nobody could ever finish the commit, unless the directory was made again.
#[test]
fn a_directory_removed_during_the_commit_does_not_stop_it_for_ever() {
    type Act = fn(&Arc<Branch>) -> Result<()>;
    let cases: [(&str, Act); 6] = [
        ("a new file", |b| b.put("d/sub/new", "precious")),
        ("a changed file", |b| b.overwrite("d/sub/f", "PRECIOUS")),
        ("a link", |b| b.put("first", "precious").and_then(|()| b.ln("first", "d/sub/second"))),
        ("a link to what is there", |b| {
            b.put("d/sub/first", "precious").and_then(|()| b.ln("d/sub/first", "second"))
        }),
        ("a move", |b| b.mv("other", "d/sub/moved")),
        ("attributes", |b| {
            let change = AttrChange { mode: Some(0o600), ..AttrChange::default() };
            b.set_attr(&b.at("d/sub/f")?.0, &change).map(drop)
        }),
    ];
    for (name, act) in cases {
        for away in [false, true] {
            let mut w = Workspace::new(&[("d/sub/f", "precious"), ("other", "precious"), ("z", "z")]);
            let (base, mut done) = (w.base(), false);
            // The journal's second record since is the decision's fsync's.
            let gate = hook(move |call, _| {
                if call == "fdatasync" && !done {
                    done = true;
                    if away {
                        std::fs::rename(base.join("d"), base.join("elsewhere")).unwrap();
                    } else {
                        std::fs::remove_dir_all(base.join("d")).unwrap();
                    }
                }
                Ok(())
            });
            w.reopen_on(Disk::guarded(gate.clone())).unwrap();
            let a = w.fork("main", "a");
            act(&a).unwrap();
            a.put("z", "the rest").unwrap();
            gate.armed.store(true, Ordering::SeqCst);
            let committed = w.store().commit(&a).unwrap();
            gate.armed.store(false, Ordering::SeqCst);
            assert!(
                committed.warnings.iter().any(|w| w.contains("d/sub")),
                "{name}: {:?}",
                committed.warnings
            );
            drop((a, committed));
            w.reopen();
            assert!(w.base_tree()["z"].ends_with("the rest"), "{name}");
            // Whatever had no place any more is kept.
            let kept =
                std::process::Command::new("grep").args(["-ri", "precious"]).arg(w.base()).output().unwrap();
            assert!(kept.status.success(), "{name}: lost");
        }
    }
}

/// A reader of main has the file open when a commit replaces, removes or moves it, or writes into it.
#[test]
fn a_file_open_in_main_keeps_its_bytes_whatever_is_committed() {
    type Act = fn(&Arc<Branch>) -> Result<()>;
    let cases: [(&str, Act, &str); 6] = [
        ("replaced", |b| b.put("f", "new bytes"), "old bytes"),
        ("removed", |b| b.remove("f"), "old bytes"),
        ("moved", |b| b.mv("f", "g"), "old bytes"),
        ("its directory moved", |b| b.mv("d", "e"), "old bytes"),
        ("replaced by another", |b| b.mv("g", "f"), "old bytes"),
        // One file with several names is one file.
        ("rewritten", |b| b.overwrite("linked", "NEW"), "NEW bytes"),
    ];
    for (name, act, expected) in cases {
        let w =
            Workspace::new(&[("f", "old bytes"), ("d/x", "old bytes"), ("linked", "old bytes"), ("g", "g")]);
        std::fs::hard_link(w.base().join("linked"), w.base().join("linked2")).unwrap();
        let main = w.store().main();
        let path = match name {
            "its directory moved" => "d/x",
            "rewritten" => "linked2",
            _ => "f",
        };
        let open = |branch: &Arc<Branch>| branch.open(&branch.at(path).unwrap().0, Access::Read).unwrap();
        let read = |file: &OpenFile| {
            let mut bytes = [0; 20];
            let n = file.read_at(&mut bytes, 0).unwrap_or_else(|e| panic!("{name}: {e}"));
            String::from_utf8_lossy(&bytes[..n]).into_owned()
        };
        let (before, unread) = (open(&main), open(&main));
        assert_eq!(read(&before), "old bytes");
        let a = w.fork("main", "a");
        let b = w.fork_as("main", &["b"], GroupKind::Independent).remove(0);
        let other = open(&b);
        act(&a).unwrap();
        w.store().commit(&a).unwrap();
        assert_eq!(read(&before), expected, "{name}");
        assert_eq!(read(&unread), expected, "{name}, opened and not read before");
        assert_eq!(read(&other), "old bytes", "{name}, in a sibling");
    }
}

/// A reader of a branch has the file open when a commit from below replaces or removes it.
#[test]
fn a_file_open_in_the_parent_keeps_its_bytes_when_a_child_commits() {
    type Act = fn(&Arc<Branch>) -> Result<()>;
    let acts: [(&str, Act); 4] = [
        ("removed", |b| b.remove("f")),
        ("replaced by another", |b| b.mv("g", "f")),
        ("left", |_| Ok(())),
        ("changed in place", |b| b.overwrite("f", "NEW")),
    ];
    for (name, act) in acts {
        for own in [false, true] {
            for parent_goes_on in [false, true] {
                let what = format!("{name}, own: {own}, the parent goes on: {parent_goes_on}");
                let w = Workspace::new(&[("f", "old bytes"), ("g", "g")]);
                let p = w.fork("main", "p");
                if own {
                    p.put("f", "old bytes").unwrap();
                }
                let file = p.open(&p.at("f").unwrap().0, Access::Write).unwrap();
                p.put("orphan", "an orphan").unwrap();
                let orphan = p.open(&p.at("orphan").unwrap().0, Access::Read).unwrap();
                assert!(p.unlink(&p.root(), b"orphan").unwrap().orphan.is_some());
                let c = w.fork("p", "c");
                act(&c).unwrap();
                if parent_goes_on {
                    p.put("else", "where").unwrap();
                }
                w.store().commit(&c).unwrap();
                let read = |file: &OpenFile| {
                    let mut bytes = [0; 20];
                    let n = file.read_at(&mut bytes, 0).unwrap_or_else(|e| panic!("{what}: {e}"));
                    String::from_utf8_lossy(&bytes[..n]).into_owned()
                };
                let expected = if name == "changed in place" { "NEW bytes" } else { "old bytes" };
                assert_eq!(read(&file), expected, "{what}");
                assert_eq!(read(&orphan), "an orphan", "{what}");
            }
        }
    }
}

/// Story: a directory that both sides had adopted from the base, each adding a subdirectory, counted one of them.
#[test]
fn a_merged_directory_counts_the_subdirectories_of_both_sides() {
    let w = Workspace::new(&[("d/s0/x", ""), ("d/gone/x", ""), ("t", "")]);
    let links = |b: &Arc<Branch>, path: &str| b.at(path).unwrap().1.nlink;
    for before_the_fork in [false, true] {
        let p = w.fork("main", "p");
        if before_the_fork {
            p.put("d/seen", "").unwrap();
        }
        p.make_dir("own").unwrap();
        let c = w.fork("p", "c");
        for path in ["d", "own"] {
            p.make_dir(&format!("{path}/theirs")).unwrap();
            p.make_dir(&format!("{path}/both")).unwrap();
            p.remove_dir(&format!("{path}/both")).unwrap();
            c.make_dir(&format!("{path}/ours")).unwrap();
            c.make_dir(&format!("{path}/ours2")).unwrap();
        }
        c.remove("d/gone/x").unwrap();
        c.remove_dir("d/gone").unwrap();
        w.store().commit(&c).unwrap();
        assert_eq!(links(&p, "d"), 2 + 4, "the base's one, one of the parent's, two of the child's");
        assert_eq!(links(&p, "own"), 2 + 3);
        w.store().abort(&p, Children::Refuse).unwrap();
    }
}

/// Story: the host gave the inode number of a file that was gone to a new one, and an older snapshot showed the new
/// one with the attributes, and cut to the size, of the old.
#[test]
fn a_new_file_with_the_number_of_an_old_one_has_its_own_attributes_in_older_snapshots() {
    use std::os::unix::fs::MetadataExt;
    let w = Workspace::new(&[("f", "0")]);
    let [a, b] = &w.fork_as("main", &["a", "b"], GroupKind::Independent)[..] else { unreachable!() };
    let change = AttrChange { mode: Some(0o600), ..AttrChange::default() };
    a.set_attr(&a.at("f").unwrap().0, &change).unwrap();
    w.store().commit(a).unwrap();
    let path = w.base().join("f");
    let old = path.metadata().unwrap().ino();
    std::fs::remove_file(&path).unwrap();
    for i in 0..100 {
        let fresh = w.base().join(format!("fresh{i}"));
        std::fs::write(&fresh, "somebody else's").unwrap();
        if fresh.metadata().unwrap().ino() == old {
            std::fs::rename(&fresh, &path).unwrap();
            break;
        }
    }
    let Ok(meta) = path.metadata() else {
        println!("SKIPPED: this host does not give a number again so soon");
        return;
    };
    let stat = b.at("f").unwrap().1;
    assert_eq!((stat.mode, stat.size), (meta.mode() & 0o7777, meta.len()));
    assert_eq!(b.read_all("f").unwrap(), "somebody else's");
}

/// Attributes of an object with several names are set before its names go, whatever it is.
#[test]
fn attributes_of_a_symbolic_link_with_two_names_stay_off_its_target() {
    let w = Workspace::new(&[]);
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("outside");
    std::fs::write(&target, "not ours").unwrap();
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(&target, mode(0o600)).unwrap();
    std::os::unix::fs::symlink(&target, w.base().join("one")).unwrap();
    std::fs::hard_link(w.base().join("one"), w.base().join("two")).unwrap();
    let a = w.fork("main", "a");
    let times = AttrChange { mtime: Some(Time { sec: 1, nsec: 0 }), ..AttrChange::default() };
    a.set_attr(&a.at("one").unwrap().0, &times).unwrap();
    a.remove("two").unwrap();
    w.store().commit(&a).unwrap();
    let seen = std::fs::metadata(&target).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&seen) & 0o7777, 0o600);
    let link = std::fs::symlink_metadata(w.base().join("one")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mtime(&link), 1);
}
