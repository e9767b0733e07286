//! The daemon killed in the middle of its work, at points given by what it does on disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread;

use branch_proto::GroupKind;
use branchfs_tests::{Times, Workspace, pidfd, tree, wait_dead};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::process::{Signal, pidfd_send_signal};

/// The prototype deleted first, then copied, and kept no journal: killed in between it left half a commit,
/// and nothing to go on from.
#[test]
fn a_daemon_killed_anywhere_in_a_commit_leaves_all_or_nothing() {
    let Some(workspace) = Workspace::over(fill) else { return };
    let mut round = 0;
    for after in [1, 2, 3, 5, 8, 12, 17, 23, 30, 40, 60, 100] {
        round += 1;
        let name = format!("round-{round}");
        let view = workspace.branch(&name);
        change(&view, round);
        let before = tree(&workspace.base(), Times::Compare);
        let all = tree(&view, Times::Compare);
        let mut client = workspace.client();
        let ended = killed_while(&workspace, after, || client.commit(&name).is_ok());
        if ended == Ended::BeforeKill(false) {
            panic!("the commit was refused");
        }
        let found = tree(&workspace.base(), Times::Compare);
        if workspace.names().contains(&name) {
            // Recovery (that call started a daemon) may have gone back to nothing only if nobody was told
            // that all was done.
            assert!(!matches!(ended, Ended::BeforeKill(_) | Ended::Killed(true)), "{ended:?}");
            assert_eq!(tree(&workspace.base(), Times::Compare), before, "killed after {after} events");
            assert_eq!(tree(&workspace.view(&name), Times::Compare), all, "the branch kept its changes");
            workspace.commit(&name);
        }
        assert_eq!(tree(&workspace.base(), Times::Compare), all, "killed after {after} events: {found:#?}");
        assert_eq!(tree(&workspace.view("main"), Times::Compare), all);
        if matches!(ended, Ended::BeforeKill(_)) {
            break;
        }
    }
    assert!(round > 4, "the commit was over after {round} kill points: too few to mean anything");
}

fn fill(base: &Path) {
    fs::create_dir(base.join("dir-0")).unwrap();
    for i in 0..12 {
        fs::write(base.join(format!("file-{i}")), "base\n").unwrap();
        fs::write(base.join(format!("dir-0/file-{i}")), "base\n").unwrap();
    }
}

/// Modifies, deletes, makes, renames; every round leaves the next one the same kinds of things to do.
fn change(view: &Path, round: u32) {
    for i in 0..6 {
        fs::write(view.join(format!("file-{i}")), format!("round {round}\n")).unwrap();
    }
    let (here, gone) = if round.is_multiple_of(2) { ("even", "odd") } else { ("odd", "even") };
    fs::create_dir(view.join(here)).unwrap();
    fs::write(view.join(here).join("new"), "new\n").unwrap();
    if round > 1 {
        fs::remove_dir_all(view.join(gone)).unwrap();
    }
    let dir = view.join(format!("dir-{round}"));
    fs::rename(view.join(format!("dir-{}", round - 1)), &dir).unwrap();
    fs::rename(dir.join("file-1"), dir.join("swap")).unwrap();
    fs::rename(dir.join("file-2"), dir.join("file-1")).unwrap();
    fs::rename(dir.join("swap"), dir.join("file-2")).unwrap();
}

/// Daemon start wiped the directory of branches.
#[test]
fn a_start_of_the_daemon_keeps_all_branches() {
    let Some(workspace) = Workspace::over(fill) else { return };
    workspace.fork(&["a", "b"], "main", GroupKind::Exclusive);
    workspace.fork(&["below"], "a", GroupKind::Independent);
    fs::write(workspace.view("below").join("file-1"), "by below\n").unwrap();
    fs::remove_dir_all(workspace.view("b").join("dir-0")).unwrap();
    let names = workspace.names();
    let trees = || names.iter().map(|name| tree(&workspace.view(name), Times::Compare)).collect::<Vec<_>>();
    let before = trees();
    workspace.kill_daemon();
    assert_eq!(workspace.names(), names, "after a kill");
    assert_eq!(trees(), before);
    workspace.ok(&["stop"]);
    assert_eq!(workspace.names(), names, "after a stop");
    assert_eq!(trees(), before);
    assert_eq!(workspace.client().commit("b").unwrap().stale, ["below", "a"], "still one group");
}

