//! What the end of a branch does to processes, open files and maps.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;

use branch_proto::{Children, ClientError, Compared, DiffDetail, Event, Failure};

use crate::harness::{Sleeper, Workspace, next};

#[test]
fn an_abort_returns_when_the_group_is_dead_and_the_parents_is_not() {
    let Some(workspace) = Workspace::served() else { return };
    workspace.create(&["a"], "main");
    workspace.create(&["b"], "a");
    let (of_parent, of_child) = (Sleeper::in_branch(&workspace, "a"), Sleeper::in_branch(&workspace, "b"));
    assert_eq!(workspace.client().inspect("b").expect("live").groups, 1);
    let mut events = workspace.subscribe();
    workspace.client().abort("b", Children::Refuse).expect("aborted");
    assert!(of_child.is_dead());
    assert!(!of_parent.is_dead());
    let seen = [next(&mut events), next(&mut events)];
    assert!(seen.contains(&Event::GroupGone { branch: "b".into(), pid: of_child.pid }), "{seen:?}");
}

#[test]
fn a_commit_returns_when_the_losers_groups_are_dead() {
    let Some(workspace) = Workspace::served() else { return };
    workspace.create(&["winner", "loser"], "main");
    workspace.create(&["below"], "loser");
    let losers = [Sleeper::in_branch(&workspace, "loser"), Sleeper::in_branch(&workspace, "below")];
    let bystander = Sleeper::new();
    fs::write(workspace.view("winner").join("file"), "won\n").expect("written");
    let report = workspace.client().commit("winner").expect("committed");
    assert!(losers.iter().all(Sleeper::is_dead));
    assert!(!bystander.is_dead());
    assert_eq!(report.warnings, Vec::<String>::new());
    assert_eq!(fs::read_to_string(workspace.base().join("file")).expect("read"), "won\n");
    let failure = workspace.client().commit("loser").expect_err("too late");
    assert!(
        matches!(&failure, ClientError::Failed(Failure::Stale { name }) if name == "loser"),
        "{failure:?}"
    );
}

/// The writer waits for its answer in the kernel, where no signal reaches it: a daemon that waited for its
/// death before answering would wait for itself.
#[test]
fn a_group_that_aborts_its_own_branch_by_the_control_file_dies_and_the_daemon_does_not_wait() {
    let Some(workspace) = Workspace::served() else { return };
    workspace.create(&["b"], "main");
    let control = workspace.view("b").join(".branchfs_ctl");
    let mut group = Sleeper::waiting_to(&format!("echo abort > {}; exec sleep 1000", control.display()));
    group.attach(&workspace, "b");
    group.go();
    assert_eq!(group.wait_end().signal(), Some(libc::SIGKILL));
    assert_eq!(workspace.names(), ["main"]);
}

#[test]
fn a_group_that_commits_its_own_branch_by_the_control_file_lives_to_tell_and_its_sibling_does_not() {
    let Some(workspace) = Workspace::served() else { return };
    workspace.create(&["a", "b"], "main");
    let loser = Sleeper::in_branch(&workspace, "b");
    let view = workspace.view("a");
    let script = format!("cd {} && echo won > file && echo commit > .branchfs_ctl; exit $?", view.display());
    let mut winner = Sleeper::waiting_to(&script);
    winner.attach(&workspace, "a");
    winner.go();
    assert_eq!(winner.wait_end().code(), Some(0));
    assert!(loser.is_dead());
    assert_eq!(fs::read_to_string(workspace.base().join("file")).expect("read"), "won\n");
}

