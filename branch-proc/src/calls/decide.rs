//! What to do when memory gets short: a function of what is seen, without memory of its own.

use std::cmp::Reverse;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How much a call matters. What matters less has a smaller share of the processor, and is slowed down, stopped for
/// a while, and at the very last killed for what matters more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Priority {
    /// Others go first.
    Low,
    /// As most.
    #[default]
    Normal,
    /// Goes first; in cgroup v2 its memory is protected up to its limit (`memory.low`).
    High,
}

impl Priority {
    /// Its share of the processor against the others'.
    pub(super) fn cpu_weight(self) -> u16 {
        match self {
            Priority::Low => 25,
            Priority::Normal => 100,
            Priority::High => 400,
        }
    }
}

/// Of the joint limit, in percent: below it what was stopped goes on.
const THAW: u64 = 65;
/// From here on lower calls are slowed down.
const SLOW: u64 = 70;
/// From here on they are frozen, the least important first, one at each look.
const FREEZE: u64 = 80;
/// From here on all lower ones at once.
const URGENT: u64 = 88;
/// From here on, if all that can stand still does and memory still grows, one is killed.
const KILL: u64 = 94;
/// How many looks ahead the growth is taken to go on; not for killing, which goes by what is used.
const AHEAD: u64 = 2;
/// How long nothing was changed before something is thawed.
const SETTLE: Duration = Duration::from_millis(50);
/// As above where memory is not free again but has stopped growing: what stands still would not get on else.
const QUIET: Duration = Duration::from_secs(1);

const _: () = assert!(THAW < SLOW && SLOW < FREEZE && FREEZE < URGENT && URGENT < KILL && KILL < 100);

/// Whether a call runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Motion {
    Free,
    Slowed,
    Frozen,
    /// It was killed, or is being stopped; its memory is not back yet.
    Ending,
    /// It has ended, and waits for somebody to ask what became of it.
    Gone,
}

/// One call, as it is seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) priority: Priority,
    /// Later ones have higher numbers.
    pub(super) number: u64,
    pub(super) motion: Motion,
    /// False once freezing it has failed.
    pub(super) can_freeze: bool,
}

/// All calls, and the memory that they share.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    /// Bytes that all may use together.
    pub(super) limit: u64,
    /// Bytes that all use and that cannot be taken back without loss.
    pub(super) used: u64,
    /// Bytes more than at the last look.
    pub(super) growth: u64,
    /// Whether they wait for memory (PSI).
    pub(super) stalled: bool,
    /// Since something was last changed.
    pub(super) unchanged: Duration,
    pub(super) calls: &'a [Seen],
}

/// What to do to a call, by its place in the reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Give it less of the processor, and no more memory where the kernel can slow that down.
    Slow(usize),
    /// Undo that.
    Ease(usize),
    Freeze(usize),
    Thaw(usize),
    Kill(usize),
}

/// At most one call is killed for one reading, and none while another is ending; not all are ever frozen.
pub(super) fn decide(reading: &Reading<'_>) -> Vec<Action> {
    let order = reading.least_important_first();
    let moving = |&at: &usize| matches!(reading.calls[at].motion, Motion::Free | Motion::Slowed);
    let level = reading.level();
    match order.iter().copied().rfind(moving) {
        None => reading.thaw(&order),
        Some(_) if level < THAW && !reading.stalled => {
            if reading.unchanged >= SETTLE {
                reading.relax(&order)
            } else {
                Vec::new()
            }
        }
        Some(_) if reading.growth == 0 && !reading.stalled => {
            if level < KILL && reading.unchanged >= QUIET {
                reading.thaw(&order)
            } else {
                Vec::new()
            }
        }
        Some(first) => reading.press(&order, first, level),
    }
}

