//! What is wanted of several figures together.

use crate::report::{Figures, words};
use crate::works::{LARGE_FIRST, LARGE_LATER};

/// A deep branch may be so much slower than one at depth 1.
const DEEP: f64 = 1.1;
/// The first touch of a large file may take so many times what the next one does.
const FIRST: f64 = 3.0;
/// The most that the daemon may have in memory after a walk, in bytes.
const MEMORY: u64 = 64 << 20;

/// One sentence each, for what was measured in this run.
pub(super) fn checks(figures: &Figures) -> Vec<String> {
    let mut said = Vec::new();
    let column = |name: &str| figures.columns.iter().position(|c| c.name == name && c.absent.is_none());
    if let (Some(shallow), Some(deep)) = (column("depth-1"), column("depth-100")) {
        said.extend(depth(figures, shallow, deep));
    }
    if let (Some(ours), Some(peer)) = (column("depth-1"), column("peer")) {
        said.extend(ahead(figures, ours, peer));
    }
    for index in (0..figures.columns.len()).filter(|index| figures.columns[*index].absent.is_none()) {
        said.extend(large(figures, index));
    }
    said.extend(memory(figures));
    said
}

fn depth(figures: &Figures, shallow: usize, deep: usize) -> Option<String> {
    let mut ratios: Vec<(f64, &str)> = figures
        .lines
        .iter()
        .filter_map(|line| Some((line.ratio_to(deep, shallow)?.median, line.row)))
        .collect();
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (least, row) = *ratios.first()?;
    let slow = ratios.iter().filter(|(ratio, _)| *ratio < 1.0 / DEEP).count();
    Some(format!(
        "depth-100 against depth-1: median of {} rows {}, least {} ({row}); {slow} rows are slower by more than {DEEP} times.",
        ratios.len(),
        words::short(ratios[ratios.len() / 2].0),
        words::short(least),
    ))
}

fn ahead(figures: &Figures, ours: usize, peer: usize) -> Option<String> {
    let mut ratios: Vec<(f64, &str)> =
        figures.lines.iter().filter_map(|line| Some((line.ratio_to(ours, peer)?.median, line.row))).collect();
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    let median = ratios.get(ratios.len() / 2)?.0;
    let behind: Vec<&str> = ratios.iter().filter(|(ratio, _)| *ratio < 1.0).map(|(_, row)| *row).collect();
    let behind = if behind.is_empty() { "no row".to_owned() } else { behind.join(", ") };
    Some(format!(
        "depth-1 against the peer: median of {} rows {}; behind in: {behind}.",
        ratios.len(),
        words::short(median)
    ))
}

fn large(figures: &Figures, column: usize) -> Option<String> {
    let rate = |row: &str| figures.lines.iter().find(|line| line.row == row)?.rate(column);
    let times = rate(LARGE_LATER)?.median / rate(LARGE_FIRST)?.median;
    let name = &figures.columns[column].name;
    Some(format!(
        "{name}: the first append to a large file takes {} times one later (wanted: {FIRST}).",
        words::short(times)
    ))
}

fn memory(figures: &Figures) -> Option<String> {
    let memory = figures.memory?;
    let [started, walked, forgotten, wanted] = [memory.started, memory.walked, memory.forgotten, MEMORY]
        .map(|bytes| bytes as f64 / f64::from(1 << 20));
    Some(format!(
        "The daemon has {started:.1} MiB in memory after its start, {walked:.1} MiB after a walk of {} files, {forgotten:.1} MiB when the \
         kernel has forgotten them (wanted of 1,000,000: {wanted:.0} MiB).",
        memory.files
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::tests::example;

    #[test]
    fn memory_is_told_in_mebibytes_and_nothing_is_said_of_what_was_not_measured() {
        let said = checks(&example());
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].contains("4.0 MiB") && said[0].contains("80.0 MiB") && said[0].contains("20.0 MiB"),
            "{said:?}"
        );
    }

    #[test]
    fn depth_is_compared_round_by_round_and_the_slowest_row_is_named() {
        let mut figures = example();
        figures.columns[0].name = "depth-100".to_owned();
        let said = checks(&figures);
        assert!(said[0].contains("1 rows") && said[0].contains("1.25"), "{said:?}");
        assert!(said[0].contains("0 rows are slower"), "{said:?}");
    }
}
