//! Checkpoints through the mounted view: whoever looks after a restore sees the restored state, whatever the kernel
//! had cached, mapped or open.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use branchfs_tests::{Times, Workspace, clean_environment, run_ok, skip, tree};

/// One page.
const PAGE: usize = 4096;

fn project(base: &Path) {
    for n in 0..20 {
        let dir = base.join(format!("dir{}", n % 4));
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(dir.join(format!("file{n}")), format!("content {n}\n").repeat(n)).expect("a file");
    }
    fs::write(base.join("page"), vec![b'b'; PAGE]).expect("a file");
    std::os::unix::fs::symlink("page", base.join("link")).expect("a link");
    fs::hard_link(base.join("page"), base.join("page-too")).expect("a second name");
}

/// Damage of every kind, and everything looked at, so that the kernel knows it.
fn wreck(view: &Path, round: usize) {
    fs::remove_dir_all(view.join("dir1")).expect("removed");
    fs::rename(view.join("dir2"), view.join("moved")).expect("moved");
    fs::write(view.join("dir0/file4"), format!("wrecked {round}")).expect("written");
    fs::write(view.join(format!("new{round}")), "new").expect("made");
    fs::create_dir(view.join("dir1")).expect("another of this name");
    fs::write(view.join("dir1/other"), "other").expect("in it");
    fs::remove_file(view.join("link")).expect("removed");
    fs::create_dir(view.join("link")).expect("a directory in its place");
    let page = OpenOptions::new().write(true).open(view.join("page-too")).expect("open");
    page.write_all_at(b"wrecked", 100).expect("written");
    let read_only = std::os::unix::fs::PermissionsExt::from_mode(0o500);
    fs::set_permissions(view.join("dir3"), read_only).expect("chmod");
    tree(view, Times::Compare);
    assert!(!view.join("dir2").exists(), "believed absent from here on");
}

#[test]
fn what_is_looked_at_after_a_restore_is_as_it_was() {
    let Some(workspace) = Workspace::over(project) else { return };
    let view = workspace.branch("b");
    let untouched = tree(&view, Times::Compare);
    workspace.ok(&["checkpoint", "b", "untouched"]);
    fs::write(view.join("dir3/mine"), "mine").expect("written");
    fs::write(view.join("dir0/file4"), "mine too").expect("written");
    let then = tree(&view, Times::Compare);
    let [page, dir1] = ["page", "dir1"].map(|path| fs::metadata(view.join(path)).expect("there").ino());
    workspace.ok(&["checkpoint", "b", "work"]);
    for round in 0..5 {
        wreck(&view, round);
        workspace.ok(&["restore", "b", "work"]);
        assert_eq!(fs::read_to_string(view.join("dir0/file4")).expect("read"), "mine too", "cached bytes");
        assert!(view.join("dir2").is_dir(), "what was believed absent");
        assert!(!view.join(format!("new{round}")).exists() && !view.join("moved").exists());
        assert_eq!(tree(&view, Times::Compare), then, "round {round}");
        workspace.ok(&["restore", "b", "untouched"]);
        assert_eq!(tree(&view, Times::Compare), untouched, "round {round}");
        workspace.ok(&["restore", "b", "work"]);
        assert_eq!(tree(&view, Times::Compare), then, "round {round}");
    }
    assert_eq!(
        [page, dir1],
        ["page", "dir1"].map(|path| fs::metadata(view.join(path)).expect("there").ino())
    );
    workspace.kill_daemon();
    workspace.ok(&["status"]);
    assert_eq!(tree(&view, Times::Compare), then);
    workspace.ok(&["restore", "b", "untouched"]);
    assert_eq!(tree(&view, Times::Compare), untouched, "after a start of the daemon");
    workspace.ok(&["restore", "b", "work"]);
    let commit = workspace.commit("b");
    assert_eq!(commit.changed, 2);
    assert_eq!(tree(&workspace.base(), Times::Ignore).len(), then.len());
}

