//! Start, stop and death of the daemon.

use std::fs::{self, File};
use std::io::{Read, Write};

use branch_proto::{Event, GroupKind};
use rustix::process::Signal;

use crate::harness::{Sleeper, Workspace, is_mounted, next, unmount};

#[test]
fn a_second_daemon_on_the_same_store_is_refused_and_the_first_goes_on() {
    let Some(workspace) = Workspace::served() else { return };
    let (mut second, word) = workspace.launch();
    assert!(word.contains("open in another process"), "{word:?}");
    assert!(!second.wait().expect("ended").success());
    assert_eq!(workspace.names(), ["main"]);
    assert!(is_mounted(&workspace.mountpoint()));
}

#[test]
fn each_stop_signal_leaves_nothing_mounted_and_no_socket_and_the_branches_stay() {
    let Some(mut workspace) = Workspace::served() else { return };
    workspace.create(&["b"], "main");
    fs::write(workspace.view("b").join("new"), "kept\n").expect("written");
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        workspace.signal(signal);
        assert!(workspace.ended().success(), "{signal:?}");
        workspace.assert_no_trace();
        workspace.start();
        assert_eq!(fs::read_to_string(workspace.view("b").join("new")).expect("read"), "kept\n");
    }
}

#[test]
fn a_stop_does_not_wait_for_a_process_that_has_a_file_open() {
    let Some(mut workspace) = Workspace::served() else { return };
    workspace.create(&["b"], "main");
    let mut held = File::open(workspace.view("b").join("file")).expect("open");
    workspace.signal(Signal::TERM);
    assert!(workspace.ended().success());
    workspace.assert_no_trace();
    held.read_to_end(&mut Vec::new()).expect_err("its filesystem is gone");
}

/// A descriptor here for each file that is open somewhere would be too many.
#[test]
fn more_files_can_be_open_than_the_daemon_may_have_descriptors() {
    const FILES: usize = 700;
    let Some(mut workspace) = Workspace::served() else { return };
    workspace.restart_with_descriptors(200);
    workspace.create(&["b"], "main");
    let path = |n: usize| workspace.view("b").join(format!("f{n}"));
    let mut files: Vec<File> = (0..FILES).map(|n| File::create_new(path(n)).expect("made")).collect();
    for (n, file) in files.iter_mut().enumerate() {
        write!(file, "{n}").expect("written");
    }
    for (n, file) in files.iter_mut().enumerate() {
        write!(file, "!").expect("written");
        assert_eq!(fs::read_to_string(path(n)).expect("read"), format!("{n}!"));
    }
}

#[test]
fn whoever_asks_for_the_stop_is_answered_when_the_next_daemon_can_start() {
    let Some(mut workspace) = Workspace::served() else { return };
    let mut events = workspace.subscribe();
    workspace.client().shutdown().expect("done");
    workspace.assert_no_trace();
    assert_eq!(next(&mut events), Event::Shutdown);
    assert!(events.next().is_none());
    assert!(workspace.ended().success());
    workspace.start();
}

#[test]
fn an_unmount_from_outside_stops_the_daemon() {
    let Some(mut workspace) = Workspace::served() else { return };
    unmount(&workspace.mountpoint());
    assert!(workspace.ended().success());
    workspace.assert_no_trace();
}

#[test]
fn a_killed_daemon_leaves_a_dead_mount_which_the_next_replaces_and_nothing_is_lost() {
    let Some(mut workspace) = Workspace::served() else { return };
    workspace.create(&["b", "c"], "main");
    fs::write(workspace.view("b").join("new"), "acknowledged\n").expect("written");
    workspace.signal(Signal::KILL);
    assert!(!workspace.ended().success());
    assert!(is_mounted(&workspace.mountpoint()), "nobody was there to unmount");
    assert!(workspace.socket().exists());
    workspace.start();
    assert_eq!(workspace.names(), ["main", "b", "c"]);
    assert_eq!(fs::read_to_string(workspace.view("b").join("new")).expect("read"), "acknowledged\n");
    assert_eq!(fs::read_to_string(workspace.view("c").join("file")).expect("read"), "base\n");
    workspace.signal(Signal::TERM);
    assert!(workspace.ended().success());
    workspace.assert_no_trace();
}

#[test]
fn groups_of_a_killed_daemon_are_killed_by_the_next() {
    let Some(mut workspace) = Workspace::served() else { return };
    workspace.create(&["b"], "main");
    let sleeper = Sleeper::in_branch(&workspace, "b");
    let free = Sleeper::new();
    workspace.signal(Signal::KILL);
    workspace.ended();
    assert!(!sleeper.is_dead());
    workspace.start();
    assert!(sleeper.is_dead());
    assert!(!free.is_dead());
}

#[test]
fn a_stop_kills_the_groups_whose_view_it_takes_away() {
    let Some(mut workspace) = Workspace::served() else { return };
    workspace.create(&["b"], "main");
    let sleeper = Sleeper::in_branch(&workspace, "b");
    workspace.signal(Signal::TERM);
    assert!(workspace.ended().success());
    assert!(sleeper.is_dead());
}

#[test]
fn subscribers_see_fork_commit_and_abort() {
    let Some(workspace) = Workspace::served() else { return };
    let mut events = workspace.subscribe();
    let mut client = workspace.client();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    client.create(&names(&["a", "b"]), "main", GroupKind::Exclusive).expect("created");
    assert_eq!(next(&mut events), Event::Forked { parent: "main".into(), branches: names(&["a", "b"]) });
    let report = client.commit("a").expect("committed");
    assert_eq!(report.stale, ["b"]);
    assert_eq!(next(&mut events), Event::Committed { report });
    let reason = branch_proto::EndReason::Stale;
    assert_eq!(next(&mut events), Event::Ended { branch: "b".into(), reason });
    client.create(&names(&["c"]), "main", GroupKind::Exclusive).expect("created");
    next(&mut events);
    client.abort("c", branch_proto::Children::Refuse).expect("aborted");
    let reason = branch_proto::EndReason::Aborted;
    assert_eq!(next(&mut events), Event::Ended { branch: "c".into(), reason });
}
