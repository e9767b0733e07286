//! What became of a call, as data and in words that say what to try next.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::decide::Priority;
use super::hint::{HintError, HintSizes, MemoryHint};
use crate::limits::{Enforced, Limit, Limits};
use crate::outcome::{Exit, Outcome};

/// A standstill shorter than this is not worth a word.
const STANDSTILL_TOLD: Duration = Duration::from_secs(1);
/// A peak within this part of a limit has reached it: the kernel counts in batches.
const REACHED_PART: u64 = 32;

/// Where a call's limit of memory came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LimitFrom {
    /// From the command's own [`Limits`].
    Command,
    /// From a hint.
    Hint,
    /// From what the same command took before.
    History,
    /// From [`super::CallOptions::default_memory`].
    Default,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// By itself.
    Ended,
    /// The kernel killed something in it that wanted more than the call's own limit.
    OverLimit,
    /// The kernel killed something in it when all calls together had used up what they share.
    JointLimit,
    /// It was killed so that calls which matter more, or began earlier, could go on.
    GaveWay,
    /// It was stopped because its time was up.
    TimedOut,
}

/// One call, when it is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRecord {
    /// The program and its arguments; what is no UTF-8 is replaced.
    pub command: Vec<String>,
    /// How much it mattered.
    pub priority: Priority,
    /// The hint it came with.
    pub hint: Option<MemoryHint>,
    /// The hint that was not understood, and so not followed.
    pub hint_error: Option<HintError>,
    /// What bounded it.
    pub limits: Limits,
    /// Where [`Limits::memory_max`] came from.
    pub limit_from: LimitFrom,
    /// How each limit was held.
    pub held: Vec<(Limit, Enforced)>,
    /// Bytes of memory that all calls together may use.
    pub joint_limit: u64,
    /// The most bytes of memory that it used; where no control group counts, the most that was seen.
    pub peak: Option<u64>,
    /// How its program ended, how long it took, what it used, and what was denied to it.
    pub outcome: Outcome,
    /// For how much of its time it stood still for others.
    pub frozen: Duration,
    /// Why the call ended.
    pub verdict: Verdict,
    /// What its time limit was.
    pub timeout: Option<Duration>,
    /// What could not be done to it when memory got short.
    pub trouble: Option<String>,
    /// What to try, for whoever started it, usually a model: one line without a line break. None where there is
    /// nothing to say.
    pub advice: Option<String>,
}

/// What to say of a command that ran by itself, not as one of several calls, when the kernel has killed some of it
/// because memory was used up: limit, peak, and what to try, in one line. None for any other. `limit` is in bytes;
/// `more` tells how to ask for so much.
pub fn memory_advice(
    command: &[OsString],
    outcome: &Outcome,
    limit: Option<u64>,
    more: impl FnOnce(MemoryHint) -> String,
) -> Option<String> {
    if !outcome.out_of_memory() {
        return None;
    }
    let words: Vec<String> = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let (what, less) = (stopped("command", outcome.exit), less_at_once(&words));
    let peak = outcome.usage.memory_peak;
    let using = peak.map_or(String::new(), |peak| format!(" after using {}", size(peak)));
    let own = limit.filter(|own| peak.is_none_or(|peak| has_reached(peak, *own)));
    let rest = match own {
        Some(own) => {
            let larger = MemoryHint::above(own, &HintSizes::default(), u64::MAX).map(more);
            let again = larger.map_or_else(String::new, |more| format!("with {more}, or "));
            format!("its limit is {}; rerun {again}{less}", size(own))
        }
        None => format!("no more was left, whatever its own limit; rerun it when less runs, or {less}"),
    };
    Some(format!("its memory was used up: {what}{using}; {rest}"))
}

/// The verdict of a call that was neither stopped for its time nor for others.
pub(super) fn verdict_of(oom_kills: Option<u64>, peak: Option<u64>, own: Option<u64>) -> Verdict {
    let reached = |own: u64| peak.is_some_and(|peak| has_reached(peak, own));
    match oom_kills {
        None | Some(0) => Verdict::Ended,
        Some(_) if own.is_none_or(reached) => Verdict::OverLimit,
        Some(_) => Verdict::JointLimit,
    }
}

