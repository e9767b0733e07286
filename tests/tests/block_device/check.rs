//! What must hold on a disk after a power failure: the host's check finds nothing, and recovery brings back a state
//! that the store had, none before the last that it had promised.

use std::path::{Path, PathBuf};
use std::process::Command;

use branch_store::{Error, Report, Store, Unrecovered, init};
use branchfs_tests::{cannot, run_ok, skip};

use crate::Filesystem;
use crate::cuts::Cut;
use crate::device::Mounted;
use crate::scenario::{Step, options};
use crate::world::World;

/// Where a disk is looked at.
pub(crate) struct Bench {
    filesystem: Filesystem,
    image: PathBuf,
    mountpoint: PathBuf,
}

/// What recovery had to do, over all cuts.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) cuts: u64,
    /// A commit was decided and not done.
    finished: u64,
    /// Something was staged for a commit that was never decided.
    undecided: u64,
    /// A record was torn.
    torn: u64,
    /// There was no store yet.
    none: u64,
    /// Steps that were acknowledged and, promising nothing, lost.
    lost: u64,
}

impl Bench {
    pub(crate) fn new(filesystem: Filesystem, dir: &Path) -> Bench {
        let mountpoint = dir.join("cut");
        std::fs::create_dir(&mountpoint).unwrap();
        Bench { filesystem, image: dir.join("cut.image"), mountpoint }
    }

    fn mount(&self) -> Mounted {
        Mounted::image(&self.image, &self.mountpoint, "")
    }

    /// Everything that must hold after this power failure.
    pub(crate) fn check(&self, cut: &Cut, steps: &[Step], seen: &mut Seen) {
        seen.cuts += 1;
        cut.image.store(&self.image);
        // The host replays its own journal.
        drop(self.mount());
        self.filesystem.check(&self.image);
        let disk = self.mount();
        recovered(disk.path(), cut, steps, seen);
        drop(disk);
    }
}

fn recovered(disk: &Path, cut: &Cut, steps: &[Step], seen: &mut Seen) {
    let (store, report) = match open(disk) {
        Err(Error::NoStore(_)) => {
            assert!(promised(cut, steps).is_none(), "{}: the store is gone", cut.what);
            seen.none += 1;
            init(&options(disk).base, &options(disk).store).unwrap();
            open(disk).unwrap()
        }
        opened => opened.unwrap_or_else(|error| panic!("{}: {error}", cut.what)),
    };
    seen.note(&report);
    let found = World::of(&store, |_, _| false);
    let lost = find(&found, cut, steps, &report);
    seen.lost += lost;
    drop(store);
    let (store, report) = open(disk).unwrap();
    assert_eq!(report, Report::default(), "{}: a second recovery finds nothing to do", cut.what);
    let again = World::of(&store, |_, _| true);
    assert!(again.is(&found), "{}: and nothing changes:\n{}", cut.what, again.difference(&found));
}

fn open(disk: &Path) -> branch_store::Result<(Store, Report)> {
    Unrecovered::open(options(disk))?.recover()
}

/// The last step that must be there.
fn promised(cut: &Cut, steps: &[Step]) -> Option<usize> {
    steps.iter().rposition(|step| step.promised.is_some_and(|position| position <= cut.position))
}

/// How many acknowledged steps after the promised one are not there.
fn find(found: &World, cut: &Cut, steps: &[Step], report: &Report) -> u64 {
    let from = promised(cut, steps).unwrap_or(0);
    let upto = steps.iter().rposition(|step| step.begun <= cut.position).unwrap_or(0);
    let differences: Vec<String> =
        steps[from..=upto].iter().map(|step| step.world.difference(found)).collect();
    match differences.iter().rposition(String::is_empty) {
        Some(step) => (differences.len() - 1 - step) as u64,
        None => panic!(
            "{}: not the state after '{}', nor any later one up to '{}'. To the first:\n{}to the last:\n{}{report:#?}",
            cut.what,
            steps[from].what,
            steps[upto].what,
            differences[0],
            differences[differences.len() - 1],
        ),
    }
}

impl Seen {
    fn note(&mut self, report: &Report) {
        let count = |start: &str| report.lines.iter().filter(|line| line.starts_with(start)).count() as u64;
        self.finished += count("finished commit");
        self.undecided += count("removed what was staged");
        self.torn += count("cut an unfinished record");
    }

    /// The run met what it is for.
    pub(crate) fn assert_complete(&self) {
        assert!(self.finished > 0, "no power failure between decision and done: {self:?}");
        assert!(self.undecided > 0, "no power failure while a commit was staged: {self:?}");
        assert!(self.none > 0 && self.lost > 0, "nothing was ever lost: {self:?}");
    }
}

impl Filesystem {
    /// Whether it can be made, mounted and checked here. Where not: prints why, and fails if nothing may be skipped.
    pub(crate) fn is_here(self) -> bool {
        if !rustix::process::geteuid().is_root() {
            skip("only root mounts a loop device");
            return false;
        }
        let tools = match self {
            Filesystem::Ext4 | Filesystem::LaxExt4 => ["mkfs.ext4", "e2fsck"],
            Filesystem::Xfs => ["mkfs.xfs", "xfs_repair"],
        };
        let is_missing = |tool: &&&str| Command::new(tool).arg("-V").output().is_err();
        if let Some(tool) = tools.iter().find(is_missing) {
            cannot(&format!("no {tool}: ./setup installs it"));
            return false;
        }
        true
    }

    /// Makes one in a file of a size that it takes.
    pub(crate) fn make(self, image: &Path) {
        let megabytes: u64 = match self {
            Filesystem::Ext4 | Filesystem::LaxExt4 => 64,
            // The smallest it makes.
            Filesystem::Xfs => 300,
        };
        std::fs::File::create(image).unwrap().set_len(megabytes << 20).unwrap();
        match self {
            Filesystem::Ext4 | Filesystem::LaxExt4 => {
                run_ok(Command::new("mkfs.ext4").args(["-q", "-b", "4096"]).arg(image))
            }
            Filesystem::Xfs => run_ok(Command::new("mkfs.xfs").arg("-q").arg(image)),
        };
    }

    /// For the mount on the recorded disk.
    pub(crate) fn options(self) -> &'static str {
        match self {
            Filesystem::LaxExt4 => "data=writeback,noauto_da_alloc",
            Filesystem::Ext4 | Filesystem::Xfs => "",
        }
    }

    /// Its own check of an unmounted image, which must find nothing.
    fn check(self, image: &Path) {
        match self {
            Filesystem::Ext4 | Filesystem::LaxExt4 => run_ok(Command::new("e2fsck").arg("-fn").arg(image)),
            Filesystem::Xfs => run_ok(Command::new("xfs_repair").args(["-n", "-f"]).arg(image)),
        };
    }
}
