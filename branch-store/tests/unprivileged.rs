//! The engine without any privilege: what the host does not permit is kept in the branch, and at the commit either
//! set or reported. Nothing is refused half-way.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use branch_store::*;
use common::gate::{Fuse, hook};
use common::nobody::{NOBODY, SOMEBODY, as_nobody, dir_of, file_of};
use common::{Paths, Workspace, errno};
use rustix::io::Errno;

fn attr(b: &Arc<Branch>, path: &str, change: AttrChange) {
    b.set_attr(&b.at(path).unwrap().0, &change).unwrap();
}

fn chmod(b: &Arc<Branch>, path: &str, mode: u32) {
    attr(b, path, AttrChange { mode: Some(mode), ..AttrChange::default() });
}

fn chown(b: &Arc<Branch>, path: &str, uid: u32, gid: u32) {
    attr(b, path, AttrChange { uid: Some(uid), gid: Some(gid), ..AttrChange::default() });
}

fn nothing(_: &Path) {}

/// Commits, wants exactly these things reported, and the base to be the branch.
fn commit(w: &Workspace, branch: &Arc<Branch>, reported: &[&str]) {
    let seen = branch.tree();
    let warnings = w.store().commit(branch).unwrap().warnings;
    assert_eq!(warnings.len(), reported.len(), "{warnings:#?}");
    for (warning, what) in warnings.iter().zip(reported) {
        assert!(warning.starts_with(what), "{warning:?} instead of {what:?}");
    }
    if reported.is_empty() {
        assert_eq!(w.base_tree(), seen);
    }
}

fn mode_of(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o7777
}

/// Story: a rename to another directory writes to the directory that moves; a read-only one of an ordinary user
/// stopped the write-back behind the decision, and then every later opening of the store.
#[test]
fn read_only_directories_come_go_and_move() {
    let prepare = |base: &Path| {
        for dir in ["gone", "moved", "filled", "holder"] {
            dir_of(NOBODY, &base.join(dir), 0o755);
            file_of(NOBODY, &base.join(dir).join("f"), 0o444, "old");
            std::fs::set_permissions(base.join(dir), PermissionsExt::from_mode(0o555)).unwrap();
        }
    };
    let act = |base: &Path| {
        let mut w = Workspace::over(base);
        let a = w.fork("main", "a");
        a.make_dir("new").unwrap();
        a.make_dir("new/inner").unwrap();
        a.put("new/inner/f", "new").unwrap();
        chmod(&a, "new/inner", 0o500);
        chmod(&a, "new", 0o555);
        chmod(&a, "gone", 0o755);
        a.remove("gone/f").unwrap();
        a.remove_dir("gone").unwrap();
        a.mv("moved", "holder/moved").unwrap();
        chmod(&a, "filled", 0o755);
        a.put("filled/f", "changed").unwrap();
        a.put("filled/g", "new").unwrap();
        a.ln("filled/g", "filled/h").unwrap();
        chmod(&a, "filled", 0o555);
        commit(&w, &a, &[]);
        assert_eq!(mode_of(&base.join("holder/moved")), 0o555);
        assert_eq!(mode_of(&base.join("new/inner")), 0o500);
        drop(a);
        // What the commit displaced is ours to delete, read-only or not.
        for i in 0..20 {
            let b = w.fork("main", "b");
            b.put("other", &format!("{i}")).unwrap();
            w.store().commit(&b).unwrap();
        }
        w.store().reclaim().unwrap();
        assert_eq!(w.reopen().lines, [""; 0]);
    };
    as_nobody("read_only_directories_come_go_and_move", prepare, act, nothing);
}

/// Story: what was staged for a commit that failed could not be removed where it was read-only; the next commit found
/// it in its way, and the next opening of the store ended in the trash.
#[test]
fn a_refused_commit_of_read_only_directories_leaves_nothing_in_the_way() {
    let act = |base: &Path| {
        let mut w = Workspace::over(base);
        let gate = hook(|call, _| if call == "append" { Err(Errno::NOSPC) } else { Ok(()) });
        w.reopen_on(Disk::guarded(gate.clone())).unwrap();
        let a = w.fork("main", "a");
        a.make_dir("d").unwrap();
        a.put("d/f", "text").unwrap();
        chmod(&a, "d", 0o555);
        gate.armed.store(true, Ordering::SeqCst);
        assert_eq!(errno(w.store().commit(&a)), Errno::NOSPC);
        gate.armed.store(false, Ordering::SeqCst);
        let left = std::fs::read_dir(base.join(".branchfs/preimage")).unwrap().count();
        assert_eq!(left, 0);
        commit(&w, &a, &[]);
    };
    as_nobody("a_refused_commit_of_read_only_directories_leaves_nothing_in_the_way", nothing, act, nothing);
}

