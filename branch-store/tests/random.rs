//! Random operations on a small set of names, so that everything collides with everything: names move, come
//! back, swap, get linked, change kind, at depth 1 and 2, with siblings watching, with restarts and checkpoints
//! in between. After each commit the base is what the branch was, and every older snapshot is what it was.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;

use branch_store::*;
use common::picture::{Picture, picture};
use common::random::{Random, assert_same, sample, step};
use common::{Paths, Workspace};

fn one_run(seed: u64, log: &mut Vec<String>) {
    let mut random = Random(seed);
    let mut w = sample();
    w.fork_as("main", &["witness-0"], GroupKind::Independent);
    let mut witnesses = vec![("witness-0".to_owned(), w.base_tree())];
    let mut turns = Turns { states: vec![picture(&w.base())], at: 0 };
    for round in 0..4 {
        let name = format!("r{round}");
        let branch = w.fork_as("main", &[&name], GroupKind::Independent).remove(0);
        for _ in 0..random.below(25) {
            step(&branch, &mut random, log);
        }
        nested(&w, &branch, &mut random, log);
        drop(branch);
        if random.below(3) == 0 {
            w.store().checkpoint().unwrap();
            log.push("checkpoint".into());
        }
        if random.below(2) == 0 {
            let before = w.branch(&name).tree();
            w.reopen();
            log.push("restart".into());
            assert_same(&w.branch(&name).tree(), &before, "a restart changed the branch");
        }
        let branch = w.branch(&name);
        let wanted = branch.tree();
        let diff = w.store().diff(&branch).unwrap();
        let same = wanted == w.base_tree();
        assert!(!diff.is_empty() || same, "an empty diff of a changed branch");
        log.push(format!("commit {name}"));
        let done = w.store().commit(&branch).unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(done.warnings, Vec::<String>::new());
        // A commit of nothing is none.
        let counted = done.commit.is_some();
        assert!(counted || same, "a commit of changes has a number");
        drop((done, branch));
        assert_same(&w.base_tree(), &wanted, "the base is not what the branch was");
        assert_same(&w.store().main().tree(), &wanted, "main is not what the branch was");
        for (name, seen) in &witnesses {
            assert_same(&w.branch(name).tree(), seen, &format!("{name} no longer sees its snapshot"));
        }
        if counted {
            turns.committed(&w);
        }
        turns.wander(&mut w, &mut random, log);
        for (name, seen) in &witnesses {
            assert_same(&w.branch(name).tree(), seen, &format!("{name} after undoing"));
        }
        let wanted = w.base_tree();
        assert_same(&w.store().main().tree(), &wanted, "main is not what undoing made of the base");
        let witness = format!("witness-{}", round + 1);
        w.fork_as("main", &[&witness], GroupKind::Independent);
        witnesses.push((witness, wanted));
    }
    w.store().reclaim().unwrap();
    w.reopen();
    for (name, seen) in &witnesses {
        assert_same(&w.branch(name).tree(), seen, &format!("{name} after a restart"));
    }
}

/// What the base was after each commit that can be undone or redone.
struct Turns {
    states: Vec<Picture>,
    at: usize,
}

impl Turns {
    fn committed(&mut self, w: &Workspace) {
        self.states.truncate(self.at + 1);
        self.states.push(picture(&w.base()));
        self.at += 1;
    }

    /// Back and forth in the history.
    fn wander(&mut self, w: &mut Workspace, random: &mut Random, log: &mut Vec<String>) {
        for _ in 0..random.below(5) {
            let back = random.below(3) > 0;
            log.push(if back { "undo".into() } else { "redo".into() });
            let turned = if back { w.store().undo() } else { w.store().redo() };
            let possible = if back { self.at > 0 } else { self.at + 1 < self.states.len() };
            match turned {
                Err(Error::NotAllowed(_)) if !possible => continue,
                Err(e) => panic!("{e:?}"),
                Ok(done) => assert_eq!(done.warnings, Vec::<String>::new()),
            }
            assert!(possible, "there was nothing to turn to");
            self.at = if back { self.at - 1 } else { self.at + 1 };
            assert_same(&picture(&w.base()), &self.states[self.at], "not what it was");
            if random.below(4) == 0 {
                w.reopen();
                log.push("restart".into());
            }
        }
    }
}

/// A child that works while its parent does; merged if the two are disjoint, dropped if not.
fn nested(w: &Workspace, parent: &Arc<Branch>, random: &mut Random, log: &mut Vec<String>) {
    if random.below(2) == 0 {
        return;
    }
    let at_fork = parent.tree();
    let child = w.fork(parent.name(), "child");
    log.push("fork child".into());
    for _ in 0..random.below(12) {
        step(&child, random, log);
    }
    let seen = child.tree();
    let parent_works = random.below(2) == 0;
    if parent_works {
        for _ in 0..random.below(6) {
            step(parent, random, log);
        }
    }
    assert_same(&child.tree(), &seen, "the parent's work shows in the child");
    let parent_before = parent.tree();
    if !parent_works {
        assert_same(&parent_before, &at_fork, "the child's work shows in the parent");
    }
    match w.store().commit(&child) {
        Ok(_) if !parent_works => assert_same(&parent.tree(), &seen, "the parent did not take over"),
        Ok(_) => log.push("merged".into()),
        Err(Error::Conflicts(_)) => {
            assert_same(&parent.tree(), &parent_before, "a conflict changed the parent");
            w.store().abort(&child, Children::Refuse).unwrap();
            log.push("conflict, aborted".into());
        }
        Err(e) => panic!("{e:?}"),
    }
}

#[test]
fn whatever_a_branch_does_a_commit_brings_exactly_that_and_snapshots_stay() {
    let number =
        |name: &str, default| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (first, rounds): (u64, u64) = (number("BRANCHFS_SEED", 1), number("BRANCHFS_ROUNDS", 60));
    println!("seeds {first} to {}", first + rounds - 1);
    for seed in first..first + rounds {
        let mut log = Vec::new();
        let run = std::panic::AssertUnwindSafe(|| one_run(seed, &mut log));
        if let Err(cause) = std::panic::catch_unwind(run) {
            println!("{}", log.join("\n"));
            println!("seed {seed} failed; BRANCHFS_SEED={seed} BRANCHFS_ROUNDS=1 repeats it");
            std::panic::resume_unwind(cause);
        }
    }
}
