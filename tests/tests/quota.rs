//! Limits as programs meet them: dd, fallocate, maps, git, and the daemon's end in between. Then all of that, and the
//! engine's own tests, on each filesystem.

#[path = "../../branch-store/tests/quota.rs"]
mod engine;

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};

use branch_proto::{GroupKind, Quota};
use branchfs_tests::{Disk, Filesystem, Workspace, run_ok};
use rustix::io::Errno;

const MIB: u64 = 1 << 20;
/// What the host may count for its own book-keeping.
const HOST: u64 = 64 << 10;

fn limited(workspace: &Workspace, name: &str, parent: &str, limit: u64) {
    let quota = Some(Quota::Bytes(limit));
    workspace
        .client()
        .create_limited(&[name.to_owned()], parent, GroupKind::Independent, quota)
        .expect("created");
}

fn held(workspace: &Workspace, name: &str) -> u64 {
    workspace.client().inspect(name).expect("it lives").bytes
}

fn sh(dir: &Path, line: &str) -> Output {
    Command::new("sh").args(["-c", line]).current_dir(dir).env("LC_ALL", "C").output().expect("sh runs")
}

fn refused(output: &Output) -> bool {
    !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("Disk quota exceeded")
}

fn errno(error: std::io::Error) -> Option<Errno> {
    Errno::from_io_error(&error)
}

#[test]
fn dd_and_fallocate_hear_that_the_limit_is_reached() {
    let Some(workspace) = Workspace::new() else { return };
    limited(&workspace, "a", "main", 4 * MIB);
    let view = workspace.view("a");
    let output = sh(&view, "dd if=/dev/zero of=big bs=64k count=1000");
    assert!(refused(&output), "{output:?}");
    let size = fs::metadata(view.join("big")).expect("there").len();
    assert!((4 * MIB - HOST..=4 * MIB).contains(&size), "{size}");
    assert!(held(&workspace, "a") <= 4 * MIB + HOST);
    assert!(refused(&sh(&view, "fallocate -l 1M more")));
    assert!(refused(&sh(&view, "dd if=/dev/zero of=more bs=64k count=1")));
    // Names and holes are free; what is there can be written over.
    let free = "mkdir d && ln -s x d/link && touch d/empty && truncate -s 1G sparse && mv d e \
        && dd if=/dev/zero of=big bs=64k count=32 conv=notrunc,fsync";
    assert!(sh(&view, free).status.success());
    assert!(sh(&view, "truncate -s 1M big && fallocate -l 2M more").status.success());
}

#[test]
fn there_is_room_again_after_a_removal() {
    let Some(workspace) = Workspace::new() else { return };
    limited(&workspace, "a", "main", 4 * MIB);
    let view = workspace.view("a");
    let fill = "dd if=/dev/zero of=one bs=64k count=60";
    assert!(sh(&view, fill).status.success());
    assert!(refused(&sh(&view, "dd if=/dev/zero of=two bs=64k count=60")));
    fs::remove_file(view.join("one")).expect("removed");
    fs::remove_file(view.join("two")).expect("removed");
    // The kernel says that it has forgotten a file when it likes; it is asked to.
    while held(&workspace, "a") > 0 {
        fs::metadata(&view).expect("a request");
    }
    assert!(sh(&view, "dd if=/dev/zero of=two bs=64k count=60").status.success());
    // An open file without a name holds its space until it is closed.
    let mut nameless = fs::File::create(view.join("three")).expect("made");
    fs::remove_file(view.join("three")).expect("removed");
    let error = nameless.write_all(&[1; 512 << 10]).expect_err("no room");
    assert_eq!(errno(error), Some(Errno::DQUOT));
}

