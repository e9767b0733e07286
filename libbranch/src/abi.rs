//! The structures as C programs lay them out, and the numbers. A later version may be longer: what this one does not
//! know must be zero, as with `clone3(2)`.

use std::ffi::{c_char, c_int, c_void};
use std::mem::{offset_of, size_of};

use branch_proc::branch::Child;

pub(crate) const BR_CREATE: c_int = 1;
pub(crate) const BR_COMMIT: c_int = 2;
pub(crate) const BR_ABORT: c_int = 3;

pub(crate) const BR_FS: u32 = 1;
/// Always so: the children are forked.
const BR_MEMORY: u32 = 2;
pub(crate) const BR_ISOLATE: u32 = 4;
pub(crate) const BR_CLOSE_FDS: u32 = 8;
const FLAGS: u32 = BR_FS | BR_MEMORY | BR_ISOLATE | BR_CLOSE_FDS;

/// Bytes of a name with its NUL.
const NAME_MAX: usize = 128;

/// `attr.create`
#[repr(C)]
#[derive(Default)]
pub(crate) struct Create {
    pub(crate) flags: u32,
    pub(crate) mount_fd: i32,
    pub(crate) n_branches: u32,
    pad: u32,
    child_pids: u64,
    branch_names: u64,
}

/// The first version of the proposal ended here.
const CREATE_MIN: usize = offset_of!(Create, branch_names);
const _: () = assert!(size_of::<Create>() == 32 && CREATE_MIN == 24);

impl Create {
    /// # Safety
    /// `attr` is null or points to `size` bytes.
    pub(crate) unsafe fn read(attr: *const c_void, size: usize) -> Result<Create, i32> {
        if size < CREATE_MIN {
            return Err(libc::EINVAL);
        }
        // SAFETY: passed on to the caller.
        let bytes = unsafe { bytes_of(attr, size) }?;
        let known = size.min(size_of::<Create>());
        if bytes[known..].iter().any(|byte| *byte != 0) {
            return Err(libc::E2BIG);
        }
        let mut create = Create::default();
        // SAFETY: plain numbers, any bytes are valid; `known` is at most their size.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), (&raw mut create).cast::<u8>(), known) };
        let valid = create.flags & !FLAGS == 0 && create.pad == 0;
        if valid { Ok(create) } else { Err(libc::EINVAL) }
    }

    /// Fills the caller's arrays, those it has.
    ///
    /// # Safety
    /// Each is null or has room for all children.
    pub(crate) unsafe fn tell(&self, children: &[Child]) {
        let pids = self.child_pids as usize as *mut libc::pid_t;
        let names = self.branch_names as usize as *mut [c_char; NAME_MAX];
        for (at, child) in children.iter().enumerate() {
            if !pids.is_null() {
                // SAFETY: passed on to the caller.
                unsafe { pids.add(at).write_unaligned(child.pid) };
            }
            if !names.is_null() {
                let mut name: [c_char; NAME_MAX] = [0; NAME_MAX];
                let text = child.name.as_deref().unwrap_or("").bytes().take(NAME_MAX - 1);
                name.iter_mut().zip(text).for_each(|(to, byte)| *to = byte as c_char);
                // SAFETY: passed on to the caller.
                unsafe { names.add(at).write_unaligned(name) };
            }
        }
    }
}

/// `attr.commit` and `attr.abort_op`: flags, of which there are none, and a descriptor that is not needed here. May be
/// left out.
///
/// # Safety
/// As [`Create::read`].
pub(crate) unsafe fn read_flags(attr: *const c_void, size: usize) -> Result<(), i32> {
    if size == 0 {
        return Ok(());
    }
    // SAFETY: passed on to the caller.
    let bytes = unsafe { bytes_of(attr, size) }?;
    match bytes.first_chunk() {
        Some(flags) if u32::from_ne_bytes(*flags) == 0 => Ok(()),
        _ => Err(libc::EINVAL),
    }
}

/// # Safety
/// As [`Create::read`].
unsafe fn bytes_of<'a>(attr: *const c_void, size: usize) -> Result<&'a [u8], i32> {
    match size {
        _ if attr.is_null() => Err(libc::EFAULT),
        // As large as what the kernel takes.
        size if size > 4096 => Err(libc::E2BIG),
        // SAFETY: passed on to the caller.
        size => Ok(unsafe { std::slice::from_raw_parts(attr.cast(), size) }),
    }
}
