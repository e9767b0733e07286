//! Marks of a branch, and going back to them: everything is as it was, for everybody but those who have something open
//! that was made since.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use branch_store::*;
use common::{Paths, Workspace, errno};
use rustix::io::Errno;

const FILES: &[(&str, &str)] = &[
    ("f", "of the base"),
    ("g", "also of the base"),
    ("d/x", "x"),
    ("d/sub/deep", "deep"),
    ("d/sub/other", "other"),
    ("left/alone", "alone"),
];

/// Everything that can be seen of a branch, times too.
fn picture(branch: &Arc<Branch>) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut open = vec![(String::new(), branch.root())];
    while let Some((path, object)) = open.pop() {
        let stat = branch.stat(&object).unwrap();
        let names = branch.xattrs(&object).unwrap();
        let xattrs: Vec<_> = names.iter().map(|name| branch.xattr(&object, name).unwrap()).collect();
        let body = match stat.kind {
            Kind::File => branch.read_all(&path).unwrap(),
            Kind::Symlink => String::from_utf8(branch.read_link(&object).unwrap()).unwrap(),
            _ => String::new(),
        };
        if stat.kind == Kind::Dir {
            for entry in branch.read_dir(&object).unwrap() {
                let name = String::from_utf8_lossy(entry.name.as_bytes()).into_owned();
                open.push((if path.is_empty() { name } else { format!("{path}/{name}") }, entry.object));
            }
        }
        let Stat { id, mode, uid, gid, nlink, rdev, size, mtime, ctime, .. } = stat;
        let seen = format!("{id:?} {mode:o} {uid}:{gid} x{nlink} {rdev} {size} {mtime:?} {ctime:?}");
        out.insert(path, format!("{seen} {names:?} {xattrs:?} {body}"));
    }
    out
}

fn restore(w: &Workspace, branch: &Arc<Branch>, name: &str) -> Restored {
    let restored = w.store().restore(branch, name, &|_| false).unwrap();
    assert_eq!(restored.orphans, [], "nobody has anything open");
    restored
}

fn marks(branch: &Branch) -> Vec<String> {
    branch.marks().into_iter().map(|mark| mark.name).collect()
}

/// `rm -r`.
fn remove_all(branch: &Arc<Branch>, path: &str) {
    for name in branch.names(path).unwrap() {
        let path = format!("{path}/{name}");
        match branch.at(&path).unwrap().1.kind {
            Kind::Dir => remove_all(branch, &path),
            _ => branch.remove(&path).unwrap(),
        }
    }
    branch.remove_dir(path).unwrap();
}

/// What somebody at work does, of every kind, told apart by a letter.
fn work(branch: &Arc<Branch>, letter: &str) {
    branch.overwrite("f", letter).unwrap();
    branch.put(&format!("new-{letter}"), letter).unwrap();
    branch.make_dir(&format!("dir-{letter}")).unwrap();
    branch.put(&format!("dir-{letter}/in"), letter).unwrap();
    branch.ln("g", &format!("linked-{letter}")).unwrap();
    branch.overwrite("g", letter).unwrap();
    let mode = AttrChange { mode: Some(0o600), size: Some(3), ..AttrChange::default() };
    branch.set_attr(&branch.at("left/alone").unwrap().0, &mode).unwrap();
    branch
        .set_xattr(&branch.at("left").unwrap().0, b"user.x", Some(letter.as_bytes()), XattrMode::Any)
        .unwrap();
    let link = common::new(NewKind::Symlink(letter.into()), 0o777);
    branch.create(&branch.root(), format!("symlink-{letter}").as_bytes(), link).unwrap();
}

