//! From a system call and its arguments to what it wants of which path, address or process.

use crate::policy::{Moved, Op};

/// What a call names: where its text is, and how it is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name {
    /// The directory a relative path starts from.
    pub(crate) dir: i32,
    /// Address of the text in the caller.
    pub(crate) text: u64,
    /// Whether a symbolic link as the last part is followed.
    pub(crate) follow: bool,
}

/// What a call wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Open it with these flags.
    Open(Name, i32),
    /// As `Open`; the flags lie at this address (`struct open_how`).
    OpenHow(Name, u64),
    Execute(Name),
    /// Execute what a descriptor stands for.
    ExecuteFd(i32),
    /// Give something new this name.
    Make(Name, Op),
    Remove(Name),
    RemoveDir(Name),
    Truncate(Name),
    Attributes(Name),
    /// The same of what a descriptor stands for.
    AttributesFd(i32),
    Move(Name, Name),
    Link(Name, Name),
    /// Bind a socket to, or connect it with, an address of this length.
    Bind(u64, u64),
    Connect(u64, u64),
    /// Signal who has this number in the caller's pid namespace.
    Signal(i32),
    /// Signal who is behind this pidfd.
    SignalFd(i32),
    /// Trace, or read or write the memory of, who has this number there.
    Trace(i32),
}

const FOLLOW: bool = true;
const NO_FOLLOW: bool = false;

impl Moved {
    pub(crate) fn of_kind(is_dir: bool) -> Moved {
        if is_dir { Moved::RenamedDir } else { Moved::Renamed }
    }
}

fn at(dir: u64, text: u64, follow: bool) -> Name {
    Name { dir: dir as i32, text, follow }
}

#[cfg(target_arch = "x86_64")]
fn here(text: u64, follow: bool) -> Name {
    Name { dir: libc::AT_FDCWD, text, follow }
}

fn node(mode: u64) -> Op {
    match mode as u32 & libc::S_IFMT {
        libc::S_IFIFO => Op::CreateFifo,
        libc::S_IFSOCK => Op::CreateSocket,
        libc::S_IFCHR => Op::CreateChar,
        libc::S_IFBLK => Op::CreateBlock,
        _ => Op::Create,
    }
}

fn open(name: impl Fn(bool) -> Name, flags: u64) -> Wanted {
    let flags = flags as i32;
    let new_only = libc::O_CREAT | libc::O_EXCL;
    let follow = flags & libc::O_NOFOLLOW == 0 && flags & new_only != new_only;
    Wanted::Open(name(follow), flags)
}

fn unless(flags: u64, no_follow: i32) -> bool {
    flags as i32 & no_follow == 0
}

/// The requests of `ptrace(2)` that name somebody new. Only these are looked at: the others are many.
pub(crate) const TRACE_BEGINS: [u32; 2] = [libc::PTRACE_ATTACH, libc::PTRACE_SEIZE];

/// The calls that are looked at, whatever their arguments.
pub(crate) const CALLS: &[i64] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_renameat2,
    libc::SYS_truncate,
    libc::SYS_fchmodat,
    SYS_FCHMODAT2,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fchmod,
    libc::SYS_fchown,
    libc::SYS_fsetxattr,
    libc::SYS_fremovexattr,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_pidfd_send_signal,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    SYS_RENAMEAT,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
];

#[cfg(target_arch = "x86_64")]
const SYS_RENAMEAT: i64 = libc::SYS_renameat;
/// Not in libc.
#[cfg(target_arch = "aarch64")]
const SYS_RENAMEAT: i64 = 38;
/// The same number on both architectures; newer than some headers.
const SYS_FCHMODAT2: i64 = 452;

