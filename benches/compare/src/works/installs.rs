//! Builds and installs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Result, While, succeed};
use crate::trees::{FILES_IN_PACKAGE, Tree, archive_of, cargo, files_of};
use crate::works::{Begins, Ground, Run, Work, adds_with, changes, row};

pub(super) const CARGO: Work = Work {
    name: "cargo build",
    purpose: changes(Tree::Package),
    begins: Begins::AsItIs,
    needs: &["cargo"],
    rows: &[row("cargo build", "a crate from the registry and what it needs, sources in the base")
        .takes()
        .wanted(0.9, 0.97)],
    at_once: 1,
    run: Run::InView(|ground| {
        let here = ground.here().to_owned();
        ground.ready()?;
        ground.once("cargo build", 1, || succeed(cargo(&here).args(["build", "-q"])).map(drop))
    }),
};

pub(super) const NPM: Work = Work {
    name: "npm install",
    purpose: adds_with(Tree::Registry),
    begins: Begins::AsItIs,
    needs: &["npm"],
    rows: &[row(
        "npm install",
        "npm install of 5,000 files in 50 packages from archives (10,000 on the full scale)",
    )
    .takes()
    .wanted(0.35, 0.7)],
    at_once: 1,
    run: Run::InView(npm),
};

fn npm(ground: &mut Ground) -> Result<()> {
    let materials = ground.materials().to_owned();
    let packages = packages(ground)
        .map(|number| format!("\"package-{number}\": \"file:{}\"", archive_of(&materials, number).display()));
    let manifest = format!("{{\"dependencies\": {{{}}}}}", packages.collect::<Vec<_>>().join(", "));
    fs::write("package.json", manifest).on("writing", Path::new("package.json"))?;
    let mut install = std::process::Command::new("npm");
    install.args([
        "install",
        "--offline",
        "--no-audit",
        "--no-fund",
        "--no-update-notifier",
        "--loglevel=error",
    ]);
    // Its log and cache are not what is compared.
    install.arg("--cache").arg(materials.join("npm-cache")).env("HOME", &materials);
    ground.ready()?;
    ground.once("npm install", 1, || succeed(&mut install).map(drop))
}

pub(super) const INSTALL: Work = Work {
    name: "package install",
    purpose: adds_with(Tree::Registry),
    begins: Begins::AsItIs,
    needs: &[],
    rows: &[row(
        "package install",
        "the system calls of the same without npm: a directory for each package, filled, renamed into place",
    )
    .takes()
    .wanted(0.35, 0.7)],
    at_once: 1,
    run: Run::InView(|ground| {
        let all: Vec<_> = packages(ground).map(|number| (number, files_of(number))).collect();
        ground.ready()?;
        ground.once("package install", 1, || {
            all.iter().try_for_each(|(number, files)| install(&format!("package-{number}"), files))
        })
    }),
};

fn packages(ground: &Ground) -> std::ops::Range<usize> {
    0..ground.scale().packaged.div_ceil(FILES_IN_PACKAGE)
}

fn install(name: &str, files: &[(String, String)]) -> Result<()> {
    let place = Path::new("node_modules").join(name);
    let staged = Path::new("node_modules").join(format!(".{name}-staged"));
    for (file, text) in files {
        let path: PathBuf = staged.join(file);
        let parent = path.parent().unwrap_or(&staged);
        fs::create_dir_all(parent).on("making", parent)?;
        fs::write(&path, text).on("writing", &path)?;
    }
    fs::rename(&staged, &place).on("renaming", &staged)
}
