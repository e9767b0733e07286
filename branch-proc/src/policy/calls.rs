//! The system calls that a policy denies whatever the path: those that go around paths, that reach beyond
//! the group, or that open up large parts of the kernel which no build and no test needs.

use crate::net::Net;

use super::{Decision, Ipc, Policy};

/// A condition on one argument, of which the low 32 bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// All bits of `mask` give `value`.
    Masked {
        index: u8,
        mask: u32,
        value: u32,
    },
    Not {
        index: u8,
        value: u32,
    },
}

/// A system call that is denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fence {
    pub(crate) number: i64,
    pub(crate) name: &'static str,
    /// Denied when all conditions of any of these hold; empty: always.
    pub(crate) when: Vec<Vec<When>>,
    /// The part of the policy that decides it.
    pub(crate) rule: &'static str,
    /// For "NAME is denied: …".
    pub(crate) why: &'static str,
}

const NEVER: &str = "never";

impl Fence {
    /// What is said of a call that it denies, under a policy of this name.
    pub(crate) fn decision(&self, policy: &str) -> Decision {
        let Fence { name, rule, why, .. } = self;
        let words = format!("{name} is denied by policy {policy}: {why}");
        Decision { allowed: false, rule: (*rule).to_owned(), words }
    }
}

macro_rules! always {
    ($why:literal: $($name:ident $number:ident),+ $(,)?) => {
        [$((stringify!($name), libc::$number, $why)),+].as_slice()
    };
}

/// Denied by every policy.
const ALWAYS: &[&[(&str, libc::c_long, &str)]] = &[
    always!("what is mounted where is part of the confinement":
        mount SYS_mount, umount2 SYS_umount2, pivot_root SYS_pivot_root, chroot SYS_chroot,
        move_mount SYS_move_mount, open_tree SYS_open_tree, fsopen SYS_fsopen, fsconfig SYS_fsconfig,
        fsmount SYS_fsmount, fspick SYS_fspick, mount_setattr SYS_mount_setattr),
    always!("it leads into namespaces of others": setns SYS_setns),
    always!("it opens files without a path": open_by_handle_at SYS_open_by_handle_at),
    always!("its requests bypass this filter":
        io_uring_setup SYS_io_uring_setup, io_uring_enter SYS_io_uring_enter,
        io_uring_register SYS_io_uring_register),
    always!("programs in the kernel see everything": bpf SYS_bpf),
    always!("it measures other processes and the kernel": perf_event_open SYS_perf_event_open),
    always!("it stops the kernel in the middle of a copy, which attacks need and programs do not":
        userfaultfd SYS_userfaultfd),
    always!("keys are shared beyond the group":
        keyctl SYS_keyctl, add_key SYS_add_key, request_key SYS_request_key),
    always!("it changes the kernel":
        kexec_load SYS_kexec_load, kexec_file_load SYS_kexec_file_load, init_module SYS_init_module,
        finit_module SYS_finit_module, delete_module SYS_delete_module),
    always!("it changes the machine for everybody":
        reboot SYS_reboot, swapon SYS_swapon, swapoff SYS_swapoff, acct SYS_acct, quotactl SYS_quotactl,
        vhangup SYS_vhangup, sethostname SYS_sethostname, setdomainname SYS_setdomainname,
        settimeofday SYS_settimeofday, clock_settime SYS_clock_settime),
    always!("the kernel's log tells of others": syslog SYS_syslog),
    always!("it watches files outside": fanotify_init SYS_fanotify_init),
    #[cfg(target_arch = "x86_64")]
    always!("it gives access to hardware": iopl SYS_iopl, ioperm SYS_ioperm),
];

/// Denied unless the policy has `ptrace`.
pub(crate) const TRACING: &[(&str, libc::c_long)] = &[
    ("ptrace", libc::SYS_ptrace),
    ("process_vm_readv", libc::SYS_process_vm_readv),
    ("process_vm_writev", libc::SYS_process_vm_writev),
    ("process_madvise", libc::SYS_process_madvise),
    ("pidfd_getfd", libc::SYS_pidfd_getfd),
    ("kcmp", libc::SYS_kcmp),
];

