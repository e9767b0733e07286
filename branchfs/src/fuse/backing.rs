//! Passes: host files that the kernel was shown, to read them by itself.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use fuser::{BackingId, FopenFlags, InitFlags, KernelConfig, ReplyOpen};
use parking_lot::Mutex;
use rustix::io::Errno;

use crate::vfs::{Pass, Reading};

use super::errno::answer;
use super::replies;

/// Base and store may be on filesystems that stand on devices, not on overlayfs: then others may stack theirs on ours.
const STACKED_MAX: u32 = 1;

/// Whether the kernel takes host files, as far as it is known.
pub(super) struct Backing {
    answer: Mutex<Answer>,
}

/// What the kernel has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Nothing.
    NotAsked,
    /// It took one.
    Yes,
    /// Not from us: of such a kernel, or such a process, nothing is asked again.
    Never(Errno),
    /// Not the last one: it depends on the file's filesystem.
    NotThis(Errno),
}

impl Backing {
    pub(super) fn new() -> Backing {
        Backing { answer: Mutex::new(Answer::NotAsked) }
    }

    /// Before the first request.
    ///
    /// # Errors
    /// None but of a bound of our own that the crate does not know.
    pub(super) fn ask(&self, config: &mut KernelConfig) -> io::Result<()> {
        let unknown = |_| io::Error::from(io::ErrorKind::Unsupported);
        if !config.capabilities().contains(InitFlags::FUSE_PASSTHROUGH) {
            *self.answer.lock() = Answer::Never(Errno::NOSYS);
            return Ok(());
        }
        config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).map_err(|_| io::ErrorKind::Unsupported)?;
        config.set_max_stack_depth(STACKED_MAX).map_err(unknown)?;
        Ok(())
    }

    /// Shows the kernel a file.
    ///
    /// # Errors
    /// The kernel's: EPERM without CAP_SYS_ADMIN, ELOOP for a file of a stacked filesystem.
    pub(super) fn issue(&self, reply: &ReplyOpen, file: BorrowedFd<'_>) -> io::Result<Pass> {
        if let Answer::Never(errno) = *self.answer.lock() {
            return Err(errno.into());
        }
        match reply.open_backing(file) {
            Ok(id) => {
                *self.answer.lock() = Answer::Yes;
                Ok(Arc::new(id))
            }
            Err(error) => {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                *self.answer.lock() = refused(errno);
                tracing::debug!("a file is not read by the kernel itself: {error}");
                Err(error)
            }
        }
    }
}

fn refused(errno: Errno) -> Answer {
    match errno {
        Errno::PERM | Errno::NOSYS | Errno::NOTTY => Answer::Never(errno),
        other => Answer::NotThis(other),
    }
}

/// In words, for the status of a mount.
impl fmt::Display for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self.answer.lock() {
            Answer::NotAsked => write!(f, "no reader has come yet who could pass through"),
            Answer::Yes => write!(f, "readers pass through"),
            Answer::Never(Errno::PERM) => write!(f, "passthrough needs root"),
            Answer::Never(errno) => write!(f, "no passthrough in this kernel ({errno})"),
            Answer::NotThis(errno) => write!(f, "readers pass through, but not all ({errno})"),
        }
    }
}

pub(super) fn opened(reply: ReplyOpen, outcome: Result<Reading, Errno>) {
    match outcome {
        Ok(Reading::Served(opened)) => replies::opened(reply, Ok(opened)),
        Ok(Reading::Passed { fh, pass }) => match pass.downcast_ref::<BackingId>() {
            Some(id) => reply.opened_passthrough(fuser::FileHandle(fh), FopenFlags::empty(), id),
            None => reply.error(fuser::Errno::EIO),
        },
        Err(errno) => reply.error(answer(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_depends_on_the_file_is_asked_again() {
        assert_eq!(refused(Errno::PERM), Answer::Never(Errno::PERM));
        assert_eq!(refused(Errno::LOOP), Answer::NotThis(Errno::LOOP));
    }
}