#[test]
fn a_restore_brings_everything_back_and_can_be_undone() {
    let mut w = Workspace::new(FILES);
    std::fs::hard_link(w.base().join("g"), w.base().join("d/g-too")).unwrap();
    let b = w.fork("main", "b");
    let untouched = picture(&b);
    assert_eq!(w.store().mark(&b, Some("start")).unwrap(), "start");
    work(&b, "A");
    let first = picture(&b);
    assert_eq!(w.store().mark(&b, None).unwrap(), "1");
    work(&b, "B");
    remove_all(&b, "d");
    b.mv("left", "right").unwrap();
    b.remove("new-A").unwrap();
    b.put("new-A", "another of this name").unwrap();
    let second = picture(&b);

    assert_eq!(restore(&w, &b, "1").saved, Some(BEFORE_RESTORE));
    assert_eq!(picture(&b), first);
    assert_eq!(restore(&w, &b, BEFORE_RESTORE).saved, None, "a mark had just that");
    assert_eq!(picture(&b), second);
    assert_eq!(restore(&w, &b, "start").saved, None);
    assert_eq!(picture(&b), untouched);
    assert_eq!(b.changed(), 0);
    assert_eq!(marks(&b), ["start", "1", BEFORE_RESTORE], "later ones stay");
    drop(b);
    for checkpoint in [false, true] {
        if checkpoint {
            w.store().checkpoint().unwrap();
        }
        assert_eq!(w.reopen().lines, Vec::<String>::new());
        let b = w.branch("b");
        assert_eq!(picture(&b), untouched);
        for (name, then) in [("1", &first), (BEFORE_RESTORE, &second), ("start", &untouched)] {
            restore(&w, &b, name);
            assert_eq!(&picture(&b), then, "{name} after reopening, checkpoint {checkpoint}");
        }
    }
}

#[test]
fn what_a_mark_has_never_changes_however_it_is_written_later() {
    let w = Workspace::new(FILES);
    let b = w.fork("main", "b");
    b.put("own", "0123456789").unwrap();
    b.overwrite("f", "OF").unwrap();
    let writer = b.open(&b.at("own").unwrap().0, Access::Write).unwrap();
    let then = picture(&b);
    w.store().mark(&b, Some("m")).unwrap();
    writer.write_at(b"in place", 0).unwrap();
    writer.allocate(0, 100, 10).unwrap();
    b.overwrite("f", "XXXX").unwrap();
    let set = |path: &str, change: AttrChange| b.set_attr(&b.at(path).unwrap().0, &change).unwrap();
    set("f", AttrChange { size: Some(1), ..AttrChange::default() });
    set("own", AttrChange { mtime: Some(Time { sec: 7, nsec: 7 }), ..AttrChange::default() });
    b.remove("own").unwrap();
    w.store().reclaim().unwrap();
    restore(&w, &b, "m");
    assert_eq!(picture(&b), then);
    // And again: what is restored is as frozen as what was marked.
    b.overwrite("own", "in place").unwrap();
    restore(&w, &b, "m");
    assert_eq!(picture(&b), then);
}

#[test]
fn what_would_be_lost_is_saved_and_nothing_else() {
    let w = Workspace::new(FILES);
    let b = w.fork("main", "b");
    w.store().mark(&b, Some("a")).unwrap();
    b.put("precious", "work").unwrap();
    let precious = picture(&b);
    assert_eq!(restore(&w, &b, "a").saved, Some(BEFORE_RESTORE));
    assert_eq!(restore(&w, &b, "a").saved, None);
    // What lost its name and is open is no work that could be lost.
    b.put("open", "x").unwrap();
    w.store().mark(&b, Some("c")).unwrap();
    let open = b.at("open").unwrap().0;
    let restored = w.store().restore(&b, "a", &|id| id == open.id).unwrap();
    assert_eq!((restored.saved, &restored.orphans[..]), (None, &[open.id][..]));
    b.reap(open.id).unwrap();
    assert_eq!(restore(&w, &b, "a").saved, None);
    restore(&w, &b, BEFORE_RESTORE);
    assert_eq!(picture(&b), precious, "still there");
    b.put("more", "work").unwrap();
    let more = picture(&b);
    assert_eq!(restore(&w, &b, BEFORE_RESTORE).saved, Some(BEFORE_RESTORE), "it changes places");
    assert_eq!(picture(&b), precious);
    restore(&w, &b, BEFORE_RESTORE);
    assert_eq!(picture(&b), more);
}

