//! Verbs and edits that put other bytes in a file's place, under readers that pass.

use std::fs;

use branch_proto::GroupKind;

use crate::scene::{Reader, full_of, passing, read_alone};

#[test]
fn commit_undo_and_redo_leave_the_readers_of_main_their_bytes() {
    let Some(workspace) = passing(|base| fs::write(base.join("file"), full_of(b'a')).unwrap()) else {
        return;
    };
    let (path, base) = (workspace.view("main").join("file"), workspace.base().join("file"));
    let first = Reader::of(&path);
    fs::write(workspace.branch("one").join("file"), full_of(b'b')).unwrap();
    workspace.commit("one");
    assert_eq!((fs::read(&path).unwrap(), fs::read(&base).unwrap()), (full_of(b'b'), full_of(b'b')));
    let second = Reader::of(&path);
    workspace.ok(&["undo"]);
    assert_eq!((fs::read(&path).unwrap(), fs::read(&base).unwrap()), (full_of(b'a'), full_of(b'a')));
    workspace.ok(&["redo"]);
    assert_eq!(fs::read(&path).unwrap(), full_of(b'b'));
    assert_eq!(first.bytes(), full_of(b'a'));
    assert_eq!(read_alone(&workspace, &[&first]), [full_of(b'a')]);
    drop(second);
}

#[test]
fn a_snapshot_does_not_see_what_a_sibling_commits_and_a_rebase_shows_it() {
    let Some(workspace) = passing(|base| fs::write(base.join("file"), full_of(b'a')).unwrap()) else {
        return;
    };
    workspace.fork(&["one", "two"], "main", GroupKind::Independent);
    let (one, two) = (workspace.view("one").join("file"), workspace.view("two").join("file"));
    let before = Reader::of(&one);
    fs::write(&two, full_of(b'b')).unwrap();
    workspace.commit("two");
    assert_eq!(before.bytes(), full_of(b'a'));
    let after = Reader::of(&one);
    assert_eq!(after.bytes(), full_of(b'a'));
    assert_eq!(
        read_alone(&workspace, &[&after]),
        [full_of(b'a')],
        "what the commit displaced has not changed"
    );
    workspace.ok(&["rebase", "one"]);
    assert_eq!(fs::read(&one).unwrap(), full_of(b'b'));
    assert_eq!((before.bytes(), after.bytes()), (full_of(b'a'), full_of(b'a')));
}

#[test]
fn a_parent_shows_what_its_child_commits() {
    let Some(workspace) = passing(|base| fs::write(base.join("file"), full_of(b'a')).unwrap()) else {
        return;
    };
    let parent = workspace.branch("parent").join("file");
    workspace.fork(&["child"], "parent", GroupKind::Independent);
    let before = Reader::of(&parent);
    let child = workspace.view("child");
    fs::write(child.join("file"), full_of(b'b')).unwrap();
    fs::hard_link(child.join("file"), child.join("second")).unwrap();
    workspace.commit("child");
    for name in ["file", "second"] {
        assert_eq!(fs::read(parent.with_file_name(name)).unwrap(), full_of(b'b'), "{name}");
    }
    assert_eq!(before.bytes(), full_of(b'a'));
    fs::write(parent.with_file_name("second"), "both").unwrap();
    assert_eq!(fs::read(&parent).unwrap(), b"both");
}

#[test]
fn a_restored_checkpoint_is_what_is_opened() {
    let Some(workspace) = passing(|base| fs::write(base.join("file"), full_of(b'a')).unwrap()) else {
        return;
    };
    let path = workspace.branch("one").join("file");
    workspace.ok(&["checkpoint", "one", "start"]);
    fs::write(&path, full_of(b'b')).unwrap();
    workspace.ok(&["checkpoint", "one", "later"]);
    let later = Reader::of(&path);
    assert_eq!(later.bytes(), full_of(b'b'));
    workspace.ok(&["restore", "one", "start"]);
    assert_eq!(fs::read(&path).unwrap(), full_of(b'a'));
    workspace.ok(&["restore", "one", "later"]);
    assert_eq!(fs::read(&path).unwrap(), full_of(b'b'));
    fs::write(&path, "new").unwrap();
    workspace.ok(&["restore", "one", "later"]);
    assert_eq!(fs::read(&path).unwrap(), full_of(b'b'), "nothing was written to what the checkpoint holds");
}

#[test]
fn edits_of_the_base_are_seen_in_place_and_replaced_files_when_they_are_opened() {
    let Some(workspace) = passing(|base| fs::write(base.join("file"), full_of(b'a')).unwrap()) else {
        return;
    };
    let (path, base) = (workspace.branch("one").join("file"), workspace.base().join("file"));
    let reader = Reader::of(&path);
    fs::write(&base, full_of(b'b')).unwrap();
    assert_eq!(reader.bytes(), full_of(b'b'), "at once, as on the host");
    fs::write(workspace.base().join("new"), full_of(b'c')).unwrap();
    fs::rename(workspace.base().join("new"), &base).unwrap();
    assert_eq!(reader.bytes(), full_of(b'b'));
    let begin = std::time::Instant::now();
    while fs::read(&path).unwrap() != full_of(b'c') {
        assert!(begin.elapsed().as_secs() < 30, "the edit is not shown");
    }
    assert_eq!(reader.bytes(), full_of(b'b'));
}
