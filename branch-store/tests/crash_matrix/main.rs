//! The crash matrix: every scenario dies, or the power fails, at every call; what is left is opened twice and
//! compared with what may be there. The same with errors of the disk instead of its end.

#![allow(clippy::unwrap_used, unreachable_pub, missing_docs, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;

mod borrowing;
mod bytes;
mod errors;
mod ledger;
mod model;
mod power;
mod recorder;
mod scenarios;
mod verbs;
mod world;

use world::Scenario;

/// Every crash point, each with a few of the images that it may leave; all of them with `BRANCHFS_LONG=1`.
fn crash_everywhere(scenario: &Scenario) {
    let cases = power::Matrix::new(scenario).crash_at_every_call();
    println!("{}: {cases}", scenario.name);
    assert!(cases.crashes > 500, "the scenario reaches the disk");
}

/// Crashes of the recovery from a crash, and power failures after either.
fn crash_recovery(scenario: &Scenario) {
    let cases = power::Matrix::new(scenario).crash_recovery_at_every_call();
    println!("{}: {cases}", scenario.name);
    assert!(cases.recoveries > 200, "recovery reaches the disk");
}

/// ENOSPC, EDQUOT and EIO, and syncs that fail from then on, at every call.
fn fail_everywhere(scenario: &Scenario) {
    let faults = errors::fail_at_every_call(scenario);
    println!("{}: {faults} errors", scenario.name);
    assert!(faults > 200, "the scenario reaches the disk");
}

#[test]
fn edits_and_commits_survive_death_and_power_failure_at_every_call() {
    crash_everywhere(&scenarios::edits_and_commits());
}

#[test]
fn a_store_elsewhere_survives_death_and_power_failure_at_every_call() {
    crash_everywhere(&scenarios::store_elsewhere());
}

#[test]
fn removals_and_aborts_survive_death_and_power_failure_at_every_call() {
    crash_everywhere(&scenarios::removals_and_aborts());
}

#[test]
fn short_writes_to_the_journal_survive_death_and_power_failure_at_every_call() {
    crash_everywhere(&scenarios::short_writes());
}

#[test]
fn checkpoints_survive_death_and_power_failure_at_every_call() {
    crash_everywhere(&scenarios::checkpoints());
}

#[test]
fn directories_and_survivors_survive_death_and_power_failure_at_every_call() {
    crash_everywhere(&scenarios::directories_and_survivors());
}

#[test]
fn marks_and_restores_survive_death_and_power_failure_at_every_call() {
    crash_everywhere(&verbs::marks());
}

#[test]
fn merges_of_files_survive_death_and_power_failure_at_every_call() {
    crash_everywhere(&verbs::merges());
}

#[test]
fn the_recovery_of_merges_of_files_can_be_interrupted_at_every_call() {
    crash_recovery(&verbs::merges());
}

#[test]
fn merges_of_files_survive_errors_at_every_call() {
    fail_everywhere(&verbs::merges());
}

#[test]
fn the_recovery_of_marks_and_restores_can_be_interrupted_at_every_call() {
    crash_recovery(&verbs::marks());
}

#[test]
fn marks_and_restores_survive_errors_at_every_call() {
    fail_everywhere(&verbs::marks());
}

#[test]
fn the_recovery_of_edits_and_commits_can_be_interrupted_at_every_call() {
    crash_recovery(&scenarios::edits_and_commits());
}

#[test]
fn edits_and_commits_survive_errors_at_every_call() {
    fail_everywhere(&scenarios::edits_and_commits());
}

#[test]
fn the_recovery_of_a_store_elsewhere_can_be_interrupted_at_every_call() {
    crash_recovery(&scenarios::store_elsewhere());
}

#[test]
fn a_store_elsewhere_survives_errors_at_every_call() {
    fail_everywhere(&scenarios::store_elsewhere());
}

#[test]
fn the_recovery_of_removals_and_aborts_can_be_interrupted_at_every_call() {
    crash_recovery(&scenarios::removals_and_aborts());
}

#[test]
fn removals_and_aborts_survive_errors_at_every_call() {
    fail_everywhere(&scenarios::removals_and_aborts());
}

#[test]
fn the_recovery_of_short_writes_to_the_journal_can_be_interrupted_at_every_call() {
    crash_recovery(&scenarios::short_writes());
}

#[test]
fn short_writes_to_the_journal_survive_errors_at_every_call() {
    fail_everywhere(&scenarios::short_writes());
}

#[test]
fn the_recovery_of_checkpoints_can_be_interrupted_at_every_call() {
    crash_recovery(&scenarios::checkpoints());
}

#[test]
fn checkpoints_survive_errors_at_every_call() {
    fail_everywhere(&scenarios::checkpoints());
}

#[test]
fn the_recovery_of_directories_and_survivors_can_be_interrupted_at_every_call() {
    crash_recovery(&scenarios::directories_and_survivors());
}

#[test]
fn directories_and_survivors_survive_errors_at_every_call() {
    fail_everywhere(&scenarios::directories_and_survivors());
}

#[test]
fn rebases_survive_death_and_power_failure_at_every_call() {
    crash_everywhere(&verbs::rebases());
}

#[test]
fn the_recovery_of_rebases_can_be_interrupted_at_every_call() {
    crash_recovery(&verbs::rebases());
}

#[test]
fn rebases_survive_errors_at_every_call() {
    fail_everywhere(&verbs::rebases());
}

#[test]
fn partial_commits_survive_death_and_power_failure_at_every_call() {
    crash_everywhere(&verbs::parts());
}

#[test]
fn the_recovery_of_partial_commits_can_be_interrupted_at_every_call() {
    crash_recovery(&verbs::parts());
}

#[test]
fn partial_commits_survive_errors_at_every_call() {
    fail_everywhere(&verbs::parts());
}

#[test]
fn decided_conflicts_survive_death_and_power_failure_at_every_call() {
    crash_everywhere(&verbs::decisions());
}

#[test]
fn the_recovery_of_decided_conflicts_can_be_interrupted_at_every_call() {
    crash_recovery(&verbs::decisions());
}

#[test]
fn decided_conflicts_survive_errors_at_every_call() {
    fail_everywhere(&verbs::decisions());
}

#[test]
fn undo_and_redo_survive_death_and_power_failure_at_every_call() {
    crash_everywhere(&verbs::undos());
}

#[test]
fn the_recovery_of_undo_and_redo_can_be_interrupted_at_every_call() {
    crash_recovery(&verbs::undos());
}

#[test]
fn undo_and_redo_survive_errors_at_every_call() {
    fail_everywhere(&verbs::undos());
}

#[test]
fn limits_survive_death_and_power_failure_at_every_call() {
    crash_everywhere(&verbs::limits());
}

#[test]
fn the_recovery_of_limits_can_be_interrupted_at_every_call() {
    crash_recovery(&verbs::limits());
}

#[test]
fn limits_survive_errors_at_every_call() {
    fail_everywhere(&verbs::limits());
}

#[test]
fn files_that_borrow_survive_death_and_power_failure_at_every_call() {
    crash_everywhere(&borrowing::borrowing());
}

#[test]
fn the_recovery_of_files_that_borrow_can_be_interrupted_at_every_call() {
    crash_recovery(&borrowing::borrowing());
}

#[test]
fn files_that_borrow_survive_errors_at_every_call() {
    fail_everywhere(&borrowing::borrowing());
}