/// Story: the model restored `before-restore`, which noted something else in its place, and then another mark. The
/// first state was taken for kept, as the last restore had made it, and was in no mark any more.
#[test]
fn what_was_restored_from_a_mark_that_is_gone_is_saved() {
    let w = Workspace::new(FILES);
    let b = w.fork("main", "b");
    w.store().mark(&b, Some("start")).unwrap();
    b.put("first", "work").unwrap();
    let first = picture(&b);
    restore(&w, &b, "start");
    b.put("second", "work").unwrap();
    assert_eq!(restore(&w, &b, BEFORE_RESTORE).saved, Some(BEFORE_RESTORE), "the second");
    assert_eq!(picture(&b), first);
    assert_eq!(restore(&w, &b, "start").saved, Some(BEFORE_RESTORE), "the first, which is in no mark");
    restore(&w, &b, BEFORE_RESTORE);
    assert_eq!(picture(&b), first);
    w.store().mark(&b, Some("named")).unwrap();
    restore(&w, &b, "start");
    restore(&w, &b, "named");
    for name in ["named", BEFORE_RESTORE] {
        w.store().unmark(&b, name).unwrap();
    }
    assert_eq!(restore(&w, &b, "start").saved, Some(BEFORE_RESTORE), "its mark was removed");
    restore(&w, &b, BEFORE_RESTORE);
    assert_eq!(picture(&b), first);
}

#[test]
fn open_files_follow_the_branch_or_live_on_without_a_name() {
    let w = Workspace::new(FILES);
    let b = w.fork("main", "b");
    b.put("own", "marked").unwrap();
    w.store().mark(&b, Some("m")).unwrap();
    b.overwrite("own", "LATER!").unwrap();
    b.overwrite("f", "LATER!").unwrap();
    b.put("young", "made since").unwrap();
    let objects = ["own", "f", "young"].map(|path| b.at(path).unwrap().0);
    let [own, base, young] = objects.clone().map(|object| b.open(&object, Access::Write).unwrap());
    let read = |file: &OpenFile| {
        let mut bytes = [0; 64];
        let n = file.read_at(&mut bytes, 0).unwrap();
        String::from_utf8(bytes[..n].to_vec()).unwrap()
    };
    assert_eq!((&*read(&own), &*read(&base), &*read(&young)), ("LATER!", "LATER! base", "made since"));
    let restored = w.store().restore(&b, "m", &|_| true).unwrap();
    assert_eq!(restored.orphans, [objects[2].id]);
    assert_eq!((&*read(&own), &*read(&base), &*read(&young)), ("marked", "of the base", "made since"));
    assert_eq!(errno(b.at("young")), Errno::NOENT);
    assert_eq!(b.stat(&objects[2]).unwrap().nlink, 0);
    for file in [&own, &base, &young] {
        file.write_at(b"AGAIN", 0).unwrap();
    }
    assert_eq!((&*b.read_all("own").unwrap(), &*b.read_all("f").unwrap()), ("AGAINd", "AGAINe base"));
    assert_eq!(read(&young), "AGAINsince");
    b.reap(objects[2].id).unwrap();
    assert_eq!(b.stat(&objects[2]).unwrap_err().errno(), Errno::STALE);
    // The mark of before has the file under its name, with what was in it then.
    restore(&w, &b, BEFORE_RESTORE);
    assert_eq!(b.read_all("young").unwrap(), "made since");
}

