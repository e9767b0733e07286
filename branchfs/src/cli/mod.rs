//! The command line: one file per verb. A verb gathers its arguments, makes a few calls on
//! [`branch_core`], and hands a value to `output`, which prints it for people or as JSON.

mod abort;
mod allocator;
mod apply;
mod branch_tree;
mod checkpoint;
mod commit;
mod confine;
mod conflicts;
mod context;
mod control_groups;
mod create;
mod daemon;
mod data;
mod decisions;
mod demo;
mod denials;
mod diff;
mod doctor;
mod duration;
mod error;
mod exit_code;
mod explore;
mod gc;
mod init;
mod interrupt;
mod launcher;
mod list;
mod log;
mod long;
mod memory;
mod mount;
mod output;
mod path;
mod process_table;
mod ps;
mod quota;
mod rebase;
mod redo;
mod restore;
mod run;
mod screen;
mod show;
mod size;
mod status;
mod stop;
mod text;
mod top;
mod umount;
mod undo;
mod view;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use branch_core::GroupAction;
use clap::{Parser, Subcommand};

use context::Context;
use error::CliError;
use exit_code::Code;

/// Copy-on-write branches of a directory: fork it, try things in parallel, keep what works.
#[derive(Debug, Parser)]
#[command(name = "branchfs", version, after_help = exit_code::help())]
struct Cli {
    /// Work as if started in DIR; the workspace is looked for from there upward
    #[arg(short = 'C', long = "directory", global = true, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Init(init::Args),
    Create(create::Args),
    List(list::Args),
    Quota(quota::Args),
    Path(path::Args),
    Diff(diff::Args),
    Apply(apply::Args),
    Commit(commit::Args),
    Rebase(rebase::Args),
    Undo(undo::Args),
    Redo(redo::Args),
    Checkpoint(checkpoint::Args),
    Restore(restore::Args),
    Abort(abort::Args),
    Run(run::Args),
    Explore(explore::Args),
    Ps(ps::Args),
    Top(top::Args),
    /// Kill everything that runs in a branch; the branch lives on
    Kill(control_groups::Args),
    /// Stop everything that runs in a branch until it is thawed
    Freeze(control_groups::Args),
    /// Let everything in a branch go on that was frozen
    Thaw(control_groups::Args),
    Why(why::Args),
    Log(log::Args),
    Gc(gc::Args),
    Show(show::Args),
    Status(status::Args),
    Mount(mount::Args),
    Umount(umount::Args),
    Stop(stop::Args),
    Doctor(doctor::Args),
    Demo(demo::Args),
    #[command(hide = true)]
    Daemon(daemon::Args),
}

/// Runs the program: parses the process's arguments, does the verb, reports an error.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = if cli.json { output::Format::Json } else { output::Format::Text };
    let context = Context::new(cli.directory, format);
    let code = match cli.verb.execute(&context) {
        Ok(code) => code,
        Err(error) => {
            output::report(format, &error);
            error.code()
        }
    };
    code.into()
}

impl Verb {
    fn execute(self, context: &Context) -> Result<Code, CliError> {
        match self {
            Verb::Init(args) => args.execute(context),
            Verb::Create(args) => args.execute(context),
            Verb::List(args) => args.execute(context),
            Verb::Quota(args) => args.execute(context),
            Verb::Path(args) => args.execute(context),
            Verb::Diff(args) => args.execute(context),
            Verb::Apply(args) => args.execute(context),
            Verb::Commit(args) => args.execute(context),
            Verb::Rebase(args) => args.execute(context),
            Verb::Undo(args) => args.execute(context),
            Verb::Redo(args) => args.execute(context),
            Verb::Checkpoint(args) => args.execute(context),
            Verb::Restore(args) => args.execute(context),
            Verb::Abort(args) => args.execute(context),
            Verb::Run(args) => args.execute(context),
            Verb::Explore(args) => args.execute(context),
            Verb::Ps(args) => args.execute(context),
            Verb::Top(args) => args.execute(context),
            Verb::Kill(args) => args.execute(context, GroupAction::Kill),
            Verb::Freeze(args) => args.execute(context, GroupAction::Freeze),
            Verb::Thaw(args) => args.execute(context, GroupAction::Thaw),
            Verb::Why(args) => args.execute(context),
            Verb::Log(args) => args.execute(context),
            Verb::Gc(args) => args.execute(context),
            Verb::Show(args) => args.execute(context),
            Verb::Status(args) => args.execute(context),
            Verb::Mount(args) => args.execute(context),
            Verb::Umount(args) => args.execute(context),
            Verb::Stop(args) => args.execute(context),
            Verb::Doctor(args) => args.execute(context),
            Verb::Demo(args) => args.execute(context),
            Verb::Daemon(args) => args.execute(context),
        }
    }
}

#[cfg(test)]
mod tests;
