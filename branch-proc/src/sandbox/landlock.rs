//! Landlock (`landlock(7)`): rules made in the parent, opened and added in the child, where the view lies
//! over the base. Raw system calls, because between clone and exec nothing may allocate.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use landlock::{ABI, Access, AccessFs, AccessNet, Scope};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{answer, c_path};
use crate::error::{SpawnError, Step};
use crate::net::Net;
use crate::observe::Scopes;
use crate::policy::{FILE, Ipc, List, Policy, Rules};
use crate::wire::Fail;

/// The newest interface whose rights are known here.
const ABI_KNOWN: u32 = 7;
const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;

/// `struct landlock_ruleset_attr`. Fields that an old kernel does not know have to be zero, and are.
#[repr(C)]
#[derive(Debug)]
struct Attr {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: i32,
}

/// A ruleset ready for the kernel.
#[derive(Debug)]
pub(crate) struct Ruleset {
    /// None: the kernel has no Landlock, which [`super::Enforcement`] tells.
    attr: Option<Attr>,
    rules: Vec<(CString, u64)>,
}

/// The version of the interface; 0 without Landlock.
pub(crate) fn abi_of_this_kernel() -> u32 {
    let none = std::ptr::null::<u8>();
    // SAFETY: with this flag the kernel takes no attribute and only answers a number.
    let result = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, CREATE_RULESET_VERSION) };
    answer(result).map_or(0, |abi| abi as u32)
}

fn known(abi: u32) -> ABI {
    match abi.min(ABI_KNOWN) {
        0 => ABI::Unsupported,
        1 => ABI::V1,
        2 => ABI::V2,
        3 => ABI::V3,
        4 => ABI::V4,
        5 => ABI::V5,
        6 => ABI::V6,
        _ => ABI::V7,
    }
}

impl Ruleset {
    pub(super) fn new(policy: &Policy, rules: &Rules, abi: u32) -> Result<Ruleset, SpawnError> {
        let abi = known(abi);
        let handled = AccessFs::from_all(abi);
        let mut scoped = Scope::from_all(abi);
        if policy.ipc == Ipc::Host {
            scoped &= !Scope::AbstractUnixSocket;
        }
        let attr = (abi != ABI::Unsupported).then_some(Attr {
            handled_access_fs: handled.bits(),
            // No rule allows any port: a second wall, behind the sockets that seccomp refuses.
            handled_access_net: if policy.net == Net::None { AccessNet::from_all(abi).bits() } else { 0 },
            scoped: scoped.bits(),
        });
        let mut ready = Vec::new();
        // What was passed to the program is not for the path but for the descriptor: see `add_passed`.
        for rule in rules.all().iter().filter(|rule| rule.list != List::Passed) {
            ready.push((c_path(&rule.path)?, (rule.rights & handled).bits()));
        }
        Ok(Ruleset { attr, rules: ready })
    }

    /// What of the scopes it holds.
    pub(super) fn scopes(&self) -> Scopes {
        let scoped = self.attr.as_ref().map_or(0, |attr| attr.scoped);
        let has = |scope: Scope| scoped & scope as u64 != 0;
        Scopes { signals: has(Scope::Signal), abstract_sockets: has(Scope::AbstractUnixSocket) }
    }

    /// Confines the calling process. Async-signal-safe; `no_new_privs` is set.
    pub(super) fn enter(&self, passed: &[(OwnedFd, RawFd)]) -> Result<(), Fail> {
        let Some(attr) = &self.attr else { return Ok(()) };
        let size = size_of::<Attr>();
        // SAFETY: attr is a valid attribute of the size given.
        let ruleset = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const *attr, size, 0) };
        let ruleset = answer(ruleset).map_err(|e| Fail::new(Step::Landlock, e).at(usize::MAX))? as i32;
        for (index, (path, rights)) in self.rules.iter().enumerate() {
            add_path(ruleset, path, *rights).map_err(|e| Fail::new(Step::Landlock, e).at(index))?;
        }
        // From here on no step is about a rule.
        let failed = |e| Fail::new(Step::Landlock, e).at(usize::MAX);
        for fd in (0..=2).chain(passed.iter().map(|(_, target)| *target).filter(|target| *target > 2)) {
            add_passed(ruleset, fd, attr.handled_access_fs).map_err(failed)?;
        }
        // SAFETY: a descriptor of a ruleset, and no flags.
        let entered = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0) };
        answer(entered).map_err(failed)?;
        // SAFETY: made above and used no more.
        unsafe { libc::close(ruleset) };
        Ok(())
    }

    /// What the rule with this index is about.
    pub(super) fn place(&self, index: u32) -> String {
        match self.rules.get(index as usize) {
            Some((path, _)) => format!("the rule for {}", path.to_string_lossy()),
            None => "the policy".to_owned(),
        }
    }
}

fn add_path(ruleset: i32, path: &CString, rights: u64) -> Result<(), Errno> {
    let fd = match rustix::fs::open(path.as_c_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Ok(fd) => fd,
        // Not there (any more), or out of this user's reach, in which case it may not be used anyway.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP) => return Ok(()),
        Err(e) => return Err(e),
    };
    let is_dir = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) == FileType::Directory;
    let rights = if is_dir { rights } else { rights & FILE.bits() };
    add(ruleset, fd.as_raw_fd(), rights)
}

/// The files a program has been passed are its own already; it may also open them again, by `/dev/stdout` or
/// `/proc/self/fd/2`, as scripts do with a terminal. Directories it may not: that would be all beneath.
fn add_passed(ruleset: i32, fd: RawFd, handled: u64) -> Result<(), Errno> {
    // SAFETY: only used for two questions here; a number that is not open is an error of the first.
    let file = unsafe { BorrowedFd::borrow_raw(fd) };
    let Ok(flags) = rustix::fs::fcntl_getfl(file) else { return Ok(()) };
    if FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode) == FileType::Directory {
        return Ok(());
    }
    match add(ruleset, fd, super::passed_rights(flags).bits() & handled) {
        // Pipes and sockets are in no file system: Landlock has nothing against opening those again.
        Err(Errno::BADFD | Errno::BADF) => Ok(()),
        other => other,
    }
}

fn add(ruleset: i32, fd: i32, rights: u64) -> Result<(), Errno> {
    if rights == 0 {
        return Ok(());
    }
    let rule = PathBeneath { allowed_access: rights, parent_fd: fd };
    // SAFETY: rule is a valid attribute of its type.
    let added =
        unsafe { libc::syscall(libc::SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &raw const rule, 0) };
    answer(added).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_kernels_are_asked_for_what_they_know_only() {
        let policy = Policy::new("test");
        let rules = policy.rules(["/".into()]);
        let at = |abi| Ruleset::new(&policy, &rules, abi).unwrap();
        assert!(at(0).attr.is_none());
        let refer = AccessFs::Refer as u64;
        assert_eq!(at(1).attr.unwrap().handled_access_fs & refer, 0);
        assert_eq!(at(1).rules[0].1 & refer, 0);
        assert_eq!(at(2).attr.unwrap().handled_access_fs & refer, refer);
        assert_eq!(at(5).attr.unwrap().scoped, 0);
        assert_eq!(at(6).attr.unwrap().scoped, 3);
        assert_eq!(at(99).attr.unwrap().handled_access_fs, AccessFs::from_all(ABI::V7).bits());
    }
}