/// The paper's ioctl, and the numbers it has there.
#[test]
fn a_fork_by_ioctl_names_the_new_branch() {
    let Some(workspace) = Workspace::served() else { return };
    workspace.create(&["b"], "main");
    let control = File::options().write(true).open(workspace.view("b").join(".branchfs_ctl")).expect("open");
    let mut name = [0u8; 128];
    // SAFETY: the request answers with 128 bytes, as its number says, and the array has room for them.
    let answer = unsafe { libc::ioctl(control.as_raw_fd(), 0x8080_6200, name.as_mut_ptr()) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
    assert!(name.starts_with(b"b-1\0"));
    assert_eq!(workspace.names(), ["main", "b", "b-1"]);
    assert_eq!(workspace.client().inspect("b-1").expect("live").parent.as_deref(), Some("b"));
}

#[test]
fn a_group_attached_too_late_is_refused_and_killed() {
    let Some(workspace) = Workspace::served() else { return };
    workspace.create(&["b"], "main");
    workspace.client().abort("b", Children::Refuse).expect("aborted");
    let mut late = Sleeper::new();
    let failure = workspace.client().attach("b", late.pid, late.pidfd.as_fd()).expect_err("dead");
    assert!(matches!(failure, ClientError::Failed(Failure::NoSuchBranch { .. })), "{failure:?}");
    assert!(!late.wait_end().success());
}

#[test]
fn attach_wants_a_pidfd() {
    let Some(workspace) = Workspace::served() else { return };
    workspace.create(&["b"], "main");
    let file = File::open("/dev/null").expect("open");
    let failure = workspace.client().attach("b", 1, file.as_fd()).expect_err("a file is no process");
    assert!(matches!(failure, ClientError::Failed(Failure::Malformed { .. })), "{failure:?}");
}

#[test]
fn a_group_that_ends_by_itself_is_dropped() {
    let Some(workspace) = Workspace::served() else { return };
    workspace.create(&["b"], "main");
    let mut events = workspace.subscribe();
    let sleeper = Sleeper::in_branch(&workspace, "b");
    let pid = sleeper.pid;
    drop(sleeper);
    assert_eq!(next(&mut events), Event::GroupGone { branch: "b".into(), pid });
    assert_eq!(workspace.client().inspect("b").expect("live").groups, 0);
}

#[test]
fn open_files_of_a_dead_branch_are_stale_even_where_they_were_cached() {
    let Some(workspace) = Workspace::served() else { return };
    workspace.create(&["b"], "main");
    let own = workspace.view("b").join("own");
    fs::write(&own, "own\n").expect("written");
    let mut files =
        [File::open(own).expect("open"), File::open(workspace.view("b").join("file")).expect("open")];
    for file in &mut files {
        file.read_to_end(&mut Vec::new()).expect("cached now");
    }
    workspace.client().abort("b", Children::Refuse).expect("aborted");
    for file in &files {
        let error = file.read_at(&mut [0; 1], 0).expect_err("its branch is gone");
        assert_eq!(error.raw_os_error(), Some(libc::ESTALE));
    }
    let gone = fs::read_dir(workspace.view("b")).expect_err("no such view");
    assert!(matches!(gone.raw_os_error(), Some(libc::ENOENT | libc::ESTALE)), "{gone}");
}

#[test]
fn what_was_stored_to_a_shared_map_is_in_the_commit() {
    let Some(workspace) = Workspace::served() else { return };
    workspace.create(&["b"], "main");
    let mut map = Map::of(&workspace.view("b").join("file"));
    map.set(b"mmap");
    // Still mapped, still dirty.
    workspace.client().commit("b").expect("committed");
    assert_eq!(fs::read_to_string(workspace.base().join("file")).expect("read"), "mmap\n");
}

#[test]
fn what_was_stored_to_a_shared_map_is_in_the_fork() {
    let Some(workspace) = Workspace::served() else { return };
    workspace.create(&["b"], "main");
    let mut map = Map::of(&workspace.view("b").join("file"));
    map.set(b"mmap");
    workspace.create(&["c"], "b");
    map.set(b"late");
    assert_eq!(fs::read_to_string(workspace.view("c").join("file")).expect("read"), "mmap\n");
}

#[test]
fn a_diff_counts_lines() {
    let Some(workspace) = Workspace::served() else { return };
    fs::write(workspace.base().join("gone"), "1\n2\n").expect("written");
    workspace.create(&["b"], "main");
    let view = workspace.view("b");
    fs::write(view.join("file"), "base\nmore\n").expect("written");
    fs::write(view.join("new"), "a\nb\nc\n").expect("written");
    fs::write(view.join("bytes"), [0, 1, 2]).expect("written");
    fs::remove_file(view.join("gone")).expect("removed");
    let changes =
        workspace.client().diff(&Compared::SinceFork { branch: "b".into() }, DiffDetail::Stat).expect("diff");
    let lines: Vec<_> = changes
        .iter()
        .map(|change| (change.path.to_string(), change.added, change.removed, change.new_size))
        .collect();
    let expected = [
        ("bytes", None, None, Some(3)),
        ("file", Some(1), Some(0), Some(10)),
        ("gone", Some(0), Some(2), None),
        ("new", Some(3), Some(0), Some(6)),
    ];
    assert_eq!(lines, expected.map(|(path, added, removed, size)| (path.to_owned(), added, removed, size)));
}

/// The first page of a file, shared and writable.
struct Map(*mut libc::c_void);

const PAGE: usize = 4096;

impl Map {
    fn of(path: &std::path::Path) -> Map {
        let file = File::options().read(true).write(true).open(path).expect("open");
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address the kernel chooses.
        let at = unsafe {
            libc::mmap(std::ptr::null_mut(), PAGE, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        assert_ne!(at, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        Map(at)
    }

    fn set(&mut self, bytes: &[u8; 4]) {
        // SAFETY: four bytes at the start of a live, writable page.
        unsafe { self.0.cast::<[u8; 4]>().write_volatile(*bytes) };
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped by `of` with this length, and not used any more.
        let answer = unsafe { libc::munmap(self.0, PAGE) };
        assert_eq!(answer, 0);
    }
}
