//! What subscribers hear of a long commit, and calling it off from another connection.

use std::fs;
use std::process::{Command, Stdio};

use branch_proto::{ClientError, CommitPhase, CommitProgress, Event, Events, Failure};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Workspace, next};

/// More than are passed over in silence.
const FILES: usize = 1200;

/// A workspace with a branch `b` that has so many new files.
fn with_new(files: usize) -> Option<Workspace> {
    let workspace = Workspace::served()?;
    workspace.create(&["b"], "main");
    let dir = workspace.mountpoint().join("b/new");
    fs::create_dir(&dir).expect("directory");
    for i in 0..files {
        fs::write(dir.join(i.to_string()), "new").expect("file");
    }
    Some(workspace)
}

/// All that is told of the commit, up to its end.
fn told(events: &mut Events, branch: &str) -> Vec<CommitProgress> {
    let mut told = Vec::new();
    loop {
        match next(events) {
            Event::Progress { progress } => {
                assert_eq!(progress.branch, branch);
                told.push(progress);
            }
            Event::Committed { .. } => return told,
            other => panic!("unexpected: {other:?}"),
        }
    }
}

#[test]
fn a_long_commit_and_its_undoing_are_told_phase_by_phase_and_a_short_one_is_not() {
    let Some(workspace) = with_new(FILES) else { return };
    let mut events = workspace.subscribe();
    let mut client = workspace.client();
    client.commit("b").expect("committed");
    let of_commit = told(&mut events, "b");
    let mut phases: Vec<CommitPhase> = of_commit.iter().map(|progress| progress.phase).collect();
    phases.dedup();
    let in_order = [
        CommitPhase::Planning,
        CommitPhase::Staging,
        CommitPhase::Syncing,
        CommitPhase::Deciding,
        CommitPhase::WritingBack,
        CommitPhase::Finishing,
        CommitPhase::Done,
    ];
    assert_eq!(phases, in_order);
    let all = FILES as u64 + 1;
    let staged: Vec<_> = of_commit.iter().filter(|progress| progress.phase == CommitPhase::Staging).collect();
    assert!(staged.iter().all(|progress| progress.of == all), "{staged:?}");
    assert!(staged.windows(2).all(|two| two[0].done < two[1].done), "{staged:?}");
    assert_eq!((staged[0].done, staged[staged.len() - 1].done), (0, all));
    // The whole directory goes in one step: nothing to speak of.
    client.undo().expect("undone");
    assert_eq!(told(&mut events, "main"), []);
}

/// Whichever comes first, the decision or the word, both connections hear the same.
#[test]
fn a_commit_that_is_called_off_has_not_happened_and_one_that_is_decided_has() {
    let Some(workspace) = with_new(FILES) else { return };
    let mut client = workspace.client();
    let refused = client.cancel("b").expect_err("no commit is under way");
    assert!(matches!(refused, ClientError::Failed(Failure::NotAllowed { .. })), "{refused}");
    let mut events = workspace.subscribe();
    let mut waiting = workspace.client();
    let (committed, cancelled) = std::thread::scope(|scope| {
        let committed = scope.spawn(|| waiting.commit("b"));
        assert!(matches!(next(&mut events), Event::Progress { .. }));
        let cancelled = client.cancel("b");
        (committed.join().expect("thread"), cancelled)
    });
    let file = workspace.base().join("new/0");
    match cancelled {
        Ok(()) => {
            let error = committed.expect_err("called off");
            assert!(matches!(error, ClientError::Failed(Failure::Cancelled)), "{error}");
            assert!(!file.exists());
            client.inspect("b").expect("the branch lives");
            client.commit("b").expect("and can be committed");
            assert!(file.exists());
        }
        Err(refused) => {
            assert!(refused.to_string().contains("no longer") || refused.to_string().contains("no commit"));
            committed.expect("decided");
            assert!(file.exists());
        }
    }
}

/// Whoever is first, the signal or the decision: exit code, branch and base agree. In a pipe no progress is shown.
#[test]
fn ctrl_c_calls_a_commit_off_or_hears_that_it_is_too_late() {
    let Some(workspace) = with_new(FILES) else { return };
    let mut events = workspace.subscribe();
    let mut command = Command::new(env!("CARGO_BIN_EXE_branchfs"));
    command.args(["commit", "b"]).current_dir(workspace.base());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("started");
    assert!(matches!(next(&mut events), Event::Progress { .. }));
    // It listens before it asks the daemon. (It may have ended since.)
    kill_process(Pid::from_child(&child), Signal::INT).ok();
    let ended = child.wait_with_output().expect("ended");
    let said = String::from_utf8(ended.stderr).expect("text");
    let committed = workspace.base().join("new/0").exists();
    let lives = workspace.client().list().expect("a list").iter().any(|branch| branch.name == "b");
    assert_eq!(lives, !committed, "{said}");
    match ended.status.code() {
        Some(0) => {
            assert!(committed);
            // Too late: it was decided, or over.
            let late = ["branchfs: it is decided", "branchfs: no commit"];
            assert!(said.is_empty() || late.iter().any(|word| said.starts_with(word)), "{said}");
        }
        Some(130) => {
            assert!(!committed);
            assert!(said.starts_with("branchfs: called off before it was decided"), "{said}");
        }
        other => panic!("{other:?}: {said}"),
    }
}
