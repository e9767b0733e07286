//! `kill -9` of the daemon at random moments under load. What was acknowledged is there afterwards (S10), no
//! branch is lost, and a commit is all or nothing in the base (S11).
//!
//! The moment is chosen by a seeded timer: that it falls anywhere is the point of the test, and nothing is
//! waited for with it.
#![allow(clippy::unwrap_used, reason = "helpers of a test")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use branch_proto::{Children, Client, ClientError, GroupKind};
use branch_store::{New, NewKind, Options, Store, Unrecovered};
use branchfs_tests::{Model, Op, Rng, Times, Tree, Workspace, binary, pidfd, rounds, seed, tree, wait_dead};
use rustix::event::Timespec;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

const WRITERS: u64 = 2;
const ROUNDS: u64 = 100;
/// Latest moment of a kill after the load began.
const LATEST: Duration = Duration::from_millis(150);
/// Latest moment of a kill after the daemon was started: in its recovery, or just after.
const LATEST_IN_RECOVERY: Duration = Duration::from_millis(25);

/// Who writes into a branch, and knows what must be in it.
struct Writer {
    branch: String,
    rng: Rng,
    model: Model,
    /// Asked for and not acknowledged.
    doubt: Option<Op>,
    acknowledged: u64,
}

/// Who forks, commits and aborts short-lived branches.
struct Committer {
    rng: Rng,
    count: u64,
    base: Tree,
    live: BTreeSet<String>,
    doubt: Option<Verb>,
    commits: u64,
}

enum Verb {
    Fork(String),
    Abort(String),
    Commit { branch: String, after: Tree },
}

#[derive(Debug, Default)]
struct Tally {
    acknowledged: u64,
    operations_in_doubt: u64,
    operations_done: u64,
    commits: u64,
    commits_in_doubt: u64,
    commits_done: u64,
    killed_in_recovery: u64,
}

#[test]
fn what_was_acknowledged_survives_a_daemon_killed_at_random_moments() {
    let seed = seed();
    let Some(workspace) = Workspace::over(fill) else { return };
    let mut moments = Rng::new(seed, 1);
    let mut writers: Vec<Writer> = (0..WRITERS).map(|n| Writer::new(&workspace, seed, n)).collect();
    let mut committer = Committer::new(&workspace, Rng::new(seed, 2));
    let mut tally = Tally::default();
    let rounds = rounds(ROUNDS);
    let mut round = 0;
    // On a busy machine it may be that no commit is done in time: it goes on until one was.
    while round < rounds || tally.commits == 0 && round < 10 * rounds {
        let pid = workspace.daemon();
        let socket = workspace.store().join("daemon.sock");
        let client = Client::connect(&socket).unwrap();
        // Held while a tree is read: a death in the middle of that would tell nothing.
        let reading = Mutex::new(());
        std::thread::scope(|scope| {
            for writer in &mut writers {
                scope.spawn(|| writer.write_until_death(&workspace));
            }
            scope.spawn(|| committer.commit_until_death(&workspace, client, &reading));
            pass(random_below(&mut moments, LATEST));
            let _nobody_reads = reading.lock().unwrap_or_else(PoisonError::into_inner);
            kill(pid);
        });
        if moments.below(3) == 0 {
            tally.killed_in_recovery += u64::from(killed_in_recovery(&workspace, &mut moments));
        }
        committer.check(&workspace, &mut tally, round);
        for writer in &mut writers {
            writer.check(&workspace, &mut tally, round);
        }
        if round % 5 == 4 {
            let n = moments.below(WRITERS);
            writers[n as usize].start_again(&workspace);
        }
        let log = fs::read_to_string(workspace.store().join("daemon.log")).unwrap();
        assert!(!log.contains("panicked"), "round {round}:\n{log}");
        round += 1;
    }
    eprintln!("{tally:?}");
    assert!(tally.acknowledged > 0 && tally.commits > 0, "there was a load");
}

// Met by the test above: a change was journaled between the record of a branch's end and the end itself, and
// the next daemon refused the journal, which spoke of a branch that did not exist.
#[test]
fn a_change_made_while_its_branch_ends_does_not_damage_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (base, store) = (dir.path().join("base"), dir.path().join("store"));
    fs::create_dir(&base).unwrap();
    branch_store::init(&base, &store).unwrap();
    let open = || {
        let options = Options { base: base.clone(), store: store.clone() };
        Unrecovered::open(options).unwrap().recover().unwrap().0
    };
    for _ in 0..10 {
        let store = open();
        (0..30).for_each(|n| end_while_it_is_changed(&store, n));
    }
    assert_eq!(open().branches().len(), 1, "all have ended");
}

