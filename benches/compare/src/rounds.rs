//! The driver: makes what is needed, runs every work on every arm in interleaved rounds, and keeps the figures.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;

use crate::arms::{self, Seat};
use crate::error::{Failed, Result, While};
use crate::options::Options;
use crate::report::{Column, Figures, Host, Line};
use crate::scale::Scale;
use crate::site::Site;
use crate::worker::{Measured, Task, Worker};
use crate::works::{Begins, WORKS, Work};

/// This program among the materials.
const PROGRAM: &str = "compare";

/// Everything that was asked for.
pub(crate) fn run(options: &Options) -> Result<Figures> {
    let scale = Scale::of(options.scale);
    let works: Vec<&Work> =
        WORKS.iter().filter(|work| work.rows.iter().any(|row| options.wants(work.name, row.name))).collect();
    if works.is_empty() || options.rounds == 0 {
        return Err(Failed::Other(
            "nothing to do: no row has such a name, or there are no rounds".to_owned(),
        ));
    }
    let site = Rc::new(Site::new(&options.dir)?);
    // A build meanwhile must not change what is measured with.
    let own = std::env::current_exe().on("looking for", Path::new("this program"))?;
    std::fs::copy(&own, site.materials().join(PROGRAM)).on("copying", &own)?;
    let before = Host::look(&site)?;
    let trees: BTreeSet<_> = works.iter().map(|work| work.purpose.tree).collect();
    for tree in trees {
        eprintln!("compare: making the tree '{}'", tree.name());
        tree.make(&site, &scale)?;
    }
    let mut seats = arms::seats(options, &site)?;
    let mut figures = Figures::new(options, before, columns(&seats));
    for work in works {
        let mut lines: Vec<Line> = work.rows.iter().map(|row| Line::new(work, row, seats.len())).collect();
        for round in 0..options.rounds {
            eprintln!("compare: {} (round {} of {})", work.name, round + 1, options.rounds);
            one_round(work, round, &mut seats, &site, options, &mut lines)?;
        }
        lines.retain(|line| options.wants(work.name, line.row));
        figures.lines.extend(lines);
    }
    figures.after = Host::look(&site)?;
    Ok(figures)
}

fn columns(seats: &[Seat]) -> Vec<Column> {
    let column = |seat: &Seat| Column { name: seat.name.clone(), absent: seat.arm.as_ref().err().cloned() };
    seats.iter().map(column).collect()
}

/// Every arm once, beginning with another one in each round.
fn one_round(
    work: &Work,
    round: usize,
    seats: &mut [Seat],
    site: &Site,
    options: &Options,
    lines: &mut [Line],
) -> Result<()> {
    let arms = seats.len();
    for number in 0..arms {
        let index = (round + number) % arms;
        let outcome = match can(work) {
            Ok(()) => seats[index].arm.as_mut().map_err(|reason| reason.clone()).and_then(|arm| {
                one_run(work, arm.as_mut(), site, options).map_err(|failed| failed.to_string())
            }),
            Err(reason) => Err(reason),
        };
        for line in &mut *lines {
            let measured = outcome.as_ref().map_err(Clone::clone).and_then(|all| of_row(all, line.row));
            line.cells[index].note(measured);
        }
    }
    Ok(())
}

fn of_row(all: &[Measured], row: &str) -> std::result::Result<Measured, String> {
    all.iter().find(|one| one.row == row).cloned().ok_or_else(|| "not measured by its work".to_owned())
}

/// Whether the work can be done here at all.
fn can(work: &Work) -> std::result::Result<(), String> {
    let there = |program: &&&str| Command::new(program).arg("--version").output().is_ok();
    if let Some(program) = work.needs.iter().find(|program| !there(program)) {
        return Err(format!("no {program}"));
    }
    if work.begins == Begins::Cold && !rustix::process::geteuid().is_root() {
        return Err("only root can empty the kernel's caches".to_owned());
    }
    Ok(())
}

fn one_run(work: &Work, arm: &mut dyn arms::Arm, site: &Site, options: &Options) -> Result<Vec<Measured>> {
    let view = arm.open(work.purpose)?;
    let program = site.materials().join(PROGRAM);
    let task = Task { work: work.name.to_owned(), scale: options.scale, materials: site.materials() };
    let measured = Worker::start(arm.command(&view, &program), &task).and_then(|mut worker| {
        site.settle()?;
        if work.begins == Begins::Cold {
            site.forget()?;
        }
        worker.go()?;
        worker.finish()
    });
    let closed = arm.close(view);
    let measured = measured?;
    closed.map(|()| measured)
}
