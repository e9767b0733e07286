//! The daemon itself: alone on its store, and asleep when there is nothing to do.

use std::fs;

use branchfs_tests::{Times, Workspace, tree};

/// Two daemons on one store deleted each other's branches.
#[test]
fn a_second_daemon_is_refused_and_harms_nothing() {
    let Some(workspace) = Workspace::over(|base| fs::write(base.join("file"), "base\n").unwrap()) else {
        return;
    };
    let view = workspace.branch("b");
    fs::write(view.join("new"), "kept\n").unwrap();
    let before = tree(&view, Times::Compare);
    let elsewhere = workspace.outside().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for mountpoint in [&elsewhere, &workspace.mountpoint()] {
        let mut second = workspace.command(&["daemon"]);
        second.arg("--base").arg(workspace.base()).arg("--store").arg(workspace.store());
        let output = second.arg("--mountpoint").arg(mountpoint).output().unwrap();
        assert!(!output.status.success(), "{output:?}");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(words.contains("open in another process"), "{words}");
    }
    assert_eq!(workspace.names(), ["main", "b"]);
    assert_eq!(tree(&view, Times::Compare), before);
    assert!(fs::read_dir(&elsewhere).unwrap().next().is_none(), "and mounted nothing");
}

/// The prototype looked for clients ten times a second. This one's main thread waits without a limit of time:
/// the kernel says which call it sleeps in, and with which arguments.
#[test]
fn an_idle_daemon_sleeps_until_something_happens() {
    let Some(workspace) = Workspace::new() else { return };
    workspace.branch("b");
    let pid = workspace.daemon();
    let call = loop {
        // `running` while it is: it has an event of ours to finish.
        let call = fs::read_to_string(format!("/proc/{pid}/task/{pid}/syscall")).unwrap();
        if call.trim() != "running" {
            break call;
        }
        std::thread::yield_now();
    };
    let fields: Vec<&str> = call.split_whitespace().collect();
    let number: i64 = fields[0].parse().unwrap();
    let limit = u64::from_str_radix(fields[3].trim_start_matches("0x"), 16).unwrap();
    #[cfg(target_arch = "x86_64")]
    if number == libc::SYS_poll {
        assert_eq!(limit as i32, -1, "poll with a limit of time: {call}");
        return;
    }
    assert_eq!(number, libc::SYS_ppoll, "it waits in another call: {call}");
    assert_eq!(limit, 0, "ppoll with a limit of time: {call}");
}