fn has_reached(peak: u64, limit: u64) -> bool {
    peak >= limit - limit / REACHED_PART
}

/// Words for a record.
pub(super) fn advice(record: &CallRecord, sizes: &HintSizes) -> Option<String> {
    let peak = record.peak.map(size);
    let using = |words: &str| peak.as_ref().map_or(String::new(), |peak| format!("{words}{peak}"));
    let less = less_at_once(&record.command);
    let stopped = stopped("call", record.outcome.exit);
    let mut said = match record.verdict {
        Verdict::Ended => String::new(),
        Verdict::OverLimit => {
            let own = record.limits.memory_max.unwrap_or(record.joint_limit);
            let rerun = match MemoryHint::above(own, sizes, record.joint_limit) {
                Some(hint) => format!("rerun with {}={hint}, or {less}", super::HINT_VARIABLE),
                None => format!("there is no more to be had, so rerun {less}"),
            };
            format!("{stopped} after using {}, its limit; {rerun}", size(own))
        }
        Verdict::JointLimit => format!(
            "{stopped}: all calls together had used up their {}{}; rerun it when fewer calls run, or {less}",
            size(record.joint_limit),
            using(", this one "),
        ),
        Verdict::GaveWay => format!(
            "this call was stopped{} to make room for calls that matter more or began earlier ({} for all); rerun it \
             when fewer calls run, or {less}",
            using(" after using "),
            size(record.joint_limit),
        ),
        Verdict::TimedOut => format!(
            "this call was stopped after {}, its time limit; rerun it with a longer one, or let it do less",
            seconds(record.timeout.unwrap_or(record.outcome.wall)),
        ),
    };
    let mut add = |sentence: String| {
        said.push_str(if said.is_empty() { "" } else { "; " });
        said.push_str(&sentence);
    };
    if record.frozen >= STANDSTILL_TOLD {
        let took = seconds(record.frozen);
        add(format!(
            "this call stood still for {took} because memory was short: fewer calls at once are faster"
        ));
    }
    if let Some(error) = &record.hint_error {
        add(format!("its hint was not followed: {error}"));
    }
    (!said.is_empty()).then_some(said)
}

/// The kernel may have killed a part that the program could do without.
fn stopped(what: &str, exit: Exit) -> String {
    match exit {
        Exit::Code(0) => format!("something that this {what} started was stopped"),
        _ => format!("this {what} was stopped"),
    }
}

/// In words that fit the program.
fn less_at_once(command: &[String]) -> String {
    let name = command.first().and_then(|program| Path::new(program).file_name());
    match name.and_then(|name| name.to_str()) {
        Some(name @ ("make" | "ninja" | "cargo")) => format!("with fewer jobs ({name} … -j2)"),
        _ => "with fewer jobs (as make -j2) or on less at a time".to_owned(),
    }
}

