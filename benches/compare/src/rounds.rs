//! The driver: makes what is needed, runs every work on every arm in interleaved rounds, and keeps the figures.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::rc::Rc;

use crate::arms::{self, Arm, Seat, View};
use crate::error::{Failed, Result, While};
use crate::memory;
use crate::options::Options;
use crate::report::{Column, Figures, Host, Line};
use crate::scale::Scale;
use crate::site::Site;
use crate::trees::Tree;
use crate::worker::{Measured, Task, Worker};
use crate::works::{Begins, Run, WORKS, Work};

/// This program among the materials.
const PROGRAM: &str = "compare";

/// Everything that was asked for.
pub(crate) fn run(options: &Options) -> Result<Figures> {
    let scale = Scale::of(options.scale);
    let works: Vec<&Work> =
        WORKS.iter().filter(|work| work.rows.iter().any(|row| options.wants(work.name, row.name))).collect();
    if (works.is_empty() && !memory::wanted(options)) || options.rounds == 0 {
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
    let mut lacking = BTreeMap::new();
    for tree in trees {
        eprintln!("compare: making the tree '{}'", tree.name());
        if let Err(failed) = tree.make(&site, &scale) {
            lacking.insert(tree, format!("no tree '{}': {failed}", tree.name()));
        }
    }
    let mut seats = arms::seats(options, &site)?;
    let mut figures = Figures::new(options, before, columns(&seats));
    for work in works {
        let mut lines: Vec<Line> = work.rows.iter().map(|row| Line::new(work, row, seats.len())).collect();
        for round in 0..options.rounds {
            eprintln!("compare: {} (round {} of {})", work.name, round + 1, options.rounds);
            let can = can(work, &lacking);
            one_round(work, round, &mut seats, &mut lines, |arm| {
                can.clone()?;
                one_run(work, arm, &site, options).map_err(|failed| failed.to_string())
            });
        }
        lines.retain(|line| options.wants(work.name, line.row));
        figures.lines.extend(lines);
    }
    drop(seats);
    match memory::measure(options) {
        Ok(memory) => figures.memory = memory,
        Err(failed) => figures.memory_failed = Some(failed.to_string()),
    }
    figures.after = Host::look(&site)?;
    Ok(figures)
}

fn columns(seats: &[Seat]) -> Vec<Column> {
    let column = |seat: &Seat| Column { name: seat.name.clone(), absent: seat.arm.as_ref().err().cloned() };
    seats.iter().map(column).collect()
}

/// What a run gave, or why it gave nothing.
type Outcome = std::result::Result<Vec<Measured>, String>;

/// Every arm once, beginning with another one in each round.
fn one_round(
    work: &Work,
    round: usize,
    seats: &mut [Seat],
    lines: &mut [Line],
    run: impl Fn(&mut dyn Arm) -> Outcome,
) {
    let arms = seats.len();
    for index in (0..arms).map(|number| (round + number) % arms) {
        let seat = &mut seats[index];
        let outcome = seat.arm.as_mut().map_err(|reason| reason.clone()).and_then(|arm| run(arm.as_mut()));
        if let (Err(reason), Ok(_)) = (&outcome, &seat.arm) {
            eprintln!("compare: {} on {}: {reason}", work.name, seat.name);
        }
        for line in &mut *lines {
            let measured = outcome.as_ref().map_err(Clone::clone).and_then(|all| of_row(work, all, line.row));
            line.cells[index].note(measured);
        }
    }
}

fn of_row(work: &Work, all: &[Measured], row: &str) -> std::result::Result<Measured, String> {
    // The first row of such a work is the first touch; what follows is warm in any case.
    if work.begins == Begins::Cold && work.rows[0].name == row && !Site::can_forget() {
        return Err(format!("{row}: only root can empty the kernel's caches"));
    }
    all.iter().find(|one| one.row == row).cloned().ok_or_else(|| "not measured by its work".to_owned())
}

/// Whether the work can be done here at all.
fn can(work: &Work, lacking: &BTreeMap<Tree, String>) -> std::result::Result<(), String> {
    if let Some(reason) = lacking.get(&work.purpose.tree) {
        return Err(reason.clone());
    }
    let there = |program: &&&str| Command::new(program).arg("--version").output().is_ok();
    if let Some(program) = work.needs.iter().find(|program| !there(program)) {
        return Err(format!("no {program}"));
    }
    Ok(())
}

fn one_run(work: &Work, arm: &mut dyn Arm, site: &Site, options: &Options) -> Result<Vec<Measured>> {
    if let Run::ByDriver(run) = work.run {
        site.settle()?;
        return run(arm, &Scale::of(options.scale));
    }
    let mut views = Vec::new();
    let measured = (0..work.at_once)
        .try_for_each(|_| arm.open(work.purpose).map(|view| views.push(view)))
        .and_then(|()| in_views(work, arm, &views, site, options));
    // All of them, whatever became of the run.
    let closed: Vec<Result<()>> = views.into_iter().map(|view| arm.close(view)).collect();
    let measured = measured?;
    closed.into_iter().collect::<Result<()>>()?;
    Ok(measured)
}

/// One worker in each view; told to go together.
fn in_views(
    work: &Work,
    arm: &dyn Arm,
    views: &[View],
    site: &Site,
    options: &Options,
) -> Result<Vec<Measured>> {
    let program = site.materials().join(PROGRAM);
    let task = Task { work: work.name.to_owned(), scale: options.scale, materials: site.materials() };
    let start = |view| Worker::start(arm.command(view, &program), &task);
    let mut workers = views.iter().map(start).collect::<Result<Vec<_>>>()?;
    site.settle()?;
    if work.begins == Begins::Cold && Site::can_forget() {
        site.forget()?;
    }
    workers.iter_mut().try_for_each(Worker::go)?;
    let all = workers.into_iter().map(Worker::finish).collect::<Result<Vec<_>>>()?;
    Ok(together(all))
}

/// What several did at once: all operations, in the time of the slowest.
fn together(all: Vec<Vec<Measured>>) -> Vec<Measured> {
    let mut sums: Vec<Measured> = Vec::new();
    for one in all.into_iter().flatten() {
        match sums.iter_mut().find(|sum| sum.row == one.row) {
            Some(sum) => {
                sum.operations += one.operations;
                sum.nanoseconds = sum.nanoseconds.max(one.nanoseconds);
            }
            None => sums.push(one),
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_at_once_did_all_of_it_in_the_time_of_the_slowest() {
        let measured = |operations, nanoseconds| Measured { row: "mix".to_owned(), operations, nanoseconds };
        let both = together(vec![vec![measured(10, 500)], vec![measured(30, 400)]]);
        assert_eq!(both, [measured(40, 500)]);
    }
}
