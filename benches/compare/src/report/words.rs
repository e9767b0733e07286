//! Figures as a person reads them.

use crate::report::{Figures, Line};
use crate::stats::Spread;
use crate::works::Shown;

/// What is said under every table about how it came to be.
pub(super) fn circumstances(figures: &Figures) -> String {
    let (before, after) = (&figures.before, &figures.after);
    format!(
        "Scale {}, {} rounds; {} processors, Linux {}, on {}; load before {}, after {}.",
        figures.scale,
        figures.rounds,
        before.processors,
        before.kernel,
        before.filesystem,
        before.load,
        after.load
    )
}

/// An operation's rate or time.
pub(super) fn figure(line: &Line, rate: f64) -> String {
    match line.shown {
        Shown::Rate => format!("{}/s", scaled(rate)),
        Shown::Time => time(1.0 / rate),
    }
}

/// Three digits and a suffix.
fn scaled(number: f64) -> String {
    let (number, suffix) = match number {
        n if n >= 1e6 => (n / 1e6, " M"),
        n if n >= 1e3 => (n / 1e3, " k"),
        n => (n, ""),
    };
    format!("{}{suffix}", digits(number))
}

fn time(seconds: f64) -> String {
    let (number, unit) = match seconds {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s => (s * 1e6, "µs"),
    };
    format!("{} {unit}", digits(number))
}

fn digits(number: f64) -> String {
    let places = match number {
        n if n >= 100.0 => 0,
        n if n >= 10.0 => 1,
        _ => 2,
    };
    format!("{number:.places$}")
}

/// A ratio and how far the rounds lie apart.
pub(super) fn ratio(ratio: Spread) -> String {
    let Spread { median, least, most } = ratio;
    if least == most {
        return short(median);
    }
    format!("{} ({} to {})", short(median), short(least), short(most))
}

/// Two digits that count.
pub(super) fn short(ratio: f64) -> String {
    let places = match ratio {
        r if r >= 10.0 => 0,
        r if r >= 0.1 => 2,
        r if r >= 0.01 => 3,
        _ => 4,
    };
    format!("{ratio:.places$}")
}

/// Why cells are empty: one line for each arm that is not there, and for each work that an arm could not do.
pub(super) fn reasons(figures: &Figures) -> Vec<String> {
    let mut reasons: Vec<String> = Vec::new();
    for (index, column) in figures.columns.iter().enumerate() {
        if let Some(reason) = &column.absent {
            reasons.push(format!("{}: not here: {reason}", column.name));
            continue;
        }
        let failed = |line: &Line| {
            Some(format!("{}, {}: {}", column.name, line.work, line.cells[index].failed.as_ref()?))
        };
        reasons.extend(figures.lines.iter().filter_map(failed));
    }
    // The rows of a work are beside each other, and fail together.
    reasons.dedup();
    reasons.extend(figures.memory_failed.iter().map(|reason| format!("memory: {reason}")));
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::tests::example;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        let figures = example();
        let shown = |line: usize, rate| figure(&figures.lines[line], rate);
        assert_eq!(shown(0, 912_345.0), "912 k/s");
        assert_eq!(shown(0, 1_234_567.0), "1.23 M/s");
        assert_eq!(shown(0, 42.0), "42.0/s");
        assert_eq!(shown(1, 20.0), "50.0 ms");
        assert_eq!(shown(1, 0.5), "2.00 s");
        assert_eq!(shown(1, 10_000.0), "100 µs");
    }

    #[test]
    fn ratios_have_digits_that_count() {
        assert_eq!([26.2, 1.0, 0.5, 0.05, 0.005].map(short), ["26", "1.00", "0.50", "0.050", "0.0050"]);
    }

    #[test]
    fn every_empty_cell_has_a_reason() {
        assert_eq!(
            reasons(&example()),
            ["depth-1, git status: the disk <is> full", "peer: not here: no program"]
        );
    }
}
