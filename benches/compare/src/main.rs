//! The same work in turn on plain ext4, kernel overlayfs, branches of several depths, and a peer, in interleaved
//! rounds: what a branch costs, as ratios to the same work without one.
//!
//!     cargo build --release -p branchfs -p branchfs-compare && target/release/compare --scale small
//!
//! The program is two: the driver, which opens views and keeps the figures, and the worker, which it starts in a view
//! and which does one work there in one process (`worker.rs`).

mod arms;
mod error;
mod memory;
mod options;
mod report;
mod rounds;
mod scale;
mod site;
mod stats;
mod trees;
mod worker;
mod works;

use std::process::ExitCode;

use clap::Parser;

use crate::error::Result;
use crate::options::{Options, Role};

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(code) => code,
        Err(failed) => {
            eprintln!("compare: {failed}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<ExitCode> {
    if let Some(Role::Worker(task)) = &options.role {
        worker::work(task)?;
        return Ok(ExitCode::SUCCESS);
    }
    if options.explain {
        print!("{}", works::explained());
        return Ok(ExitCode::SUCCESS);
    }
    let figures = rounds::run(options)?;
    report::write(options, &figures)?;
    Ok(if figures.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
