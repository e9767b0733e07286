//! Reading and writing the one-line and keyed files of control groups.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::limits::Limit;

/// One file to write for a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) limit: Limit,
    pub(super) file: String,
    pub(super) value: String,
}

impl Setting {
    pub(super) fn new(limit: Limit, file: impl Into<String>, value: String) -> Setting {
        Setting { limit, file: file.into(), value }
    }
}

/// More than any of these files holds.
const FILE_MAX: usize = 4096;

/// One write: the kernel takes the value with it or refuses.
pub(super) fn write(file: &Path, value: &str) -> io::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).open(file)?;
    file.write_at(value.as_bytes(), 0).map(drop)
}

/// A file that holds one number; `max` and a file that is not there are None.
pub(super) fn number(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The number after `key ` on a line of its own.
pub(super) fn keyed(file: &Path, key: &str) -> Option<u64> {
    keyed_in(&std::fs::read_to_string(file).ok()?, key)
}

pub(super) fn keyed_in(text: &str, key: &str) -> Option<u64> {
    let value = |line: &str| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok();
    text.lines().find_map(value)
}

/// A number, if it is at least `rough` without those of a keyed file.
pub(super) fn without(number: u64, rough: u64, file: &Path, keys: [&str; 2]) -> u64 {
    let text = (number >= rough).then(|| std::fs::read_to_string(file).ok()).flatten();
    let parts = |text: &str| keys.iter().filter_map(|key| keyed_in(text, key)).sum::<u64>();
    number.saturating_sub(text.as_deref().map_or(0, parts))
}

/// The sum of all words `key…` of `io.stat`.
pub(super) fn sum(text: &str, key: &str) -> u64 {
    text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok()).sum()
}

/// The sum over all devices of the lines `MAJ:MIN Direction N`.
pub(super) fn sum_of_direction(text: &str, direction: &str) -> u64 {
    let bytes = |line: &str| -> Option<u64> {
        let mut words = line.split_whitespace().skip(1);
        (words.next()? == direction).then_some(())?;
        words.next()?.parse().ok()
    };
    text.lines().filter_map(bytes).sum()
}

/// The whole of a file from its beginning.
pub(super) fn read_again(file: &File) -> io::Result<String> {
    let mut bytes = [0; FILE_MAX];
    let count = file.read_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes[..count]).into_owned())
}

/// Microseconds of processor time in each period. The kernel takes no less than one millisecond.
pub(super) fn cpu_quota(milli: u32, period: u64) -> u64 {
    const QUOTA_MIN: u64 = 1000;
    (u64::from(milli) * period / 1000).max(QUOTA_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyed_files_are_read_by_whole_keys() {
        let text = "oom 1\noom_kill 3\noom_kill_disable 0\n";
        assert_eq!(keyed_in(text, "oom_kill"), Some(3));
        assert_eq!(keyed_in(text, "kill"), None);
    }

    #[test]
    fn traffic_is_summed_over_devices() {
        assert_eq!(sum("8:0 rbytes=10 wbytes=3\n8:16 rbytes=5 wbytes=0\n", "rbytes="), 15);
        assert_eq!(sum_of_direction("8:0 Read 10\n8:0 Write 3\n8:16 Read 5\nTotal 18\n", "Read"), 15);
    }

    #[test]
    fn a_processor_share_becomes_a_quota_that_the_kernel_takes() {
        assert_eq!(cpu_quota(1500, 100_000), 150_000);
        assert_eq!(cpu_quota(1, 100_000), 1000);
    }
}
