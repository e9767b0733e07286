//! Random histories of three branches of one parent: edits, commits whole and in part, conflicts decided every way,
//! text merged, rebases, undo and redo, marks and restores, checkpoints, restarts, and deaths in the middle of any of
//! it. A model of plain maps says what each step does, to the path; after each step everything is compared.

#![allow(clippy::unwrap_used, unreachable_pub, missing_docs, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;

mod model;
mod run;
mod seen;

use run::{Run, Tally};

const STEPS: u64 = 60;

#[test]
fn histories_of_three_branches_are_what_a_model_says() {
    let number =
        |name: &str, default| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (first, rounds): (u64, u64) = (number("BRANCHFS_SEED", 1), number("BRANCHFS_ROUNDS", 200));
    let mut tally = Tally::new();
    for seed in first..first + rounds {
        let mut log = Vec::new();
        let run = std::panic::AssertUnwindSafe(|| {
            let mut run = Run::new(seed, &mut log, &mut tally);
            (0..STEPS).for_each(|_| run.step());
        });
        if let Err(cause) = std::panic::catch_unwind(run) {
            println!("{}", log.join("\n"));
            println!("seed {seed} failed; BRANCHFS_SEED={seed} BRANCHFS_ROUNDS=1 repeats it");
            std::panic::resume_unwind(cause);
        }
    }
    println!("{rounds} histories of {STEPS} steps, {} steps in all: {tally:?}", rounds * STEPS);
}