/// What a call wants; None for one that is not looked at.
pub(crate) fn wanted(number: i64, args: [u64; 6]) -> Option<Wanted> {
    let [a, b, c, d, e, _] = args;
    Some(match number {
        libc::SYS_openat => open(|follow| at(a, b, follow), c),
        libc::SYS_openat2 => Wanted::OpenHow(at(a, b, FOLLOW), c),
        libc::SYS_execve => Wanted::Execute(Name { dir: libc::AT_FDCWD, text: a, follow: FOLLOW }),
        libc::SYS_execveat if !unless(e, libc::AT_EMPTY_PATH) => Wanted::ExecuteFd(a as i32),
        libc::SYS_execveat => Wanted::Execute(at(a, b, unless(e, libc::AT_SYMLINK_NOFOLLOW))),
        libc::SYS_unlinkat if c as i32 & libc::AT_REMOVEDIR != 0 => Wanted::RemoveDir(at(a, b, NO_FOLLOW)),
        libc::SYS_unlinkat => Wanted::Remove(at(a, b, NO_FOLLOW)),
        libc::SYS_mkdirat => Wanted::Make(at(a, b, NO_FOLLOW), Op::CreateDir),
        libc::SYS_mknodat => Wanted::Make(at(a, b, NO_FOLLOW), node(c)),
        libc::SYS_symlinkat => Wanted::Make(at(b, c, NO_FOLLOW), Op::CreateSymlink),
        libc::SYS_linkat => {
            let follow = !unless(e, libc::AT_SYMLINK_FOLLOW);
            Wanted::Link(at(a, b, follow), at(c, d, NO_FOLLOW))
        }
        SYS_RENAMEAT | libc::SYS_renameat2 => Wanted::Move(at(a, b, NO_FOLLOW), at(c, d, NO_FOLLOW)),
        libc::SYS_truncate => Wanted::Truncate(Name { dir: libc::AT_FDCWD, text: a, follow: FOLLOW }),
        libc::SYS_fchmodat => Wanted::Attributes(at(a, b, FOLLOW)),
        libc::SYS_utimensat if b == 0 => Wanted::AttributesFd(a as i32),
        SYS_FCHMODAT2 | libc::SYS_utimensat => {
            Wanted::Attributes(at(a, b, unless(d, libc::AT_SYMLINK_NOFOLLOW)))
        }
        libc::SYS_fchownat => Wanted::Attributes(at(a, b, unless(e, libc::AT_SYMLINK_NOFOLLOW))),
        libc::SYS_setxattr | libc::SYS_removexattr => {
            Wanted::Attributes(Name { dir: libc::AT_FDCWD, text: a, follow: FOLLOW })
        }
        libc::SYS_lsetxattr | libc::SYS_lremovexattr => {
            Wanted::Attributes(Name { dir: libc::AT_FDCWD, text: a, follow: NO_FOLLOW })
        }
        libc::SYS_fchmod | libc::SYS_fchown | libc::SYS_fsetxattr | libc::SYS_fremovexattr => {
            Wanted::AttributesFd(a as i32)
        }
        libc::SYS_bind => Wanted::Bind(b, c),
        libc::SYS_connect => Wanted::Connect(b, c),
        libc::SYS_kill | libc::SYS_tkill | libc::SYS_tgkill => Wanted::Signal(a as i32),
        libc::SYS_pidfd_send_signal => Wanted::SignalFd(a as i32),
        libc::SYS_process_vm_readv | libc::SYS_process_vm_writev => Wanted::Trace(a as i32),
        libc::SYS_ptrace if TRACE_BEGINS.contains(&(a as u32)) => Wanted::Trace(b as i32),
        _ => return wanted_of_old(number, args),
    })
}

/// The calls that newer architectures do not have any more.
#[cfg(target_arch = "x86_64")]
fn wanted_of_old(number: i64, [a, b, ..]: [u64; 6]) -> Option<Wanted> {
    Some(match number {
        libc::SYS_open => open(|follow| here(a, follow), b),
        libc::SYS_creat => {
            open(|follow| here(a, follow), (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC) as u64)
        }
        libc::SYS_unlink => Wanted::Remove(here(a, NO_FOLLOW)),
        libc::SYS_rmdir => Wanted::RemoveDir(here(a, NO_FOLLOW)),
        libc::SYS_mkdir => Wanted::Make(here(a, NO_FOLLOW), Op::CreateDir),
        libc::SYS_mknod => Wanted::Make(here(a, NO_FOLLOW), node(b)),
        libc::SYS_symlink => Wanted::Make(here(b, NO_FOLLOW), Op::CreateSymlink),
        libc::SYS_link => Wanted::Link(here(a, NO_FOLLOW), here(b, NO_FOLLOW)),
        libc::SYS_rename => Wanted::Move(here(a, NO_FOLLOW), here(b, NO_FOLLOW)),
        libc::SYS_chmod | libc::SYS_chown | libc::SYS_utime | libc::SYS_utimes => {
            Wanted::Attributes(here(a, FOLLOW))
        }
        libc::SYS_lchown => Wanted::Attributes(here(a, NO_FOLLOW)),
        libc::SYS_futimesat => Wanted::Attributes(at(a, b, FOLLOW)),
        _ => return None,
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn wanted_of_old(_: i64, _: [u64; 6]) -> Option<Wanted> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_that_is_looked_at_wants_something() {
        for &number in CALLS {
            assert!(wanted(number, [1, 2, 3, 4, 5, 6]).is_some(), "call {number}");
        }
        assert_eq!(wanted(libc::SYS_read, [0; 6]), None);
    }

    #[test]
    fn the_last_link_is_followed_where_the_kernel_does() {
        let open = |flags: i32| match wanted(libc::SYS_openat, [0, 0, flags as u64, 0, 0, 0]) {
            Some(Wanted::Open(name, _)) => name.follow,
            other => panic!("{other:?}"),
        };
        assert!(open(libc::O_RDONLY) && open(libc::O_CREAT));
        assert!(!open(libc::O_NOFOLLOW) && !open(libc::O_CREAT | libc::O_EXCL));
    }
}