#[test]
fn a_map_that_outgrows_the_limit_is_an_error_of_msync() {
    let Some(workspace) = Workspace::new() else { return };
    limited(&workspace, "a", "main", MIB);
    let script = "import mmap, os, sys\n\
        fd = os.open('map', os.O_RDWR | os.O_CREAT)\n\
        os.ftruncate(fd, 8 << 20)\n\
        m = mmap.mmap(fd, 8 << 20)\n\
        m[:65536] = b'x' * 65536\n\
        m.flush()\n\
        m[65536:] = b'y' * ((8 << 20) - 65536)\n\
        try:\n\
        \x20   m.flush()\n\
        \x20   os.fsync(fd)\n\
        except OSError as e:\n\
        \x20   print(e.errno)\n";
    let mut python = Command::new("python3");
    let said = run_ok(python.args(["-c", script]).current_dir(workspace.view("a")));
    assert_eq!(said.trim(), Errno::DQUOT.raw_os_error().to_string());
    assert!(held(&workspace, "a") <= MIB + HOST);
    let mut begin = vec![0; 65536];
    fs::File::open(workspace.view("a/map")).and_then(|file| file.read_exact_at(&mut begin, 0)).expect("read");
    assert!(begin.iter().all(|byte| *byte == b'x'), "what was written before is kept");
}

#[test]
fn git_clones_until_the_limit_and_works_again_with_more() {
    let fill = |base: &Path| {
        run_ok(Command::new("git").args(["init", "-q", "-b", "main", "."]).current_dir(base));
        for n in 0..40_u8 {
            // Not to be compressed.
            let noise: Vec<u8> = (0..50_000_u32)
                .map(|i| i.wrapping_mul(2_654_435_761).rotate_left(u32::from(n)) ^ ((i * i) >> 7))
                .map(|word| (word >> 13) as u8)
                .collect();
            fs::write(base.join(format!("file{n}")), noise).expect("written");
        }
        let commit = "git add -A && git -c user.name=t -c user.email=t@example.org commit -qm all";
        assert!(sh(base, commit).status.success());
    };
    let Some(workspace) = Workspace::over(fill) else { return };
    limited(&workspace, "a", "main", MIB);
    let view = workspace.view("a");
    let clone = "git clone -q --no-hardlinks . copy";
    let output = sh(&view, clone);
    assert!(refused(&output), "{output:?}");
    assert!(held(&workspace, "a") <= MIB + HOST);
    workspace.ok(&["quota", "a", "64M"]);
    assert!(
        sh(&view, "rm -rf copy && git clone -q --no-hardlinks . copy && git -C copy fsck").status.success()
    );
}

#[test]
fn a_limit_holds_after_the_daemons_death_and_in_branches_below() {
    let Some(workspace) = Workspace::over(|base| {
        // Small enough to be copied whole.
        fs::write(base.join("base"), vec![b'x'; 3 << 20]).expect("written");
    }) else {
        return;
    };
    limited(&workspace, "a", "main", 2 * MIB);
    let written = || fs::write(workspace.view("a/more"), vec![1; 3 << 20]).map_err(errno);
    assert_eq!(written(), Err(Some(Errno::DQUOT)));
    let before = held(&workspace, "a");
    workspace.kill_daemon();
    assert_eq!(held(&workspace, "a"), before);
    assert_eq!(written(), Err(Some(Errno::DQUOT)));
    workspace.ok(&["stop"]);
    assert_eq!(workspace.client().inspect("a").expect("it lives").limit, Some(2 * MIB));
    // Below: the same limit for itself.
    workspace.fork(&["b"], "a", GroupKind::Exclusive);
    let below = workspace.view("b");
    fs::write(below.join("own"), vec![1; 1 << 20]).expect("room of its own");
    let error = fs::write(below.join("own"), vec![1; 3 << 20]).expect_err("but not more");
    assert_eq!(errno(error), Some(Errno::DQUOT));
    // A copy-up of what is larger than that.
    fs::write(below.join("own"), "").expect("cut off");
    let file = fs::File::options().write(true).open(below.join("base")).expect("opened");
    assert_eq!(errno(file.write_at(b"y", 0).expect_err("no room")), Some(Errno::DQUOT));
    assert_eq!(held(&workspace, "b"), 0, "it left nothing");
    assert!(fs::read(below.join("base")).expect("read").iter().all(|byte| *byte == b'x'));
}

