//! The thread that watches the calls of one [`super::ToolCalls`]. The kernel has no event that is both early enough
//! and everywhere (PSI tells after the waiting, `oom_control` and `memory.events` at the limit), so it looks by a
//! timer: more often when more is used.

use std::time::{Duration, Instant};

use super::decide::{Action, Motion, Reading, decide};
use super::measure::Measure;
use super::table::{Entry, Shared, Table};
use crate::scope::Scope;

/// Between two looks while at least half of the joint limit is used.
const LOOK_NEAR: Duration = Duration::from_millis(5);
/// Between two looks otherwise.
const LOOK_FAR: Duration = Duration::from_millis(20);
/// Calls wait for memory when they have done so for this part of the time since the last look.
const STALL_PART: u32 = 4;

/// What the last look has left.
struct Last {
    used: u64,
    at: Instant,
    changed: Instant,
    /// None: it was not looked at then.
    waited: Option<Duration>,
}

/// Until the end.
pub(super) fn watch(shared: &Shared) {
    let now = Instant::now();
    let mut last = Last { used: 0, at: now, changed: now, waited: None };
    while let Some(mut table) = shared.wait_for_calls() {
        let (near, measures) = look(shared, &mut table, &mut last);
        drop(table);
        measures.into_iter().for_each(|measure| measure.carry_out(shared));
        shared.rest(if near { LOOK_NEAR } else { LOOK_FAR });
    }
    let mut table = shared.table();
    let frozen = table.calls.iter_mut().enumerate().filter(|(_, entry)| entry.motion == Motion::Frozen);
    let measures: Vec<Measure> =
        frozen.filter_map(|(at, entry)| Measure::begin(Action::Thaw(at), entry)).collect();
    drop(table);
    measures.into_iter().for_each(|measure| measure.carry_out(shared));
}

/// Whether the next one should come soon, and what is to be done.
fn look(shared: &Shared, table: &mut Table, last: &mut Last) -> (bool, Vec<Measure>) {
    table.calls.iter_mut().for_each(Entry::look_for_end);
    let limit = shared.options.memory;
    let used = used(shared.scope.as_ref(), table, limit / 2);
    let near = used >= limit / 2;
    let stalled = last.stalls(shared.scope.as_ref().filter(|_| near));
    let calls: Vec<_> = table.calls.iter().map(|entry| entry.seen()).collect();
    let growth = used.saturating_sub(last.used);
    let reading = Reading { limit, used, growth, stalled, unchanged: last.changed.elapsed(), calls: &calls };
    let actions = decide(&reading);
    if !actions.is_empty() {
        last.changed = Instant::now();
    }
    let measures = actions.into_iter().filter_map(|action| begin(action, table)).collect();
    (last.used, last.at) = (used, Instant::now());
    // Without control groups a look goes through all of /proc.
    (near && shared.scope.is_some(), measures)
}

fn begin(action: Action, table: &mut Table) -> Option<Measure> {
    let (Action::Slow(at) | Action::Ease(at) | Action::Freeze(at) | Action::Thaw(at) | Action::Kill(at)) =
        action;
    Measure::begin(action, table.calls.get_mut(at)?)
}

/// Bytes that all use. What is below `rough` need not be exact.
fn used(scope: Option<&Scope>, table: &mut Table, rough: u64) -> u64 {
    if let Some(used) = scope.and_then(|scope| scope.memory_in_use(rough)) {
        return used;
    }
    let each = table.calls.iter_mut().map(|entry| {
        let memory = entry.group.get().usage().memory.unwrap_or(0);
        entry.peak_seen = entry.peak_seen.max(memory);
        memory
    });
    each.sum()
}

impl Last {
    /// Whether some have waited for memory for a good part of the time since the last look.
    fn stalls(&mut self, scope: Option<&Scope>) -> bool {
        let now = scope.and_then(Scope::pressure).map(|pressure| pressure.some_total);
        let before = std::mem::replace(&mut self.waited, now);
        let waited = now.zip(before).map(|(now, before)| now.saturating_sub(before));
        waited.is_some_and(|waited| waited > self.at.elapsed() / STALL_PART)
    }
}
