//! Attempts that need no path: calls into the kernel, sockets, other processes. Harmless where nothing denies
//! them: what would change the machine gets arguments that the kernel refuses after it has asked for the right.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::ptr;

use crate::files::{
    ALL, Answer, BUILDERS, DEPLOYERS, NONE, WRITERS, answered, c, mknod, open_for, read, told,
};
use crate::table::{Attempt, attempt};

pub(crate) fn attempts() -> Vec<Attempt> {
    [mounts(), kernel(), machine(), namespaces(), processes(), sockets(), devices(), memory()]
        .into_iter()
        .flatten()
        .collect()
}

/// A raw call with up to five numbers.
macro_rules! call {
    ($number:ident $(, $argument:expr)*) => {
        // SAFETY: numbers, null pointers, and pointers to what lives for the call.
        result(unsafe { libc::syscall(libc::$number $(, $argument)*) })
    };
}

fn result(answer: libc::c_long) -> Answer {
    if answer < 0 { Err(io::Error::last_os_error().raw_os_error().unwrap_or(250)) } else { Ok(()) }
}

/// "There is no such call" is how some denials look.
fn missing_is_denied(answer: Answer) -> Answer {
    answer.map_err(|errno| if errno == libc::ENOSYS { libc::EPERM } else { errno })
}

const NULL: *const u8 = ptr::null();

fn mounts() -> Vec<Attempt> {
    vec![
        attempt("bind outside into the branch", NONE, |p| {
            let (from, to) = (c(&p.outside("")), c(&p.base("dir")));
            // SAFETY: C strings.
            answered(unsafe {
                libc::mount(from.as_ptr(), to.as_ptr(), ptr::null(), libc::MS_BIND, ptr::null())
            })
        }),
        attempt("make mounts writable again", NONE, |_| {
            let flags = libc::MS_REMOUNT | libc::MS_BIND;
            // SAFETY: C strings.
            answered(unsafe { libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), flags, ptr::null()) })
        }),
        attempt("unmount", NONE, |_| call!(SYS_umount2, c"/nowhere".as_ptr(), 0)),
        attempt("pivot the root", NONE, |_| call!(SYS_pivot_root, NULL, NULL)),
        attempt("change the root", NONE, |p| call!(SYS_chroot, c(&p.base("")).as_ptr())),
        attempt("clone a tree of mounts", NONE, |_| {
            call!(SYS_open_tree, libc::AT_FDCWD, c"/".as_ptr(), libc::OPEN_TREE_CLONE)
        }),
        attempt("move a mount", NONE, |_| call!(SYS_move_mount, -1, c"".as_ptr(), -1, c"".as_ptr(), 0)),
        attempt("open a filesystem", NONE, |_| call!(SYS_fsopen, c"tmpfs".as_ptr(), 0)),
        attempt("change attributes of mounts", NONE, |_| {
            call!(SYS_mount_setattr, -1, c"".as_ptr(), 0, NULL, 0)
        }),
    ]
}

