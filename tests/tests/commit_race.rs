//! Siblings race to commit: one wins, all others are stale, and with the winner's answer in hand nothing of
//! a loser works any more (S12, S13).
#![allow(clippy::unwrap_used, reason = "helpers of a test")]

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Barrier;

use branch_proc::{Command, Group, Stdio};
use branch_proto::{Client, ClientError, CommitReport, Failure, GroupKind};
use branchfs_tests::{Workspace, is_dead, rounds};
use rustix::io::Errno;

const SIBLINGS: usize = 64;
const ROUNDS: u64 = 100;

/// One of the racing branches, with a process in it and open descriptors.
struct Sibling {
    name: String,
    file: File,
    directory: File,
    /// Watches all of the process group.
    pidfd: OwnedFd,
    group: Group,
}

#[test]
fn of_64_siblings_one_wins_and_nothing_of_the_others_works_when_it_hears_so() {
    let Some(workspace) = Workspace::over(|base| fs::write(base.join("file"), "base").unwrap()) else {
        return;
    };
    let mut winners = Vec::new();
    for round in 0..rounds(ROUNDS) {
        winners.push(race(&workspace, round));
    }
    winners.sort_unstable();
    winners.dedup();
    eprintln!("{} different siblings have won", winners.len());
}

// A loser whose commit arrived when its sibling's had taken it off the books, and before the daemon had noted
// why, was told "no such branch".
#[test]
fn a_stale_name_says_so_until_it_is_used_again() {
    let Some(workspace) = Workspace::new() else { return };
    let commit = |name: &str| workspace.client().commit(name).map(|report| report.stale);
    workspace.fork(&["winner", "loser"], "main", GroupKind::Exclusive);
    assert_eq!(commit("winner").unwrap(), ["loser"]);
    let stale = commit("loser").unwrap_err();
    assert!(matches!(&stale, ClientError::Failed(Failure::Stale { name }) if name == "loser"), "{stale:?}");
    let stranger = commit("stranger").unwrap_err();
    assert!(matches!(&stranger, ClientError::Failed(Failure::NoSuchBranch { .. })), "{stranger:?}");
    workspace.branch("loser");
    assert_eq!(commit("loser").unwrap(), Vec::<String>::new());
    let gone = commit("loser").unwrap_err();
    assert!(matches!(&gone, ClientError::Failed(Failure::NoSuchBranch { .. })), "{gone:?}");
}

/// One race; which sibling has won.
fn race(workspace: &Workspace, round: u64) -> usize {
    let names: Vec<String> = (0..SIBLINGS).map(|n| format!("r{round}-{n}")).collect();
    workspace.client().create(&names, "main", GroupKind::Exclusive).unwrap();
    let mut siblings: Vec<Sibling> = names.iter().map(|name| Sibling::new(workspace, name)).collect();
    let start = Barrier::new(SIBLINGS);
    let outcomes: Vec<Result<CommitReport, ClientError>> = std::thread::scope(|scope| {
        let (siblings, start) = (&siblings, &start);
        let commit = |n: usize| {
            let mut client = Client::connect(&workspace.store().join("daemon.sock")).unwrap();
            move || {
                start.wait();
                let outcome = client.commit(&siblings[n].name);
                if outcome.is_ok() {
                    assert_all_gone_but(siblings, n);
                }
                outcome
            }
        };
        let threads: Vec<_> = (0..SIBLINGS).map(|n| scope.spawn(commit(n))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let winner = check(&outcomes, &names);
    assert_eq!(fs::read_to_string(workspace.base().join("file")).unwrap(), names[winner]);
    assert_eq!(workspace.names(), ["main"]);
    for sibling in &mut siblings {
        sibling.group.kill().unwrap();
    }
    winner
}

/// One has won and knows all losers; each of these knows that it is stale.
fn check(outcomes: &[Result<CommitReport, ClientError>], names: &[String]) -> usize {
    let won: Vec<usize> = (0..SIBLINGS).filter(|n| outcomes[*n].is_ok()).collect();
    assert_eq!(won.len(), 1, "{outcomes:?}");
    let winner = won[0];
    for (n, outcome) in outcomes.iter().enumerate().filter(|(n, _)| *n != winner) {
        let stale = matches!(outcome, Err(ClientError::Failed(Failure::Stale { name })) if *name == names[n]);
        assert!(stale, "{}: {outcome:?}", names[n]);
    }
    let report = outcomes[winner].as_ref().unwrap();
    let mut stale = report.stale.clone();
    let mut losers: Vec<String> = names.iter().filter(|name| **name != names[winner]).cloned().collect();
    stale.sort();
    losers.sort();
    assert_eq!(stale, losers);
    assert_eq!(report.warnings, Vec::<String>::new());
    winner
}

impl Sibling {
    fn new(workspace: &Workspace, name: &str) -> Sibling {
        let view = workspace.view(name);
        fs::write(view.join("file"), name).unwrap();
        let file = File::options().read(true).write(true).open(view.join("file")).unwrap();
        // In the kernel's cache now: a loser must not be served from there.
        file.read_at(&mut [0; 16], 0).unwrap();
        file.metadata().unwrap();
        let group = Command::new(["/bin/sleep", "1000000"])
            .bind(&view, workspace.base())
            .current_dir(workspace.base())
            .stdin(Stdio::Null)
            .stdout(Stdio::Null)
            .spawn()
            .unwrap();
        let pidfd = group.pidfd().try_clone_to_owned().unwrap();
        workspace.client().attach(name, group.pid(), group.pidfd()).unwrap();
        Sibling { name: name.to_owned(), file, directory: File::open(view).unwrap(), pidfd, group }
    }
}

fn assert_all_gone_but(siblings: &[Sibling], winner: usize) {
    for (n, sibling) in siblings.iter().enumerate() {
        let name = &sibling.name;
        let stale = |what: &str, errno: Result<(), Errno>| {
            assert_eq!(errno, Err(Errno::STALE), "{what} in {name} after {}", siblings[winner].name);
        };
        stale("read", errno(sibling.file.read_at(&mut [0; 4], 0)));
        stale("write", errno(sibling.file.write_at(b"late", 0)));
        stale("fstat", errno(sibling.file.metadata()));
        stale("fstat of a directory", errno(sibling.directory.metadata()));
        // The winner's own processes end as well: it is committed, its view is gone.
        assert!(is_dead(&sibling.pidfd), "a process of {name} lives (number {n})");
    }
}

fn errno<T>(result: std::io::Result<T>) -> Result<(), Errno> {
    result.map(drop).map_err(|error| Errno::from_io_error(&error).unwrap())
}
