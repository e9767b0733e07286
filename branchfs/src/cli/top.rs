use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use branch_core::GroupInfo;
use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;
use super::interrupt::{Act, Interrupts};
use super::output::{Format, Show};
use super::{duration, process_table, text};

/// Columns where nobody tells how wide the terminal is.
const COLUMNS_DEFAULT: usize = 120;

/// Watch what runs in the branches; Ctrl-C ends it
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only this branch
    branch: Option<String>,
    /// Look again after this time, such as 500ms or 2s
    #[arg(short, long, default_value = "1s", value_parser = duration::parse)]
    delay: Duration,
    /// Stop after so many looks; without it go on, but look only twice where no terminal shows it
    #[arg(short = 'n', long, value_name = "N")]
    iterations: Option<u64>,
}

/// One look.
#[derive(Serialize)]
struct Look {
    groups: Vec<GroupInfo>,
    #[serde(skip)]
    before: Before,
    #[serde(skip)]
    columns: usize,
}

/// CPU time of each group, by its pid, at the look before.
#[derive(Default, Clone)]
struct Before {
    cpu_us: HashMap<i32, u64>,
    elapsed: Duration,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let workspace = context.workspace()?;
        let live = context.format() == Format::Text && io::stdout().is_terminal();
        // Two looks are what a share of the processor takes.
        let looks = self.iterations.unwrap_or(if live { u64::MAX } else { 2 }).max(1);
        let (stop, stopped) = channel::<()>();
        let _interrupts = Interrupts::catch(
            |_| Act::Stop,
            move || {
                // Nobody waits any more: it is over anyway.
                _ = stop.send(());
            },
        )?;
        let (mut before, mut looked) = (Before::default(), Instant::now());
        for look in 1..=looks {
            let groups = workspace.backend().groups(self.branch.as_deref())?;
            before.elapsed = looked.elapsed();
            looked = Instant::now();
            let cpu_us = groups.iter().filter_map(|group| Some((group.pid, group.cpu_us?))).collect();
            let shown = Look { groups, before: before.clone(), columns: columns() };
            before.cpu_us = cpu_us;
            if live {
                // Up to the corner and clean (ECMA-48 CUP, ED).
                write!(io::stdout(), "\x1b[H\x1b[2J").map_err(CliError::Output)?;
            }
            if live || look == looks {
                context.emit(&shown)?;
            }
            if look < looks && stopped.recv_timeout(self.delay) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
        Ok(Code::OK)
    }
}

fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
    size.map(|size| size.ws_col.into()).filter(|columns| *columns > 0).unwrap_or(COLUMNS_DEFAULT)
}

impl Look {
    /// In percent of one processor.
    fn share(&self, group: &GroupInfo) -> Option<f64> {
        let used = group.cpu_us?.saturating_sub(*self.before.cpu_us.get(&group.pid)?);
        Some(used as f64 / self.before.elapsed.as_micros().max(1) as f64 * 100.0)
    }
}

impl Show for Look {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let branches =
            self.groups.iter().map(|group| &group.branch).collect::<std::collections::HashSet<_>>();
        let groups = text::count(self.groups.len() as u64, "process group");
        writeln!(out, "{groups} in {}", text::count(branches.len() as u64, "branch"))?;
        process_table::groups(out, &self.groups, |group| self.share(group), self.columns)
    }
}
