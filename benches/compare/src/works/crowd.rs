//! Several branches at once, each with a process that looks, reads, appends and makes files.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::PathBuf;

use rustix::fs::{AtFlags, CWD, statat};

use crate::error::{Result, While};
use crate::trees::{Tree, path_of};
use crate::works::{Begins, Ground, Row, Run, Work, changes, row};

pub(super) const ONE: Work = of(1, "1 branch", &[row("1 branch", WHAT)], |ground| mix(ground, "1 branch"));
pub(super) const EIGHT: Work =
    of(8, "8 branches", &[row("8 branches", WHAT_EACH).wanted(0.8, 0.8)], |ground| mix(ground, "8 branches"));
pub(super) const MANY: Work =
    of(32, "32 branches", &[row("32 branches", WHAT_EACH)], |ground| mix(ground, "32 branches"));

const WHAT: &str = "one call of a mix: each of a few files looked at, read twice, every tenth appended to and one made beside it";
const WHAT_EACH: &str =
    "the same in so many views at once: all calls by the time of the slowest, on ext4 in as many copies";

const fn of(
    at_once: usize,
    name: &'static str,
    rows: &'static [Row],
    run: fn(&mut Ground) -> Result<()>,
) -> Work {
    let purpose = changes(Tree::Few);
    Work { name, purpose, begins: Begins::AsItIs, needs: &[], rows, at_once, run: Run::InView(run) }
}

/// Passes of the mix, so that a process's start does not count.
const PASSES: usize = 10;

fn mix(ground: &mut Ground, row: &str) -> Result<()> {
    let paths: Vec<PathBuf> = (0..ground.scale().few).map(path_of).collect();
    let appended = paths.len().div_ceil(10);
    let operations = paths.len() * 3 + appended * 2;
    ground.ready()?;
    ground.once(row, operations * PASSES, || (0..PASSES).try_for_each(|pass| once(&paths, pass)))
}

fn once(paths: &[PathBuf], pass: usize) -> Result<()> {
    paths.iter().try_for_each(|path| statat(CWD, path, AtFlags::empty()).map(drop).on("looking at", path))?;
    let mut buffer = vec![0; 8192];
    for path in paths.iter().chain(paths) {
        let mut file = File::open(path).on("opening", path)?;
        while file.read(&mut buffer).on("reading", path)? > 0 {}
    }
    for path in paths.iter().step_by(10) {
        let mut file = OpenOptions::new().append(true).open(path).on("opening", path)?;
        file.write_all(&[b'a'; 100]).on("writing", path)?;
        let made = path.with_extension(format!("made-{pass}"));
        fs::write(&made, [b'm'; 1000]).on("writing", &made)?;
    }
    Ok(())
}