#[test]
fn a_file_that_was_removed_and_open_when_it_was_marked_has_no_name_after_a_restore() {
    let mut w = Workspace::new(FILES);
    let b = w.fork("main", "b");
    b.put("own", "x").unwrap();
    w.store().mark(&b, Some("named")).unwrap();
    let (root, own) = (b.root(), b.at("own").unwrap().0);
    let file = b.open(&own, Access::Write).unwrap();
    assert_eq!(b.unlink(&root, b"own").unwrap().orphan, Some(own.id));
    w.store().mark(&b, Some("open")).unwrap();
    restore(&w, &b, "named");
    assert_eq!(b.read_all("own").unwrap(), "x");
    file.write_at(b"y", 0).unwrap();
    let restored = w.store().restore(&b, "open", &|id| id == own.id).unwrap();
    assert_eq!((restored.saved, &restored.orphans[..]), (Some(BEFORE_RESTORE), &[own.id][..]));
    let mut byte = [0];
    assert_eq!(
        (file.read_at(&mut byte, 0).unwrap(), byte),
        (1, *b"y"),
        "it is who has it open who wrote this"
    );
    drop(file);
    b.reap(own.id).unwrap();
    restore(&w, &b, "open");
    assert_eq!(errno(b.stat(&own)), Errno::STALE, "nobody has it open any more");
    w.store().checkpoint().unwrap();
    drop(b);
    w.reopen();
    let b = w.branch("b");
    restore(&w, &b, BEFORE_RESTORE);
    assert_eq!(b.read_all("own").unwrap(), "y");
}

#[test]
fn a_removed_file_of_the_base_that_is_open_has_its_name_again() {
    let w = Workspace::new(FILES);
    let b = w.fork("main", "b");
    w.store().mark(&b, Some("m")).unwrap();
    let then = picture(&b);
    let (root, object) = (b.root(), b.at("f").unwrap().0);
    let file = b.open(&object, Access::Write).unwrap();
    assert_eq!(b.unlink(&root, b"f").unwrap().orphan, Some(object.id));
    file.write_at(b"written without a name", 0).unwrap();
    let restored = w.store().restore(&b, "m", &|id| id == object.id).unwrap();
    assert_eq!(restored.orphans, []);
    assert_eq!(picture(&b), then);
    let mut bytes = [0; 32];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), "of the base".len(), "it is the same file");
    b.reap(object.id).unwrap();
    assert_eq!(picture(&b), then, "the last who had it open takes nothing along");
}

/// What is the base's own in the branch has no node: nothing but the name that the mark covers tells of it.
#[test]
fn a_file_of_the_base_that_is_open_and_not_in_the_mark_has_no_name_after_a_restore() {
    let mut w = Workspace::new(FILES);
    let b = w.fork("main", "b");
    w.store().mark(&b, Some("all")).unwrap();
    remove_all(&b, "d");
    b.remove("f").unwrap();
    b.put("f", "another").unwrap();
    b.remove("g").unwrap();
    w.store().mark(&b, Some("few")).unwrap();
    restore(&w, &b, "all");
    let objects = ["f", "g", "d/sub/deep", "d/sub"].map(|path| b.at(path).unwrap().0);
    let open = [0, 2].map(|n| b.open(&objects[n], Access::Write).unwrap());
    let is_known = |id| id != objects[1].id && objects.iter().any(|object| object.id == id);
    let mut orphans = w.store().restore(&b, "few", &is_known).unwrap().orphans;
    orphans.sort_unstable();
    let mut nameless = [objects[0].id, objects[2].id];
    nameless.sort_unstable();
    assert_eq!(orphans, nameless, "a removed directory stays as it is, and nobody has the other file open");
    for (object, then) in [(&objects[0], "of the base"), (&objects[2], "deep")] {
        let file = b.open(object, Access::Write).unwrap();
        let mut bytes = [0; 32];
        let read = file.read_at(&mut bytes, 0).unwrap();
        assert_eq!((&bytes[..read], b.stat(object).unwrap().nlink), (then.as_bytes(), 0));
    }
    let [f, deep] = open;
    f.write_at(b"OF", 0).unwrap();
    deep.write_at(b"DE", 0).unwrap();
    let mut bytes = [0; 32];
    assert_eq!((f.read_at(&mut bytes, 0).unwrap(), &bytes[..11]), (11, &b"OF the base"[..]));
    assert_eq!(b.read_all("f").unwrap(), "another");
    drop((f, deep));
    // The last one to have it open takes nothing along, and neither does a death.
    b.reap(objects[0].id).unwrap();
    drop(b);
    w.reopen();
    let b = w.branch("b");
    assert_eq!(b.read_all("f").unwrap(), "another");
    restore(&w, &b, "all");
    assert_eq!((&*b.read_all("f").unwrap(), &*b.read_all("d/sub/deep").unwrap()), ("of the base", "deep"));
}