/// A directory that is lent write permission for a step gets its mode back, whenever the process dies.
#[test]
fn a_death_at_any_call_leaves_read_only_directories_read_only() {
    fn act(base: &Path) {
        for k in 0..200 {
            let base = base.join(k.to_string());
            std::fs::create_dir(&base).unwrap();
            for dir in ["moved", "filled", "to"] {
                std::fs::create_dir(base.join(dir)).unwrap();
                std::fs::write(base.join(dir).join("f"), "f").unwrap();
                std::fs::set_permissions(base.join(dir), PermissionsExt::from_mode(0o555)).unwrap();
            }
            let mut w = Workspace::over(&base);
            let gate = Fuse::new(u64::MAX, Errno::IO, false);
            w.reopen_on(Disk::guarded(gate.clone())).unwrap();
            let a = w.fork("main", "a");
            a.make_dir("new").unwrap();
            a.put("new/f", "new").unwrap();
            chmod(&a, "new", 0o555);
            a.put("filled/g", "g").unwrap();
            a.mv("moved", "to/moved").unwrap();
            let (before, after) = (w.base_tree(), a.tree());
            gate.set(k);
            let done = w.store().commit(&a).is_ok();
            drop(a);
            w.reopen();
            let now = w.base_tree();
            assert!(now == after || (!done && now == before), "call {k}: {now:#?}");
            if done {
                assert!(k > 15, "{k} calls make a commit");
                return;
            }
        }
        panic!("it never ends");
    }
    as_nobody("a_death_at_any_call_leaves_read_only_directories_read_only", nothing, act, nothing);
}

#[test]
fn an_owner_that_the_host_does_not_permit_is_kept_in_the_branch_and_reported_by_the_commit() {
    let prepare = |base: &Path| {
        file_of(NOBODY, &base.join("mine"), 0o644, "mine");
        file_of(SOMEBODY, &base.join("theirs"), 0o666, "theirs");
        dir_of(NOBODY, &base.join("d"), 0o755);
    };
    let act = |base: &Path| {
        let mut w = Workspace::over(base);
        let a = w.fork("main", "a");
        for path in ["mine", "d"] {
            chown(&a, path, 0, SOMEBODY);
        }
        a.put("d/new", "new").unwrap();
        chown(&a, "d/new", 12, 34);
        chmod(&a, "d/new", 0o6755);
        a.overwrite("theirs", "THEIRS").unwrap();
        drop(a);
        w.reopen();
        let a = w.branch("a");
        let owner = |path| {
            let stat = a.at(path).unwrap().1;
            (stat.uid, stat.gid, stat.mode)
        };
        assert_eq!(owner("mine"), (0, SOMEBODY, 0o644));
        assert_eq!(owner("d"), (0, SOMEBODY, 0o755));
        assert_eq!(owner("d/new"), (12, 34, 0o6755));
        assert_eq!(owner("theirs"), (SOMEBODY, SOMEBODY, 0o666));
        let b = w.fork("a", "b");
        b.put("below", "b").unwrap();
        w.store().commit(&b).unwrap();
        assert_eq!(owner("d/new"), (12, 34, 0o6755), "through a commit into a branch");
        commit(
            &w,
            &a,
            &[
                "d/new: owner 12 could not be set: Operation not permitted",
                "d/new: group 34",
                "d/new: mode 6755",
                "theirs: owner 65533",
                "theirs: group 65533",
                "d: owner 0",
                "d: group 65533",
                "mine: owner 0",
                "mine: group 65533",
            ],
        );
        let _next = w.fork("main", "next");
    };
    let check = |base: &Path| {
        let seen = |path| {
            let meta = base.join(path).metadata().unwrap();
            (meta.uid(), meta.gid(), meta.mode() & 0o7777, std::fs::read_to_string(base.join(path)).unwrap())
        };
        // To run as 12:34 was not meant to be running as nobody.
        assert_eq!(seen("d/new"), (NOBODY, NOBODY, 0o755, "new".into()));
        assert_eq!(seen("theirs"), (NOBODY, NOBODY, 0o666, "THEIRS".into()));
        assert_eq!(seen("mine"), (NOBODY, NOBODY, 0o644, "mine".into()));
    };
    as_nobody(
        "an_owner_that_the_host_does_not_permit_is_kept_in_the_branch_and_reported_by_the_commit",
        prepare,
        act,
        check,
    );
}