fn end_while_it_is_changed(store: &Store, n: u64) {
    let names = ["winner", "loser"].map(str::to_owned);
    let branches = store.fork(&store.main(), &names, branch_store::GroupKind::Exclusive).unwrap();
    let (winner, loser) = (&branches[0], &branches[1]);
    let (changed, first_change) = channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let new = || New { kind: NewKind::Dir, mode: 0o755, uid: 0, gid: 0, xattrs: Default::default() };
            let make = |n: u64| loser.create(&loser.root(), n.to_string().as_bytes(), new());
            let error = (0..).find_map(|n| {
                let made = make(n);
                // Nobody listens any more when the branch ends.
                changed.send(()).ok();
                made.err()
            });
            assert_eq!(error.unwrap().errno(), Errno::STALE);
        });
        first_change.recv().unwrap();
        if n.is_multiple_of(2) {
            store.commit(winner).unwrap();
        } else {
            store.abort(loser, branch_store::Children::Refuse).unwrap();
            store.commit(winner).unwrap();
        }
    });
}

// Met by the test above: ids of base objects are inode numbers, the host gave a removed directory's to a new
// file, and an assertion in the engine took the file's id for that of a directory it knew.
#[test]
fn a_file_that_got_the_inode_number_of_a_removed_directory_can_be_unlinked() {
    let Some(workspace) = Workspace::over(|base| fs::create_dir_all(base.join("dir/below")).unwrap()) else {
        return;
    };
    let number = fs::metadata(workspace.base().join("dir")).unwrap().ino();
    // From here on the store knows the directory's place, also after a restart, and no descriptor keeps it.
    fs::write(workspace.branch("before").join("dir/below/new"), "new").unwrap();
    workspace.kill_daemon();
    fs::remove_dir_all(workspace.base().join("dir")).unwrap();
    let again = |n: &u32| {
        let file = File::create(workspace.base().join(format!("file-{n}"))).unwrap();
        file.metadata().unwrap().ino() == number
    };
    let Some(n) = (0..1000).find(again) else {
        eprintln!("this filesystem does not use an inode number again soon: nothing to see");
        return;
    };
    let view = workspace.branch("after");
    fs::remove_file(view.join(format!("file-{n}"))).unwrap();
    workspace.commit("after");
    assert!(!workspace.base().join(format!("file-{n}")).exists());
    let log = fs::read_to_string(workspace.store().join("daemon.log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
}

fn fill(base: &Path) {
    let (mut rng, mut model) = (Rng::new(7, 7), Model::default());
    for _ in 0..200 {
        let op = Op::random(&mut rng, &model);
        op.run(base).unwrap();
        model.apply(&op);
    }
}

fn random_below(rng: &mut Rng, latest: Duration) -> Duration {
    Duration::from_micros(rng.below(latest.as_micros() as u64))
}

/// The seeded timer.
fn pass(time: Duration) {
    rustix::event::poll(&mut [], Some(&Timespec::try_from(time).unwrap())).unwrap();
}

fn kill(pid: i32) {
    let watched = pidfd(pid);
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    wait_dead(watched);
}

/// Starts the daemon and kills it soon; whether that was before it was ready.
fn killed_in_recovery(workspace: &Workspace, moments: &mut Rng) -> bool {
    let mut daemon = Command::new(binary())
        .args(["daemon", "--launched", "--base"])
        .arg(workspace.base())
        .arg("--store")
        .arg(workspace.store())
        .arg("--mountpoint")
        .arg(workspace.mountpoint())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(fs::File::options().append(true).open(workspace.store().join("daemon.log")).unwrap())
        .spawn()
        .unwrap();
    pass(random_below(moments, LATEST_IN_RECOVERY));
    daemon.kill().unwrap();
    let output = daemon.wait_with_output().unwrap();
    output.stdout.is_empty()
}

/// Whether the error says that the daemon is dead, and nothing else.
fn is_death(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::NOTCONN | Errno::CONNABORTED))
}

fn is_hang_up(error: &ClientError) -> bool {
    match error {
        ClientError::Closed | ClientError::NotTaken | ClientError::Frame(_) | ClientError::Connect { .. } => {
            true
        }
        ClientError::Version { .. } | ClientError::Failed(_) | ClientError::Mismatch { .. } => false,
    }
}

impl Writer {
    fn new(workspace: &Workspace, seed: u64, n: u64) -> Writer {
        let branch = format!("writer-{n}");
        let view = workspace.branch(&branch);
        let model = Model::of(&view).unwrap();
        Writer { branch, rng: Rng::new(seed, 100 + n), model, doubt: None, acknowledged: 0 }
    }

    fn write_until_death(&mut self, workspace: &Workspace) {
        let view = workspace.view(&self.branch);
        loop {
            let op = Op::random(&mut self.rng, &self.model);
            match op.run(&view) {
                Ok(()) => {
                    self.model.apply(&op);
                    self.acknowledged += 1;
                }
                Err(error) => {
                    assert!(is_death(&error), "{}: {op:?}: {error}", self.branch);
                    self.doubt = Some(op);
                    return;
                }
            }
        }
    }

