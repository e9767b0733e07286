//! The table for the docs.

use std::fmt::Write;

use crate::report::checks::checks;
use crate::report::{Figures, Line, words};

/// As the one on the terminal, with what is wanted in columns of its own and what falls short in bold.
pub(super) fn text(figures: &Figures) -> String {
    let mut text = String::from("| |");
    for column in &figures.columns {
        write!(text, " {} |", column.name).unwrap_or_default();
    }
    text.push_str(" wanted: FUSE | native |\n|---|");
    text.push_str(&"---|".repeat(figures.columns.len() + 2));
    text.push('\n');
    for line in &figures.lines {
        write!(text, "| {} |", line.row).unwrap_or_default();
        for cell in cells(figures, line) {
            write!(text, " {cell} |").unwrap_or_default();
        }
        for wanted in [line.wanted_fuse, line.wanted_native] {
            write!(text, " {} |", wanted.map(words::short).unwrap_or_default()).unwrap_or_default();
        }
        text.push('\n');
    }
    text.push('\n');
    for reason in checks(figures).into_iter().chain(words::reasons(figures)) {
        writeln!(text, "- {reason}").unwrap_or_default();
    }
    writeln!(text, "\n{}", words::circumstances(figures)).unwrap_or_default();
    text
}

fn cells(figures: &Figures, line: &Line) -> Vec<String> {
    let cell = |(index, column)| match (index, line.rate(index), line.ratio(index)) {
        (0, Some(rate), _) => words::figure(line, rate.median),
        (_, _, Some(ratio)) if line.wanted(column).is_some_and(|wanted| ratio.median < wanted) => {
            format!("**{}**", words::ratio(ratio))
        }
        (_, _, Some(ratio)) => words::ratio(ratio),
        _ => "–".to_owned(),
    };
    figures.columns.iter().enumerate().map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::tests::example;

    #[test]
    fn every_row_has_as_many_cells_as_the_header() {
        let text = text(&example());
        let table: Vec<&str> = text.lines().take_while(|line| line.starts_with('|')).collect();
        assert_eq!(table.len(), 4);
        for row in &table {
            assert_eq!(row.matches('|').count(), 7, "{row}");
        }
        assert_eq!(table[2], "| stat warm | 2.00 k/s | **0.80 (0.50 to 1.10)** | – | 0.90 | 0.75 |");
        assert!(text.contains("- peer: not here: no program\n"));
    }
}