#[test]
fn attributes_of_what_belongs_to_others_are_reported_and_the_rest_of_the_commit_is_done() {
    let prepare = |base: &Path| {
        for name in ["mode", "times", "attributes"] {
            file_of(SOMEBODY, &base.join(name), 0o644, name);
        }
        dir_of(SOMEBODY, &base.join("dir"), 0o777);
    };
    let act = |base: &Path| {
        let w = Workspace::over(base);
        let a = w.fork("main", "a");
        chmod(&a, "mode", 0o600);
        let mtime = Some(Time { sec: 1, nsec: 1 });
        attr(&a, "times", AttrChange { mtime, ..AttrChange::default() });
        let set = |path, name: &[u8]| {
            a.set_xattr(&a.at(path).unwrap().0, name, Some(b"value"), XattrMode::Any).unwrap();
        };
        set("attributes", b"user.a");
        a.put("own", "own").unwrap();
        set("own", b"trusted.a");
        set("own", b"security.capability");
        set("own", b"user.fine");
        a.put("dir/new", "new").unwrap();
        let reported = [
            "own: security.capability could not be set",
            "own: trusted.a could not be set: Operation not permitted",
            "attributes: user.a",
            "dir: times",
            "mode: mode 600",
            "times: times could not be set",
        ];
        commit(&w, &a, &reported);
    };
    let check = |base: &Path| {
        assert_eq!(mode_of(&base.join("mode")), 0o644);
        assert_eq!(std::fs::read_to_string(base.join("dir/new")).unwrap(), "new");
        assert_eq!(std::fs::read_to_string(base.join("own")).unwrap(), "own");
    };
    as_nobody(
        "attributes_of_what_belongs_to_others_are_reported_and_the_rest_of_the_commit_is_done",
        prepare,
        act,
        check,
    );
}

/// Device nodes that nobody may make, first and further names of them, alone and in new directories.
#[test]
fn a_device_node_that_may_not_be_made_is_left_out_and_reported() {
    let prepare = |base: &Path| file_of(NOBODY, &base.join("f"), 0o644, "f");
    let act = |base: &Path| {
        let w = Workspace::over(base);
        let a = w.fork("main", "a");
        a.make_dir("d").unwrap();
        let device = |path: &str| {
            let (dir, name) = a.parent_of(path).unwrap();
            let kind = NewKind::Special { kind: Kind::Char, rdev: 1 << 32 | 3 };
            a.create(&dir, name.as_bytes(), common::new(kind, 0o666)).unwrap();
        };
        device("null");
        device("d/null");
        a.ln("null", "zero").unwrap();
        device("other");
        a.mv("other", "f").unwrap();
        a.put("fine", "fine").unwrap();
        let warnings = w.store().commit(&a).unwrap().warnings;
        for path in ["null", "d/null", "f"] {
            let what = format!("{path}: the device node could not be made: Operation not permitted");
            assert!(warnings.iter().any(|warning| warning.starts_with(&what)), "{warnings:#?}");
        }
        assert!(warnings.iter().any(|w| w.starts_with("zero ")), "{warnings:#?}");
        let names: Vec<String> = w.base_tree().into_keys().collect();
        assert_eq!(names, ["d", "f", "fine"]);
        assert_eq!(
            std::fs::read_to_string(base.join("f")).unwrap(),
            "f",
            "what it should have replaced stays"
        );
    };
    as_nobody("a_device_node_that_may_not_be_made_is_left_out_and_reported", prepare, act, nothing);
}

#[test]
fn what_nobody_may_read_cannot_be_read_or_copied_up_and_can_be_moved() {
    let prepare = |base: &Path| {
        file_of(SOMEBODY, &base.join("secret"), 0o600, "secret");
        dir_of(SOMEBODY, &base.join("closed"), 0o700);
        dir_of(NOBODY, &base.join("d"), 0o755);
    };
    let act = |base: &Path| {
        let w = Workspace::over(base);
        let a = w.fork("main", "a");
        let file = a.open(&a.at("secret").unwrap().0, Access::Write).unwrap();
        assert_eq!(errno(file.read_at(&mut [0; 9], 0)), Errno::ACCESS);
        assert_eq!(errno(file.write_at(b"x", 0)), Errno::ACCESS);
        assert_eq!(errno(a.names("closed")), Errno::ACCESS);
        assert_eq!(a.changed(), 0);
        a.mv("secret", "d/still secret").unwrap();
        assert_eq!(w.store().commit(&a).unwrap().warnings, [""; 0]);
    };
    let check = |base: &Path| {
        let meta = base.join("d/still secret").metadata().unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o7777, meta.len()), (SOMEBODY, 0o600, 6));
    };
    as_nobody("what_nobody_may_read_cannot_be_read_or_copied_up_and_can_be_moved", prepare, act, check);
}

