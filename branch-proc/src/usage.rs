//! What a group uses.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a group uses now, or has used by its end. None: unknown on this host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// User CPU time of everything that ever ran in it.
    pub user: Option<Duration>,
    /// System CPU time, counted as `user` is.
    pub sys: Option<Duration>,
    /// Bytes of memory now, page cache included where a control group counts it, else resident sets together.
    pub memory: Option<u64>,
    /// The most bytes of memory so far.
    pub memory_peak: Option<u64>,
    /// Processes and threads now.
    pub pids: Option<u64>,
    /// The most processes and threads so far.
    pub pids_peak: Option<u64>,
    /// Bytes read from block devices.
    pub io_read: Option<u64>,
    /// Bytes written to block devices.
    pub io_written: Option<u64>,
    /// Processes that the kernel has killed because the group's memory was used up.
    pub oom_kills: Option<u64>,
}

/// How much a group waits for memory: shares of wall time in percent (`/proc/pressure`, PSI).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// Some of it waited, of the last 10 s.
    pub some_avg10: f32,
    /// All of it waited, of the last 10 s.
    pub full_avg10: f32,
    /// For how long some of it has waited so far.
    pub some_total: Duration,
    /// For how long all of it has waited so far.
    pub full_total: Duration,
}

impl Pressure {
    /// Reads the format of `memory.pressure`; None for anything else.
    pub(crate) fn parse(text: &str) -> Option<Pressure> {
        let line = |kind: &str| text.lines().find_map(|line| line.strip_prefix(kind)).map(str::trim);
        let field = |line: &str, key: &str| {
            line.split_whitespace().find_map(|word| word.strip_prefix(key)).map(str::to_owned)
        };
        let (some, full) = (line("some ")?, line("full ")?);
        let total = |line| field(line, "total=")?.parse().ok().map(Duration::from_micros);
        Some(Pressure {
            some_avg10: field(some, "avg10=")?.parse().ok()?,
            full_avg10: field(full, "avg10=")?.parse().ok()?,
            some_total: total(some)?,
            full_total: total(full)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_as_the_kernel_writes_it() {
        let text = "some avg10=1.50 avg60=0.16 avg300=0.11 total=587008\n\
                    full avg10=0.25 avg60=0.08 avg300=0.06 total=345075\n";
        let pressure = Pressure::parse(text).unwrap();
        assert_eq!((pressure.some_avg10, pressure.full_avg10), (1.5, 0.25));
        assert_eq!(pressure.some_total, Duration::from_micros(587_008));
        assert_eq!(pressure.full_total, Duration::from_micros(345_075));
        assert_eq!(Pressure::parse("some avg10=x"), None);
    }
}
