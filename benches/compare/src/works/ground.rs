//! What a work has: a directory, a clock, and the line that it waits at.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::scale::Scale;
use crate::worker::Measured;

/// Where one run of a work happens.
pub(crate) struct Ground {
    here: PathBuf,
    materials: PathBuf,
    scale: Scale,
    wait_for_go: fn() -> Result<()>,
    measured: Vec<Measured>,
}

impl Ground {
    pub(crate) fn new(
        here: PathBuf,
        materials: PathBuf,
        scale: Scale,
        wait_for_go: fn() -> Result<()>,
    ) -> Ground {
        Ground { here, materials, scale, wait_for_go, measured: Vec::new() }
    }

    /// The work's tree, which is also the current directory.
    pub(super) fn here(&self) -> &Path {
        &self.here
    }

    /// What is not in any view.
    pub(super) fn materials(&self) -> &Path {
        &self.materials
    }

    pub(super) fn scale(&self) -> Scale {
        self.scale
    }

    /// Ends the preparation: what comes now begins in the state that the work asks for.
    pub(super) fn ready(&self) -> Result<()> {
        (self.wait_for_go)()
    }

    /// Measures so many operations, done once.
    pub(super) fn once(
        &mut self,
        row: &str,
        operations: usize,
        run: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let start = Instant::now();
        run()?;
        self.note(row, operations, start.elapsed());
        Ok(())
    }

    /// Measures passes of so many operations each, again and again for [`Scale::warm`].
    pub(super) fn again(
        &mut self,
        row: &str,
        operations: usize,
        mut run: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let start = Instant::now();
        let mut passes = 0;
        loop {
            run()?;
            passes += 1;
            if start.elapsed() >= self.scale.warm {
                break;
            }
        }
        self.note(row, operations * passes, start.elapsed());
        Ok(())
    }

    /// A first pass with one name, and those that follow with another.
    pub(super) fn cold_then_warm(
        &mut self,
        rows: [&str; 2],
        operations: usize,
        mut run: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        self.once(rows[0], operations, &mut run)?;
        self.again(rows[1], operations, run)
    }

    fn note(&mut self, row: &str, operations: usize, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.measured.push(Measured { row: row.to_owned(), operations: operations as u64, nanoseconds });
    }

    pub(crate) fn measured(&self) -> &[Measured] {
        &self.measured
    }
}