/// What the host would refuse behind the decision is a conflict before it: the whole commit, or nothing.
#[test]
fn a_commit_that_the_host_would_stop_half_way_is_refused_before_it_starts() {
    let prepare = |base: &Path| {
        dir_of(SOMEBODY, &base.join("closed"), 0o755);
        file_of(NOBODY, &base.join("closed/mine"), 0o644, "mine");
        dir_of(SOMEBODY, &base.join("sticky"), 0o1777);
        file_of(SOMEBODY, &base.join("sticky/theirs"), 0o666, "theirs");
        dir_of(SOMEBODY, &base.join("fixed"), 0o755);
        file_of(SOMEBODY, &base.join("linked"), 0o644, "linked");
        std::fs::hard_link(base.join("linked"), base.join("linked too")).unwrap();
        file_of(SOMEBODY, &base.join("kept"), 0o644, "kept");
        dir_of(NOBODY, &base.join("d"), 0o755);
    };
    let act = |base: &Path| {
        type Case = (&'static str, fn(&Arc<Branch>) -> Result<()>);
        let cases: [Case; 6] = [
            ("closed", |b| b.put("closed/mine", "changed")),
            ("closed", |b| b.put("closed/new", "new")),
            ("sticky/theirs", |b| b.put("sticky/theirs", "changed")),
            ("fixed", |b| b.mv("fixed", "d/fixed")),
            ("linked", |b| b.overwrite("linked", "X")),
            ("kept", |b| b.ln("kept", "d/kept")),
        ];
        let w = Workspace::over(base);
        for (path, act) in cases {
            let a = w.fork("main", "a");
            act(&a).unwrap();
            a.put("fine", "fine").unwrap();
            let (before, seen) = (w.base_tree(), a.tree());
            let committed = w.store().commit(&a);
            let Err(Error::Conflicts(conflicts)) = committed else { panic!("{path}: {committed:?}") };
            let found: Vec<_> = conflicts.iter().map(|c| (&*c.path, c.kind)).collect();
            assert_eq!(found, [(path.as_bytes(), ConflictKind::NotPermitted)]);
            assert_eq!((w.base_tree(), a.tree()), (before, seen), "{path}: nothing was changed");
            w.store().abort(&a, Children::Refuse).unwrap();
        }
        let a = w.fork("main", "a");
        a.put("sticky/mine", "new").unwrap();
        a.mv("kept", "d/kept").unwrap();
        assert_eq!(w.store().commit(&a).unwrap().warnings.len(), 1, "the times of the sticky directory");
    };
    as_nobody(
        "a_commit_that_the_host_would_stop_half_way_is_refused_before_it_starts",
        prepare,
        act,
        nothing,
    );
}

#[test]
fn a_read_only_file_of_ours_with_several_names_is_rewritten_in_place() {
    let prepare = |base: &Path| {
        file_of(NOBODY, &base.join("f"), 0o444, "old");
        std::fs::hard_link(base.join("f"), base.join("g")).unwrap();
    };
    let act = |base: &Path| {
        let w = Workspace::over(base);
        let a = w.fork("main", "a");
        a.overwrite("f", "NEW").unwrap();
        commit(&w, &a, &[]);
        assert_eq!(mode_of(&base.join("g")), 0o444);
    };
    as_nobody("a_read_only_file_of_ours_with_several_names_is_rewritten_in_place", prepare, act, nothing);
}

/// The host takes the bit away without a word: the group is not one of ours.
#[test]
fn a_set_group_id_bit_that_the_host_drops_is_reported() {
    let prepare = |base: &Path| {
        file_of(NOBODY, &base.join("f"), 0o755, "f");
        std::os::unix::fs::chown(base.join("f"), None, Some(SOMEBODY)).unwrap();
    };
    let act = |base: &Path| {
        let w = Workspace::over(base);
        let a = w.fork("main", "a");
        chmod(&a, "f", 0o2755);
        commit(&w, &a, &["f: mode 2755"]);
        assert_eq!(mode_of(&base.join("f")), 0o755);
    };
    as_nobody("a_set_group_id_bit_that_the_host_drops_is_reported", prepare, act, nothing);
}