    fn check(&mut self, workspace: &Workspace, tally: &mut Tally, round: u64) {
        let real = Model::of(&workspace.view(&self.branch)).unwrap();
        let doubt = self.doubt.take().expect("the death was seen");
        let branch = &self.branch;
        let difference = self.model.difference(&real);
        assert!(
            self.model.explains(&doubt, &real),
            "round {round}, {branch}, unacknowledged {doubt:?}:\n{difference}"
        );
        tally.operations_in_doubt += 1;
        tally.operations_done += u64::from(!difference.is_empty());
        tally.acknowledged += std::mem::take(&mut self.acknowledged);
        self.model = real;
    }

    /// A branch of the base as it is by now.
    fn start_again(&mut self, workspace: &Workspace) {
        workspace.client().abort(&self.branch, Children::Refuse).unwrap();
        self.model = Model::of(&workspace.branch(&self.branch)).unwrap();
    }
}

impl Committer {
    fn new(workspace: &Workspace, rng: Rng) -> Committer {
        let base = tree(&workspace.base(), Times::Compare);
        Committer { rng, count: 0, base, live: BTreeSet::new(), doubt: None, commits: 0 }
    }

    fn commit_until_death(&mut self, workspace: &Workspace, mut client: Client, reading: &Mutex<()>) {
        while self.one(workspace, &mut client, reading).is_some() {}
    }

    /// One branch from its fork to its end. `None` when the daemon has died.
    fn one(&mut self, workspace: &Workspace, client: &mut Client, reading: &Mutex<()>) -> Option<()> {
        self.count += 1;
        let branch = format!("short-{}", self.count);
        self.doubt = Some(Verb::Fork(branch.clone()));
        heard(client.create(std::slice::from_ref(&branch), "main", GroupKind::Exclusive))?;
        self.doubt = None;
        self.live.insert(branch.clone());
        let view = workspace.view(&branch);
        let mut model = alive(Model::of(&view))?;
        for _ in 0..=self.rng.below(20) {
            let op = Op::random(&mut self.rng, &model);
            alive(op.run(&view))?;
            model.apply(&op);
        }
        if self.rng.below(5) == 0 {
            self.doubt = Some(Verb::Abort(branch.clone()));
            heard(client.abort(&branch, Children::Refuse))?;
        } else {
            let after = {
                let _no_death_now = reading.lock().unwrap();
                alive(fs::metadata(&view))?;
                tree(&view, Times::Compare)
            };
            self.doubt = Some(Verb::Commit { branch: branch.clone(), after: after.clone() });
            heard(client.commit(&branch))?;
            self.base = after;
            self.commits += 1;
            assert_eq!(tree(&workspace.base(), Times::Compare), self.base, "{branch} was committed");
        }
        self.doubt = None;
        self.live.remove(&branch);
        Some(())
    }

    /// The base and the list of branches are what was acknowledged, with what was in flight done or not.
    fn check(&mut self, workspace: &Workspace, tally: &mut Tally, round: u64) {
        let base = tree(&workspace.base(), Times::Compare);
        // The base is read again when recovery has finished what was decided.
        let mut names: BTreeSet<String> = workspace.names().into_iter().collect();
        let recovered = tree(&workspace.base(), Times::Compare);
        names.retain(|name| name.starts_with("short-"));
        match self.doubt.take() {
            Some(Verb::Commit { branch, after }) => {
                tally.commits_in_doubt += 1;
                if names.contains(&branch) {
                    assert_eq!(
                        recovered, self.base,
                        "round {round}: {branch} lives, so nothing is committed"
                    );
                    assert_eq!(base, self.base, "round {round}: nor was it before the recovery");
                    let view = tree(&workspace.view(&branch), Times::Compare);
                    assert_eq!(view, after, "round {round}: {branch} is as it was before its commit");
                } else {
                    assert_eq!(recovered, after, "round {round}: {branch} has gone, so it is committed");
                    tally.commits_done += 1;
                    self.live.remove(&branch);
                    self.base = after;
                }
            }
            Some(Verb::Fork(branch)) if names.contains(&branch) => {
                self.live.insert(branch);
            }
            Some(Verb::Abort(branch)) if !names.contains(&branch) => {
                self.live.remove(&branch);
            }
            Some(Verb::Fork(_) | Verb::Abort(_)) | None => {}
        }
        assert_eq!(recovered, self.base, "round {round}");
        assert_eq!(names, self.live, "round {round}: branches");
        tally.commits += std::mem::take(&mut self.commits);
        for branch in std::mem::take(&mut self.live) {
            workspace.client().abort(&branch, Children::Refuse).unwrap();
        }
    }
}

fn heard<T>(answer: Result<T, ClientError>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(error) => {
            assert!(is_hang_up(&error), "{error}");
            None
        }
    }
}

fn alive<T>(done: io::Result<T>) -> Option<T> {
    match done {
        Ok(done) => Some(done),
        Err(error) => {
            assert!(is_death(&error), "{error}");
            None
        }
    }
}
