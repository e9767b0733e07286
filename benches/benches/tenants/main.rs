//! Three tenants share memory that is less than what they want together: without isolation, with a third for each,
//! and as tool calls with priorities. Who survives, and how long an allocation takes.
//!
//! The traces are synthetic, made after the published description of agents' memory (AgentCgroup):
//! a base load that stays, and bursts of tool calls that come and go, of very different sizes. This program started
//! again is what allocates: it touches every page.
//!
//!     cargo bench -p branchfs-benches --bench tenants

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark stops where it fails")]

mod arms;
mod report;
mod trace;
mod worker;

use std::path::Path;

use arms::{Arm, Kind};
use report::Round;
use trace::{Tenant, tenants};

/// What all tenants may use together, in mebibytes.
const JOINT_MIB: u64 = 384;
/// Rounds of all arms in turn.
const ROUNDS: u64 = 5;
const ROUNDS_LONG: u64 = 20;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, worker::VERB, log, mebibytes, hold] => {
            worker::run(Path::new(log), mebibytes.parse().unwrap(), hold.parse().unwrap());
        }
        _ => compare(),
    }
}

fn compare() {
    let rounds = if std::env::var_os("BRANCHFS_LONG").is_some() { ROUNDS_LONG } else { ROUNDS };
    let logs = tempfile::tempdir().unwrap();
    let mut all: Vec<(Kind, Vec<Round>)> = Kind::ALL.map(|kind| (kind, Vec::new())).into();
    for number in 0..rounds {
        for (kind, rounds) in &mut all {
            rounds.push(round(*kind, number, logs.path()));
        }
    }
    report::print(&all);
}

/// One arm with the traces of one round, which are the same for every arm.
fn round(kind: Kind, number: u64, logs: &Path) -> Round {
    let arm = Arm::new(kind, JOINT_MIB << 20);
    let tenants: Vec<Tenant> = tenants(number).into_iter().take(kind.tenants()).collect();
    let logs = logs.join(format!("{kind:?}-{number}"));
    std::fs::create_dir(&logs).unwrap();
    let began = std::time::Instant::now();
    let results = std::thread::scope(|scope| {
        let run = |(at, tenant)| {
            let (arm, logs) = (&arm, &logs);
            scope.spawn(move || arms::run_tenant(arm, at, tenant, logs))
        };
        let running: Vec<_> = tenants.iter().enumerate().map(run).collect();
        running.into_iter().map(|tenant| tenant.join().unwrap()).collect()
    });
    Round { tenants: results, wall: began.elapsed() }
}
