//! A small filesystem of its own, to be filled or frozen.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::skip;

/// What a disk has on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filesystem {
    /// From 1 MiB on.
    Ext4,
    /// From 300 MiB on.
    Xfs,
    /// From 110 MiB on.
    Btrfs,
    /// In memory.
    Tmpfs,
}

/// A small filesystem on a loop device. Dropping it thaws and unmounts it.
#[derive(Debug)]
pub struct Disk {
    dir: TempDir,
}

impl Disk {
    /// An ext4. `None`, with a printed reason, where loop devices cannot be mounted.
    pub fn new(megabytes: u64) -> Option<Disk> {
        Disk::of(Filesystem::Ext4, megabytes)
    }

    /// The same with another filesystem; where it cannot be made, too.
    pub fn of(filesystem: Filesystem, megabytes: u64) -> Option<Disk> {
        let disk = Disk { dir: tempfile::tempdir().expect("a directory") };
        match disk.set_up(filesystem, megabytes) {
            Ok(()) => Some(disk),
            Err(reason) => {
                skip(&format!("no loop-mounted filesystem here: {reason}"));
                None
            }
        }
    }

    fn set_up(&self, filesystem: Filesystem, megabytes: u64) -> Result<(), String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root may mount it".to_owned());
        }
        let image = self.dir.path().join("image");
        File::create(&image).and_then(|file| file.set_len(megabytes << 20)).expect("the image");
        std::fs::create_dir(self.path()).expect("the mountpoint");
        let (program, options): (_, &[&str]) = match filesystem {
            Filesystem::Ext4 => ("mkfs.ext4", &["-q", "-m", "0", "-E", "lazy_itable_init=0"]),
            Filesystem::Xfs => ("mkfs.xfs", &["-q"]),
            Filesystem::Btrfs => ("mkfs.btrfs", &["-q"]),
            Filesystem::Tmpfs => {
                let size = format!("size={megabytes}m");
                return call(
                    Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(self.path()),
                );
            }
        };
        call(Command::new(program).args(options).arg(&image))?;
        call(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(self.path()))
    }

    /// Its root directory.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// Makes every write to it wait until the answer is dropped.
    pub fn freeze(&self) -> Frozen {
        call(Command::new("fsfreeze").arg("-f").arg(self.path())).expect("frozen");
        Frozen(self.path())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = call(Command::new("umount").arg(self.path()));
        if !std::thread::panicking() && is_mountpoint(&self.path()) {
            unmounted.expect("unmounted");
        }
    }
}

/// A frozen [`Disk`].
#[derive(Debug)]
pub struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        call(Command::new("fsfreeze").arg("-u").arg(&self.0)).expect("thawed");
    }
}

fn is_mountpoint(path: &Path) -> bool {
    crate::is_mounted(path)
}

fn call(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Err(error) => Err(format!("{:?}: {error}", command.get_program())),
        Ok(Output { status, .. }) if status.success() => Ok(()),
        Ok(Output { stderr, .. }) => Err(String::from_utf8_lossy(&stderr).into_owned()),
    }
}
