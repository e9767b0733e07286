//! The first write to a large file of the base.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use crate::arms::{Changes, Purpose};
use crate::error::{Result, While};
use crate::trees::Tree;
use crate::works::{Begins, Run, Work, row};

/// Appends after the first.
const AGAIN: usize = 64;

pub(super) const APPEND: Work = Work {
    name: "append large",
    purpose: Purpose { tree: Tree::Large, changes: Changes::Bulk },
    begins: Begins::AsItIs,
    needs: &[],
    rows: &[
        row(FIRST, "open(2), 100 bytes appended, close(2), the first time in a file of the base of 128 MiB (1 GiB on the full scale)").takes(),
        row(LATER, "the same again, 64 times").takes(),
    ],
    at_once: 1,
    run: Run::InView(|ground| {
        ground.ready()?;
        ground.once(FIRST, 1, append)?;
        ground.once(LATER, AGAIN, || (0..AGAIN).try_for_each(|_| append()))
    }),
};

/// The first touch.
pub(crate) const FIRST: &str = "append large first";
/// What it is compared with.
pub(crate) const LATER: &str = "append large again";

fn append() -> Result<()> {
    let path = Path::new("file");
    let mut file = OpenOptions::new().append(true).open(path).on("opening", path)?;
    file.write_all(&[b'a'; 100]).on("writing", path)
}