#[test]
fn a_limited_view_is_as_large_as_its_limit() {
    let Some(workspace) = Workspace::new() else { return };
    limited(&workspace, "a", "main", 8 * MIB);
    fs::write(workspace.view("a/one"), vec![1; 1 << 20]).expect("written");
    let fs = rustix::fs::statvfs(workspace.view("a")).expect("statvfs");
    assert_eq!(fs.f_blocks * fs.f_frsize, 8 * MIB);
    let free = fs.f_bavail * fs.f_frsize;
    assert!((7 * MIB - HOST..=7 * MIB).contains(&free), "{free}");
    let whole = rustix::fs::statvfs(workspace.mountpoint()).expect("statvfs");
    assert!(whole.f_blocks * whole.f_frsize > 8 * MIB);
}

#[test]
fn verbs_take_limits_show_them_and_refuse_nonsense() {
    let Some(workspace) = Workspace::new() else { return };
    workspace.ok(&["create", "a", "--max-size", "1.5M"]);
    assert!(workspace.ok(&["list"]).contains("at most 1.5 MiB"));
    assert_eq!(workspace.ok(&["quota", "a"]), "a: 0 B of its own, at most 1.5 MiB, 1.5 MiB left\n");
    assert_eq!(workspace.ok(&["quota", "a", "none"]), "a: 0 B of its own, no limit\n");
    let said = workspace.ok(&["--json", "quota", "a", "4096"]);
    assert!(said.contains(r#""limit":4096"#) && said.contains(r#""content":0"#), "{said}");
    for (args, code) in [
        (["quota", "a", "1X"].as_slice(), 2),
        (&["quota", "b", "1M"], 4),
        (&["quota", "main", "1M"], 1),
        (&["create", "c", "--max-size", "-1"], 2),
    ] {
        assert_eq!(workspace.cli(args).status.code(), Some(code), "{args:?}");
    }
    // A program that fails for want of room aborts its branch.
    let line = ["run", "--max-size", "1M", "--", "sh", "-c", "dd if=/dev/zero of=big bs=64k count=99 2>&1"];
    let output = workspace.cli(&line);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("Disk quota exceeded"), "{output:?}");
    let explored = ["explore", "--max-size", "1M", "--cmd", "fallocate -l 2M big", "--cmd", "echo > small"];
    workspace.ok(&explored);
    assert!(workspace.base().join("small").exists() && !workspace.base().join("big").exists());
    let again = workspace.cli(&["explore", "--max-size", "1M", "--cmd", "fallocate -l 2M big"]);
    assert_eq!(again.status.code(), Some(8));
    assert_eq!(
        fs::metadata(workspace.base().join("big")).map_err(|e| e.kind()).err(),
        Some(ErrorKind::NotFound)
    );
}

/// Every other test of this file, in a process of its own that has its workspaces there.
fn on_a_disk_with(filesystem: Filesystem) {
    let Some(disk) = Disk::of(filesystem, 400) else { return };
    let mut tests = Command::new(std::env::current_exe().expect("this program"));
    tests.args(["--skip", "limits_hold_on", "--test-threads", "2"]).env("TMPDIR", disk.path());
    let output = tests.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{filesystem:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("test engine::writers_at_once_stay_within_the_limit ... ok"), "{said}");
}

#[test]
fn limits_hold_on_ext4() {
    on_a_disk_with(Filesystem::Ext4);
}

#[test]
fn limits_hold_on_xfs() {
    on_a_disk_with(Filesystem::Xfs);
}

#[test]
fn limits_hold_on_btrfs() {
    on_a_disk_with(Filesystem::Btrfs);
}

#[test]
fn limits_hold_on_tmpfs() {
    on_a_disk_with(Filesystem::Tmpfs);
}
