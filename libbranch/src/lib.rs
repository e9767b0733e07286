//! `branch()` for C: `include/branch.h` says what it does, `man/branch.2` in full.
//!
//! This crate reads the caller's structure, ties [`branch_proc::branch`] to the daemon of a workspace, and keeps what a
//! child has to know of itself. Whatever it opens for a child is close-on-exec.

mod abi;
mod errno;
mod files;

use std::ffi::{c_int, c_long, c_void};
use std::mem;
use std::sync::{Mutex, PoisonError};

use branch_proc::branch::{Descriptors, Isolation, Myself, Request, Role, Worlds, create as fork_all};

use crate::abi::{BR_ABORT, BR_CLOSE_FDS, BR_COMMIT, BR_CREATE, BR_FS, BR_ISOLATE, Create};
use crate::files::Files;

/// What a child of `branch()` is.
struct Inside {
    myself: Myself,
    files: Option<Files>,
}

/// Held for the whole of a call, also over the forks: in the child it is still this thread that holds it.
static INSIDE: Mutex<Option<Inside>> = Mutex::new(None);

/// `branch(2)` as the paper proposes it: the answer of the operation, or a negative error number, which `errno` gets,
/// too.
///
/// # Safety
/// `attr` points to `size` bytes that hold what the operation takes, and its pointers to room for so many children.
/// For BR_CREATE also that of [`branch_proc::branch::create`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn branch(op: c_int, attr: *mut c_void, size: usize) -> c_long {
    // SAFETY: passed on to the caller.
    let answer = unsafe {
        match op {
            BR_CREATE => Create::read(attr, size).and_then(|attr| create(&attr)),
            BR_COMMIT => abi::read_flags(attr, size).and_then(|()| commit()),
            BR_ABORT => abi::read_flags(attr, size).and_then(|()| abort()),
            _ => Err(libc::EINVAL),
        }
    };
    answer.unwrap_or_else(|errno| {
        // SAFETY: a valid thread-local place.
        unsafe { *libc::__errno_location() = errno };
        -c_long::from(errno)
    })
}

/// # Safety
/// As [`branch`].
unsafe fn create(attr: &Create) -> Result<c_long, i32> {
    let mut inside = INSIDE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut files = match &*inside {
        _ if attr.flags & BR_FS == 0 => None,
        None => Some(Files::around(attr.mount_fd).map_err(errno::of)?),
        Some(Inside { myself, files: Some(files) }) => Some(files.below(myself).map_err(errno::of)?),
        Some(Inside { files: None, .. }) => return Err(libc::ENOENT),
    };
    let isolation = if attr.flags & BR_ISOLATE == 0 { Isolation::None } else { Isolation::Full };
    let descriptors =
        if attr.flags & BR_CLOSE_FDS == 0 { Descriptors::Inherited } else { Descriptors::Closed };
    let request = Request { count: attr.n_branches, isolation, descriptors };
    // SAFETY: passed on to the caller.
    let role = unsafe { fork_all(request, files.as_mut().map(|files| files as &mut dyn Worlds)) };
    match role.map_err(|error| error.errno())? {
        Role::Parent(children) => {
            // SAFETY: passed on to the caller.
            unsafe { attr.tell(&children) };
            Ok(0)
        }
        Role::Child(myself) => {
            let number = c_long::from(myself.number());
            let before = inside.replace(Inside { myself, files });
            if descriptors == Descriptors::Closed {
                // What it owned is closed.
                mem::forget(before);
            }
            Ok(number)
        }
    }
}

fn commit() -> Result<c_long, i32> {
    let mut inside = INSIDE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(Inside { myself, files: Some(files) }) = &mut *inside else { return Err(libc::EINVAL) };
    let name = myself.name().ok_or(libc::EINVAL)?;
    files.commit(name).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
    Ok(0)
}

fn abort() -> Result<c_long, i32> {
    match &*INSIDE.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(inside) => inside.myself.abort(),
        None => Err(libc::EINVAL),
    }
}
