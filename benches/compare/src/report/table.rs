//! The table on the terminal.

use std::fmt::Write;

use crate::report::checks::checks;
use crate::report::{Figures, Line, words};

/// Ratios to ext4: medians of the rounds, and in brackets the least and the most.
pub(super) fn text(figures: &Figures) -> String {
    let mut rows = vec![header(figures)];
    rows.extend(figures.lines.iter().map(|line| row(figures, line)));
    let widths: Vec<usize> =
        (0..rows[0].len()).map(|n| rows.iter().map(|row| length(&row[n])).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let padded = row.iter().zip(&widths).enumerate().map(|(n, (cell, width))| {
            let blanks = " ".repeat(width - length(cell));
            if n == 0 { format!("{cell}{blanks}") } else { format!("{blanks}{cell}") }
        });
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text.push('\n');
    for reason in checks(figures).into_iter().chain(words::reasons(figures)) {
        writeln!(text, "{reason}").unwrap_or_default();
    }
    writeln!(text, "{}", words::circumstances(figures)).unwrap_or_default();
    text
}

fn length(cell: &str) -> usize {
    cell.chars().count()
}

fn header(figures: &Figures) -> Vec<String> {
    let mut header = vec!["ratio to ext4 (least to most)".to_owned()];
    header.extend(figures.columns.iter().map(|column| column.name.clone()));
    header
}

fn row(figures: &Figures, line: &Line) -> Vec<String> {
    let mut cells = vec![line.row.to_owned()];
    for (index, column) in figures.columns.iter().enumerate() {
        let cell = match (index, line.rate(index), line.ratio(index)) {
            (0, Some(rate), _) => words::figure(line, rate.median),
            (_, _, Some(ratio)) => {
                let short = line.wanted(column).is_some_and(|wanted| ratio.median < wanted);
                format!("{}{}", words::ratio(ratio), if short { " !" } else { "" })
            }
            _ if column.absent.is_some() => "-".to_owned(),
            _ => "failed".to_owned(),
        };
        cells.push(cell);
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::tests::example;

    #[test]
    fn the_table_has_rates_of_ext4_ratios_of_the_others_and_marks_what_falls_short() {
        let expected = "\
ratio to ext4 (least to most)      ext4                depth-1  peer
stat warm                      2.00 k/s  0.80 (0.50 to 1.10) !     -
git status warm                 50.0 ms                 failed     -

The daemon has 4.0 MiB in memory after its start, 80.0 MiB after a walk of 1000 files, 20.0 MiB when the kernel has forgotten them (wanted of 1,000,000: 64 MiB).
depth-1, git status: the disk <is> full
peer: not here: no program
Scale tiny, 3 rounds; 2 processors, Linux 6.18, on ext4; load before 1.00 2.00 3.00, after 1.00 2.00 3.00.
";
        assert_eq!(text(&example()), expected);
    }
}
