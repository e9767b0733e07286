//! A mount, by system calls, against the model.

use branchfs_model::{Driver, MountDriver, Plan, operations, run, seed};

fn mounted(base: &std::path::Path) -> Box<dyn Driver> {
    Box::new(MountDriver::new(base))
}

#[test]
fn a_mount_does_what_the_model_does() {
    if !rustix::process::geteuid().is_root() || !branchfs_tests::can_mount() {
        return;
    }
    let plan = Plan { driver: &mounted, seed: seed(), operations: operations(20_000) };
    let totals = run(plan);
    assert!(totals.operations >= plan.operations);
}