/// Bytes as people write them.
fn size(bytes: u64) -> String {
    const KIB: f64 = 1024.0;
    let bytes = bytes as f64;
    match bytes {
        _ if bytes >= KIB * KIB * KIB => format!("{:.1} GiB", bytes / (KIB * KIB * KIB)),
        _ if bytes >= KIB * KIB => format!("{:.0} MiB", bytes / (KIB * KIB)),
        _ => format!("{:.0} KiB", bytes / KIB),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Usage;

    const GIB: u64 = 1 << 30;

    fn outcome(exit: Exit) -> Outcome {
        Outcome {
            exit,
            timed_out: false,
            wall: Duration::from_millis(2500),
            user: Duration::ZERO,
            sys: Duration::ZERO,
            max_rss: 0,
            usage: Usage::default(),
            denials: Vec::new(),
            denials_dropped: 0,
        }
    }

    fn record(verdict: Verdict) -> CallRecord {
        CallRecord {
            command: vec!["make".into(), "all".into()],
            priority: Priority::Low,
            hint: Some(MemoryHint::Medium),
            hint_error: None,
            limits: Limits { memory_max: Some(2 * GIB), ..Limits::default() },
            limit_from: LimitFrom::Hint,
            held: vec![(Limit::MemoryMax, Enforced::Fully)],
            joint_limit: 16 * GIB,
            peak: Some(2 * GIB - 4096),
            outcome: outcome(Exit::Signal(9)),
            frozen: Duration::ZERO,
            verdict,
            timeout: Some(Duration::from_secs(60)),
            trouble: None,
            advice: None,
        }
    }

    fn words(record: &CallRecord) -> String {
        advice(record, &HintSizes::default()).unwrap_or_default()
    }

    #[test]
    fn each_end_has_words_that_say_what_to_try() {
        assert_eq!(words(&record(Verdict::Ended)), "");
        assert_eq!(
            words(&record(Verdict::OverLimit)),
            "this call was stopped after using 2.0 GiB, its limit; rerun with AGENT_RESOURCE_HINT=memory:high, or with \
             fewer jobs (make … -j2)"
        );
        assert!(words(&record(Verdict::JointLimit)).contains("had used up their 16.0 GiB, this one 2.0 GiB"));
        assert!(words(&record(Verdict::GaveWay)).contains("stopped after using 2.0 GiB to make room"));
        assert!(words(&record(Verdict::TimedOut)).contains("after 60.0 s, its time limit"));
    }

    #[test]
    fn no_more_is_offered_than_there_is() {
        let all =
            CallRecord { joint_limit: 2 * GIB, command: vec!["./x".into()], ..record(Verdict::OverLimit) };
        assert!(words(&all).contains("there is no more to be had, so rerun with fewer jobs (as make -j2)"));
        let part = CallRecord { outcome: outcome(Exit::Code(0)), ..all };
        assert!(words(&part).starts_with("something that this call started was stopped"));
    }

    #[test]
    fn a_command_by_itself_is_told_its_limit_its_peak_and_how_to_ask_for_more() {
        let usage = |kills, peak| Usage { oom_kills: kills, memory_peak: peak, ..Usage::default() };
        let told = |usage, limit| {
            let outcome = Outcome { usage, ..outcome(Exit::Code(137)) };
            memory_advice(&["make".into()], &outcome, limit, |hint| format!("--most {hint}"))
        };
        assert_eq!(
            told(usage(Some(1), Some(64 << 20)), Some(64 << 20)).unwrap(),
            "its memory was used up: this command was stopped after using 64 MiB; its limit is 64 MiB; rerun with \
             --most memory:low, or with fewer jobs (make … -j2)"
        );
        let outer = told(usage(Some(1), Some(10 << 20)), Some(64 << 20)).unwrap();
        assert!(outer.contains("no more was left, whatever its own limit"), "{outer}");
        assert_eq!(told(usage(Some(0), Some(64 << 20)), Some(64 << 20)), None);
        assert_eq!(told(usage(None, None), Some(64 << 20)), None);
    }

    #[test]
    fn standing_still_and_a_bad_hint_are_told() {
        let frozen = Duration::from_millis(3200);
        let hint_error = Some(HintError { hint: "lots".to_owned() });
        let told = words(&CallRecord { frozen, hint_error, ..record(Verdict::Ended) });
        assert!(
            told.starts_with("this call stood still for 3.2 s")
                && told.contains("\"lots\" is no resource hint")
        );
        assert!(!told.contains('\n'));
    }

    #[test]
    fn what_the_kernel_killed_for_is_told_by_the_peak() {
        let cases = [
            (None, Some(5), Some(5), Verdict::Ended),
            (Some(0), Some(5), Some(5), Verdict::Ended),
            (Some(1), Some(970), Some(1000), Verdict::OverLimit),
            (Some(1), Some(700), Some(1000), Verdict::JointLimit),
            (Some(1), None, Some(1000), Verdict::JointLimit),
        ];
        for (kills, peak, own, verdict) in cases {
            assert_eq!(verdict_of(kills, peak, own), verdict, "{kills:?} {peak:?} {own:?}");
        }
    }

    #[test]
    fn a_record_is_data() {
        let record = record(Verdict::GaveWay);
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<CallRecord>(&text).unwrap(), record);
    }
}
