//! The figures of a whole run.

use std::fs;
use std::path::Path;
use std::thread;

use serde::Serialize;

use crate::error::{Result, While};
use crate::memory::Memory;
use crate::options::Options;
use crate::site::Site;
use crate::stats::{Spread, ratios};
use crate::worker::Measured;
use crate::works::{Row, Shown, Work};

/// All of it.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) scale: String,
    pub(crate) rounds: usize,
    pub(crate) before: Host,
    pub(crate) after: Host,
    pub(crate) columns: Vec<Column>,
    pub(crate) lines: Vec<Line>,
    pub(crate) memory: Option<Memory>,
    pub(crate) memory_failed: Option<String>,
}

/// The machine at one moment.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Host {
    pub(crate) kernel: String,
    pub(crate) processors: usize,
    /// What everything lies on.
    pub(crate) filesystem: String,
    /// The three averages of proc_loadavg(5).
    pub(crate) load: String,
}

/// An arm, and why it has no figures if it has none.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) absent: Option<String>,
}

/// A row of the table.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) work: &'static str,
    pub(crate) row: &'static str,
    pub(crate) what: &'static str,
    #[serde(skip)]
    pub(crate) shown: Shown,
    pub(crate) wanted_fuse: Option<f64>,
    pub(crate) wanted_native: Option<f64>,
    /// One for each column.
    pub(crate) cells: Vec<Cell>,
}

/// What one arm did, round by round.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Cell {
    pub(crate) rounds: Vec<Option<Measured>>,
    /// Why a round has no figure: the last reason.
    pub(crate) failed: Option<String>,
}

impl Cell {
    pub(crate) fn note(&mut self, measured: std::result::Result<Measured, String>) {
        match measured {
            Ok(measured) => self.rounds.push(Some(measured)),
            Err(reason) => {
                self.rounds.push(None);
                self.failed = Some(reason);
            }
        }
    }

    /// Operations per second, round by round.
    pub(crate) fn rates(&self) -> Vec<Option<f64>> {
        self.rounds.iter().map(|round| round.as_ref().map(Measured::rate)).collect()
    }
}

impl Line {
    pub(crate) fn new(work: &Work, row: &Row, columns: usize) -> Line {
        Line {
            work: work.name,
            row: row.name,
            what: row.what,
            shown: row.shown,
            wanted_fuse: row.fuse,
            wanted_native: row.native,
            cells: (0..columns).map(|_| Cell::default()).collect(),
        }
    }

    /// Operations per second of a column.
    pub(crate) fn rate(&self, column: usize) -> Option<Spread> {
        Spread::of(self.cells[column].rates().into_iter().flatten())
    }

    /// How a column compares to the first, which is plain ext4.
    pub(crate) fn ratio(&self, column: usize) -> Option<Spread> {
        self.ratio_to(column, 0)
    }

    /// How a column compares to another.
    pub(crate) fn ratio_to(&self, column: usize, to: usize) -> Option<Spread> {
        ratios(&self.cells[column].rates(), &self.cells[to].rates())
    }

    /// What is wanted of a column.
    pub(crate) fn wanted(&self, column: &Column) -> Option<f64> {
        match column.name.as_str() {
            "native" => self.wanted_native,
            name if name.starts_with("depth-") => self.wanted_fuse,
            _ => None,
        }
    }
}

impl Figures {
    pub(crate) fn new(options: &Options, host: Host, columns: Vec<Column>) -> Figures {
        let scale = format!("{:?}", options.scale).to_lowercase();
        let (before, after) = (host.clone(), host);
        Figures {
            scale,
            rounds: options.rounds,
            before,
            after,
            columns,
            lines: Vec::new(),
            memory: None,
            memory_failed: None,
        }
    }

    /// Whether everything worked that can work here, but for the peer, which is not ours to mend.
    pub(crate) fn is_whole(&self) -> bool {
        let ours =
            |index: &usize| self.columns[*index].absent.is_none() && self.columns[*index].name != "peer";
        let branches = |column: &Column| column.name.starts_with("depth-") && column.absent.is_none();
        if self.memory_failed.is_some() && self.columns.iter().any(branches) {
            return false;
        }
        let present: Vec<usize> = (0..self.columns.len()).filter(ours).collect();
        // What plain ext4 cannot do either is the machine's.
        self.lines
            .iter()
            .filter(|line| line.cells[0].failed.is_none())
            .all(|line| present.iter().all(|index| line.cells[*index].failed.is_none()))
    }
}

impl Host {
    pub(crate) fn look(site: &Site) -> Result<Host> {
        let read = |path: &str| fs::read_to_string(path).on("reading", Path::new(path));
        let load = read("/proc/loadavg")?.split(' ').take(3).collect::<Vec<_>>().join(" ");
        Ok(Host {
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            processors: thread::available_parallelism().map_or(1, usize::from),
            filesystem: site.filesystem()?,
            load,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two columns with figures, one absent; the second row failed on the branch.
    pub(crate) fn example() -> Figures {
        let measured =
            |operations| Measured { row: "stat warm".to_owned(), operations, nanoseconds: 1_000_000_000 };
        let cell = |rates: &[u64]| {
            let mut cell = Cell::default();
            rates.iter().for_each(|rate| cell.note(Ok(measured(*rate))));
            cell
        };
        let mut failed = Cell::default();
        failed.note(Err("the disk <is> full".to_owned()));
        let absent = || {
            let mut cell = Cell::default();
            cell.note(Err("no program".to_owned()));
            cell
        };
        let line = |row: &'static str, shown, cells| Line {
            work: row.trim_end_matches(" warm"),
            row,
            what: "stat(2) of a file",
            shown,
            wanted_fuse: Some(0.9),
            wanted_native: Some(0.75),
            cells,
        };
        let host = Host {
            kernel: "6.18".to_owned(),
            processors: 2,
            filesystem: "ext4".to_owned(),
            load: "1.00 2.00 3.00".to_owned(),
        };
        let column = |name: &str, absent: Option<&str>| Column {
            name: name.to_owned(),
            absent: absent.map(str::to_owned),
        };
        Figures {
            scale: "tiny".to_owned(),
            rounds: 3,
            before: host.clone(),
            after: host,
            columns: vec![column("ext4", None), column("depth-1", None), column("peer", Some("no program"))],
            lines: vec![
                line(
                    "stat warm",
                    Shown::Rate,
                    vec![cell(&[1000, 2000, 4000]), cell(&[800, 1000, 4400]), absent()],
                ),
                line("git status warm", Shown::Time, vec![cell(&[20]), failed, absent()]),
            ],
            memory: Some(Memory { files: 1_000, started: 4 << 20, walked: 80 << 20, forgotten: 20 << 20 }),
            memory_failed: None,
        }
    }

    #[test]
    fn a_ratio_is_that_of_the_rounds_and_not_that_of_the_medians() {
        let line = &example().lines[0];
        assert_eq!(line.ratio(1), Some(Spread { median: 0.8, least: 0.5, most: 1.1 }));
        assert_eq!(line.rate(1).map(|rate| rate.median), Some(1000.0));
        assert_eq!(line.ratio(2), None);
    }

    #[test]
    fn a_run_is_whole_unless_an_arm_that_is_there_failed_where_ext4_did_not() {
        let mut figures = example();
        assert!(!figures.is_whole());
        figures.lines[1].cells[0].failed = Some("no git".to_owned());
        assert!(figures.is_whole());
        figures.lines.truncate(1);
        assert!(figures.is_whole(), "an absent peer is no failure");
    }
}
