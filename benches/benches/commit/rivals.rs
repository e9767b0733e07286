//! What the same machine needs for less: `cp -a` of the same files, with and without making them durable.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::ground::{fill, sync};
use crate::median;

/// `cp -a` into a new directory; its time, and that with a syncfs behind it.
pub(crate) struct Rivals {
    dir: tempfile::TempDir,
    copies: Vec<Duration>,
    synced: Vec<Duration>,
}

impl Rivals {
    pub(crate) fn new(place: &Path, files: usize) -> Rivals {
        let dir = tempfile::tempdir_in(place).unwrap();
        fill(&dir.path().join("source"), files);
        Rivals { dir, copies: Vec::new(), synced: Vec::new() }
    }

    pub(crate) fn measure(&mut self) {
        let target = self.dir.path().join(self.copies.len().to_string());
        let start = Instant::now();
        let status = Command::new("cp").arg("-a").args([&self.dir.path().join("source"), &target]).status();
        self.copies.push(start.elapsed());
        assert!(status.unwrap().success(), "cp");
        sync(&target);
        self.synced.push(start.elapsed());
    }

    pub(crate) fn copy(&self) -> Duration {
        median(self.copies.clone())
    }

    pub(crate) fn synced(&self) -> Duration {
        median(self.synced.clone())
    }
}

/// One page written to a file and made durable.
pub(crate) fn fdatasync(place: &Path) -> Duration {
    let mut file: File = tempfile::tempfile_in(place).unwrap();
    let once = || {
        let start = Instant::now();
        file.write_all(&[b'x'; 4096]).unwrap();
        rustix::fs::fdatasync(&file).unwrap();
        start.elapsed()
    };
    median(std::iter::repeat_with(once).take(50).collect())
}
