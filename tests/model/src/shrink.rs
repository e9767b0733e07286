//! Cuts a failing sequence of calls down: fewer calls first, then smaller ones.

use crate::call::Call;
use crate::run::first_difference;
use crate::world::{Difference, MakeDriver};

/// Replays at most; each makes a fresh world.
const REPLAYS_MAX: usize = 3000;

/// A short sequence that still shows a difference, and the difference. Without one, the calls as they were.
pub fn shrink(driver: MakeDriver<'_>, variant: u64, calls: &[Call]) -> (Vec<Call>, Option<Difference>) {
    let mut calls = calls.to_vec();
    let Some((at, mut difference)) = first_difference(driver, variant, &calls) else { return (calls, None) };
    calls.truncate(at + 1);
    let mut replays = 0;
    let mut chunk = calls.len().div_ceil(2);
    loop {
        let mut start = 0;
        let mut shorter = false;
        while start < calls.len() && replays < REPLAYS_MAX {
            let end = (start + chunk).min(calls.len());
            let without: Vec<Call> = calls[..start].iter().chain(&calls[end..]).cloned().collect();
            replays += 1;
            match first_difference(driver, variant, &without) {
                Some((at, found)) => {
                    calls = without;
                    calls.truncate(at + 1);
                    (difference, shorter) = (found, true);
                }
                None => start = end,
            }
        }
        if chunk == 1 && !shorter || replays >= REPLAYS_MAX {
            return (calls, Some(difference));
        }
        chunk = (chunk / 2).max(1);
    }
}
