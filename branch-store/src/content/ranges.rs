//! A set of ranges of bytes.

use std::collections::BTreeMap;
use std::ops::Range;

/// Start → end, apart from each other, none empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes are in it.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }

    /// Adds what lies behind all that is in it.
    pub(crate) fn push(&mut self, range: Range<u64>) {
        debug_assert!(self.0.last_key_value().is_none_or(|(_, end)| *end <= range.start), "in order");
        if range.is_empty() {
            return;
        }
        match self.0.last_entry() {
            Some(mut last) if *last.get() == range.start => *last.get_mut() = range.end,
            _ => _ = self.0.insert(range.start, range.end),
        }
    }

    pub(crate) fn remove(&mut self, range: Range<u64>) {
        for hit in self.within(range.clone()) {
            let (start, end) = self.around(hit.start).unwrap_or((hit.start, hit.end));
            self.0.remove(&start);
            if start < hit.start {
                self.0.insert(start, hit.start);
            }
            if hit.end < end {
                self.0.insert(hit.end, end);
            }
        }
    }

    /// What of `range` is in it, in order.
    pub(crate) fn within(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let first = self.around(range.start).map_or(range.start, |(start, _)| start);
        if range.is_empty() || first >= range.end {
            return Vec::new();
        }
        let hits = self.0.range(first..range.end);
        hits.map(|(start, end)| range.start.max(*start)..range.end.min(*end)).collect()
    }

    /// The first range that ends behind `at`, from there on.
    pub(crate) fn next(&self, at: u64) -> Option<Range<u64>> {
        let first = self.around(at).map_or(at, |(start, _)| start);
        self.0.range(first..).next().map(|(start, end)| at.max(*start)..*end)
    }

    /// The range that holds `at`.
    fn around(&self, at: u64) -> Option<(u64, u64)> {
        let (start, end) = self.0.range(..=at).next_back()?;
        (at < *end).then_some((*start, *end))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const END: u64 = 64;

    fn bytes_in(ranges: &Ranges) -> Vec<bool> {
        (0..END).map(|at| ranges.next(at).is_some_and(|next| next.start == at)).collect()
    }

    proptest! {
        #[test]
        fn a_set_of_ranges_holds_the_bytes_that_were_not_removed(
            removed in prop::collection::vec((0..END, 0..END), 0..20),
            asked in (0..END, 0..END),
        ) {
            let mut ranges = Ranges::default();
            ranges.push(0..END / 2);
            ranges.push(END / 2..END);
            let mut model = vec![true; END as usize];
            for (a, b) in removed {
                let range = a.min(b)..a.max(b);
                ranges.remove(range.clone());
                model[range.start as usize..range.end as usize].fill(false);
                prop_assert_eq!(bytes_in(&ranges), model.clone());
            }
            prop_assert_eq!(ranges.bytes(), model.iter().filter(|there| **there).count() as u64);
            prop_assert_eq!(ranges.is_empty(), !model.contains(&true));
            let asked = asked.0.min(asked.1)..asked.0.max(asked.1);
            let hits = ranges.within(asked.clone());
            prop_assert!(hits.iter().all(|hit| !hit.is_empty()));
            let within: Vec<u64> = hits.into_iter().flatten().collect();
            let expected: Vec<u64> = asked.filter(|at| model[*at as usize]).collect();
            prop_assert_eq!(within, expected);
        }
    }
}
