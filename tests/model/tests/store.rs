//! The store's API against the model.

use branchfs_model::{Driver, Plan, StoreDriver, operations, run, seed};

fn store(base: &std::path::Path) -> Box<dyn Driver> {
    Box::new(StoreDriver::new(base))
}

#[test]
fn the_store_does_what_the_model_does() {
    let plan = Plan { driver: &store, seed: seed(), operations: operations(140_000) };
    let totals = run(plan);
    assert!(totals.operations >= plan.operations);
}
