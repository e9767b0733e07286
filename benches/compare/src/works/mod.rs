//! The works: each a tree, what it does to it, the rows of the table it fills, and the function that a worker runs.

mod blocks;
mod changes;
mod crowd;
mod ground;
mod installs;
mod large;
mod names;
mod programs;
mod small;
mod turns;

pub(crate) use ground::Ground;
pub(crate) use large::{FIRST as LARGE_FIRST, LATER as LARGE_LATER};
pub(crate) use names::walk;

use crate::arms::{Arm, Changes, Purpose};
use crate::error::Result;
use crate::scale::Scale;
use crate::trees::Tree;
use crate::worker::Measured;

/// One thing done in one process.
pub(crate) struct Work {
    pub(crate) name: &'static str,
    pub(crate) purpose: Purpose,
    pub(crate) begins: Begins,
    /// Programs it cannot do without.
    pub(crate) needs: &'static [&'static str],
    pub(crate) rows: &'static [Row],
    /// In so many views, by a process each, all told to go together.
    pub(crate) at_once: usize,
    pub(crate) run: Run,
}

/// Who does it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Run {
    /// A worker, in a view.
    InView(fn(&mut Ground) -> Result<()>),
    /// The driver, which opens views itself.
    ByDriver(fn(&mut dyn Arm, &Scale) -> Result<Vec<Measured>>),
}

/// What the kernel knows when the work begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begins {
    /// Nothing: caches were emptied.
    Cold,
    /// What there was.
    AsItIs,
}

/// How a figure is read best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Operations in a second.
    Rate,
    /// What one takes.
    Time,
}

/// A line of the table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// What one operation is.
    pub(crate) what: &'static str,
    pub(crate) shown: Shown,
    /// The ratio to ext4 that is wanted through FUSE.
    pub(crate) fuse: Option<f64>,
    /// And natively.
    pub(crate) native: Option<f64>,
}

const fn row(name: &'static str, what: &'static str) -> Row {
    Row { name, what, shown: Shown::Rate, fuse: None, native: None }
}

impl Row {
    const fn takes(mut self) -> Row {
        self.shown = Shown::Time;
        self
    }

    const fn wanted(mut self, fuse: f64, native: f64) -> Row {
        self.fuse = Some(fuse);
        self.native = Some(native);
        self
    }
}

const fn reads(tree: Tree) -> Purpose {
    Purpose { tree, changes: Changes::Nothing }
}

const fn adds() -> Purpose {
    adds_with(Tree::Empty)
}

/// Something new from what was made along with a tree.
const fn adds_with(tree: Tree) -> Purpose {
    Purpose { tree, changes: Changes::Adds }
}

const fn changes(tree: Tree) -> Purpose {
    Purpose { tree, changes: Changes::Base }
}

/// In the order in which they run: what deletes comes late, as ext4 is slow where somebody just has.
pub(crate) const WORKS: &[Work] = &[
    names::STAT,
    names::NEGATIVE,
    names::WALK,
    names::READDIR,
    small::OPEN_CLOSE,
    small::OPEN_READ,
    small::APPEND,
    large::APPEND,
    blocks::READ,
    programs::STATUS,
    programs::UNTAR,
    programs::CLONE,
    installs::INSTALL,
    installs::NPM,
    installs::CARGO,
    crowd::ONE,
    crowd::EIGHT,
    crowd::MANY,
    blocks::WRITE,
    changes::MKDIR,
    changes::CREATE,
    changes::CHANGE_BASE,
    programs::CHECKOUT,
    turns::TURNS,
    programs::REMOVE,
];

pub(crate) fn named(name: &str) -> Option<&'static Work> {
    WORKS.iter().find(|work| work.name == name)
}

/// What each row is, as a table in Markdown.
pub(crate) fn explained() -> String {
    let rows = WORKS.iter().flat_map(|work| work.rows);
    let lines = rows.map(|row| format!("| {} | {} |\n", row.name, row.what));
    "| row | one operation |\n|---|---|\n".to_owned() + &lines.collect::<String>()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_and_every_work_has_a_name_of_its_own() {
        let rows: Vec<&str> = WORKS.iter().flat_map(|work| work.rows).map(|row| row.name).collect();
        assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), rows.len());
        let works: BTreeSet<&str> = WORKS.iter().map(|work| work.name).collect();
        assert_eq!(works.len(), WORKS.len());
    }

    /// `compare --explain` prints what belongs there.
    #[test]
    fn the_docs_explain_every_row() {
        let docs = include_str!("../../../../docs/performance.md");
        assert!(docs.contains(&explained()), "docs/performance.md lacks:\n{}", explained());
    }
}
