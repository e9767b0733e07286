use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use branchfs_tests::Workspace;

use crate::views::watched;

const FILES: usize = 1000;
/// Longer than what nobody watches is believed.
const WARM: Duration = Duration::from_millis(2500);
const WHILES: usize = 4;
/// Requests that are not about these files: the mount's own root is asked for every second.
const OTHERS: u64 = 100;

/// How often the threads that answer the kernel went to sleep: at least once for each request, however it comes, as
/// they wait for the next one.
fn naps(daemon: i32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{daemon}/task")).unwrap().flatten();
    let workers = threads.filter(|thread| {
        // A client's thread may have ended meanwhile.
        fs::read_to_string(thread.path().join("comm"))
            .is_ok_and(|name| name.starts_with(branchfs::fuse::WORKER))
    });
    let count = |thread: &Path| -> u64 {
        let status = fs::read_to_string(thread.join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        line.trim().parse().unwrap()
    };
    workers.map(|thread| count(&thread.path())).sum()
}

/// Stats files and absent names in a view, and lists them, for a while, several times; requests in each of these whiles.
fn requests(how: &str) -> Option<Vec<u64>> {
    let workspace = watched(how, |base| {
        fs::create_dir(base.join("d")).unwrap();
        (0..FILES).for_each(|n| fs::write(base.join(format!("d/{n}")), "x").unwrap());
    })?;
    let view = workspace.view("one").join("d");
    let present: Vec<PathBuf> = (0..FILES).map(|n| view.join(n.to_string())).collect();
    let absent: Vec<PathBuf> = (0..FILES).map(|n| view.join(format!("no {n}"))).collect();
    let look = || {
        assert!(present.iter().all(|path| path.exists()));
        assert!(!absent.iter().any(|path| path.exists()));
        assert_eq!(fs::read_dir(&view).unwrap().count(), FILES);
    };
    let daemon = workspace.daemon();
    let asked = || {
        look();
        let (before, begin) = (naps(daemon), Instant::now());
        while begin.elapsed() < WARM {
            look();
        }
        naps(daemon) - before
    };
    Some((0..WHILES).map(|_| asked()).collect())
}

#[test]
fn what_is_warm_is_not_asked_for_again() {
    let Some(asked) = requests("best") else { return };
    // Not each: anybody on this machine can have its caches dropped.
    assert!(asked.iter().any(|asked| *asked < OTHERS), "{asked:?} requests");
    // The instrument can tell: without a watch all are asked for again every second.
    let asked = requests("off").unwrap();
    assert!(asked.iter().all(|asked| *asked > FILES as u64), "{asked:?} requests without a watch");
}

/// What the kernel has forgotten needs no watch, and one that nobody needs is given back.
#[test]
fn directories_of_ended_branches_are_not_watched_any_more() {
    let fill = |base: &Path| {
        for n in 0..50 {
            fs::create_dir(base.join(format!("d{n}"))).unwrap();
            fs::write(base.join(format!("d{n}/f")), "x").unwrap();
        }
    };
    // The root of main is shown as long as there is a mount.
    for (how, says) in [("fanotify", "by fanotify on 1 "), ("inotify", "by inotify on 1 ")] {
        let Some(workspace) = watched(how, fill) else { return };
        let list = |branch: &str| {
            let dirs = fs::read_dir(workspace.view(branch)).unwrap().flatten();
            dirs.map(|dir| fs::read_dir(dir.path()).unwrap().count()).sum::<usize>()
        };
        assert_eq!(list("one") + list("three"), 100);
        assert!(!status(&workspace).contains(says), "{}", status(&workspace));
        for branch in ["one", "three", "two", "below"] {
            workspace.ok(&["abort", branch]);
        }
        let begin = Instant::now();
        while !status(&workspace).contains(says) {
            assert!(begin.elapsed() < Duration::from_secs(30), "{}", status(&workspace));
        }
    }
}

fn status(workspace: &Workspace) -> String {
    workspace.ok(&["status"])
}