#[test]
fn directories_that_were_removed_are_back_and_named() {
    let w = Workspace::new(FILES);
    let b = w.fork("main", "b");
    b.make_dir("own").unwrap();
    let then = picture(&b);
    w.store().mark(&b, Some("m")).unwrap();
    let [own, base] = ["own", "d"].map(|path| b.at(path).unwrap().0);
    assert_eq!(b.rmdir(&b.root(), b"own").unwrap().orphan, Some(own.id), "somebody is in it");
    remove_all(&b, "d");
    b.make_dir("d").unwrap();
    b.put("d/x", "another").unwrap();
    let restored = w.store().restore(&b, "m", &|id| id == own.id || id == base.id).unwrap();
    assert!([own.id, base.id].iter().all(|id| restored.revived.contains(id)), "{:?}", restored.revived);
    assert_eq!(picture(&b), then);
    // The base keeps what it has when such a branch is committed.
    let before = w.base_tree();
    w.store().commit(&b).unwrap();
    let mut after = w.base_tree();
    assert!(after.remove("own").is_some());
    assert_eq!(after, before);
}

#[test]
fn a_view_is_told_all_that_it_has_to_forget() {
    let w = Workspace::new(FILES);
    let b = w.fork("main", "b");
    w.store().mark(&b, Some("m")).unwrap();
    let dir = b.at("d").unwrap().0;
    b.put("d/new", "").unwrap();
    b.remove("d/x").unwrap();
    let new = b.at("d/new").unwrap().0;
    let restored = restore(&w, &b, "m");
    let told = |what: Invalidate| restored.invalid.contains(&Invalid { branch: b.id(), what });
    let entry = |dir: &Object, name: &[u8]| {
        let entries = restored.invalid.iter().filter_map(|i| match &i.what {
            Invalidate::Entry { dir, name } => Some((*dir, name.as_bytes().to_vec())),
            Invalidate::Inode(_) => None,
        });
        entries.into_iter().any(|found| found == (dir.id, name.to_vec()))
    };
    // The root and `d` are the base's own again, `new` is gone, `x` was believed absent.
    assert!(told(Invalidate::Inode(b.root().id)) && told(Invalidate::Inode(dir.id)));
    assert!(told(Invalidate::Inode(new.id)));
    assert!(entry(&dir, b"new") && entry(&dir, b"x") && entry(&b.root(), b"d"));
}

#[test]
fn children_keep_what_they_forked_from_and_commit_into_what_the_parent_is_now() {
    let w = Workspace::new(FILES);
    let parent = w.fork("main", "parent");
    w.store().mark(&parent, Some("m")).unwrap();
    let then = picture(&parent);
    parent.put("d/of-parent", "p").unwrap();
    parent.put("left/of-parent", "p").unwrap();
    parent.overwrite("f", "PARENT").unwrap();
    let children = w.fork_as("parent", &["one", "two"], GroupKind::Independent);
    let [one, two] = [&children[0], &children[1]];
    one.put("d/of-child", "c").unwrap();
    two.overwrite("f", "child").unwrap();
    assert_eq!(marks(one), Vec::<String>::new(), "children have marks of their own");
    let (of_one, of_two) = (picture(one), picture(two));
    restore(&w, &parent, "m");
    assert_eq!((picture(one), picture(two)), (of_one, of_two));
    // Directories are the parent's own now, left as they were.
    let but_ctime = |p: &BTreeMap<String, String>| p.keys().cloned().collect::<Vec<_>>();
    assert_eq!(but_ctime(&picture(&parent)), but_ctime(&then));
    w.store().commit(one).unwrap();
    assert_eq!(parent.read_all("d/of-child").unwrap(), "c");
    assert_eq!(
        errno(parent.at("d/of-parent")),
        Errno::NOENT,
        "the parent took it back, the child left it alone"
    );
    assert_eq!(parent.read_all("f").unwrap(), "of the base");
    let conflict = w.store().commit(two).unwrap_err();
    let Error::Conflicts(conflicts) = conflict else { panic!("{conflict}") };
    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts[0].path, b"f", "changed by the child, taken back by the parent");
    // The commit of a child can be taken back like anything else.
    restore(&w, &parent, "m");
    assert_eq!(errno(parent.at("d/of-child")), Errno::NOENT);
    w.store().abort(&parent, Children::Cascade).unwrap();
}

