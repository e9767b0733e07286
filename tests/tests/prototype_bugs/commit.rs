//! What a commit lost or destroyed.

use std::fs;

use branch_proto::{ClientError, Failure};
use branchfs_tests::{Disk, Times, Workspace, tree};

use crate::{errno, list};

/// Copy errors were ignored at commit, and the delta was deleted after it: a full base disk cost the work.
#[test]
fn a_commit_that_finds_the_base_disk_full_fails_and_loses_nothing() {
    let Some(disk) = Disk::new(24) else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    let fill = |base: &std::path::Path| {
        fs::write(base.join("kept"), "base\n").unwrap();
        fs::write(base.join("gone"), "base\n").unwrap();
    };
    let placed = Workspace::placed(&disk.path().join("base"), &elsewhere.path().join("store"), fill);
    let Some(workspace) = placed else { return };
    let view = workspace.branch("b");
    let big = vec![7_u8; 12 << 20];
    fs::write(view.join("big"), &big).unwrap();
    fs::write(view.join("kept"), "by b\n").unwrap();
    fs::remove_file(view.join("gone")).unwrap();
    let filler = disk.path().join("filler");
    fs::write(&filler, vec![1_u8; 14 << 20]).unwrap();
    let before = tree(&workspace.base(), Times::Compare);

    let failure = workspace.client().commit("b").expect_err("there is no room");
    let no_room = |failure: &ClientError| {
        matches!(failure, ClientError::Failed(Failure::Io { errno: libc::ENOSPC, .. }))
    };
    assert!(no_room(&failure), "{failure:?}");
    assert_eq!(tree(&workspace.base(), Times::Compare), before);
    assert_eq!(fs::read(view.join("big")).unwrap(), big);

    fs::remove_file(&filler).unwrap();
    workspace.commit("b");
    assert_eq!(fs::read(workspace.base().join("big")).unwrap(), big);
    assert_eq!(fs::read_to_string(workspace.base().join("kept")).unwrap(), "by b\n");
    assert!(!workspace.base().join("gone").exists());
}

fn with_directory() -> Option<Workspace> {
    Workspace::over(|base| {
        fs::create_dir_all(base.join("dir/sub")).unwrap();
        for name in ["changed", "kept", "sub/deep"] {
            fs::write(base.join("dir").join(name), format!("base {name}\n")).unwrap();
        }
    })
}

/// The rename took along what the branch had modified and left the rest behind as deleted.
#[test]
fn renaming_a_partly_modified_directory_keeps_its_unmodified_children() {
    let Some(workspace) = with_directory() else { return };
    let view = workspace.branch("b");
    fs::write(view.join("dir/changed"), "by b\n").unwrap();
    fs::rename(view.join("dir"), view.join("moved")).unwrap();
    assert_eq!(list(&view.join("moved")), ["changed", "kept", "sub"]);
    assert_eq!(fs::read_to_string(view.join("moved/changed")).unwrap(), "by b\n");
    assert_eq!(fs::read_to_string(view.join("moved/kept")).unwrap(), "base kept\n");
    assert_eq!(fs::read_to_string(view.join("moved/sub/deep")).unwrap(), "base sub/deep\n");
    assert!(!view.join("dir").exists());
}

/// The same, after the commit: the unmodified children were gone from the base, for good.
#[test]
fn the_commit_of_a_renamed_partly_modified_directory_keeps_its_children_in_the_base() {
    let Some(workspace) = with_directory() else { return };
    let view = workspace.branch("b");
    fs::write(view.join("dir/changed"), "by b\n").unwrap();
    fs::rename(view.join("dir"), view.join("moved")).unwrap();
    let seen = tree(&view, Times::Compare);
    workspace.commit("b");
    assert_eq!(tree(&workspace.base(), Times::Compare), seen);
    assert_eq!(fs::read_to_string(workspace.base().join("moved/sub/deep")).unwrap(), "base sub/deep\n");
}

/// rmdir looked at the branch's own files only: a directory full of the base's files was "empty".
#[test]
fn rmdir_refuses_a_directory_whose_files_are_the_bases() {
    let Some(workspace) = with_directory() else { return };
    let view = workspace.branch("b");
    assert_eq!(errno(fs::remove_dir(view.join("dir"))), libc::ENOTEMPTY);
    assert_eq!(list(&view.join("dir")), ["changed", "kept", "sub"]);
}

#[test]
fn rmdir_refuses_a_directory_with_one_new_file_and_takes_it_once_that_is_gone() {
    let Some(workspace) = with_directory() else { return };
    let view = workspace.branch("b");
    fs::remove_dir_all(view.join("dir")).unwrap();
    fs::create_dir(view.join("dir")).unwrap();
    assert_eq!(list(&view.join("dir")), [""; 0], "made again, it is empty");
    fs::write(view.join("dir/new"), "").unwrap();
    assert_eq!(errno(fs::remove_dir(view.join("dir"))), libc::ENOTEMPTY);
    fs::remove_file(view.join("dir/new")).unwrap();
    fs::remove_dir(view.join("dir")).unwrap();
    workspace.commit("b");
    assert_eq!(list(&workspace.base()), [".branchfs"]);
}

/// Only files were committed.
#[test]
fn empty_directories_are_kept_at_commit() {
    let Some(workspace) = with_directory() else { return };
    let view = workspace.branch("b");
    fs::create_dir_all(view.join("a/b/c")).unwrap();
    fs::remove_file(view.join("dir/sub/deep")).unwrap();
    workspace.commit("b");
    assert!(workspace.base().join("a/b/c").is_dir());
    assert!(workspace.base().join("dir/sub").is_dir(), "emptied, not deleted");
}
