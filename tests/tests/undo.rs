//! The undo that users ask for: of what a shell did.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use branchfs_tests::{Times, Workspace, tree};

/// A project with everything in it that a shell can damage.
fn project(base: &Path) {
    let write = |path: &str, text: &str| {
        let path = base.join(path);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("directories");
        std::fs::write(path, text).expect("a file");
    };
    for n in 0..40 {
        write(&format!("src/module{}/file{n}.rs", n % 7), &format!("// {n}\n"));
        write(&format!("assets/{}/{n}.bin", n % 5), &"\0x".repeat(n));
    }
    write(".env", "SECRET=1\n");
    write("notes.txt", "kept for years\n");
    std::os::unix::fs::symlink("notes.txt", base.join("link")).expect("a link");
    std::fs::hard_link(base.join("notes.txt"), base.join("assets/notes")).expect("a second name");
    std::fs::set_permissions(base.join(".env"), PermissionsExt::from_mode(0o600)).expect("a mode");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(base.join("assets/1"), Some(1234), Some(4321)).expect("an owner");
    }
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(base.join("assets"), "user.origin", b"camera", flags).expect("an attribute");
    let past = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(1_234_567_890_123_456_789);
    for path in ["notes.txt", "assets", "src/module3", ".env"] {
        std::fs::File::open(base.join(path)).expect("it is there").set_modified(past).expect("a time");
    }
}

#[test]
fn a_shell_removes_half_the_tree_and_changes_every_mode_and_undo_gives_all_of_it_back() {
    let Some(workspace) = Workspace::over(project) else { return };
    let base = workspace.base();
    let before = tree(&base, Times::Compare);
    let root = std::fs::metadata(&base).expect("the base");
    let inode = |path: &str| std::fs::metadata(base.join(path)).expect("a file").ino();
    let numbers = ["notes.txt", "assets/1/1.bin", "src/module3/file3.rs"].map(inode);
    workspace.ok(&[
        "run",
        "--",
        "sh",
        "-c",
        "rm -rf assets src/module1 src/module2 && chmod -R a-w,o-rx . && echo > .env",
    ]);
    let after = tree(&base, Times::Compare);
    assert_ne!(before, after);
    assert!(!base.join("assets").exists());
    let said = workspace.ok(&["undo"]);
    assert!(said.starts_with("undid commit 1 (") && said.contains("as commit 2"), "{said}");
    assert_eq!(tree(&base, Times::Compare), before);
    assert_eq!(
        ["notes.txt", "assets/1/1.bin", "src/module3/file3.rs"].map(inode),
        numbers,
        "the very objects"
    );
    let again = std::fs::metadata(&base).expect("the base");
    assert_eq!(
        (root.mode(), root.mtime(), root.mtime_nsec()),
        (again.mode(), again.mtime(), again.mtime_nsec())
    );
    workspace.ok(&["redo"]);
    assert_eq!(tree(&base, Times::Compare), after);
    workspace.ok(&["stop"]);
    workspace.ok(&["undo"]);
    assert_eq!(tree(&base, Times::Compare), before, "by another daemon");
    let log = workspace.ok(&["log"]);
    assert_eq!(log.lines().count(), 4, "{log}");
    assert!(log.contains("undo of 3:") && log.contains("redo of 2:") && log.contains("undo of 1:"), "{log}");
}

#[test]
fn views_of_main_show_what_undo_gave_back_at_once() {
    let Some(workspace) = Workspace::over(project) else { return };
    let main = workspace.view("main");
    workspace.ok(&["run", "--", "sh", "-c", "rm notes.txt; echo changed > src/module3/file3.rs; mkdir new"]);
    let file = main.join("src/module3/file3.rs");
    assert_eq!(std::fs::read_to_string(&file).expect("a file"), "changed\n");
    assert!(!main.join("notes.txt").exists() && main.join("new").exists());
    workspace.ok(&["undo"]);
    assert_eq!(std::fs::read_to_string(&file).expect("a file"), "// 3\n");
    assert_eq!(std::fs::read_to_string(main.join("notes.txt")).expect("it is back"), "kept for years\n");
    assert!(!main.join("new").exists());
}

#[test]
fn undo_says_what_is_in_the_way_and_what_to_do_about_it() {
    let Some(workspace) = Workspace::over(project) else { return };
    let refused = workspace.cli(&["undo"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("no commit into the base to undo") && said.contains("branchfs log"), "{said}");
    workspace.ok(&["run", "--", "sh", "-c", "echo changed > src/module3/file3.rs"]);
    std::fs::write(workspace.base().join("src/module3/file3.rs"), "by hand").expect("an edit");
    let refused = workspace.cli(&["undo"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(6), "{said}");
    assert!(said.contains("src/module3/file3.rs") && said.contains("nothing was done"), "{said}");
    assert_eq!(std::fs::read(workspace.base().join("src/module3/file3.rs")).expect("a file"), b"by hand");
}