/// Story: the parent had put a file in the place of the base's, and took that back after a child had forked. The child
/// removed the file; the name, which means the base's again, passed for one that neither has.
#[test]
fn what_a_parent_took_back_and_a_child_removed_is_a_conflict() {
    let w = Workspace::new(FILES);
    let parent = w.fork("main", "parent");
    w.store().mark(&parent, Some("m")).unwrap();
    parent.remove("g").unwrap();
    parent.put("g", "in its place").unwrap();
    parent.overwrite("f", "PARENT").unwrap();
    let children = w.fork_as("parent", &["one", "two"], GroupKind::Independent);
    let [one, two] = [&children[0], &children[1]];
    restore(&w, &parent, "m");
    one.remove("g").unwrap();
    two.remove("f").unwrap();
    for (child, path) in [(one, "g"), (two, "f")] {
        let conflict = w.store().commit(child).unwrap_err();
        let Error::Conflicts(conflicts) = conflict else { panic!("{conflict}") };
        let paths: Vec<&[u8]> = conflicts.iter().map(|conflict| &conflict.path[..]).collect();
        assert_eq!(paths, [path.as_bytes()]);
    }
    assert_eq!((parent.read_all("f").unwrap(), parent.read_all("g").unwrap()), (text("f"), text("g")));
}

fn text(path: &str) -> String {
    FILES.iter().find(|(name, _)| *name == path).unwrap().1.to_owned()
}

/// Story: the parent had changed files and directories of the base, and took that back. As another child had forked
/// with the changes, what they had been about stayed in the parent's tree, and met whatever the first child had done.
#[test]
fn what_a_parent_changed_and_took_back_is_no_change_for_a_child_that_forked_before() {
    let mut w = Workspace::new(FILES);
    std::fs::hard_link(w.base().join("g"), w.base().join("d/g-too")).unwrap();
    let parent = w.fork("main", "parent");
    w.store().mark(&parent, Some("m")).unwrap();
    w.fork_as("parent", &["early"], GroupKind::Independent);
    let mode = AttrChange { mode: Some(0o600), ..AttrChange::default() };
    for path in ["f", "g", "d/x", "d/sub", "d/sub/deep", "left/alone"] {
        parent.set_attr(&parent.at(path).unwrap().0, &mode).unwrap();
    }
    parent.mv("d/sub/other", "moved").unwrap();
    w.fork_as("parent", &["late"], GroupKind::Independent);
    restore(&w, &parent, "m");
    let early = w.branch("early");
    early.remove("f").unwrap();
    early.put("f", "another").unwrap();
    early.remove("g").unwrap();
    remove_all(&early, "d");
    early.overwrite("left/alone", "edited").unwrap();
    let shown = |branch: &Arc<Branch>| picture(branch).into_keys().collect::<Vec<_>>();
    let wanted = shown(&early);
    w.store().commit(&early).unwrap();
    drop((parent, early));
    for restart in [false, true] {
        if restart {
            assert_eq!(w.reopen().lines, Vec::<String>::new());
        }
        let parent = w.branch("parent");
        assert_eq!(shown(&parent), wanted);
        assert_eq!(parent.read_all("f").unwrap(), "another");
        assert_eq!(parent.read_all("left/alone").unwrap(), "edited");
    }
    // What a child did that had seen the changes is about them.
    let late = w.branch("late");
    late.overwrite("left/alone", "late").unwrap();
    assert!(matches!(w.store().commit(&late), Err(Error::Conflicts(_))));
    w.store().abort(&late, Children::Refuse).unwrap();
    w.store().commit(&w.branch("parent")).unwrap();
    assert_eq!(std::fs::read_to_string(w.base().join("left/alone")).unwrap(), "edited");
    assert!(!w.base().join("d").exists() && !w.base().join("g").exists());
}

