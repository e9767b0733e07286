//! A parent and two siblings write the same files at once; each sees its own only (S8), and a fork sees its
//! parent as it was at that moment, for ever (S2).
#![allow(clippy::unwrap_used, reason = "helpers of a test")]

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, TryRecvError, channel};
use std::thread::Scope;

use branch_proto::{Children, ClientError, Failure, GroupKind};
use branchfs_tests::{Model, Op, Rng, Workspace, rounds, seed};

/// Forks taken in the middle of the load.
const FORKS: u64 = 60;
/// Operations of the parent between two forks.
const BETWEEN: u64 = 80;
/// Operations after which a writer looks at all it has.
const LOOK: u64 = 200;

/// A thread that writes into one branch.
struct Writer {
    view: PathBuf,
    rng: Rng,
    model: Model,
    operations: u64,
}

#[test]
fn each_branch_sees_its_own_writes_only_and_a_fork_its_parent_as_it_was() {
    let seed = seed();
    let Some(workspace) = Workspace::over(|base| fill(base, seed)) else { return };
    workspace.branch("parent");
    workspace.fork(&["left", "right"], "parent", GroupKind::Independent);
    let [mut parent, mut left, mut right] =
        ["parent", "left", "right"].map(|name| Writer::new(&workspace, name, seed));
    let snapshots = std::thread::scope(|scope| {
        // Dropped at the end, also by a failed assertion: then the two threads end.
        let stops: Vec<Sender<()>> = [&mut left, &mut right].map(|writer| writer.spawn(scope)).into();
        let snapshots = forks(&workspace, &mut parent);
        drop(stops);
        snapshots
    });
    // By chance the two may have gone apart so far that nothing of theirs meets any more.
    parent.run(Op::Create("met by both".into()));
    left.run(Op::Create("met by both".into()));
    for writer in [&parent, &left, &right] {
        writer.look();
    }
    for (name, model) in &snapshots {
        assert_shows(&workspace.view(name), model);
    }
    eprintln!("operations: {} {} {}", parent.operations, left.operations, right.operations);
    assert_ne!(left.model, right.model);
    commit_in_order(&workspace, parent, &left, &snapshots);
}

fn fill(base: &Path, seed: u64) {
    let (mut rng, mut model) = (Rng::new(seed, 1), Model::default());
    for _ in 0..300 {
        let op = Op::random(&mut rng, &model);
        op.run(base).unwrap();
        model.apply(&op);
    }
}

/// Forks the parent again and again while the siblings write; what each fork must show. The parent's own
/// writes pause for the call: otherwise nobody knew which of them came before it.
fn forks(workspace: &Workspace, parent: &mut Writer) -> Vec<(String, Model)> {
    let mut snapshots = Vec::new();
    for n in 0..rounds(FORKS) {
        let name = format!("snapshot-{n}");
        workspace.fork(&[&name], "parent", GroupKind::Independent);
        snapshots.push((name, parent.model.clone()));
        for _ in 0..BETWEEN {
            parent.write();
        }
        let (name, model) = parent.rng.clone().pick(&snapshots).clone();
        assert_shows(&workspace.view(&name), &model);
    }
    snapshots
}

/// What conflicts changes nothing; what does not arrives whole, first in the parent, then in the base.
fn commit_in_order(workspace: &Workspace, parent: Writer, left: &Writer, snapshots: &[(String, Model)]) {
    let mut client = workspace.client();
    let refused = client.commit("left").unwrap_err();
    assert!(matches!(&refused, ClientError::Failed(Failure::Conflicts { .. })), "{refused:?}");
    parent.look();
    left.look();
    let refused = client.commit("parent").unwrap_err();
    assert!(matches!(&refused, ClientError::Failed(Failure::HasChildren { .. })), "{refused:?}");
    for name in snapshots.iter().map(|(name, _)| name.as_str()).chain(["left", "right"]) {
        assert_eq!(client.abort(name, Children::Refuse).unwrap(), [name]);
        parent.look();
    }
    workspace.fork(&["last"], "parent", GroupKind::Exclusive);
    let mut last = Writer { view: workspace.view("last"), ..parent };
    for _ in 0..BETWEEN {
        last.write();
    }
    workspace.commit("last");
    assert_shows(&workspace.view("parent"), &last.model);
    workspace.commit("parent");
    assert_shows(&workspace.base(), &last.model);
    assert_shows(&workspace.view("main"), &last.model);
    assert_eq!(workspace.names(), ["main"]);
}

impl Writer {
    fn new(workspace: &Workspace, branch: &str, seed: u64) -> Writer {
        let view = workspace.view(branch);
        let model = Model::of(&view).unwrap();
        let stream = u64::from(branch.as_bytes()[0]);
        Writer { view, rng: Rng::new(seed, stream), model, operations: 0 }
    }

    /// Writes in a thread until the answer is dropped.
    fn spawn<'scope>(&'scope mut self, scope: &'scope Scope<'scope, '_>) -> Sender<()> {
        let (stop, told) = channel();
        scope.spawn(move || {
            while told.try_recv() == Err(TryRecvError::Empty) {
                self.write();
            }
        });
        stop
    }

    fn write(&mut self) {
        let op = Op::random(&mut self.rng, &self.model);
        self.run(op);
        self.operations += 1;
        if self.operations.is_multiple_of(LOOK) {
            self.look();
        }
    }

    fn run(&mut self, op: Op) {
        op.run(&self.view).unwrap_or_else(|error| panic!("{}: {op:?}: {error}", self.view.display()));
        self.model.apply(&op);
    }

    fn look(&self) {
        assert_shows(&self.view, &self.model);
    }
}

fn assert_shows(root: &Path, model: &Model) {
    let difference = model.difference(&Model::of(root).unwrap());
    assert!(difference.is_empty(), "{}:\n{difference}", root.display());
}