fn kernel() -> Vec<Attempt> {
    vec![
        attempt("load a program into the kernel", NONE, |_| call!(SYS_bpf, 0, NULL, 0)),
        attempt("measure the kernel", NONE, |_| call!(SYS_perf_event_open, NULL, 0, 0, 0, 0)),
        attempt("handle page faults", NONE, |_| call!(SYS_userfaultfd, 0)),
        attempt("queue requests past the filter", NONE, |_| {
            let mut parameters = [0u8; 256];
            call!(SYS_io_uring_setup, 1, parameters.as_mut_ptr())
        }),
        attempt("ask for a keyring", NONE, |_| call!(SYS_keyctl, 0, -3, 0)),
        attempt("add a key", NONE, |_| call!(SYS_add_key, NULL, NULL, NULL, 0, 0)),
        attempt("request a key", NONE, |_| call!(SYS_request_key, NULL, NULL, NULL, 0)),
        attempt("load another kernel", NONE, |_| call!(SYS_kexec_load, 0, 0, NULL, 0xdead)),
        attempt("load a module", NONE, |_| call!(SYS_finit_module, -1, NULL, 0)),
        attempt("remove a module", NONE, |_| call!(SYS_delete_module, NULL, 0)),
        attempt("read the kernel's log", NONE, |_| call!(SYS_syslog, 10, NULL, 0)),
        attempt("watch files everywhere", NONE, |_| call!(SYS_fanotify_init, 0, 0)),
        attempt("open a file by its handle", NONE, |_| call!(SYS_open_by_handle_at, -1, NULL, 0)),
        #[cfg(target_arch = "x86_64")]
        attempt("reach the hardware's ports", NONE, |_| call!(SYS_iopl, 3)),
        #[cfg(target_arch = "x86_64")]
        attempt("call as a 32-bit program", NONE, |_| missing_is_denied(getpid_of_i386())),
        attempt("type into the terminal", NONE, |_| call!(SYS_ioctl, 0, libc::TIOCSTI, c"x".as_ptr())),
    ]
}

#[cfg(target_arch = "x86_64")]
fn getpid_of_i386() -> Answer {
    let number: i64;
    // SAFETY: call 20 of the 32-bit interface is getpid, which has no arguments.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("rax") 20_i64 => number, out("r8") _, out("r9") _, out("r10") _, out("r11") _)
    };
    if (number as i32) < 0 { Err(-(number as i32)) } else { Ok(()) }
}

fn machine() -> Vec<Attempt> {
    vec![
        attempt("reboot", NONE, |_| call!(SYS_reboot, 0, 0, 0, NULL)),
        attempt("swap", NONE, |_| call!(SYS_swapon, c"/nowhere".as_ptr(), 0)),
        attempt("stop swapping", NONE, |_| call!(SYS_swapoff, c"/nowhere".as_ptr())),
        attempt("keep accounts", NONE, |_| call!(SYS_acct, c"/nowhere".as_ptr())),
        attempt("rename the host", NONE, |_| call!(SYS_sethostname, c"".as_ptr(), -1)),
        attempt("set the clock", NONE, |_| call!(SYS_clock_settime, libc::CLOCK_REALTIME, NULL)),
        attempt("become another user", NONE, |_| {
            // In a user namespace of one user there is no other.
            call!(SYS_setresuid, 4242, 4242, 4242).map_err(|_| libc::EPERM)
        }),
        attempt("take more than one's share of the processor", NONE, |_| {
            call!(SYS_setpriority, libc::PRIO_PROCESS, 0, -5)
        }),
    ]
}

fn namespaces() -> Vec<Attempt> {
    vec![
        attempt("a user namespace within", NONE, |_| call!(SYS_unshare, libc::CLONE_NEWUSER)),
        attempt("a mount namespace within", NONE, |_| call!(SYS_unshare, libc::CLONE_NEWNS)),
        attempt("a network namespace within", NONE, |_| call!(SYS_unshare, libc::CLONE_NEWNET)),
        attempt("a child in a user namespace", NONE, |_| clone_into(libc::CLONE_NEWUSER)),
        attempt("a child in a pid namespace", NONE, |_| clone_into(libc::CLONE_NEWPID)),
        attempt("a child whose flags cannot be looked at", NONE, |_| {
            missing_is_denied(call!(SYS_clone3, NULL, 0))
        }),
        attempt("enter a namespace", NONE, |_| {
            let namespace = File::open("/proc/self/ns/ipc").map_err(|e| e.raw_os_error().unwrap_or(250))?;
            call!(SYS_setns, namespace.as_raw_fd(), 0)
        }),
        attempt("a plain child", ALL, |_| clone_into(0)),
    ]
}

