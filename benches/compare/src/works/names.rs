//! Looking things up: stat(2), names that are not there, walking, reading directories.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, statat};
use rustix::io::Errno;

use crate::error::{Failed, Result, While};
use crate::trees::{Tree, path_of};
use crate::works::{Begins, Ground, Run, Work, reads, row};

pub(super) const STAT: Work = Work {
    name: "stat",
    purpose: reads(Tree::Small),
    begins: Begins::Cold,
    needs: &[],
    rows: &[row("stat cold", "stat(2) of a file"), row("stat warm", "stat(2) of a file").wanted(0.9, 0.75)],
    at_once: 1,
    run: Run::InView(|ground| {
        let paths = paths(ground);
        ground.ready()?;
        ground.cold_then_warm(["stat cold", "stat warm"], paths.len(), || {
            paths
                .iter()
                .try_for_each(|path| statat(CWD, path, AtFlags::empty()).map(drop).on("looking at", path))
        })
    }),
};

pub(super) const NEGATIVE: Work = Work {
    name: "negative stat",
    purpose: reads(Tree::Small),
    begins: Begins::Cold,
    needs: &[],
    rows: &[
        row("negative stat cold", "stat(2) of a name that is not there"),
        row("negative stat warm", "stat(2) of a name that is not there"),
    ],
    at_once: 1,
    run: Run::InView(|ground| {
        let paths: Vec<PathBuf> = paths(ground).iter().map(|path| path.with_extension("absent")).collect();
        ground.ready()?;
        ground.cold_then_warm(["negative stat cold", "negative stat warm"], paths.len(), || {
            paths.iter().try_for_each(|path| match statat(CWD, path, AtFlags::empty()) {
                Err(Errno::NOENT) => Ok(()),
                other => Err(Failed::Other(format!("stat of {}: {other:?}", path.display()))),
            })
        })
    }),
};

pub(super) const WALK: Work = Work {
    name: "walk",
    purpose: reads(Tree::Small),
    begins: Begins::Cold,
    needs: &[],
    rows: &[
        row("walk cold", "an entry found by readdir and looked at, as find(1) does"),
        row("walk warm", "an entry found by readdir and looked at, as find(1) does").wanted(0.9, 0.75),
    ],
    at_once: 1,
    run: Run::InView(|ground| {
        ground.ready()?;
        let here = ground.here().to_owned();
        let files = ground.scale().files;
        ground.cold_then_warm(["walk cold", "walk warm"], files, || expect(walk(&here)?, files, &here))
    }),
};

pub(super) const READDIR: Work = Work {
    name: "readdir",
    purpose: reads(Tree::Wide),
    begins: Begins::Cold,
    needs: &[],
    rows: &[
        row("readdir cold", "an entry of a directory of 50,000 (less on a tiny scale)"),
        row("readdir warm", "an entry of a directory of 50,000 (less on a tiny scale)").wanted(1.0, 0.95),
    ],
    at_once: 1,
    run: Run::InView(|ground| {
        ground.ready()?;
        let here = ground.here().to_owned();
        let entries = ground.scale().entries;
        ground.cold_then_warm(["readdir cold", "readdir warm"], entries, || {
            let names = fs::read_dir(&here).on("listing", &here)?;
            let mut found = 0;
            for name in names {
                name.on("listing", &here)?;
                found += 1;
            }
            expect(found, entries, &here)
        })
    }),
};

/// The small files, from the current directory.
pub(super) fn paths(ground: &Ground) -> Vec<PathBuf> {
    (0..ground.scale().files).map(path_of).collect()
}

/// How many files there are below.
pub(crate) fn walk(directory: &Path) -> Result<usize> {
    let mut found = 0;
    for entry in fs::read_dir(directory).on("listing", directory)? {
        let path = entry.on("listing", directory)?.path();
        if path.symlink_metadata().on("looking at", &path)?.is_dir() {
            found += walk(&path)?;
        } else {
            found += 1;
        }
    }
    Ok(found)
}

/// A figure of a work that found something else is none.
fn expect(found: usize, there: usize, directory: &Path) -> Result<()> {
    if found == there {
        return Ok(());
    }
    Err(Failed::Other(format!("{} entries of {there} in {}", found, directory.display())))
}
