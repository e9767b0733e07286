//! The program's own process, from fork to exec. Async-signal-safe.

use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::fs::Access;
use rustix::io::Errno;

use crate::error::Step;
use crate::net;
use crate::sandbox::{Sandbox, drop_ways_out};
use crate::sys;
use crate::wire::Fail;

/// Everything `execve(2)` needs, made before the clone.
#[derive(Debug)]
pub(crate) struct Program {
    /// Paths to try in turn, as `execvp(3)` does: looked up inside the view, so only after the binds.
    pub(crate) candidates: Vec<CString>,
    pub(crate) argv: StringArray,
    pub(crate) env: StringArray,
    /// Descriptors and the numbers they shall have; every source lies above every target.
    pub(crate) fds: Vec<(OwnedFd, RawFd)>,
    pub(crate) session: Session,
    /// Whether it gives up what would let root leave a network namespace of its own.
    pub(crate) gives_up: bool,
    /// Whether it is refused the sockets that a network namespace does not hold.
    pub(crate) fenced: bool,
    /// The last thing before exec.
    pub(crate) sandbox: Option<Sandbox>,
    /// (resource, value) for `setrlimit(2)`.
    pub(crate) rlimits: Vec<(u32, u64)>,
}

/// Where keys typed at a terminal go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Session {
    /// A session and process group of its own, without a controlling terminal.
    Own,
    /// The caller's session and process group: as any plain child of the caller's.
    Callers,
}

/// A null-terminated array of C strings and what it points into.
#[derive(Debug)]
pub(crate) struct StringArray {
    _owned: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl StringArray {
    pub(crate) fn new(strings: Vec<CString>) -> StringArray {
        // A CString's bytes are on the heap: moving the vector does not move them.
        let mut pointers: Vec<_> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(std::ptr::null());
        StringArray { _owned: strings, pointers }
    }

    fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}

/// Becomes the program; returns only the step that failed.
pub(crate) fn become_program(program: &Program) -> Fail {
    match prepare(program) {
        Ok(()) => Fail::new(Step::Exec, exec(program)),
        Err(fail) => fail,
    }
}

fn prepare(program: &Program) -> Result<(), Fail> {
    if program.session == Session::Own {
        rustix::process::setsid().map_err(|e| Fail::new(Step::Session, e))?;
    }
    // Close-on-exec instead of closing: the error pipe has to live until exec. dup2 clears the mark again.
    sys::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC).map_err(|e| Fail::new(Step::CloseRest, e))?;
    if program.fenced {
        net::fence::enter().map_err(|e| Fail::new(Step::Seccomp, e))?;
    }
    if program.gives_up {
        drop_ways_out().map_err(|e| Fail::new(Step::Capabilities, e))?;
    }
    for (index, (source, target)) in program.fds.iter().enumerate() {
        sys::dup2(source.as_raw_fd(), *target).map_err(|e| Fail::new(Step::Descriptors, e).at(index))?;
    }
    for (index, (resource, value)) in program.rlimits.iter().enumerate() {
        sys::limit_resource(*resource, *value).map_err(|e| Fail::new(Step::Rlimit, e).at(index))?;
    }
    sys::set_signal_mask(&sys::signal_set(&[])).map_err(|e| Fail::new(Step::Signals, e))?;
    program.sandbox.as_ref().map_or(Ok(()), |sandbox| sandbox.enter(&program.fds))
}

/// Tries each candidate; a file that exists but may not be run wins over "not found", as in `execvp(3)`.
/// Unlike there, a directory of PATH that may not be searched is only one where nothing was found.
fn exec(program: &Program) -> Errno {
    let mut answer = Errno::NOENT;
    for path in &program.candidates {
        // SAFETY: path, argv and env are null-terminated and live until the process image is replaced.
        unsafe { libc::execve(path.as_ptr(), program.argv.as_ptr(), program.env.as_ptr()) };
        match sys::last_errno() {
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCESS if hidden(path) && program.candidates.len() > 1 => {}
            Errno::ACCESS => answer = Errno::ACCESS,
            other => return other,
        }
    }
    answer
}

/// Whether the way to a path is barred, as opposed to the file itself.
fn hidden(path: &CStr) -> bool {
    rustix::fs::access(path, Access::EXISTS) == Err(Errno::ACCESS)
}