#[test]
fn a_commit_after_a_restore_brings_what_is_shown_and_ends_the_marks() {
    let w = Workspace::new(FILES);
    let b = w.fork("main", "b");
    b.put("kept", "kept").unwrap();
    b.overwrite("d/x", "K").unwrap();
    w.store().mark(&b, Some("m")).unwrap();
    remove_all(&b, "d");
    b.overwrite("kept", "lost").unwrap();
    b.overwrite("f", "lost").unwrap();
    restore(&w, &b, "m");
    let shown = b.tree();
    w.store().commit(&b).unwrap();
    assert_eq!(w.base_tree(), shown);
    assert_eq!(errno(w.store().mark(&b, None)), Errno::STALE);
    assert_eq!(errno(w.store().restore(&b, "m", &|_| false).map(drop)), Errno::STALE);
    let again = w.fork("main", "b");
    assert_eq!(marks(&again), Vec::<String>::new());
    w.store().reclaim().unwrap();
    assert_eq!(
        std::fs::read_dir(w.base().join(".branchfs/content")).unwrap().count(),
        0,
        "all is given back"
    );
}

#[test]
fn what_only_a_removed_mark_needed_is_given_back() {
    let mut w = Workspace::new(FILES);
    let b = w.fork("main", "b");
    let big = "x".repeat(1 << 20);
    let bytes = |b: &Arc<Branch>| b.holdings().unwrap().exclusive;
    for name in ["a", "b", "c"] {
        b.put("big", &big).unwrap();
        b.put(name, &big).unwrap();
        w.store().mark(&b, Some(name)).unwrap();
    }
    let child = w.fork("b", "child");
    b.put("big", "small").unwrap();
    w.store().reclaim().unwrap();
    assert!(bytes(&b) >= 6 << 20, "all versions: {}", bytes(&b));
    w.store().unmark(&b, "a").unwrap();
    w.store().reclaim().unwrap();
    assert!((5 << 20..6 << 20).contains(&bytes(&b)), "'a' is still there, big of then is not: {}", bytes(&b));
    w.store().unmark(&b, "b").unwrap();
    w.store().unmark(&b, "c").unwrap();
    w.store().reclaim().unwrap();
    assert!((4 << 20..5 << 20).contains(&bytes(&b)), "the child has the last big one: {}", bytes(&b));
    assert_eq!(child.read_all("big").unwrap(), big);
    for name in ["a", "b", "c"] {
        assert_eq!(b.read_all(name).unwrap(), big, "the branch has it");
        b.remove(name).unwrap();
    }
    w.store().abort(&child, Children::Refuse).unwrap();
    w.store().mark(&b, Some("d")).unwrap();
    w.store().unmark(&b, "d").unwrap();
    w.store().reclaim().unwrap();
    assert!(bytes(&b) < 1 << 20, "{}", bytes(&b));
    let layers = std::fs::read_dir(w.base().join(".branchfs/content")).unwrap().count();
    assert!(layers <= 2, "{layers}: layers that hold nothing are gone");
    drop((b, child));
    w.reopen();
    assert_eq!(w.branch("b").read_all("big").unwrap(), "small");
    assert_eq!(marks(&w.branch("b")), Vec::<String>::new());
}