/// A child that ends at once.
fn clone_into(namespaces: i32) -> Answer {
    // SAFETY: without a stack and CLONE_VM it is a fork, and the child only exits.
    match unsafe { libc::syscall(libc::SYS_clone, namespaces | libc::SIGCHLD, 0, 0, 0, 0) } {
        // SAFETY: plain call.
        0 => unsafe { libc::_exit(0) },
        child => result(child),
    }
}

fn processes() -> Vec<Attempt> {
    vec![
        attempt("trace the init", NONE, |_| call!(SYS_ptrace, libc::PTRACE_SEIZE, 1, 0, 0)),
        attempt("be traced by the parent", BUILDERS, |_| call!(SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0)),
        attempt("read the parent's memory", BUILDERS, |_| read_memory(parent())),
        attempt("read the init's memory", NONE, |_| read_memory(1)),
        attempt("read the init's environment", NONE, |_| read(Path::new("/proc/1/environ"))),
        attempt("open the init's memory", NONE, |_| open_for(Path::new("/proc/1/mem"), libc::O_RDWR)),
        attempt("read through the init's root", NONE, |_| read(Path::new("/proc/1/root/etc/passwd"))),
        attempt("signal the init", NONE, |_| call!(SYS_kill, 1, 0)),
        attempt("signal the parent", ALL, |_| call!(SYS_kill, parent(), 0)),
        attempt("signal the init by a descriptor", NONE, |_| signal_by_descriptor(1)),
        attempt("signal the parent by a descriptor", ALL, |_| signal_by_descriptor(parent())),
        attempt("take a descriptor of the parent", BUILDERS, |_| {
            // SAFETY: plain call.
            let parent = unsafe { libc::syscall(libc::SYS_pidfd_open, parent(), 0) };
            result(parent)?;
            call!(SYS_pidfd_getfd, parent, 1, 0)
        }),
    ]
}

fn signal_by_descriptor(pid: i32) -> Answer {
    // SAFETY: plain call.
    let process = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    result(process)?;
    call!(SYS_pidfd_send_signal, process, 0, 0, 0)
}

fn parent() -> i32 {
    // SAFETY: plain question.
    unsafe { libc::getppid() }
}

static KNOWN: [u8; 8] = *b"anything";

fn read_memory(pid: i32) -> Answer {
    let mut copy = [0u8; 8];
    let local = libc::iovec { iov_base: copy.as_mut_ptr().cast(), iov_len: 8 };
    // The parent is this program, too, and has the same at the same place.
    let remote = libc::iovec { iov_base: KNOWN.as_ptr().cast_mut().cast(), iov_len: 8 };
    // SAFETY: local is a place of that length; the remote side is checked by the kernel.
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    result(read as libc::c_long)
}

fn sockets() -> Vec<Attempt> {
    vec![
        attempt("a pair of sockets", ALL, |_| told(UnixStream::pair())),
        attempt("a socket with a path in the branch", BUILDERS, |p| {
            told(UnixListener::bind(p.base("socket")))
        }),
        attempt("a socket with a path outside", NONE, |p| told(UnixListener::bind(p.outside("socket")))),
        attempt("an abstract socket within the group", BUILDERS, |_| {
            let name = format!("branch-proc-within-{}", std::process::id());
            let address = SocketAddr::from_abstract_name(name).unwrap();
            let listener = UnixListener::bind_addr(&address).map_err(|e| e.raw_os_error().unwrap_or(250))?;
            let connected = told(UnixStream::connect_addr(&address));
            drop(listener);
            connected
        }),
        attempt("an abstract socket outside", DEPLOYERS, |p| {
            // In a network namespace of its own, there is nobody.
            told(UnixStream::connect_addr(&SocketAddr::from_abstract_name(&p.listener).unwrap()))
                .map_err(|errno| if errno == libc::ECONNREFUSED { libc::EPERM } else { errno })
        }),
        attempt("an address outside", DEPLOYERS, |p| {
            // Whether the host's own network leads there is not the question.
            if fs::read_link("/proc/self/ns/net").is_ok_and(|own| own == p.network) {
                return Ok(());
            }
            told(UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.connect("192.0.2.1:443")))
                .map_err(|errno| if errno == libc::ENETUNREACH { libc::EPERM } else { errno })
        }),
        attempt("a TCP socket", WRITERS, |_| socket(libc::AF_INET, libc::SOCK_STREAM, 0)),
        attempt("a UDP socket", WRITERS, |_| socket(libc::AF_INET6, libc::SOCK_DGRAM, 0)),
        attempt("a question about routes", WRITERS, |_| socket(libc::AF_NETLINK, libc::SOCK_RAW, 0)),
        attempt("a raw socket", NONE, |_| socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_TCP)),
        attempt("a raw IPv6 socket", NONE, |_| {
            socket(libc::AF_INET6, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_TCP)
        }),
        attempt("a packet socket", NONE, |_| socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0)),
        attempt("a socket to the kernel's crypto", NONE, |_| socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0)),
        attempt("a socket to the hypervisor", NONE, |_| socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)),
        attempt("a socket to the kernel's audit", NONE, |_| {
            socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT)
        }),
    ]
}

