//! What went wrong, as a number.

use branch_core::{ClientError, Error};

/// Each error as an error number.
pub(crate) fn of(error: Error) -> i32 {
    match error {
        Error::NoWorkspace { .. } => libc::ENOENT,
        Error::Location { source, .. } | Error::System { source, .. } => {
            source.raw_os_error().unwrap_or(libc::EINVAL)
        }
        Error::Launch(_) => libc::ENOTCONN,
        Error::Daemon(ClientError::Version { .. } | ClientError::Mismatch { .. }) => libc::EPROTO,
        Error::Daemon(_) => libc::ENOTCONN,
        Error::Failed(failure) => failure.errno(),
        Error::Spawn { source } => source.errno,
        Error::Group { source } => source.source.raw_os_error().unwrap_or(libc::EIO),
        Error::Invalid { .. } => libc::EINVAL,
    }
}
