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

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use branchfs_tests::{Rng, can_mount, long, seed};

use check::{Bench, Seen};
use device::{Mounted, Recording, in_own_namespace};
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
fn power_failures(filesystem: Filesystem, test: &str) {
    if recorder::serve_if_asked() || !can_mount() || !filesystem.is_here() {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let seed = seed();
    in_own_namespace(|dir| {
        let image = dir.join("image");
        let (log, steps) = record(filesystem, test, &image, dir);
        let (bench, mut seen) = (Bench::new(filesystem, dir), Seen::default());
        cuts::each_cut(
            Image::load(&image),
            &log,
            if long() { 64 } else { 3 },
            &mut Rng::new(seed, 1),
            |cut| {
                bench.check(&cut, &steps, &mut seen);
            },
        );
        println!("{filesystem:?}: {} steps, {seen:?}", steps.len());
        seen.assert_complete();
    });
}

/// Runs the scenario; what the disk was told meanwhile.
fn record(
    filesystem: Filesystem,
    test: &str,
    image: &Path,
    dir: &Path,
) -> (Vec<log::Logged>, Vec<scenario::Step>) {
    filesystem.make(image);
    let at = dir.join("disk");
    std::fs::create_dir(&at).unwrap();
    let disk = Mounted::image(image, &at, "");
    scenario::fill(&disk.path().join("base"));
    drop(disk);
    // To recovery the machine has been started again since.
    let boot = dir.join("boot_id");
    std::fs::write(&boot, "6a1f0c52-0d7e-4f0b-9c55-2f6b1d3a9e84\n").unwrap();
    let _then = Mounted::bind(&boot, Path::new("/proc/sys/kernel/random/boot_id"));
    let recording = Recording::start(test, image, dir);
    let disk = Mounted::image(recording.path(), &at, filesystem.options());
    let steps = scenario::run(disk.path(), &recording);
    drop(disk);
    (recording.finish(), steps)
}
