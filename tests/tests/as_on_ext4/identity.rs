//! Inode numbers: who is the same file, and for how long.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use branch_proto::GroupKind;
use branchfs_tests::{Workspace, run_ok};

use crate::both::same;
use crate::sys;

const PATIENCE: Duration = Duration::from_secs(30);
const OBJECTS: [&str; 6] = [".", "file", "hard", "dir", "dir/inner", "dir/sub"];

fn content(at: &Path) {
    fs::write(at.join("file"), vec![b'x'; 100_000]).unwrap();
    fs::hard_link(at.join("file"), at.join("hard")).unwrap();
    fs::create_dir_all(at.join("dir/sub")).unwrap();
    fs::write(at.join("dir/inner"), "inner").unwrap();
}

fn numbers(view: &Path, names: &[&str]) -> Vec<(u64, u64)> {
    let of = |name: &&str| fs::symlink_metadata(view.join(name)).map(|m| (m.dev(), m.ino())).unwrap();
    names.iter().map(of).collect()
}

#[test]
fn numbers_stay_through_copy_up_rename_and_the_daemons_end() {
    let Some(workspace) = Workspace::over(content) else { return };
    let view = workspace.branch("b");
    fs::write(view.join("new"), "new").unwrap();
    let names: Vec<&str> = OBJECTS.into_iter().chain(["new"]).collect();
    let inodes = || numbers(&view, &names).into_iter().map(|(_, ino)| ino).collect::<Vec<_>>();
    let first = inodes();
    OpenOptions::new().append(true).open(view.join("file")).unwrap().write_all(b"copied up").unwrap();
    fs::set_permissions(view.join("dir/sub"), Permissions::from_mode(0o700)).unwrap();
    fs::rename(view.join("dir/inner"), view.join("elsewhere")).unwrap();
    fs::rename(view.join("elsewhere"), view.join("dir/inner")).unwrap();
    assert_eq!(inodes(), first, "after changes");
    workspace.kill_daemon();
    assert_eq!(workspace.names(), ["main", "b"]);
    assert_eq!(inodes(), first, "after a kill");
    workspace.ok(&["umount"]);
    assert_eq!(workspace.names(), ["main", "b"]);
    assert_eq!(inodes(), first, "after a clean restart");
    fs::write(view.join("later"), "").unwrap();
    let later = fs::metadata(view.join("later")).unwrap().ino();
    assert!(!first.contains(&later), "no number is given twice");
}

#[test]
fn no_two_branches_share_a_number_and_all_share_the_device() {
    let Some(workspace) = Workspace::over(content) else { return };
    let first = workspace.branch("a");
    workspace.fork(&["b"], "main", GroupKind::Independent);
    workspace.fork(&["below"], "a", GroupKind::Independent);
    let mut all = Vec::new();
    for branch in ["main", "a", "b", "below"] {
        all.extend(numbers(&workspace.view(branch), &[".", "file", "dir", "dir/inner"]));
    }
    assert!(all.iter().all(|(device, _)| *device == all[0].0), "one device");
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 4 * 4);
    // cp and mv refuse to copy a file onto itself, and decide by these numbers.
    run_ok(Command::new("cp").arg(first.join("file")).arg(workspace.view("b").join("file")));
    run_ok(Command::new("mv").arg(first.join("dir")).arg(workspace.view("b").join("dir/moved")));
    assert_eq!(fs::read(workspace.view("b").join("dir/moved/inner")).unwrap(), b"inner");
    assert!(!first.join("dir").exists());
}

#[test]
fn programs_that_count_hard_links_count_right() {
    same(content, |play| {
        fs::hard_link(play.at("file"), play.at("dir/third")).unwrap();
        OpenOptions::new().append(true).open(play.at("hard")).unwrap().write_all(b"more").unwrap();
        let shell = |script: &str| {
            let output = Command::new("sh").args(["-c", script]).current_dir(play.at(".")).output().unwrap();
            play.note(script, (output.status.code(), String::from_utf8_lossy(&output.stdout)));
        };
        shell("find . -samefile file | sort");
        shell("find . -type f -links 3 | sort");
        shell("du -b --apparent-size file hard dir/third | cut -f1");
        shell("tar cf - . | tar tvf - | grep -c 'link to'");
        shell("cp -a . ../copied && find ../copied -links 3 -type f | wc -l; rm -r ../copied");
        shell("test file -ef hard && test ! file -ef dir/inner && echo same");
        shell("ls -i file hard dir/third | cut -d' ' -f1 | sort -u | wc -l");
    });
}

/// As long as the kernel knows the object; ext4 finds it again from the handle alone.
#[test]
fn a_file_handle_is_good_while_the_kernel_knows_the_object() {
    let Some(workspace) = Workspace::over(content) else { return };
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root opens by handle, and has the kernel drop its caches");
        return;
    }
    let view = workspace.branch("b");
    let handle = sys::handle_of(&view.join("file")).unwrap();
    let mount = fs::File::open(&view).unwrap();
    let opened = sys::open_handle(&mount, &handle).unwrap();
    assert_eq!(opened.metadata().unwrap().ino(), fs::metadata(view.join("file")).unwrap().ino());
    drop(opened);
    let before = Instant::now();
    let refused = loop {
        fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
        match sys::open_handle(&mount, &handle) {
            Ok(_) => assert!(before.elapsed() < PATIENCE, "the kernel keeps it for ever"),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.raw_os_error(), Some(libc::ESTALE));
    assert_eq!(fs::read(view.join("file")).unwrap().len(), 100_000, "its name is as good as before");
}
