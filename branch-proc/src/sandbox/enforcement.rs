//! How much of a policy this kernel can enforce.

use serde::{Deserialize, Serialize};

/// What of policies this kernel enforces, found out by asking it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforcement {
    /// The version of Landlock's interface, 0 where there is none (`landlock(7)`).
    pub landlock_abi: u32,
    /// What is not enforced, each in a few words; empty when all is.
    pub missing: Vec<String>,
}

/// What each version brought, and so what is missing below it.
const BROUGHT: [(u32, &str); 6] = [
    (1, "files by path (Landlock, Linux 5.13)"),
    // Without it the kernel refuses what it cannot check, so nothing gets out: files cannot be moved.
    (2, "moving files between directories, which is refused altogether (Landlock ABI 2, Linux 5.19)"),
    (3, "truncate(2) of files by path (Landlock ABI 3, Linux 6.2)"),
    (4, "TCP ports (Landlock ABI 4, Linux 6.7)"),
    (5, "ioctl(2) on devices (Landlock ABI 5, Linux 6.10)"),
    (6, "abstract sockets and signals (Landlock ABI 6, Linux 6.12)"),
];

impl Enforcement {
    /// Asks the kernel.
    pub fn of_this_kernel() -> Enforcement {
        Enforcement::at(super::landlock::abi_of_this_kernel(), super::mounts::can_be_read_only())
    }

    /// Whether all of it is.
    pub fn is_full(&self) -> bool {
        self.missing.is_empty()
    }

    fn at(landlock_abi: u32, read_only_mounts: bool) -> Enforcement {
        let lacking = BROUGHT.iter().filter(|(abi, _)| *abi > landlock_abi);
        let mut missing: Vec<String> = lacking.map(|(_, what)| (*what).to_owned()).collect();
        if !read_only_mounts {
            missing
                .push("owner, mode, times and attributes of files (mount_setattr(2), Linux 5.12)".to_owned());
        }
        Enforcement { landlock_abi, missing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_abi_lacks_what_later_ones_brought() {
        for abi in 0..=9 {
            let lacks = Enforcement::at(abi, true);
            assert_eq!(lacks.missing.len(), 6_usize.saturating_sub(abi as usize), "{lacks:?}");
            assert_eq!(lacks.is_full(), abi >= 6);
        }
        assert!(Enforcement::at(3, true).missing[0].contains("TCP"));
        assert!(!Enforcement::at(7, false).is_full());
    }
}