#[test]
fn maps_show_what_is_restored_and_are_in_a_checkpoint() {
    let Some(workspace) = Workspace::over(project) else { return };
    let view = workspace.branch("b");
    let file = OpenOptions::new().read(true).write(true).open(view.join("page")).expect("open");
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a fresh mapping of a file that keeps its size; only read and written as bytes below.
    let map =
        unsafe { libc::mmap(std::ptr::null_mut(), PAGE, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    assert_ne!(map, libc::MAP_FAILED);
    let map = map.cast::<u8>();
    // SAFETY: within the mapping, which lives to the end of the test.
    let (get, set) = (|| unsafe { map.read_volatile() }, |byte| unsafe { map.write_volatile(byte) });
    assert_eq!(get(), b'b');
    set(b'1');
    workspace.ok(&["checkpoint", "b", "one"]);
    set(b'2');
    workspace.ok(&["checkpoint", "b", "two"]);
    set(b'3');
    for (name, byte) in [("one", b'1'), ("before-restore", b'3'), ("two", b'2'), ("one", b'1')] {
        workspace.ok(&["restore", "b", name]);
        assert_eq!(get(), byte, "through the map, at {name}");
        let mut first = [0];
        file.read_exact_at(&mut first, 0).expect("read");
        assert_eq!(first, [byte], "through the descriptor, at {name}");
    }
    set(b'4');
    assert_eq!(fs::read(view.join("page-too")).expect("read")[0], b'4', "and it is written to as ever");
    // SAFETY: mapped above, not used again.
    assert_eq!(unsafe { libc::munmap(map.cast(), PAGE) }, 0);
}

#[test]
fn what_is_open_goes_on_with_the_restored_bytes_or_without_a_name() {
    let Some(workspace) = Workspace::over(project) else { return };
    let view = workspace.branch("b");
    fs::write(view.join("log"), "first\n").expect("written");
    workspace.ok(&["checkpoint", "b"]);
    let open = |name: &str| OpenOptions::new().read(true).append(true).open(view.join(name)).expect("open");
    let text = |mut file: &File| {
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).expect("rewound");
        file.read_to_string(&mut text).expect("read");
        text
    };
    let mut log = open("log");
    let base = open("dir0/file4");
    fs::write(view.join("young"), "young\n").expect("made");
    let mut young = open("young");
    let mut removed = open("dir3/file3");
    fs::remove_file(view.join("dir3/file3")).expect("removed");
    log.write_all(b"second\n").expect("written");
    (&base).write_all(b"appended").expect("written");
    let was = text(&removed);
    removed.write_all(b"written to the removed one").expect("written");
    assert_eq!(removed.metadata().expect("stat").nlink(), 0);

    let said = workspace.ok(&["restore", "b", "1"]);
    assert_eq!(said, "b is as at 1; what it was before is b@before-restore\n");
    assert_eq!((text(&log), text(&base)), ("first\n".into(), "content 4\n".repeat(4)));
    assert_eq!(text(&young), "young\n", "it lives on for who has it open");
    assert_eq!(young.metadata().expect("stat").nlink(), 0);
    assert!(!view.join("young").exists());
    assert_eq!(
        (text(&removed), removed.metadata().expect("stat").nlink()),
        (was, 1),
        "it has its name again"
    );
    log.write_all(b"third\n").expect("written");
    young.write_all(b"older\n").expect("written");
    assert_eq!(fs::read_to_string(view.join("log")).expect("read"), "first\nthird\n");
    assert_eq!(text(&young), "young\nolder\n");
    drop((log, base, young, removed));
    workspace.ok(&["restore", "b", "before-restore"]);
    assert_eq!(fs::read_to_string(view.join("young")).expect("read"), "young\n");
    assert!(!view.join("dir3/file3").exists());
}

#[test]
fn a_removed_directory_that_somebody_is_in_can_be_entered_again_after_a_restore() {
    let Some(workspace) = Workspace::over(project) else { return };
    let view = workspace.branch("b");
    fs::create_dir(view.join("own")).expect("made");
    fs::write(view.join("own/file"), "x").expect("made");
    workspace.ok(&["checkpoint", "b", "whole"]);
    let inside = ["own", "dir1"].map(|dir| File::open(view.join(dir)).expect("open"));
    for round in 0..3 {
        for dir in ["own", "dir1"] {
            fs::remove_dir_all(view.join(dir)).expect("removed");
        }
        fs::create_dir(view.join("own")).expect("another of this name");
        assert_eq!(fs::read_dir(view.join("own")).expect("listed").count(), 0);
        workspace.ok(&["restore", "b", "whole"]);
        assert_eq!(fs::read_to_string(view.join("own/file")).expect("read"), "x", "round {round}");
        assert_eq!(fs::read_dir(view.join("dir1")).expect("listed").count(), 5);
        fs::write(view.join("dir1/new"), "").expect("it can be worked in");
        fs::remove_file(view.join("dir1/new")).expect("and again");
    }
    drop(inside);
    assert_eq!(fs::read_dir(view.join("own")).expect("listed").count(), 1);
}

#[test]
fn git_finds_a_restored_branch_clean() {
    if Command::new("git").arg("--version").output().is_err() {
        skip("no git");
        return;
    }
    let Some(workspace) = Workspace::over(project) else { return };
    let view = workspace.branch("b");
    let git = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-ec", script]).current_dir(&view);
        clean_environment(&mut command, workspace.outside());
        run_ok(&mut command)
    };
    git("printf '.branchfs\\n' > .gitignore; git init -q -b trunk; git add -A; git commit -qm first");
    let head = git("git rev-parse HEAD");
    assert_eq!(git("git status --porcelain"), "");
    workspace.ok(&["checkpoint", "b", "clean"]);
    for script in [
        "rm -rf dir0 .git",
        "git checkout -q -b other; echo x >> dir0/file4; git rm -q dir3/file3; git commit -qam second; git gc -q",
        "git mv dir2 elsewhere; echo y > page; git stash -q; git clean -qfdx",
    ] {
        git(script);
        workspace.ok(&["restore", "b", "clean"]);
        assert_eq!(git("git status --porcelain; git fsck; git rev-parse HEAD"), head, "after {script}");
    }
}

