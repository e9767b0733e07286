//! The ratios as horizontal bars on a logarithmic scale, one group for each row of the table.

use std::fmt::Write;

use crate::report::{Figures, words};
use crate::stats::Spread;

const WIDTH: f64 = 960.0;
/// Where the bars begin; names are left of it.
const LEFT: f64 = 170.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 64.0;
const BAR: f64 = 9.0;
const GAP: f64 = 12.0;
/// What the ends of the scale stand for; figures beyond them are drawn to the end.
const LEAST: f64 = 0.01;
const MOST: f64 = 10.0;
/// From Okabe and Ito's palette, which those who see fewer colours can tell apart.
const COLOURS: [&str; 7] = ["#0072b2", "#e69f00", "#009e73", "#56b4e9", "#cc79a7", "#d55e00", "#555555"];

/// A picture for the docs.
pub(super) fn text(figures: &Figures) -> String {
    let columns: Vec<usize> =
        (1..figures.columns.len()).filter(|n| figures.columns[*n].absent.is_none()).collect();
    let group = columns.len() as f64 * BAR + GAP;
    let bottom = TOP + figures.lines.len() as f64 * group;
    let height = bottom + 34.0;
    let mut picture = Picture(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    ));
    picture.words(
        LEFT,
        18.0,
        "start",
        "Speed as a ratio to plain ext4 in the same round: median, least to most",
    );
    legend(&mut picture, figures, &columns);
    axis(&mut picture, bottom);
    for (index, line) in figures.lines.iter().enumerate() {
        let top = TOP + index as f64 * group;
        picture.words(LEFT - 8.0, top + (group - GAP) / 2.0 + 4.0, "end", line.row);
        for (place, column) in columns.iter().enumerate() {
            if let Some(ratio) = line.ratio(*column) {
                picture.bar(top + place as f64 * BAR, ratio, COLOURS[place % COLOURS.len()]);
            }
        }
    }
    picture.words(LEFT, bottom + 26.0, "start", &words::circumstances(figures));
    picture.0 + "</svg>\n"
}

fn legend(picture: &mut Picture, figures: &Figures, columns: &[usize]) {
    for (place, column) in columns.iter().enumerate() {
        let x = LEFT + place as f64 * 110.0;
        picture.rectangle((x, 28.0), (10.0, 10.0), COLOURS[place % COLOURS.len()]);
        picture.words(x + 15.0, 37.0, "start", &figures.columns[*column].name);
    }
}

fn axis(picture: &mut Picture, bottom: f64) {
    for tick in [0.01, 0.1, 0.5, 1.0, 2.0, 10.0] {
        let colour = if tick == 1.0 { "#000000" } else { "#cccccc" };
        picture.line((x_of(tick), TOP - 6.0), (x_of(tick), bottom), colour);
        picture.words(x_of(tick), TOP - 10.0, "middle", &tick.to_string());
    }
}

fn x_of(ratio: f64) -> f64 {
    let share = (ratio.clamp(LEAST, MOST) / LEAST).ln() / (MOST / LEAST).ln();
    LEFT + share * (WIDTH - LEFT - RIGHT)
}

struct Picture(String);

impl Picture {
    /// A bar from the left, the range of the rounds as a line through its end, and the median in digits.
    fn bar(&mut self, top: f64, ratio: Spread, colour: &str) {
        let Spread { median, least, most } = ratio;
        self.rectangle((LEFT, top), (x_of(median) - LEFT, BAR - 1.0), colour);
        let middle = top + (BAR - 1.0) / 2.0;
        self.line((x_of(least), middle), (x_of(most), middle), "#222222");
        writeln!(
            self.0,
            "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"8\" fill=\"#333333\">{}</text>",
            x_of(most) + 4.0,
            top + BAR - 2.0,
            words::short(median)
        )
        .unwrap_or_default();
    }

    fn rectangle(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), colour: &str) {
        writeln!(
            self.0,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
        )
        .unwrap_or_default();
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str) {
        writeln!(
            self.0,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>",
            from.0, from.1, to.0, to.1
        )
        .unwrap_or_default();
    }

    fn words(&mut self, x: f64, y: f64, anchor: &str, words: &str) {
        let words = words.replace('&', "&amp;").replace('<', "&lt;");
        writeln!(self.0, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>")
            .unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::tests::example;

    #[test]
    fn there_is_a_bar_for_every_ratio_and_a_name_for_every_row() {
        let mut figures = example();
        figures.lines[1].row = "a & <b>";
        let text = text(&figures);
        // The ground, the legend of one arm that is there, and one ratio.
        assert_eq!(text.matches("<rect").count(), 3);
        assert!(text.contains(">stat warm</text>"));
        assert!(text.contains(">a &amp; &lt;b></text>"));
        assert!(text.ends_with("</svg>\n"));
    }

    #[test]
    fn the_scale_is_logarithmic_and_has_ends() {
        let middle = f64::midpoint(x_of(0.1), x_of(10.0));
        assert!((x_of(1.0) - middle).abs() < 1e-9);
        assert_eq!(x_of(0.000_1), LEFT);
        assert_eq!(x_of(1e9), WIDTH - RIGHT);
    }
}
