//! Figures, times and paths as people read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use branch_core::PathBytes;

/// A path that cannot upset a terminal: quoted like git does if it holds control characters, quotes or
/// bytes that are no UTF-8.
pub(super) fn path(path: &PathBytes) -> String {
    crate::patch::quoted(&path.0)
}

/// What a commit changed. Directories that were there before are not counted; a commit into the base (`in_base`) that
/// counts nothing has changed those.
pub(super) fn changed(paths: u64, in_base: bool) -> String {
    match (paths, in_base) {
        (0, true) => "directories only".to_owned(),
        (0, false) => "directories at most".to_owned(),
        (paths, _) => count(paths, "path"),
    }
}

/// `3 paths`, `1 path`.
pub(super) fn count(n: u64, thing: &str) -> String {
    let plural = match (n, thing.ends_with("ch") || thing.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{n} {thing}{plural}")
}

/// Bytes with one decimal and a binary unit.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Words of others: nothing in them moves the cursor or colours the screen.
pub(super) fn plain(text: &str) -> String {
    let shown =
        |c: char| if c.is_control() && c != '\t' { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// How long ago a moment in seconds since the epoch was: `5s`, `3m`, `7h`, `12d`.
pub(super) fn age(created: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
    match now.saturating_sub(created).max(0) {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m", s / 60),
        s @ 3600..86400 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86400),
    }
}

/// A span with three digits or so: `4 ms`, `1.25 s`, `2m05s`.
pub(super) fn span(span: Duration) -> String {
    match span.as_millis() {
        0 => format!("{} µs", span.as_micros()),
        ms @ 1..1000 => format!("{ms} ms"),
        ms @ 1000..60_000 => format!("{:.2} s", ms as f64 / 1000.0),
        ms => format!("{}m{:02}s", ms / 60_000, ms / 1000 % 60),
    }
}

/// A moment as `2026-01-31 23:59:59Z` (days to civil date after Howard Hinnant's chrono-compatible
/// low-level date algorithms).
pub(super) fn moment(epoch: i64) -> String {
    let (days, second) = (epoch.div_euclid(86400), epoch.rem_euclid(86400));
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02}Z", second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_upset_a_terminal() {
        let shown = |bytes: &[u8]| path(&PathBytes(bytes.to_vec()));
        assert_eq!(shown("src/ünï.rs".as_bytes()), "src/ünï.rs");
        assert_eq!(shown(b"a\x1b[2Jb\n"), "\"a\\033[2Jb\\n\"");
        assert_eq!(shown(b"\xff"), "\"\\377\"");
        assert_eq!(shown(b"say \"hi\""), "\"say \\\"hi\\\"\"");
    }

    #[test]
    fn figures_read_as_people_write_them() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(u64::MAX), "16384.0 PiB");
        assert_eq!(count(1, "branch"), "1 branch");
        assert_eq!(count(2, "branch"), "2 branches");
        assert_eq!(count(0, "path"), "0 paths");
        assert_eq!(span(Duration::from_millis(1250)), "1.25 s");
        assert_eq!(span(Duration::from_secs(125)), "2m05s");
    }

    #[test]
    fn moments_are_civil_dates_in_utc() {
        assert_eq!(moment(0), "1970-01-01 00:00:00Z");
        assert_eq!(moment(951_782_399), "2000-02-28 23:59:59Z");
        assert_eq!(moment(951_782_400), "2000-02-29 00:00:00Z");
        assert_eq!(moment(-1), "1969-12-31 23:59:59Z");
    }
}
