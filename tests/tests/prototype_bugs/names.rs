//! Names: those the prototype could not make, hid, showed or mangled.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use branch_proto::{ClientError, Failure};
use branchfs_tests::{Times, Workspace, clean_environment, run_ok, skip, tree};

use crate::{errno, list};

fn workspace() -> Option<Workspace> {
    Workspace::over(|base| {
        fs::create_dir(base.join("dir")).unwrap();
        fs::write(base.join("dir/file"), "base\n").unwrap();
        fs::write(base.join("file"), "base\n").unwrap();
    })
}

/// git makes `index.lock` exclusively, renames it away and makes it again. A deletion left a mark that no
/// creation ever removed: the second `git add` failed for ever.
#[test]
fn a_lock_file_can_be_made_exclusively_again_after_its_rename() {
    let Some(workspace) = workspace() else { return };
    let view = workspace.branch("b");
    for round in 0..3 {
        let lock = view.join("index.lock");
        File::create_new(&lock).unwrap();
        assert_eq!(errno(File::create_new(&lock)), libc::EEXIST);
        fs::write(&lock, format!("{round}\n")).unwrap();
        fs::rename(&lock, view.join("index")).unwrap();
    }
    assert_eq!(fs::read_to_string(view.join("index")).unwrap(), "2\n");
    assert!(!view.join("index.lock").exists());
}

/// An editor writes beside the file and renames over it. The second save failed.
#[test]
fn a_file_of_the_base_can_be_saved_atomically_twice() {
    let Some(workspace) = workspace() else { return };
    let view = workspace.branch("b");
    for content in ["first\n", "second\n"] {
        fs::rename(view.join("file"), view.join("file~")).unwrap();
        fs::write(view.join("file"), content).unwrap();
        fs::write(view.join(".file.swp"), content).unwrap();
        fs::rename(view.join(".file.swp"), view.join("file")).unwrap();
        fs::remove_file(view.join("file~")).unwrap();
        assert_eq!(fs::read_to_string(view.join("file")).unwrap(), content);
    }
    workspace.commit("b");
    assert_eq!(fs::read_to_string(workspace.base().join("file")).unwrap(), "second\n");
}

#[test]
fn a_second_link_of_a_deleted_name_can_be_made() {
    let Some(workspace) = workspace() else { return };
    let view = workspace.branch("b");
    for _ in 0..2 {
        fs::hard_link(view.join("file"), view.join("link")).unwrap();
        fs::remove_file(view.join("link")).unwrap();
    }
    for _ in 0..2 {
        symlink("file", view.join("link")).unwrap();
        assert_eq!(fs::read_to_string(view.join("link")).unwrap(), "base\n");
        fs::remove_file(view.join("link")).unwrap();
    }
    fs::remove_file(view.join("file")).unwrap();
    fs::hard_link(view.join("dir/file"), view.join("file")).unwrap();
    assert_eq!(fs::read_to_string(view.join("file")).unwrap(), "base\n");
}

#[test]
fn a_deleted_name_of_the_base_can_be_made_again_as_another_kind() {
    let Some(workspace) = workspace() else { return };
    let view = workspace.branch("b");
    fs::remove_file(view.join("file")).unwrap();
    fs::create_dir(view.join("file")).unwrap();
    fs::remove_dir_all(view.join("dir")).unwrap();
    fs::write(view.join("dir"), "a file now\n").unwrap();
    assert_eq!(list(&view.join("file")), [""; 0]);
    workspace.commit("b");
    assert!(workspace.base().join("file").is_dir());
    assert_eq!(fs::read_to_string(workspace.base().join("dir")).unwrap(), "a file now\n");
}

/// `@` marked branches inside branches too: a project of the npm kind lost its scoped packages.
#[test]
fn scoped_packages_are_visible_inside_branches() {
    let made = Workspace::over(|base| {
        fs::create_dir_all(base.join("node_modules/@types/node")).unwrap();
        fs::write(base.join("node_modules/@types/node/index.d.ts"), "declare\n").unwrap();
    });
    let Some(workspace) = made else { return };
    let view = workspace.branch("b");
    fs::create_dir_all(view.join("node_modules/@new/scope")).unwrap();
    fs::write(view.join("node_modules/@new/scope/index.js"), "x\n").unwrap();
    assert_eq!(list(&view.join("node_modules")), ["@new", "@types"]);
    let types = view.join("node_modules/@types/node/index.d.ts");
    assert_eq!(fs::read_to_string(types).unwrap(), "declare\n");
    workspace.commit("b");
    assert_eq!(list(&workspace.base().join("node_modules")), ["@new", "@types"]);
}

#[test]
fn a_file_named_like_a_branch_link_is_an_ordinary_file() {
    let Some(workspace) = workspace() else { return };
    let view = workspace.branch("b");
    for name in ["@b", "@main", "@"] {
        fs::write(view.join(name), name).unwrap();
        assert_eq!(fs::read_to_string(view.join(name)).unwrap(), name);
    }
    assert_eq!(list(&view), ["@", "@b", "@main", "dir", "file"]);
    workspace.commit("b");
    assert_eq!(fs::read_to_string(workspace.base().join("@b")).unwrap(), "@b");
}

