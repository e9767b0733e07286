//! The ways to share memory that are compared, and a tenant under each.

use std::os::fd::OwnedFd;
use std::path::Path;

use branch_proc::{
    Call, CallOptions, Command, Group, Limits, MemoryHint, Priority, RunningCall, Scope, Stdio, ToolCalls,
    Verdict,
};

use crate::trace::Tenant;
use crate::worker;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One control group with the joint limit.
    NoIsolation,
    /// A control group with a third for each.
    StaticLimits,
    /// Tool calls: the first tenant's of high priority, the others' of low.
    ToolCalls,
    /// The first tenant alone, as without isolation.
    AloneNoIsolation,
    /// The first tenant alone, as tool calls.
    AloneToolCalls,
}

impl Kind {
    pub(crate) const ALL: [Kind; 5] = [
        Kind::NoIsolation,
        Kind::StaticLimits,
        Kind::ToolCalls,
        Kind::AloneNoIsolation,
        Kind::AloneToolCalls,
    ];

    pub(crate) fn tenants(self) -> usize {
        if matches!(self, Kind::AloneNoIsolation | Kind::AloneToolCalls) { 1 } else { 3 }
    }
}

pub(crate) enum Arm {
    Scopes(Vec<Scope>),
    Calls(ToolCalls),
}

enum Running {
    Group(Box<Group>),
    Call(RunningCall),
}

/// What became of one tenant.
pub(crate) struct Survived {
    /// Whether nothing of it was killed.
    pub(crate) whole: bool,
    /// Calls that were killed for others by the watching thread, not by the kernel.
    pub(crate) gave_way: bool,
    /// Nanoseconds of each of its allocations.
    pub(crate) allocations: Vec<u64>,
}

impl Arm {
    pub(crate) fn new(kind: Kind, joint: u64) -> Arm {
        let scope = |bytes| Scope::new(&Limits { memory_max: Some(bytes), ..Limits::default() }).unwrap();
        match kind {
            Kind::NoIsolation | Kind::AloneNoIsolation => Arm::Scopes(vec![scope(joint)]),
            Kind::StaticLimits => Arm::Scopes((0..3).map(|_| scope(joint / 3)).collect()),
            Kind::ToolCalls | Kind::AloneToolCalls => {
                Arm::Calls(ToolCalls::new(CallOptions::new(joint)).unwrap())
            }
        }
    }

    fn start(&self, tenant: usize, command: Command) -> Running {
        match self {
            Arm::Scopes(scopes) => {
                Running::Group(Box::new(command.within(&scopes[tenant % scopes.len()]).spawn().unwrap()))
            }
            Arm::Calls(calls) => {
                let priority = if tenant == 0 { Priority::High } else { Priority::Low };
                // Not what calls of other sizes took: all of them are the same command.
                let call = Call::new(command).priority(priority).hint(MemoryHint::Bytes(u64::MAX));
                Running::Call(calls.start(call).unwrap())
            }
        }
    }
}

impl Running {
    /// Whether it came to its end, and whether it was killed for others.
    fn wait(self) -> (bool, bool) {
        match self {
            Running::Group(mut group) => (group.wait().unwrap().success(), false),
            Running::Call(call) => {
                let record = call.wait().unwrap();
                (
                    record.verdict == Verdict::Ended && record.trouble.is_none(),
                    record.verdict == Verdict::GaveWay,
                )
            }
        }
    }
}

/// A tenant ends with the first of its calls that is killed, as an agent would that loses its own process; one whose
/// base load is killed is found out at its end.
pub(crate) fn run_tenant(arm: &Arm, at: usize, tenant: &Tenant, logs: &Path) -> Survived {
    let log = |number: usize| logs.join(format!("{at}-{number}"));
    let (read, write) = std::io::pipe().unwrap();
    let me = std::env::current_exe().unwrap();
    let command = |number: usize, mebibytes: u64, hold_ms: u64| {
        let words = [mebibytes.to_string(), hold_ms.to_string()];
        let argv = [me.clone().into_os_string(), worker::VERB.into(), log(number).into_os_string()];
        Command::new(argv.into_iter().chain(words.map(Into::into))).stdin(Stdio::Null)
    };
    let base = arm.start(at, command(0, tenant.base_mib, 0).stdin(OwnedFd::from(read)));
    let (mut whole, mut gave_way) = (true, false);
    let mut started = 1;
    for burst in &tenant.bursts {
        std::thread::sleep(burst.after);
        let (ended, gave) = arm.start(at, command(started, burst.mebibytes, burst.hold_ms)).wait();
        started += 1;
        (whole, gave_way) = (whole && ended, gave_way || gave);
        if !ended {
            break;
        }
    }
    // The end of the base load's input.
    drop(write);
    let (ended, gave) = base.wait();
    let allocations = (0..started).flat_map(|number| worker::read(&log(number))).collect();
    Survived { whole: whole && ended, gave_way: gave_way || gave, allocations }
}