/// The copy was made under its final name: killed half way, the file was short ever after.
#[test]
fn a_daemon_killed_in_a_copy_up_leaves_the_file_whole() {
    const SIZE: usize = 16 << 20;
    let made = Workspace::over(|base| fs::write(base.join("big"), vec![7_u8; SIZE]).unwrap());
    let Some(workspace) = made else { return };
    for after in [1, 2, 3, 4, 6] {
        let name = format!("b-{after}");
        let big = workspace.branch(&name).join("big");
        let append = || -> io::Result<()> { OpenOptions::new().append(true).open(&big)?.write_all(b"x") };
        let ended = killed_while(&workspace, after, || append().is_ok());
        workspace.names();
        let content = fs::read(&big).unwrap();
        assert!(content.len() == SIZE || content[SIZE..] == *b"x", "{} bytes after {after}", content.len());
        assert!(content[..SIZE].iter().all(|byte| *byte == 7), "after {after}");
        let told = matches!(ended, Ended::BeforeKill(true) | Ended::Killed(true));
        assert!(!told || content.len() > SIZE, "an acknowledged write is there");
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// The work was over, with this outcome, before there were as many events as asked for.
    BeforeKill(bool),
    /// The daemon is dead; this is what the work came to.
    Killed(bool),
}

/// Kills the daemon when `after` changes were seen in base and store since `work` began. The daemon is asked
/// for nothing before the kill, so that it is not started again by us.
fn killed_while(workspace: &Workspace, after: usize, work: impl FnOnce() -> bool + Send) -> Ended {
    let daemon = pidfd(workspace.daemon());
    let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
    watch(&events, &workspace.base());
    let (finished, finish) = io::pipe().unwrap();
    thread::scope(|scope| {
        let worker = scope.spawn(move || {
            let outcome = work();
            drop(finish);
            outcome
        });
        if !came(&events, after, &finished) {
            return Ended::BeforeKill(worker.join().unwrap());
        }
        pidfd_send_signal(&daemon, Signal::KILL).unwrap();
        wait_dead(&daemon);
        Ended::Killed(worker.join().unwrap())
    })
}

/// Whether so many events came before the other side of the pipe was closed.
fn came(events: &OwnedFd, wanted: usize, finished: impl AsFd) -> bool {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut seen = 0;
    loop {
        let mut polled = [PollFd::new(events, PollFlags::IN), PollFd::new(&finished, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut polled, None)).unwrap();
        let over = !polled[1].revents().is_empty();
        let mut reader = inotify::Reader::new(events, &mut buffer);
        while reader.next().is_ok() {
            seen += 1;
            if seen >= wanted {
                return true;
            }
        }
        if over {
            return false;
        }
    }
}

/// The directory and those below; the store's too, but not the views.
fn watch(events: &OwnedFd, dir: &Path) {
    let changes = WatchFlags::CREATE
        | WatchFlags::MOVE
        | WatchFlags::DELETE
        | WatchFlags::MODIFY
        | WatchFlags::ATTRIB
        | WatchFlags::CLOSE_WRITE;
    inotify::add_watch(events, dir, changes).unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() && entry.file_name() != "mnt" {
            watch(events, &entry.path());
        }
    }
}

/// A file made by a daemon that is dead is complete, and a lock it held is free: the next one just starts.
#[test]
fn a_killed_daemon_is_replaced_by_the_next_command() {
    let Some(workspace) = Workspace::over(fill) else { return };
    let view = workspace.branch("b");
    fs::write(view.join("new"), "acknowledged\n").unwrap();
    let held = File::open(view.join("new")).unwrap();
    workspace.kill_daemon();
    assert_eq!(crate::errno(held.metadata()), libc::ENOTCONN);
    assert!(workspace.ok(&["list"]).contains('b'));
    assert_eq!(fs::read_to_string(view.join("new")).unwrap(), "acknowledged\n");
}
