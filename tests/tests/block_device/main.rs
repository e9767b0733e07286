//! Power failures on a real block device: a scenario runs on ext4 and on xfs, on a disk that writes down what it is
//! told. Then the disk is made as it was at every flush, and at random moments between, and everything must be well.
#![allow(clippy::unwrap_used, reason = "helpers of a test")]

mod check;
#[path = "../../../branch-store/tests/common/mod.rs"]
mod common;
mod cuts;
mod device;
mod image;
mod log;
mod recorder;
mod scenario;
mod world;

use std::sync::{Mutex, PoisonError};

use branchfs_tests::{Rng, can_mount, long, seed};

use check::{Bench, Seen};
use device::{Mounted, in_own_namespace};
use image::Image;

/// Between fork and exec a child of one test would hold what the other has open on the mount that it is to unmount.
static ALONE: Mutex<()> = Mutex::new(());

/// What is on the disk.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Filesystem {
    Ext4,
    /// Without what ext4 does beyond its duty: no order between data and metadata, no flush of replaced files.
    LaxExt4,
    Xfs,
}

#[test]
fn a_power_failure_on_ext4_leaves_all_or_nothing_and_everything_promised() {
    power_failures(Filesystem::Ext4, "a_power_failure_on_ext4_leaves_all_or_nothing_and_everything_promised");
}

#[test]
fn a_power_failure_on_an_ext4_that_orders_nothing_leaves_all_or_nothing_and_everything_promised() {
    let test = "a_power_failure_on_an_ext4_that_orders_nothing_leaves_all_or_nothing_and_everything_promised";
    power_failures(Filesystem::LaxExt4, test);
}

#[test]
fn a_power_failure_on_xfs_leaves_all_or_nothing_and_everything_promised() {
    power_failures(Filesystem::Xfs, "a_power_failure_on_xfs_leaves_all_or_nothing_and_everything_promised");
}

/// `test` is the test's name: its program is started again under it as the recorder.
fn power_failures(filesystem: Filesystem, test: &'static str) {
    if recorder::serve_if_asked() || !can_mount() || !filesystem.is_here() {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let seed = seed();
    in_own_namespace(|dir| {
        let (image, bench) = (dir.join("image"), Bench::new(filesystem, test, dir));
        filesystem.make(&image);
        scenario::fill(&Mounted::image(&image, &bench.mountpoint, "").path().join("base"));
        let (log, steps, _taken) = bench.record(&image, scenario::run);
        let (mut rng, mut seen, mut again) = (Rng::new(seed, 1), Seen::default(), Seen::default());
        let (between, one_in) = if long() { (64, 60) } else { (3, 40) };
        cuts::each_cut(Image::load(&image), &log, between, &mut rng.clone(), |cut| {
            let is_store = bench.check(&cut, &steps, &mut seen);
            if is_store && rng.below(one_in) == 0 {
                bench.check_recovery(&cut, &mut rng, &mut again);
            }
        });
        println!("{filesystem:?}: {} steps, {seen:?}; during recoveries: {again:?}", steps.len());
        seen.assert_complete();
    });
}
