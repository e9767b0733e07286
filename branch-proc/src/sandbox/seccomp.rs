//! The seccomp programs of a policy (`seccomp(2)`): made in the parent, installed in the child as the last
//! thing before exec.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

use super::answer;
use crate::error::{SpawnError, Step};
use crate::observe::{self, Observe, TRACE_BEGINS, WATCHED_CALLS};
use crate::policy::{Fence, When};

/// Marks the answers that become "ask the supervisor", for which seccompiler has no name.
const ASK: SeccompAction = SeccompAction::Trace(0x5a5a);
/// What it becomes.
const RET_USER_NOTIF: u32 = 0x7fc0_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_ALLOW: u32 = 0x7fff_0000;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER` and `…_WAIT_KILLABLE_RECV`.
const NEW_LISTENER: u32 = 8;
const WAIT_KILLABLE_RECV: u32 = 32;
/// The highest number of a call known here (Linux 6.18). Newer ones might go around the rest.
const CALL_MAX: u32 = 470;

const BPF_LD_W_ABS: u16 = 0x20;
const BPF_JGT: u16 = 0x25;
const BPF_JEQ: u16 = 0x15;
const BPF_RET: u16 = 0x06;
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

/// Programs ready for the kernel.
#[derive(Debug)]
pub(crate) struct Programs {
    /// Answer by themselves.
    denying: Vec<BpfProgram>,
    /// Has a supervisor asked.
    asking: Option<BpfProgram>,
}

impl Programs {
    /// `enforced`: whether the fences hold, or are only looked at.
    pub(crate) fn new(fences: &[Fence], observe: Observe, enforced: bool) -> Result<Programs, SpawnError> {
        let mut programs = Programs { denying: Vec::new(), asking: None };
        let foreign = if enforced { RET_ERRNO | libc::ENOSYS as u32 } else { RET_ALLOW };
        if enforced {
            // glibc falls back to clone(2), whose flags can be looked at, only if there is no clone3.
            let missing = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
            programs.denying.push(compile(missing, SeccompAction::Errno(libc::ENOSYS as u32), foreign)?);
        }
        let mut rules = rules(fences)?;
        if observe == Observe::Nothing {
            programs.denying.push(compile(rules, SeccompAction::Errno(libc::EPERM as u32), foreign)?);
        } else {
            rules.extend(WATCHED_CALLS.iter().map(|&call| (call, Vec::new())));
            let begins = TRACE_BEGINS.map(|value| rule(&[When::Masked { index: 0, mask: u32::MAX, value }]));
            let begins: Result<Vec<_>, _> = begins.into_iter().collect();
            // Where tracing is denied, all of it is asked about already.
            rules.entry(libc::SYS_ptrace).or_insert(begins.map_err(|e| refused(&e))?);
            programs.asking = Some(compile(rules, ASK, foreign)?);
        }
        Ok(programs)
    }

    /// Installs them, and sends the listener of what is asked about to `supervisor`; `no_new_privs` is set.
    /// Async-signal-safe.
    pub(crate) fn enter(&self, supervisor: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        for program in &self.denying {
            install(program, 0)?;
        }
        let (Some(program), Some(supervisor)) = (&self.asking, supervisor) else { return Ok(()) };
        // While a call is being looked at only a fatal signal ends it (Linux 5.19): others would have it
        // repeated, and looked at again, for as long as they come.
        let listener = match install(program, NEW_LISTENER | WAIT_KILLABLE_RECV) {
            Err(Errno::INVAL) => install(program, NEW_LISTENER)?,
            other => other?,
        };
        // Close-on-exec, as every listener.
        observe::send_listener(supervisor, listener as i32)
    }
}

fn rules(fences: &[Fence]) -> Result<BTreeMap<i64, Vec<SeccompRule>>, SpawnError> {
    let mut rules = BTreeMap::new();
    for fence in fences {
        let chain: Result<Vec<_>, _> = fence.when.iter().map(|all| rule(all)).collect();
        rules.insert(fence.number, chain.map_err(|e| refused(&e))?);
    }
    Ok(rules)
}

fn rule(all: &[When]) -> Result<SeccompRule, seccompiler::BackendError> {
    let condition = |when: &When| match *when {
        When::Masked { index, mask, value } => {
            let operator = SeccompCmpOp::MaskedEq(mask.into());
            SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value.into())
        }
        When::Not { index, value } => {
            SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value.into())
        }
    };
    SeccompRule::new(all.iter().map(condition).collect::<Result<_, _>>()?)
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    action: SeccompAction,
    foreign: u32,
) -> Result<BpfProgram, SpawnError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| refused(&e))?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch).map_err(|e| refused(&e))?;
    let body: BpfProgram = filter.try_into().map_err(|e| refused(&e))?;
    let mut program = prologue(foreign);
    program.extend(body.into_iter().map(ask_instead));
    Ok(program)
}

/// Calls of another architecture (a 32-bit program's, or x32's, which are numbered from 2^30) and calls newer
/// than this list are not there (or, where nothing is enforced, are let through). All jumps are relative, so it can stand before a complete program.
fn prologue(foreign: u32) -> BpfProgram {
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        step(BPF_LD_W_ABS, 0, 0, OFFSET_ARCH),
        step(BPF_JEQ, 1, 0, ARCH),
        step(BPF_RET, 0, 0, foreign),
        step(BPF_LD_W_ABS, 0, 0, OFFSET_NUMBER),
        step(BPF_JGT, 0, 1, CALL_MAX),
        step(BPF_RET, 0, 0, foreign),
    ]
}

fn ask_instead(step: sock_filter) -> sock_filter {
    if step.code == BPF_RET && step.k == u32::from(ASK) {
        return sock_filter { k: RET_USER_NOTIF, ..step };
    }
    step
}

fn install(program: &BpfProgram, flags: u32) -> Result<i64, Errno> {
    let program = libc::sock_fprog {
        len: program.len() as u16,
        // The kernel only reads it; both types are `struct sock_filter`.
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: program is valid for the call.
    answer(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    })
}

fn refused(error: &seccompiler::BackendError) -> SpawnError {
    SpawnError::new(Step::Prepare, libc::EINVAL, format!("the seccomp program ({error})"))
}
