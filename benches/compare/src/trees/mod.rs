//! What is in the base. Every tree is made once, the same in every run.

mod blocks;
mod crates;
mod registry;
mod repository;
mod small;

use std::path::{Path, PathBuf};

use crate::error::{Result, While};
use crate::scale::Scale;
use crate::site::Site;

pub(crate) use crates::cargo;
pub(crate) use registry::{FILES_IN_PACKAGE, archive_of, files_of};
pub(crate) use repository::{NEW, OLD, git};
pub(crate) use small::path_of;

/// A directory of the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tree {
    /// Nothing: works that bring all they need.
    Empty,
    /// Small files, [`Scale::FILES_IN_DIRECTORY`] in a directory.
    Small,
    /// The same with fewer, for many at once.
    Few,
    /// Many files, empty, for the daemon to remember.
    Many,
    /// One directory with many entries.
    Wide,
    /// One file, for reading and writing in blocks.
    Blocks,
    /// One large file, to be appended to.
    Large,
    /// A package to build, with all that it is built with.
    Package,
    /// Nothing; among the materials, archives of packages as a registry has them.
    Registry,
    /// A git repository with two tags.
    Repository,
}

impl Tree {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Tree::Empty => "empty",
            Tree::Small => "small",
            Tree::Few => "few",
            Tree::Many => "many",
            Tree::Wide => "wide",
            Tree::Blocks => "blocks",
            Tree::Large => "large",
            Tree::Package => "package",
            Tree::Registry => "registry",
            Tree::Repository => "repository",
        }
    }

    /// Makes it in the base, and what belongs to it among the materials.
    pub(crate) fn make(self, site: &Site, scale: &Scale) -> Result<()> {
        let top = site.base().join(self.name());
        std::fs::create_dir(&top).on("making", &top)?;
        match self {
            Tree::Empty => Ok(()),
            Tree::Small => small::make(&top, scale.files),
            Tree::Few => small::make(&top, scale.few),
            Tree::Many => small::make_many(&top, scale.remembered),
            Tree::Wide => small::make_wide(&top, scale.entries),
            Tree::Blocks => blocks::make(&top, scale.bytes),
            Tree::Large => blocks::make(&top, scale.large),
            Tree::Package => crates::make(&top, scale.built),
            Tree::Registry => registry::make(&site.materials(), scale.packaged),
            Tree::Repository => repository::make(&top, &site.materials(), scale.sources),
        }
    }
}

/// The files that the branch at a level of a chain changes, of the trees that are there.
pub(crate) fn changed_at(top: &Path, level: usize) -> Vec<PathBuf> {
    // Spread over the first directories, so that many levels are met on the way through.
    let files =
        [0, 1].map(|n| top.join(Tree::Small.name()).join(path_of(level * Scale::FILES_IN_DIRECTORY / 2 + n)));
    files.into_iter().filter(|path| path.exists()).collect()
}