impl Reading<'_> {
    /// Percent of the limit that are used, or soon will be.
    fn level(&self) -> u64 {
        self.percent(self.used.saturating_add(self.growth.saturating_mul(AHEAD)))
    }

    fn percent(&self, bytes: u64) -> u64 {
        let percent = u128::from(bytes) * 100 / u128::from(self.limit.max(1));
        u64::try_from(percent).unwrap_or(u64::MAX)
    }

    /// The youngest first among equals: least is lost by it. Those that are ending or gone are out of it.
    fn least_important_first(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.calls.len())
            .filter(|&at| !matches!(self.motion(at), Motion::Ending | Motion::Gone))
            .collect();
        order.sort_by_key(|&at| (self.calls[at].priority, Reverse(self.calls[at].number)));
        order
    }

    fn motion(&self, at: usize) -> Motion {
        self.calls[at].motion
    }

    /// Lets the most important one that stands still go on, unless memory is about to come back.
    fn thaw(&self, order: &[usize]) -> Vec<Action> {
        let ending = self.calls.iter().any(|call| call.motion == Motion::Ending);
        let frozen = order.iter().rev().find(|&&at| self.motion(at) == Motion::Frozen);
        frozen.filter(|_| !ending).map(|&at| Action::Thaw(at)).into_iter().collect()
    }

    /// One after the other, so that what goes on is seen before the next does.
    fn relax(&self, order: &[usize]) -> Vec<Action> {
        let slowed = order.iter().filter(|&&at| self.motion(at) == Motion::Slowed);
        slowed.map(|&at| Action::Ease(at)).chain(self.thaw(order)).collect()
    }

    /// Takes from those that matter less than the first that runs; from its equals where nobody matters less.
    fn press(&self, order: &[usize], first: usize, level: u64) -> Vec<Action> {
        let top = self.calls[first].priority;
        let lower: Vec<usize> = order.iter().copied().filter(|&at| self.calls[at].priority < top).collect();
        let equals = || order.iter().copied().filter(|&at| at != first && self.calls[at].priority == top);
        let behind: Vec<usize> = if lower.is_empty() { equals().collect() } else { lower };
        let moving = |at: &usize| matches!(self.motion(*at), Motion::Free | Motion::Slowed);
        let mut freezable =
            behind.iter().copied().filter(|at| moving(at) && self.calls[*at].can_freeze).peekable();
        let ending = self.calls.iter().any(|call| call.motion == Motion::Ending);
        if self.percent(self.used) >= KILL && freezable.peek().is_none() && !ending {
            behind.first().map(|&at| Action::Kill(at)).into_iter().collect()
        } else if level >= URGENT {
            freezable.map(Action::Freeze).collect()
        } else if level >= FREEZE || self.stalled {
            freezable.next().map(Action::Freeze).into_iter().collect()
        } else if level >= SLOW {
            freezable.filter(|&at| self.motion(at) == Motion::Free).map(Action::Slow).collect()
        } else {
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Action::*;
    use super::Motion::*;
    use super::Priority::*;
    use super::*;

    /// Used and growth in percent of the limit.
    fn decided(used: u64, growth: u64, unchanged: Duration, calls: &[(Priority, Motion)]) -> Vec<Action> {
        let seen = |(number, &(priority, motion)): (usize, &(Priority, Motion))| Seen {
            priority,
            number: number as u64,
            motion,
            can_freeze: true,
        };
        let calls: Vec<Seen> = calls.iter().enumerate().map(seen).collect();
        decide(&Reading { limit: 100, used, growth, stalled: false, unchanged, calls: &calls })
    }

    #[test]
    fn pressure_takes_from_the_lowest_first_and_kills_last() {
        let all = [(High, Free), (Low, Free), (Low, Free)];
        let one = [(High, Free), (Low, Free), (Low, Frozen)];
        let none = [(High, Free), (Low, Frozen), (Low, Frozen)];
        let middle = [(High, Free), (Normal, Free), (Low, Free)];
        let slow = [(High, Free), (Low, Slowed), (Low, Free)];
        type Case<'a> = (u64, u64, &'a [(Priority, Motion)], Vec<Action>);
        let cases: [Case<'_>; 14] = [
            (50, 1, &all, vec![]),
            (68, 1, &all, vec![Slow(2), Slow(1)]),
            (68, 1, &slow, vec![Slow(2)]),
            (80, 0, &all, vec![]),
            (78, 1, &all, vec![Freeze(2)]),
            (82, 1, &one, vec![Freeze(1)]),
            (82, 1, &middle, vec![Freeze(2)]),
            (88, 1, &all, vec![Freeze(2), Freeze(1)]),
            (70, 10, &all, vec![Freeze(2), Freeze(1)]),
            (99, 1, &all, vec![Freeze(2), Freeze(1)]),
            (90, 9, &none, vec![]),
            (94, 1, &none, vec![Kill(2)]),
            (93, 0, &none, vec![]),
            (99, 9, &[(High, Free), (Low, Ending), (Low, Frozen)], vec![]),
        ];
        for (used, growth, calls, expected) in cases {
            assert_eq!(decided(used, growth, Duration::ZERO, calls), expected, "{used}+{growth} {calls:?}");
        }
    }

    #[test]
    fn among_equals_the_oldest_goes_on() {
        let calls = [(Normal, Free), (Normal, Free), (Normal, Free)];
        assert_eq!(decided(80, 1, Duration::ZERO, &calls), vec![Freeze(2)]);
        assert_eq!(decided(90, 1, Duration::ZERO, &calls), vec![Freeze(2), Freeze(1)]);
        let calls = [(Normal, Free), (Normal, Frozen), (Normal, Frozen)];
        assert_eq!(decided(97, 1, Duration::ZERO, &calls), vec![Kill(2)]);
        assert_eq!(decided(97, 1, Duration::ZERO, &[(Normal, Free)]), vec![], "the last one is the kernel's");
    }

    #[test]
    fn equals_are_spared_while_somebody_matters_less() {
        let calls = [(High, Free), (High, Free), (Low, Frozen)];
        assert_eq!(decided(90, 1, Duration::ZERO, &calls), vec![]);
        assert_eq!(decided(95, 1, Duration::ZERO, &calls), vec![Kill(2)]);
    }

    #[test]
    fn what_stood_still_goes_on_when_there_is_room_or_nobody_else_would() {
        let calls = [(High, Free), (Low, Frozen), (Low, Frozen), (Low, Slowed)];
        assert_eq!(decided(50, 0, SETTLE, &calls), vec![Ease(3), Thaw(1)]);
        assert_eq!(decided(50, 0, Duration::ZERO, &calls), vec![]);
        assert_eq!(decided(85, 0, SETTLE, &calls), vec![]);
        assert_eq!(decided(85, 0, QUIET, &calls), vec![Thaw(1)]);
        assert_eq!(decided(95, 0, QUIET, &calls), vec![]);
        assert_eq!(decided(99, 0, Duration::ZERO, &[(Low, Frozen), (Normal, Frozen)]), vec![Thaw(1)]);
        assert_eq!(decided(99, 0, Duration::ZERO, &[(Low, Frozen), (Normal, Ending)]), vec![]);
        assert_eq!(decided(99, 0, Duration::ZERO, &[(Low, Frozen), (High, Gone)]), vec![Thaw(0)]);
    }

    #[test]
    fn what_cannot_be_frozen_is_killed_in_its_turn() {
        let calls = [(High, true), (Low, false)].map(|(priority, can_freeze)| Seen {
            priority,
            number: 0,
            motion: Free,
            can_freeze,
        });
        let reading = |used| Reading {
            limit: 100,
            used,
            growth: 1,
            stalled: false,
            unchanged: Duration::ZERO,
            calls: &calls,
        };
        assert_eq!(decide(&reading(89)), vec![]);
        assert_eq!(decide(&reading(96)), vec![Kill(1)]);
    }

    #[test]
    fn waiting_for_memory_is_pressure_below_the_marks_too() {
        let calls = [(High, 0), (Low, 1)].map(|(priority, number)| Seen {
            priority,
            number,
            motion: Free,
            can_freeze: true,
        });
        let reading =
            Reading { limit: 100, used: 60, growth: 0, stalled: true, unchanged: SETTLE, calls: &calls };
        assert_eq!(decide(&reading), vec![Freeze(1)]);
    }

    /// Every combination of four calls, at every level: what is promised holds.
    #[test]
    fn never_are_all_frozen_nor_is_what_matters_most_killed() {
        let states: Vec<(Priority, Motion)> = [Low, High]
            .into_iter()
            .flat_map(|priority| [Free, Slowed, Frozen, Ending].map(|motion| (priority, motion)))
            .collect();
        for number in 0..states.len().pow(4) {
            let pick = |place: u32| states[number / states.len().pow(place) % states.len()];
            let calls = [pick(0), pick(1), pick(2), pick(3)];
            for (used, growth) in [(10, 0), (75, 1), (85, 1), (90, 1), (99, 1), (99, 0)] {
                let actions = decided(used, growth, QUIET, &calls);
                let frozen = |at: usize| actions.contains(&Freeze(at)) || calls[at].1 == Frozen;
                let moves = |at: usize| matches!(calls[at].1, Free | Slowed);
                let some_moved = (0..4).any(moves);
                assert!(!some_moved || (0..4).any(|at| moves(at) && !frozen(at)), "{calls:?} {actions:?}");
                for action in &actions {
                    let Kill(at) = action else { continue };
                    assert_eq!(actions.len(), 1);
                    assert!(
                        (0..4).any(|other| other != *at && moves(other) && calls[other].0 >= calls[*at].0)
                    );
                    assert!(calls.iter().all(|call| call.1 != Ending), "{calls:?}");
                }
            }
        }
    }
}
