//! Names made, renamed and removed.

use std::fs;
use std::path::PathBuf;

use crate::error::{Result, While};
use crate::scale::Scale;
use crate::trees::Tree;
use crate::works::names::paths;
use crate::works::{Begins, Run, Work, adds, changes, row};

pub(super) const CREATE: Work = Work {
    name: "create",
    purpose: adds(),
    begins: Begins::AsItIs,
    needs: &[],
    rows: &[
        row("create 4K", "open(2) of a new file, 4 KiB written, close(2)").wanted(0.4, 0.65),
        row("rename", "rename(2) of such a file within its directory").wanted(0.3, 0.65),
        row("unlink", "unlink(2) of such a file").wanted(0.4, 0.65),
    ],
    at_once: 1,
    run: Run::InView(|ground| {
        let made = ground.scale().made;
        let paths = |name: &str| -> Vec<PathBuf> {
            (0..made).map(|n| format!("d{}/{name}-{n}", n / Scale::FILES_IN_DIRECTORY).into()).collect()
        };
        let (paths, renamed) = (paths("made"), paths("renamed"));
        for number in 0..made.div_ceil(Scale::FILES_IN_DIRECTORY) {
            let directory = PathBuf::from(format!("d{number}"));
            fs::create_dir(&directory).on("making", &directory)?;
        }
        let bytes = [b'4'; 4096];
        ground.ready()?;
        ground.once("create 4K", made, || {
            paths.iter().try_for_each(|p| fs::write(p, bytes).on("writing", p))
        })?;
        ground.once("rename", made, || rename(&paths, &renamed))?;
        ground.once("unlink", made, || unlink(&renamed))
    }),
};

pub(super) const MKDIR: Work = Work {
    name: "mkdir",
    purpose: adds(),
    begins: Begins::AsItIs,
    needs: &[],
    rows: &[row("mkdir", "mkdir(2)")],
    at_once: 1,
    run: Run::InView(|ground| {
        let made = ground.scale().made;
        let paths: Vec<PathBuf> = (0..made).map(|n| format!("directory-{n}").into()).collect();
        ground.ready()?;
        ground.once("mkdir", made, || paths.iter().try_for_each(|p| fs::create_dir(p).on("making", p)))
    }),
};

pub(super) const CHANGE_BASE: Work = Work {
    name: "change base",
    purpose: changes(Tree::Small),
    begins: Begins::AsItIs,
    needs: &[],
    rows: &[
        row("rename base", "rename(2) of a small file of the base within its directory"),
        row("unlink base", "unlink(2) of a small file of the base"),
    ],
    at_once: 1,
    run: Run::InView(|ground| {
        let paths = paths(ground);
        let (first, second) = paths.split_at(paths.len() / 2);
        let renamed: Vec<PathBuf> = first.iter().map(|path| path.with_extension("renamed")).collect();
        ground.ready()?;
        ground.once("rename base", first.len(), || rename(first, &renamed))?;
        ground.once("unlink base", second.len(), || unlink(second))
    }),
};

fn rename(from: &[PathBuf], to: &[PathBuf]) -> Result<()> {
    from.iter().zip(to).try_for_each(|(from, to)| fs::rename(from, to).on("renaming", from))
}

fn unlink(paths: &[PathBuf]) -> Result<()> {
    paths.iter().try_for_each(|path| fs::remove_file(path).on("removing", path))
}
