//! Whole programs: git, tar, rm.

use std::process::Command;

use crate::error::succeed;
use crate::trees::{NEW, OLD, Tree, git};
use crate::works::{Begins, Ground, Run, Work, adds_with, changes, reads, row};

pub(super) const STATUS: Work = Work {
    name: "git status",
    purpose: reads(Tree::Repository),
    begins: Begins::Cold,
    needs: &["git"],
    rows: &[
        row("git status cold", "git status of a repository without changes").takes().wanted(0.3, 0.6),
        row("git status warm", "git status of a repository without changes").takes().wanted(0.95, 0.8),
    ],
    at_once: 1,
    run: Run::InView(|ground| {
        let here = ground.here().to_owned();
        ground.ready()?;
        // Without locks, as the index of the base must stay what it is.
        let status =
            || succeed(git(&here).env("GIT_OPTIONAL_LOCKS", "0").args(["status", "--porcelain"])).map(drop);
        ground.cold_then_warm(["git status cold", "git status warm"], 1, status)
    }),
};

pub(super) const CHECKOUT: Work = Work {
    name: "git checkout",
    purpose: changes(Tree::Repository),
    begins: Begins::AsItIs,
    needs: &["git"],
    rows: &[row("git checkout", "git checkout of another tag, a tenth of the files, and back").takes()],
    at_once: 1,
    run: Run::InView(|ground| {
        let here = ground.here().to_owned();
        let run = |args: &[&str]| succeed(git(&here).args(args)).map(drop);
        // A copy's index knows nothing of the copy.
        run(&["update-index", "-q", "--refresh"])?;
        ground.ready()?;
        ground.once("git checkout", 2, || {
            run(&["checkout", "-q", OLD])?;
            run(&["checkout", "-q", NEW])
        })
    }),
};

pub(super) const CLONE: Work = Work {
    name: "git clone",
    purpose: adds_with(Tree::Repository),
    begins: Begins::AsItIs,
    needs: &["git"],
    rows: &[row("git clone", "git clone of that repository from outside, without links").takes()],
    at_once: 1,
    run: Run::InView(|ground| {
        let from = ground.materials().join("bare");
        let here = ground.here().to_owned();
        ground.ready()?;
        ground.once("git clone", 1, || {
            succeed(git(&here).args(["clone", "-q", "--no-hardlinks"]).arg(&from).arg("clone")).map(drop)
        })
    }),
};

pub(super) const UNTAR: Work = Work {
    name: "untar",
    purpose: adds_with(Tree::Repository),
    begins: Begins::AsItIs,
    needs: &["tar"],
    rows: &[row("untar", "tar xf of that repository's files").takes().wanted(0.35, 0.7)],
    at_once: 1,
    run: Run::InView(|ground| {
        let mut untar = untar(ground);
        ground.ready()?;
        ground.once("untar", 1, || succeed(&mut untar).map(drop))
    }),
};

pub(super) const REMOVE: Work = Work {
    name: "rm -rf",
    purpose: adds_with(Tree::Repository),
    begins: Begins::AsItIs,
    needs: &["tar"],
    rows: &[row("rm -rf", "rm -rf of the same, just unpacked").takes()],
    at_once: 1,
    run: Run::InView(|ground| {
        succeed(&mut untar(ground))?;
        let mut remove = Command::new("rm");
        remove.args(["-rf", "sources"]).current_dir(ground.here());
        ground.ready()?;
        ground.once("rm -rf", 1, || succeed(&mut remove).map(drop))
    }),
};

fn untar(ground: &Ground) -> Command {
    let mut command = Command::new("tar");
    command.arg("-xf").arg(ground.materials().join("sources.tar")).current_dir(ground.here());
    command
}
