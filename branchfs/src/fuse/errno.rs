//! The one place where an errno becomes an answer to the kernel.

use rustix::io::Errno;

/// Highest error the kernel accepts from a server; it drops a reply with a higher one.
const HIGHEST: i32 = 511;

/// What the kernel is told. ENOSYS would make it stop asking for good, which only this crate may decide, not a
/// host filesystem that lacks an operation.
pub(super) fn answer(errno: Errno) -> fuser::Errno {
    match errno.raw_os_error() {
        libc::ENOSYS => fuser::Errno::EOPNOTSUPP,
        raw @ 1..=HIGHEST => fuser::Errno::from_i32(raw),
        _ => fuser::Errno::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_errno_gets_a_legal_answer() {
        for raw in 1..4096 {
            let code = answer(Errno::from_raw_os_error(raw)).code();
            assert!((1..=HIGHEST).contains(&code) && code != libc::ENOSYS, "{raw} became {code}");
            if raw <= 133 && raw != libc::ENOSYS {
                assert_eq!(code, raw);
            }
        }
    }
}
