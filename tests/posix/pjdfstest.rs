//! pjdfstest: POSIX system calls and their errors, one small test each.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use branchfs_tests::{Disk, clean_environment, run_ok};

use crate::bound::Bound;
use crate::ground::Ground;
use crate::tools::{are_root, cannot, path, version};

/// Test to verdict: `ok`, `skipped`, `FAILED`.
type Verdicts = BTreeMap<String, String>;

/// The tests of the version `tests/posix/install` pins; fewer mean that the suite did not run.
const TESTS: usize = 398;

#[test]
fn pjdfstest_finds_in_a_branch_nothing_it_does_not_find_on_ext4() {
    if !are_root("pjdfstest") {
        return;
    }
    let Some(ground) = Ground::new(&["pjdfstest"], |_| ()) else { return };
    let Some(disk) = Disk::new(256) else { return cannot("pjdfstest has no ext4 to be compared with") };
    fs::set_permissions(disk.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let ext4 = run("ext4", &disk.path());
    for place in ground.branches() {
        let view = Bound::bind(&place.dir);
        let here = run(&place.name, &view.path());
        assert_eq!(here.len(), ext4.len(), "the same tests on {}", place.name);
        let differ: Vec<_> = here.iter().filter(|(test, verdict)| ext4[*test] != **verdict).collect();
        let known = known_differences();
        let unknown: Vec<_> = differ.iter().filter(|(test, _)| !known.contains(test)).collect();
        assert!(unknown.is_empty(), "on {} but not on ext4: {unknown:?}", place.name);
        let gone: Vec<_> = known.iter().filter(|test| !differ.iter().any(|(t, _)| t == test)).collect();
        assert!(gone.is_empty(), "no difference on {} any more, strike them out: {gone:?}", place.name);
    }
}

/// The file's lines are `test: why`.
fn known_differences() -> Vec<String> {
    let lines = include_str!("pjdfstest.expected").lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_once(": ").expect("test: why").0.to_owned()).collect()
}

/// All tests but those of read-only filesystems, then these: earlier tests leave files open for writing, and
/// then nothing can be remounted.
fn run(place: &str, dir: &Path) -> Verdicts {
    let mut verdicts = suite(dir, false, &[]);
    let remounted = suite(dir, true, &["erofs"]);
    for (test, verdict) in remounted {
        let skipped = verdicts.insert(test.clone(), verdict);
        assert_eq!(skipped.as_deref(), Some("skipped"), "{test} without a remount");
    }
    assert_eq!(verdicts.len(), TESTS, "on {place}: {verdicts:?}");
    let count = |wanted: &str| verdicts.values().filter(|verdict| *verdict == wanted).count();
    let (passed, failed, skipped) = (count("ok"), count("FAILED"), count("skipped"));
    assert_eq!(passed + failed + skipped, TESTS, "{verdicts:?}");
    println!("posix: {}: {place}: {passed} passed, {failed} failed, {skipped} skipped", version("pjdfstest"));
    verdicts
}

fn suite(dir: &Path, allow_remount: bool, tests: &[&str]) -> Verdicts {
    let other = Bound::tmpfs();
    let scratch = tempfile::tempdir().unwrap();
    let settings = scratch.path().join("pjdfstest.toml");
    let text = include_str!("pjdfstest.toml");
    fs::write(&settings, text.replace("@allow_remount@", &allow_remount.to_string())).unwrap();
    let mut command = Command::new("pjdfstest");
    clean_environment(&mut command, scratch.path());
    command.env("PATH", path_with_mount(scratch.path())).env_remove("RUST_BACKTRACE").env("NO_COLOR", "1");
    command.arg("-c").arg(settings).arg("-p").arg(dir).arg("-s").arg(other.path()).args(tests);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let verdicts: Verdicts = text.lines().filter_map(verdict).collect();
    assert!(text.contains("Summary: "), "{output:?}");
    if !output.status.success() {
        eprintln!("{text}");
    }
    verdicts
}

fn verdict(line: &str) -> Option<(String, String)> {
    let mut words = line.split_whitespace();
    let (test, verdict) = (words.next()?, words.next()?);
    let known = ["ok", "FAILED", "skipped"].contains(&verdict) && words.next().is_none();
    (known && test.contains("::")).then(|| (test.to_owned(), verdict.to_owned()))
}

/// The suite remounts by mount(8), which hands a FUSE filesystem to `mount.fuse`, and that starts a second server
/// instead of remounting. With `-i` it asks the kernel; and with `bind` for this mount alone: a whole filesystem cannot be
/// made read-only while a removed file is open somewhere on it, and FUSE counts as open what was closed and whose
/// `RELEASE`, for which no close waits, is not yet answered.
fn path_with_mount(scratch: &Path) -> std::ffi::OsString {
    let wrapper = scratch.join("mount");
    fs::write(&wrapper, include_str!("pjdfstest.mount")).unwrap();
    fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755)).unwrap();
    let mut path_list = scratch.as_os_str().to_owned();
    path_list.push(":");
    path_list.push(path());
    path_list
}

/// Once, on a busy machine, every EROFS test but the first failed: the remount answered EBUSY. One late answer of the
/// daemon does that, if it is the one to the RELEASE of a directory that a test has removed meanwhile (`strace` held it
/// back: the same tests in a row failed). An open descriptor holds a removed directory as that does.
#[test]
fn the_suite_can_make_a_view_read_only_while_a_removed_directory_is_still_open() {
    if !are_root("pjdfstest") {
        return;
    }
    let Some(ground) = Ground::new(&[], |_| ()) else { return };
    let view = Bound::bind(&ground.branches()[1].dir);
    let removed = view.path().join("removed");
    fs::create_dir(&removed).unwrap();
    let open = File::open(&removed).unwrap();
    fs::remove_dir(&removed).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let remount = |options: &str| {
        let mut mount = Command::new("sh");
        mount.args(["-c", "exec mount -o \"$1\" \"$2\"", "sh", options]).arg(view.path());
        run_ok(mount.env("PATH", path_with_mount(scratch.path())));
    };
    remount("remount,ro");
    let made = fs::create_dir(&removed);
    assert_eq!(made.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    remount("remount,rw");
    fs::create_dir(&removed).unwrap();
    drop(open);
}
