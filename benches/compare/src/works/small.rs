//! Small files of the base: opened, read, appended to.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};

use crate::error::While;
use crate::trees::Tree;
use crate::works::names::paths;
use crate::works::{Begins, Run, Work, changes, reads, row};

pub(super) const OPEN_CLOSE: Work = Work {
    name: "open+close",
    purpose: reads(Tree::Small),
    begins: Begins::AsItIs,
    needs: &[],
    rows: &[row("open+close", "open(2) and close(2) of a small file, the second time on")],
    at_once: 1,
    run: Run::InView(|ground| {
        let paths = paths(ground);
        let pass = || paths.iter().try_for_each(|path| File::open(path).map(drop).on("opening", path));
        pass()?;
        ground.ready()?;
        ground.again("open+close", paths.len(), pass)
    }),
};

pub(super) const OPEN_READ: Work = Work {
    name: "open+read",
    purpose: reads(Tree::Small),
    begins: Begins::Cold,
    needs: &[],
    rows: &[
        row("open+read cold", "open(2), read(2) to the end, close(2) of a file of 0.5 to 2 KiB"),
        row("open+read warm", "open(2), read(2) to the end, close(2) of a file of 0.5 to 2 KiB")
            .wanted(0.2, 0.65),
    ],
    at_once: 1,
    run: Run::InView(|ground| {
        let paths = paths(ground);
        let mut buffer = vec![0; 8192];
        ground.ready()?;
        ground.cold_then_warm(["open+read cold", "open+read warm"], paths.len(), || {
            paths.iter().try_for_each(|path| {
                let mut file = File::open(path).on("opening", path)?;
                while file.read(&mut buffer).on("reading", path)? > 0 {}
                Ok(())
            })
        })
    }),
};

pub(super) const APPEND: Work = Work {
    name: "append",
    purpose: changes(Tree::Small),
    begins: Begins::AsItIs,
    needs: &[],
    rows: &[
        row(
            "append first",
            "open(2), 100 bytes appended, close(2), the first time in a small file of the base",
        ),
        row("append again", "the same once more"),
    ],
    at_once: 1,
    run: Run::InView(|ground| {
        let paths = paths(ground);
        let pass = || {
            paths.iter().try_for_each(|path| {
                let mut file = OpenOptions::new().append(true).open(path).on("opening", path)?;
                file.write_all(&[b'a'; 100]).on("writing", path)
            })
        };
        ground.ready()?;
        ground.once("append first", paths.len(), pass)?;
        ground.once("append again", paths.len(), pass)
    }),
};
