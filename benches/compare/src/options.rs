//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::scale::Size;
use crate::worker::Task;

/// Runs the same work in turn on plain ext4, overlayfs, branches and a peer, and prints ratios to ext4.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    /// Where everything is made, and removed at the end: the filesystem compared with.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    pub(crate) dir: PathBuf,
    /// How large the work is.
    #[arg(long, value_enum, default_value_t = Size::Small)]
    pub(crate) scale: Size,
    /// Rounds; each runs every arm once, beginning with another one.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Only works and rows whose name contains this (may be repeated).
    #[arg(long, value_name = "PATTERN")]
    pub(crate) only: Vec<String>,
    /// Arms to run, separated by commas: ext4, overlayfs, depth-N for any N, opened and passthrough (depth 1 with file data
    /// served so), native, peer. ext4 always runs.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "ext4,overlayfs,depth-1,opened,passthrough,depth-10,depth-100,native,peer"
    )]
    pub(crate) arms: Vec<String>,
    /// The branchfs program to measure. Default: the one beside this program.
    #[arg(long)]
    pub(crate) branchfs: Option<PathBuf>,
    /// The peer's program (see `install-peer`). Default: target/tools/bin/branchfs, if it is there.
    #[arg(long)]
    pub(crate) peer: Option<PathBuf>,
    /// Write all figures here.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the table here, in Markdown.
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
    /// Draw the ratios here.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Files to walk before the daemon's memory is read, 0 for none. Default: 100,000; 1,000,000 on the full scale.
    #[arg(long, value_name = "N")]
    pub(crate) memory_files: Option<usize>,
    /// Only say what each row is.
    #[arg(long)]
    pub(crate) explain: bool,
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

/// What the program is started as by itself.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// Does one work in the current directory and prints its figures.
    #[command(hide = true)]
    Worker(Task),
}

impl Options {
    /// Whether a row is wanted.
    pub(crate) fn wants(&self, work: &str, row: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| work.contains(only) || row.contains(only))
    }
}
