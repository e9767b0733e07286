//! Fork, commit and abort: done by the driver, which opens and ends the views.

use std::fs;
use std::path::Path;
use std::time::Instant;

use crate::arms::{Arm, Changes, Purpose};
use crate::error::{Result, While};
use crate::scale::Scale;
use crate::trees::{Tree, path_of};
use crate::worker::Measured;
use crate::works::{Begins, Run, Work, row};

const PURPOSE: Purpose = Purpose { tree: Tree::Few, changes: Changes::Bulk };

pub(super) const TURNS: Work = Work {
    name: "fork, commit, abort",
    purpose: PURPOSE,
    begins: Begins::AsItIs,
    needs: &[],
    rows: &[
        row("fork", "a view opened; on ext4 cp -a of 200 files, on overlayfs a mount, for the peer a mount and a branch").takes(),
        row("commit", "one changed file brought into what the view was opened of; ext4 and overlayfs: copied, synced, renamed")
            .takes(),
        row("abort", "a view with one changed file ended; on ext4 the copy deleted").takes(),
    ],
    at_once: 1,
    run: Run::ByDriver(turns),
};

fn turns(arm: &mut dyn Arm, scale: &Scale) -> Result<Vec<Measured>> {
    let mut took = [0; 3];
    let file = path_of(0);
    let mut timed = |index: usize, start: Instant| {
        took[index] += u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    };
    for turn in 0..2 * scale.turns {
        let start = Instant::now();
        let view = arm.open(PURPOSE)?;
        timed(0, start);
        let changed = view.directory().join(&file);
        change(&changed, turn)?;
        let start = Instant::now();
        if turn % 2 == 0 {
            arm.commit(view, &Path::new(PURPOSE.tree.name()).join(&file))?;
            timed(1, start);
        } else {
            arm.close(view)?;
            timed(2, start);
        }
    }
    let turns = scale.turns as u64;
    let measured = |(row, operations), nanoseconds| Measured { row, operations, nanoseconds };
    let rows = [("fork", 2 * turns), ("commit", turns), ("abort", turns)];
    Ok(rows
        .map(|(row, count)| (row.to_owned(), count))
        .into_iter()
        .zip(took)
        .map(|(row, time)| measured(row, time))
        .collect())
}

/// As many bytes as before, so that every turn finds the same.
fn change(path: &Path, turn: usize) -> Result<()> {
    let mut bytes = fs::read(path).on("reading", path)?;
    if let Some(byte) = bytes.first_mut() {
        *byte = b'0' + (turn % 10) as u8;
    }
    fs::write(path, bytes).on("writing", path)
}
