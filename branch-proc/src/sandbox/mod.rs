//! What a policy becomes in the kernel: Landlock rules, a seccomp program, dropped capabilities. Made in the
//! parent; entered in the child, with raw system calls only.

mod caps;
mod enforcement;
mod landlock;
mod mounts;
mod seccomp;

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ::landlock::{AccessFs, make_bitflags};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use crate::error::{SpawnError, Step};
use crate::observe::{self, Observe, Task};
use crate::policy::{Policy, RULES_MAX, Rights, Rules, WRITABLE_MAX};
use crate::wire::Fail;

pub(crate) use caps::drop_ways_out;
pub use enforcement::Enforcement;
pub(crate) use mounts::ReadOnly;

/// A policy made ready for a program.
#[derive(Debug)]
pub(crate) struct Sandbox {
    /// None: nothing is enforced, the program is only observed.
    walls: Option<Walls>,
    programs: seccomp::Programs,
    /// Where the child sends its listener, and the other end.
    channel: Option<(OwnedFd, OwnedFd)>,
    observe: Observe,
    pub(crate) rules: Rules,
}

#[derive(Debug)]
struct Walls {
    landlock: landlock::Ruleset,
    keep_caps: u64,
}

impl Walls {
    fn new(policy: &Policy, rules: &Rules) -> Result<Walls, SpawnError> {
        let enforcement = Enforcement::of_this_kernel();
        if policy.require_full && !enforcement.is_full() {
            let missing = enforcement.missing.join(", ");
            let thing = format!("all of the policy: {missing}");
            return Err(SpawnError::new(Step::Landlock, libc::EOPNOTSUPP, thing));
        }
        if rules.all().len() > RULES_MAX || rules.writable().len() > WRITABLE_MAX {
            return Err(SpawnError::new(Step::Prepare, libc::E2BIG, "so large a policy"));
        }
        let landlock = landlock::Ruleset::new(policy, rules, enforcement.landlock_abi)?;
        let keep_caps = policy.capabilities.iter().fold(0, |set, &capability| set | 1 << capability as u32);
        Ok(Walls { landlock, keep_caps })
    }
}

impl Sandbox {
    /// `rules` are those of this host ([`Rules::on_this_host`]); without a policy they are only looked at. The
    /// descriptor the child needs is put at `floor` or above.
    pub(crate) fn new(
        policy: Option<&Policy>,
        rules: Rules,
        observe: Observe,
        raise: impl Fn(OwnedFd) -> Result<OwnedFd, SpawnError>,
    ) -> Result<Sandbox, SpawnError> {
        let walls = policy.map(|policy| Walls::new(policy, &rules)).transpose()?;
        let programs = seccomp::Programs::new(rules.fences(), observe, walls.is_some())?;
        let channel = match observe {
            Observe::Nothing => None,
            Observe::Denials | Observe::Everything => {
                let failed = |e: Errno| SpawnError::new(Step::Prepare, e.raw_os_error(), "a socket");
                let (ours, theirs) = observe::channel().map_err(failed)?;
                Some((raise(theirs)?, ours))
            }
        };
        Ok(Sandbox { walls, programs, channel, observe, rules })
    }

    /// Lets the program open again what it is passed under this number: explanations know of it, the kernel is
    /// told in the child.
    pub(crate) fn pass(&mut self, file: BorrowedFd<'_>) {
        let Ok(flags) = rustix::fs::fcntl_getfl(file) else { return };
        let is_dir = |mode| FileType::from_raw_mode(mode) == FileType::Directory;
        if rustix::fs::fstat(file).map_or(true, |stat| is_dir(stat.st_mode)) {
            return;
        }
        let link = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
        if let Some(path) = link.ok().filter(|path| path.is_absolute()) {
            self.rules.pass(path, passed_rights(flags));
        }
    }

    /// The descriptor that the child needs until it executes the program.
    pub(crate) fn needs(&self) -> Option<RawFd> {
        self.channel.as_ref().map(|(theirs, _)| theirs.as_raw_fd())
    }

    /// What the supervisor has to do and where its listener comes from; the child has been made.
    pub(crate) fn task(&mut self) -> Option<(Task, OwnedFd)> {
        let (_, ours) = self.channel.take()?;
        let scopes = self.walls.as_ref().map(|walls| walls.landlock.scopes()).unwrap_or_default();
        let enforced = self.walls.is_some();
        let task = Task { observe: self.observe, rules: self.rules.clone(), enforced, scopes };
        Some((task, ours))
    }

    /// Whether anything is enforced.
    pub(crate) fn has_walls(&self) -> bool {
        self.walls.is_some()
    }

    /// What a failed Landlock step was about.
    pub(crate) fn place(&self, index: u32) -> String {
        self.walls.as_ref().map_or_else(String::new, |walls| walls.landlock.place(index))
    }

    /// Confines the calling process and what it executes, for good; `passed` are the descriptors it was given
    /// and their numbers. Async-signal-safe.
    pub(crate) fn enter(&self, passed: &[(OwnedFd, RawFd)]) -> Result<(), Fail> {
        rustix::thread::set_no_new_privs(true).map_err(|e| Fail::new(Step::NoNewPrivs, e))?;
        if let Some(walls) = &self.walls {
            walls.landlock.enter(passed)?;
            caps::drop_all_but(walls.keep_caps).map_err(|e| Fail::new(Step::Capabilities, e))?;
        }
        let supervisor = self.channel.as_ref().map(|(theirs, _)| theirs.as_fd());
        self.programs.enter(supervisor).map_err(|e| Fail::new(Step::Seccomp, e))
    }
}

/// What a program may do again with a file it has been passed open.
fn passed_rights(flags: OFlags) -> Rights {
    let control: Rights = AccessFs::IoctlDev.into();
    match flags & OFlags::RWMODE {
        OFlags::RDONLY => control | AccessFs::ReadFile,
        OFlags::WRONLY => control | AccessFs::WriteFile | AccessFs::Truncate,
        _ => control | make_bitflags!(AccessFs::{ReadFile | WriteFile | Truncate}),
    }
}

fn c_path(path: &Path) -> Result<CString, SpawnError> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| SpawnError::new(Step::Prepare, libc::EINVAL, path.to_string_lossy()))
}

/// The answer of a raw system call.
fn answer(result: libc::c_long) -> Result<i64, Errno> {
    if result < 0 { Err(crate::sys::last_errno()) } else { Ok(result) }
}
