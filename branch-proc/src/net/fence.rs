//! What a network namespace does not hold: sockets to the hypervisor (`vsock(7)`), which most kernels have one network of
//! for the whole machine. A seccomp program refuses them, for groups without a policy, which refuses more. It lets
//! everything else through, but the two ways to a socket that no program can look at: io_uring (which policies
//! refuse as well) and `socketcall(2)` of 32-bit programs (their C libraries use `socket(2)` since 2016).

use libc::{SYS_io_uring_setup, SYS_socket, sock_filter};
use rustix::io::Errno;

use crate::sys::last_errno;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const DENY: u32 = 0x0005_0000 | libc::EPERM as u32;
/// Places in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
/// The low half: both architectures are little-endian.
const FIRST_ARGUMENT: u32 = 16;
/// Marks the numbers of x32, which mean the same without it.
const X32: u32 = 0x4000_0000;
/// The same number everywhere.
const IO_URING_SETUP: u32 = SYS_io_uring_setup as u32;
/// Of i386. Where there is none, no call has this number but for programs of the nineties.
const SOCKETCALL: u32 = 102;

/// The native architecture and `socket(2)` of its 32-bit programs.
#[cfg(target_arch = "x86_64")]
const NATIVE: (u32, u32) = (0xc000_003e, 359);
#[cfg(target_arch = "aarch64")]
const NATIVE: (u32, u32) = (0xc000_00b7, 281);

const fn step(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Jumps are relative, to the step after the next `jt` or `jf` ones.
static PROGRAM: [sock_filter; 14] = [
    step(LOAD, 0, 0, ARCH),
    step(JUMP_EQUAL, 4, 0, NATIVE.0),
    // 32-bit.
    step(LOAD, 0, 0, NUMBER),
    step(JUMP_EQUAL, 9, 0, SOCKETCALL),
    step(JUMP_EQUAL, 8, 0, IO_URING_SETUP),
    step(JUMP_EQUAL, 4, 6, NATIVE.1),
    // Native.
    step(LOAD, 0, 0, NUMBER),
    step(AND, 0, 0, !X32),
    step(JUMP_EQUAL, 4, 0, IO_URING_SETUP),
    step(JUMP_EQUAL, 0, 2, SYS_socket as u32),
    // A socket.
    step(LOAD, 0, 0, FIRST_ARGUMENT),
    step(JUMP_EQUAL, 1, 0, libc::AF_VSOCK as u32),
    step(RETURN, 0, 0, ALLOW),
    step(RETURN, 0, 0, DENY),
];

/// Installs it, for this process and what it executes. Needs `CAP_SYS_ADMIN` in the user namespace, or `no_new_privs`.
/// Async-signal-safe.
pub(crate) fn enter() -> Result<(), Errno> {
    // The kernel only reads it.
    let program = libc::sock_fprog { len: PROGRAM.len() as u16, filter: PROGRAM.as_ptr().cast_mut() };
    // SAFETY: program is valid for the call.
    match unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program says of a call.
    fn answer(arch: u32, number: u32, argument: u32) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = PROGRAM[at];
            at += 1;
            match (code, k) {
                (LOAD, NUMBER) => value = number,
                (LOAD, ARCH) => value = arch,
                (LOAD, FIRST_ARGUMENT) => value = argument,
                (AND, mask) => value &= mask,
                (JUMP_EQUAL, k) => at += usize::from(if value == k { jt } else { jf }),
                (RETURN, answer) => return answer,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn of_all_calls_only_those_that_lead_to_the_hypervisor_are_refused() {
        let (native, foreign, other) = (NATIVE.0, 0x4000_0003, 0x4000_0028);
        let (vsock, inet) = (libc::AF_VSOCK as u32, libc::AF_INET as u32);
        let socket = SYS_socket as u32;
        for number in 0..1000 {
            for arch in [native, foreign, other] {
                let own_socket = if arch == native { socket } else { NATIVE.1 };
                let always = number == IO_URING_SETUP || (arch != native && number == SOCKETCALL);
                let denied = |yes: bool| if yes { DENY } else { ALLOW };
                assert_eq!(answer(arch, number, inet), denied(always), "{arch:x} {number}");
                let sockets = always || number == own_socket;
                assert_eq!(answer(arch, number, vsock), denied(sockets), "{arch:x} {number}");
            }
        }
        assert_eq!(answer(native, X32 | socket, vsock), DENY);
    }
}
