//! Medians, and how far figures lie apart.

use serde::Serialize;

/// The middle of some figures, the least and the most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// `None` of nothing. Of an even number the median is the mean of the two in the middle.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let half = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) };
        Some(Spread { median, least, most })
    }
}

/// Round by round, how an arm's rates compare to another's; rounds that one of them lacks do not count.
pub(crate) fn ratios(rates: &[Option<f64>], to: &[Option<f64>]) -> Option<Spread> {
    Spread::of(rates.iter().zip(to).filter_map(|(rate, base)| Some((*rate)? / (*base)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_odd_number_is_one_of_them_and_of_an_even_number_lies_between() {
        let spread = |figures: &[f64]| Spread::of(figures.iter().copied());
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, least: 1.0, most: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), Some(Spread { median: 2.5, least: 1.0, most: 4.0 }));
        assert_eq!(spread(&[7.0]), Some(Spread { median: 7.0, least: 7.0, most: 7.0 }));
        assert_eq!(spread(&[]), None);
    }

    /// The host gets slower by a factor from round to round; the ratio does not notice.
    #[test]
    fn ratios_are_taken_within_a_round_before_the_median_is() {
        let ext4 = [Some(100.0), Some(10.0), Some(1000.0)];
        let arm = [Some(50.0), Some(5.0), Some(500.0)];
        assert_eq!(ratios(&arm, &ext4), Some(Spread { median: 0.5, least: 0.5, most: 0.5 }));
    }

    #[test]
    fn a_round_that_failed_on_either_side_does_not_count() {
        let ext4 = [Some(100.0), None, Some(100.0)];
        let arm = [None, Some(5.0), Some(80.0)];
        assert_eq!(ratios(&arm, &ext4).map(|spread| spread.median), Some(0.8));
        assert_eq!(ratios(&[None], &[Some(1.0)]), None);
    }
}