#[test]
fn a_listing_shows_neither_the_control_file_nor_links_to_branches_nor_the_store() {
    let Some(workspace) = workspace() else { return };
    let view = workspace.branch("b");
    assert!(view.join(".branchfs_ctl").exists(), "there by name");
    assert_eq!(list(&view), ["dir", "file"]);
    assert_eq!(list(&view.join("dir")), ["file"]);
    assert_eq!(list(&workspace.mountpoint()), ["b", "main"]);
    assert!(!view.join(".branchfs").exists());
}

/// `git status` reported the control file and the branches as untracked, and `git add -A` took them.
#[test]
fn git_status_shows_nothing_of_ours() {
    if Command::new("git").arg("--version").output().is_err() {
        return skip("no git");
    }
    let git = |dir: &Path, args: &[&str]| {
        let mut command = Command::new("git");
        clean_environment(&mut command, dir);
        run_ok(command.current_dir(dir).args(args))
    };
    let made = Workspace::over(|base| {
        fs::write(base.join("file"), "base\n").unwrap();
        git(base, &["init", "-q"]);
        git(base, &["add", "-A"]);
        git(base, &["commit", "-qm", "first"]);
    });
    let Some(workspace) = made else { return };
    let view = workspace.branch("b");
    assert_eq!(git(&view, &["status", "--porcelain", "--ignored"]), "");
    git(&view, &["add", "-A"]);
    assert_eq!(git(&view, &["ls-files"]), "file\n");
    assert_eq!(git(&workspace.base(), &["status", "--porcelain"]), "", "nor in the base");
}

/// The commit resolved paths through whatever stood there: a directory that had become a link led it out.
#[test]
fn a_commit_does_not_follow_a_link_out_of_the_base() {
    let Some(workspace) = workspace() else { return };
    let outside = workspace.outside().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "outside\n").unwrap();
    let view = workspace.branch("b");
    fs::write(view.join("dir/file"), "by b\n").unwrap();
    fs::write(view.join("dir/new"), "by b\n").unwrap();
    // The base is edited behind our back.
    fs::remove_dir_all(workspace.base().join("dir")).unwrap();
    symlink(&outside, workspace.base().join("dir")).unwrap();
    let failure = workspace.client().commit("b").expect_err("the directory is gone");
    assert!(matches!(failure, ClientError::Failed(Failure::Conflicts { .. })), "{failure:?}");
    assert_eq!(list(&outside), ["file"]);
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "outside\n");
}

#[test]
fn a_directory_the_branch_replaces_by_a_link_is_a_link_after_the_commit_and_its_target_untouched() {
    let Some(workspace) = workspace() else { return };
    let outside = workspace.outside().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "outside\n").unwrap();
    let view = workspace.branch("b");
    fs::write(view.join("dir/file"), "by b\n").unwrap();
    fs::rename(view.join("dir"), view.join("moved")).unwrap();
    symlink(&outside, view.join("dir")).unwrap();
    workspace.commit("b");
    assert_eq!(fs::read_link(workspace.base().join("dir")).unwrap(), outside);
    assert_eq!(fs::read_to_string(workspace.base().join("moved/file")).unwrap(), "by b\n");
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "outside\n");
}

fn kept(names: [&[u8]; 3]) {
    let [old, new, renamed] = names.map(OsStr::from_bytes);
    let Some(workspace) = Workspace::over(|base| fs::write(base.join(old), "old\n").unwrap()) else { return };
    let view = workspace.branch("b");
    assert_eq!(fs::read_to_string(view.join(old)).unwrap(), "old\n");
    fs::write(view.join(new), "new\n").unwrap();
    fs::rename(view.join(old), view.join(renamed)).unwrap();
    let seen = tree(&view, Times::Compare);
    assert_eq!(seen.len(), 3, "{seen:#?}");
    workspace.commit("b");
    assert_eq!(tree(&workspace.base(), Times::Compare), seen);
    assert_eq!(fs::read_to_string(workspace.base().join(renamed)).unwrap(), "old\n");
    assert_eq!(fs::read_to_string(workspace.base().join(new)).unwrap(), "new\n");
}

/// Names went through UTF-8 conversion on the way.
#[test]
fn names_that_are_not_utf_8_are_kept() {
    kept([b"old \xff\xfe", b"new \xc3\x28", b"\x80"]);
}

/// The list of deletions was a text file of lines.
#[test]
fn names_with_newlines_are_kept() {
    kept([b"old\nname", b"\nnew\n", b"\n"]);
}

#[test]
fn a_name_with_a_newline_stays_deleted_and_its_lines_stay() {
    let made = Workspace::over(|base| {
        for name in ["a\nb", "a", "b"] {
            fs::write(base.join(name), "base\n").unwrap();
        }
    });
    let Some(workspace) = made else { return };
    let view = workspace.branch("b");
    fs::remove_file(view.join("a\nb")).unwrap();
    assert_eq!(list(&view), ["a", "b"]);
    workspace.commit("b");
    assert_eq!(list(&workspace.base()), [".branchfs", "a", "b"]);
}