#[test]
fn the_verbs_say_what_they_did_and_what_would_be_right() {
    let Some(workspace) = Workspace::over(project) else { return };
    let view = workspace.branch("b");
    assert_eq!(workspace.ok(&["checkpoint", "b"]), "b@1\n");
    fs::write(view.join("dir0/file4"), "one\n").expect("written");
    assert_eq!(workspace.ok(&["checkpoint", "b", "named"]), "b@named\n");
    fs::write(view.join("dir0/file4"), "two\n").expect("written");
    fs::write(view.join("new"), "").expect("written");
    assert_eq!(
        workspace.ok(&["checkpoint", "b", "--json"]),
        "{\"version\":1,\"branch\":\"b\",\"checkpoint\":\"2\"}\n"
    );
    let listed = workspace.ok(&["checkpoint", "b", "--list"]);
    let names: Vec<_> = listed.lines().map(|line| line.split(' ').next().expect("a name")).collect();
    assert_eq!(names, ["1", "named", "2"]);
    let list = workspace.ok(&["list", "--json"]);
    assert!(list.contains("\"checkpoints\":[{\"name\":\"1\",\"created\":"), "{list}");
    assert_eq!(workspace.ok(&["diff", "b@1", "b@named", "--name-status"]), "M\tdir0/file4\n");
    assert_eq!(workspace.ok(&["diff", "b@named", "b", "--name-status"]), "M\tdir0/file4\nA\tnew\n");
    assert_eq!(workspace.ok(&["diff", "b@2", "b", "--name-status"]), "");
    let patch = workspace.ok(&["diff", "b@named", "b@2"]);
    assert!(patch.contains("-one\n+two\n"), "{patch}");
    assert_eq!(workspace.ok(&["diff", "main", "b@1", "--name-status"]), "");
    assert_eq!(workspace.ok(&["checkpoint", "b", "--delete", "2"]), "deleted b@2\n");
    assert_eq!(
        workspace.ok(&["restore", "b", "1"]),
        "b is as at 1; what it was before is b@before-restore\n"
    );
    assert_eq!(workspace.ok(&["restore", "b", "named"]), "b is as at named\n");
    let restored = workspace.ok(&["restore", "b", "before-restore", "--json"]);
    let expected = r#"{"version":1,"restore":{"branch":"b","checkpoint":"before-restore","warnings":[]}}"#;
    assert_eq!(restored.trim_end(), expected);
    let refused = |args: &[&str], code: i32, words: &str| {
        let output = workspace.cli(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    };
    refused(&["restore", "b", "2"], 1, "branch 'b' has no checkpoint named '2'");
    refused(&["checkpoint", "b", "named"], 1, "has a checkpoint named 'named' already");
    refused(&["checkpoint", "b", "a/b"], 2, "a/b");
    refused(&["checkpoint", "b", "before-restore"], 2, "is what a restore leaves behind");
    refused(&["checkpoint", "main"], 1, "'undo'");
    refused(&["restore", "nobody", "1"], 4, "nobody");
    refused(&["diff", "b@2", "b"], 1, "branch 'b' has no checkpoint named '2'");
    refused(&["diff", "b@1"], 2, "no fork to compare with");
}
