//! The `branchfs` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    branchfs::cli::main()
}
