//! What must hold on a disk after a power failure: the host's check finds nothing, and recovery brings back a state
//! that the store had, none before the last that it had promised.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use branch_store::{Error, Report, Store, Unrecovered, init};
use branchfs_tests::{Rng, cannot, skip};

use crate::Filesystem;
use crate::cuts::{Cut, each_cut};
use crate::device::{Mounted, Recording, Taken, output, run};
use crate::log::Logged;
use crate::scenario::{Step, options};
use crate::world::World;

/// Where a disk is looked at.
pub(crate) struct Bench {
    filesystem: Filesystem,
    /// The test's name, for the recorder.
    test: &'static str,
    dir: PathBuf,
    image: PathBuf,
    pub(crate) mountpoint: PathBuf,
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
    pub(crate) fn new(filesystem: Filesystem, test: &'static str, dir: &Path) -> Bench {
        let mountpoint = dir.join("disk");
        std::fs::create_dir(&mountpoint).unwrap();
        Bench { filesystem, test, dir: dir.to_owned(), image: dir.join("cut.image"), mountpoint }
    }

    /// Does something on the mounted image, which itself stays as it is; what the disk was told, and the answer.
    /// The device is taken afterwards: stores kept device numbers once, and after a start of the machine that numbered
    /// its disks otherwise, the second name of a file showed old bytes, and a commit stayed half done.
    pub(crate) fn record<T>(
        &self,
        image: &Path,
        act: impl FnOnce(&Path, &Recording) -> T,
    ) -> (Vec<Logged>, T, Taken) {
        // Whoever looks at the disk afterwards does so after the next start of the machine.
        let _boot = Mounted::boot_id(&self.dir.join("boot_id"));
        let recording = Recording::start(self.test, image, &self.dir);
        let disk = Mounted::image(recording.path(), &self.mountpoint, self.filesystem.options());
        let answer = act(disk.path(), &recording);
        let device = std::fs::metadata(disk.path()).unwrap().dev();
        drop(disk);
        (recording.finish(), answer, Taken::take(device, image))
    }

    fn mount(&self) -> Mounted {
        Mounted::image(&self.image, &self.mountpoint, "")
    }

    /// Everything that must hold after this power failure. Whether there was a store already.
    pub(crate) fn check(&self, cut: &Cut, steps: &[Step], seen: &mut Seen) -> bool {
        seen.cuts += 1;
        cut.image.store(&self.image);
        // The host replays its own journal.
        drop(self.mount());
        self.filesystem.check(&self.image);
        let (disk, none) = (self.mount(), seen.none);
        recovered(disk.path(), cut, steps, seen);
        seen.none == none
    }

    /// The same for a second power failure, at any moment of the recovery from this one: every recovery comes to the
    /// same end.
    pub(crate) fn check_recovery(&self, cut: &Cut, rng: &mut Rng, seen: &mut Seen) {
        cut.image.store(&self.image);
        let (log, world, _taken) = self.record(&self.image, |disk, _| {
            let (store, _) = open(disk).unwrap();
            World::of(&store, |_, _| true)
        });
        // What was on the disk when it began stays there.
        let end = [Step { what: format!("recovery from {}", cut.what), world, begun: 0, promised: Some(0) }];
        each_cut(cut.image.clone(), &log, 1, rng, |cut| {
            self.check(&cut, &end, seen);
        });
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
        let is_missing = |tool: &&&str| output(Command::new(tool).arg("-V")).is_err();
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
                run(Command::new("mkfs.ext4").args(["-q", "-b", "4096"]).arg(image))
            }
            Filesystem::Xfs => run(Command::new("mkfs.xfs").arg("-q").arg(image)),
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
            Filesystem::Ext4 | Filesystem::LaxExt4 => run(Command::new("e2fsck").arg("-fn").arg(image)),
            Filesystem::Xfs => run(Command::new("xfs_repair").args(["-n", "-f"]).arg(image)),
        };
    }
}