/// `CLONE_NEWTIME`, which `clone(2)` does not know: its bit is part of the exit signal there.
const NEWTIME: i32 = 0x80;
const NEW_NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];
/// `MFD_NOEXEC_SEAL`.
const NOEXEC_SEAL: u32 = 8;
/// The bits of a socket's type that are not flags.
const SOCK_TYPE_MASK: u32 = 0xf;

/// What a policy denies.
pub(crate) fn fences(policy: &Policy) -> Vec<Fence> {
    let always = ALWAYS.iter().flat_map(|group| group.iter());
    let always = always.map(|&(name, number, why)| plain(name, number, NEVER, why));
    let mut fences: Vec<Fence> = always.collect();
    fences.extend([
        namespaces("clone", libc::SYS_clone),
        namespaces("unshare", libc::SYS_unshare),
        terminal(),
    ]);
    if !policy.ptrace {
        let why = "processes may not look into each other";
        fences.extend(TRACING.iter().map(|&(name, number)| plain(name, number, "ptrace", why)));
    }
    if !policy.memory_exec {
        let when = vec![vec![When::Masked { index: 1, mask: NOEXEC_SEAL, value: 0 }]];
        let why = "a file in memory could be executed, past fs_exec (MFD_NOEXEC_SEAL would be allowed)";
        let rule = "memory_exec";
        fences.push(Fence { number: libc::SYS_memfd_create, name: "memfd_create", when, rule, why });
    }
    fences.push(sockets(policy));
    fences
}

fn plain(name: &'static str, number: i64, rule: &'static str, why: &'static str) -> Fence {
    Fence { number, name, when: Vec::new(), rule, why }
}

fn namespaces(name: &'static str, number: i64) -> Fence {
    let time = (number == libc::SYS_unshare).then_some(NEWTIME);
    let bits = NEW_NAMESPACES.into_iter().chain(time);
    let bit = |bit: i32| vec![When::Masked { index: 0, mask: bit as u32, value: bit as u32 }];
    let when = bits.map(bit).collect();
    Fence { number, name, when, rule: NEVER, why: "a namespace within would give back what was taken" }
}

/// Typing into the terminal that the group may share with its caller.
fn terminal() -> Fence {
    let request = |value: libc::Ioctl| vec![When::Masked { index: 1, mask: u32::MAX, value: value as u32 }];
    let when = vec![request(libc::TIOCSTI), request(libc::TIOCLINUX)];
    let why = "it types into a terminal that others read";
    Fence { number: libc::SYS_ioctl, name: "ioctl", when, rule: NEVER, why }
}

/// Which sockets there are not: all but known families, and of those the raw ones.
fn sockets(policy: &Policy) -> Fence {
    let mut families = Vec::new();
    if policy.ipc != Ipc::None {
        families.push(libc::AF_UNIX);
    }
    if policy.net != Net::None {
        families.extend([libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK]);
    }
    let mut when = Vec::new();
    if families.is_empty() {
        // A rule needs a condition: no socket has all bits of a family set.
        when.push(vec![When::Not { index: 0, value: u32::MAX }]);
    } else {
        when.push(families.into_iter().map(|family| When::Not { index: 0, value: family as u32 }).collect());
    }
    for (family, kind) in
        [(libc::AF_INET, libc::SOCK_RAW), (libc::AF_INET6, libc::SOCK_RAW), (libc::AF_INET, SOCK_PACKET)]
    {
        let kind = When::Masked { index: 1, mask: SOCK_TYPE_MASK, value: kind as u32 };
        when.push(vec![is(0, family), kind]);
    }
    // Only the questions about addresses and routes that resolvers ask.
    when.push(vec![is(0, libc::AF_NETLINK), When::Not { index: 2, value: libc::NETLINK_ROUTE as u32 }]);
    Fence {
        number: libc::SYS_socket,
        name: "socket",
        when,
        rule: "ipc, net",
        why: "ipc and net do not allow sockets of this kind (raw ones never are)",
    }
}

/// Obsolete, and as raw as its name says.
const SOCK_PACKET: i32 = 10;

fn is(index: u8, value: i32) -> When {
    When::Masked { index, mask: u32::MAX, value: value as u32 }
}