#[test]
fn marks_have_rules() {
    let w = Workspace::new(FILES);
    let (main, b) = (w.store().main(), w.fork("main", "b"));
    for name in ["", ".x", "a/b", "main", BEFORE_RESTORE] {
        assert!(matches!(w.store().mark(&b, Some(name)), Err(Error::BadBranchName { .. })), "{name:?}");
    }
    w.store().mark(&b, Some("m")).unwrap();
    assert!(matches!(w.store().mark(&b, Some("m")), Err(Error::MarkExists { .. })));
    assert!(matches!(w.store().unmark(&b, "n"), Err(Error::NoSuchMark { .. })));
    assert!(matches!(w.store().restore(&b, "n", &|_| false), Err(Error::NoSuchMark { .. })));
    assert!(matches!(w.store().mark(&main, None), Err(Error::NotAllowed(_))));
    assert!(matches!(w.store().restore(&main, "m", &|_| false), Err(Error::NotAllowed(_))));
    let frozen = w.fork_as("b", &["c"], GroupKind::Frozen);
    assert!(matches!(w.store().restore(&b, "m", &|_| false), Err(Error::NotAllowed(_))));
    w.store().mark(&b, Some("while-frozen")).unwrap();
    w.store().abort(&frozen[0], Children::Refuse).unwrap();
    restore(&w, &b, "m");
    w.store().abort(&b, Children::Refuse).unwrap();
    assert_eq!(errno(w.store().unmark(&b, "m")), Errno::STALE);
}

#[test]
fn marks_of_one_tree_cost_a_pointer_each_in_memory_and_in_the_checkpoint() {
    let mut w = Workspace::new(FILES);
    let b = w.fork("main", "b");
    for n in 0..2000 {
        b.put(&format!("f{n}"), "x").unwrap();
    }
    w.store().checkpoint().unwrap();
    let size = |w: &Workspace| {
        let files = std::fs::read_dir(w.base().join(".branchfs")).unwrap().map(|entry| entry.unwrap());
        let checkpoint = files.filter(|f| f.file_name().to_string_lossy().starts_with("checkpoint."));
        checkpoint.map(|f| f.metadata().unwrap().len()).sum::<u64>()
    };
    let (resident, on_disk) = (resident(), size(&w));
    for n in 0..MARKS_MAX {
        b.overwrite("f7", "y").unwrap();
        w.store().mark(&b, Some(&format!("m{n}"))).unwrap();
    }
    assert!(matches!(w.store().mark(&b, None), Err(Error::Limit { .. })));
    w.store().checkpoint().unwrap();
    let each = (size(&w) - on_disk) / MARKS_MAX as u64;
    assert!(each < 300, "{each} bytes a mark in the checkpoint");
    let before = picture(&b);
    drop(b);
    w.reopen();
    let each = resident_since(resident) / MARKS_MAX as u64;
    // A copy of 2000 nodes would be half a megabyte.
    assert!(each < 20_000, "{each} bytes a mark in memory");
    let b = w.branch("b");
    assert_eq!(picture(&b), before);
    restore(&w, &b, "m0");
    assert_eq!(b.read_all("f7").unwrap(), "y");
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn resident_since(then: u64) -> u64 {
    resident().saturating_sub(then)
}

#[test]
fn a_marked_tree_can_be_compared_and_read_as_long_as_the_mark_is_there() {
    let w = Workspace::new(FILES);
    let b = w.fork("main", "b");
    b.put("f", "marked").unwrap();
    w.store().mark(&b, Some("m")).unwrap();
    b.put("f", "later").unwrap();
    b.put("new", "").unwrap();
    let (old, new) = (w.store().marked(&b, "m").unwrap(), w.store().side(&b).unwrap());
    let changes = w.store().compare(&old, &new, Directories::Whole).unwrap();
    let paths: Vec<_> = changes.iter().map(|c| (&c.path[..], &c.kind)).collect();
    assert_eq!(paths, [(&b"f"[..], &ChangeKind::Modified), (b"new", &ChangeKind::Added)]);
    let (object, _) = old.resolve(b"f").unwrap().unwrap();
    assert_eq!(old.read(&object, 100).unwrap().unwrap(), b"marked");
    w.store().unmark(&b, "m").unwrap();
    assert!(matches!(old.read(&object, 100), Err(Error::NoSuchMark { .. })));
    assert!(matches!(w.store().marked(&b, "m"), Err(Error::NoSuchMark { .. })));
}
