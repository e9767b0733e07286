//! Long runs, and replays of short ones.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::answer::{Answer, Failure};
use crate::call::Call;
use crate::generate::generate;
use crate::shrink::shrink;
use crate::source::Seeded;
use crate::world::{Difference, MakeDriver, Thoroughness, World};

/// Calls in one world; then comes a fresh one.
const CALLS_PER_WORLD: u64 = 400;
/// Everything is compared after so many steps that call for less.
const ALL_AFTER: u64 = 25;

/// What to run.
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    /// Makes the driver.
    pub driver: MakeDriver<'a>,
    /// The seed; printed, so that a run can be repeated.
    pub seed: u64,
    /// How many operations.
    pub operations: u64,
}

/// What a run did.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Operations carried out and compared.
    pub operations: u64,
    /// By kind of call: how many succeeded and how many failed as they had to.
    pub kinds: BTreeMap<String, (u64, u64)>,
    /// By errno or failure: how often it was right.
    pub failures: BTreeMap<String, u64>,
}

/// How many operations to do: `BRANCHFS_OPERATIONS`, or what the test says.
///
/// # Panics
/// If the variable is no number.
pub fn operations(default: u64) -> u64 {
    let Ok(text) = std::env::var("BRANCHFS_OPERATIONS") else { return default };
    text.parse().unwrap_or_else(|error| panic!("BRANCHFS_OPERATIONS={text}: {error}"))
}

/// The seed: `BRANCHFS_SEED`, or always the same: what a test run finds must not depend on its day.
///
/// # Panics
/// If the variable is no number.
pub fn seed() -> u64 {
    let Ok(text) = std::env::var("BRANCHFS_SEED") else { return 1 };
    text.parse().unwrap_or_else(|error| panic!("BRANCHFS_SEED={text}: {error}"))
}

/// Runs random calls on product and model until enough are done.
///
/// # Panics
/// At the first difference, with a short sequence of calls that shows it.
pub fn run(plan: Plan<'_>) -> Totals {
    let mut totals = Totals::default();
    let start = Instant::now();
    let mut stream = 0;
    while totals.operations < plan.operations {
        one_world(plan, stream, &mut totals);
        stream += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    let rate = totals.operations as f64 / seconds.max(0.001);
    println!(
        "seed {}: {} operations in {seconds:.1} s, {rate:.0} a second, no difference",
        plan.seed, totals.operations
    );
    for (kind, (right, refused)) in &totals.kinds {
        println!("  {kind:12} {right:9} done {refused:9} refused");
    }
    println!("  refusals: {:?}", totals.failures);
    totals
}

fn one_world(plan: Plan<'_>, stream: u64, totals: &mut Totals) {
    let mut source = Seeded::new(plan.seed, stream);
    let mut world = World::new(plan.driver, stream, Thoroughness::Every(ALL_AFTER));
    let mut calls = Vec::new();
    for _ in 0..CALLS_PER_WORLD {
        let call = generate(&mut source, world.model());
        calls.push(call.clone());
        match world.step(&call) {
            Ok(answer) => totals.count(&call, answer.as_ref()),
            Err(difference) => {
                drop(world);
                report(plan, stream, &calls, &difference);
            }
        }
    }
    if let Err(difference) = world.compare_all() {
        drop(world);
        report(plan, stream, &calls, &difference);
    }
}

fn report(plan: Plan<'_>, stream: u64, calls: &[Call], first: &Difference) -> ! {
    println!("seed {} stream {stream}, call {}: {}", plan.seed, calls.len(), first.0);
    let (short, difference) = shrink(plan.driver, stream, calls);
    let calls: Vec<String> = short.iter().map(|call| format!("        {call:?},")).collect();
    println!("    let calls = [\n{}\n    ];\n    replay(make, {}, &calls);", calls.join("\n"), stream % 8);
    match difference {
        Some(difference) => panic!("{}", difference.0),
        None => panic!("not repeated when replayed: {}", first.0),
    }
}

/// Replays calls in a fresh world of a variant, comparing everything after each.
///
/// # Panics
/// Where product and model part.
pub fn replay(driver: MakeDriver<'_>, variant: u64, calls: &[Call]) {
    if let Some((at, difference)) = first_difference(driver, variant, calls) {
        panic!("call {at}: {}", difference.0);
    }
}

/// Where the two part, if they do.
pub(crate) fn first_difference(
    driver: MakeDriver<'_>,
    variant: u64,
    calls: &[Call],
) -> Option<(usize, Difference)> {
    let mut world = World::new(driver, variant, Thoroughness::Always);
    calls.iter().enumerate().find_map(|(at, call)| world.step(call).err().map(|difference| (at, difference)))
}

impl Totals {
    fn count(&mut self, call: &Call, answer: Option<&Answer>) {
        let Some(answer) = answer else { return };
        self.operations += 1;
        let text = format!("{call:?}");
        let kind = text.split([' ', '{']).next().unwrap_or_default().to_owned();
        let (right, refused) = self.kinds.entry(kind).or_default();
        match answer {
            Answer::Failed(failure) => {
                *refused += 1;
                let why = match failure {
                    Failure::Conflicts(_) => "Conflicts".to_owned(),
                    other => format!("{other:?}"),
                };
                *self.failures.entry(why).or_default() += 1;
            }
            _ => *right += 1,
        }
    }
}
