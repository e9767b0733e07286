//! The vfs, by inode and handle numbers, against the model.

use branchfs_model::{Driver, Plan, VfsDriver, operations, run, seed};

fn vfs(base: &std::path::Path) -> Box<dyn Driver> {
    Box::new(VfsDriver::new(base))
}

#[test]
fn the_vfs_does_what_the_model_does() {
    let plan = Plan { driver: &vfs, seed: seed(), operations: operations(40_000) };
    let totals = run(plan);
    assert!(totals.operations >= plan.operations);
}