fn socket(family: i32, kind: i32, protocol: i32) -> Answer {
    // SAFETY: plain numbers.
    answered(unsafe { libc::socket(family, kind, protocol) })
}

fn devices() -> Vec<Attempt> {
    vec![
        attempt("make a character device", NONE, |p| mknod(&p.base("node"), libc::S_IFCHR)),
        attempt("make a block device", NONE, |p| mknod(&p.base("block"), libc::S_IFBLK)),
        attempt("open the kernel's log device", NONE, |_| open_for(Path::new("/dev/kmsg"), libc::O_RDONLY)),
        attempt("change the host's name by its file", NONE, |_| {
            open_for(Path::new("/proc/sys/kernel/hostname"), libc::O_WRONLY)
        }),
        attempt("change where core dumps go", NONE, |_| {
            open_for(Path::new("/proc/sys/kernel/core_pattern"), libc::O_WRONLY)
        }),
        attempt("drop the machine's caches", NONE, |_| {
            open_for(Path::new("/proc/sys/vm/drop_caches"), libc::O_WRONLY)
        }),
        attempt("change the mode of an open file of the system", NONE, |_| {
            let file = File::open("/etc/passwd").map_err(|e| e.raw_os_error().unwrap_or(250))?;
            told(file.set_permissions(file.metadata().unwrap().permissions()))
        }),
        attempt("link in an open file of the system", NONE, |p| {
            let file = File::open("/etc/passwd").map_err(|e| e.raw_os_error().unwrap_or(250))?;
            told(fs::hard_link(format!("/proc/self/fd/{}", file.as_raw_fd()), p.base("passwd")))
        }),
    ]
}

fn memory() -> Vec<Attempt> {
    vec![
        attempt("execute from memory", BUILDERS, |_| {
            let file = memory_file(0)?;
            let mut program = Vec::new();
            let read = File::open("/bin/true").and_then(|mut file| file.read_to_end(&mut program));
            told(read)?;
            told(io::Write::write_all(&mut &file, &program))?;
            let argv = [c"true".as_ptr(), ptr::null()];
            // SAFETY: null-terminated arrays of C strings.
            answered(unsafe { libc::fexecve(file.as_raw_fd(), argv.as_ptr(), [ptr::null()].as_ptr()) })
        }),
        attempt("keep something in memory that is never executed", ALL, |_| memory_file(8).map(drop)),
    ]
}

fn memory_file(flags: u32) -> Result<File, i32> {
    use std::os::fd::FromRawFd;
    // SAFETY: a C string and a number.
    let fd = unsafe { libc::memfd_create(c"attempt".as_ptr(), flags) };
    answered(fd)?;
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { File::from_raw_fd(fd) })
}
