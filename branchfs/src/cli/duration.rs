//! `30`, `30s`, `500ms`, `5m`, `2h` on the command line.

use std::time::Duration;

use branch_core::Bound;

/// In seconds.
const DAY: u64 = 86400;

/// Longest span accepted, so that deadlines cannot overflow: a hundred days.
const SPAN_MAX: Duration = Duration::from_secs(100 * 86400);

pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let wrong = || format!("'{text}' is not a span of time: write 500ms, 30s, 5m or 2h");
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let milliseconds = match &text[digits..] {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    match number.checked_mul(milliseconds).map(Duration::from_millis) {
        Some(Duration::ZERO) => Err("the time must be more than nothing".into()),
        Some(span) if span <= SPAN_MAX => Ok(span),
        _ => Err(format!("'{text}' is longer than the limit of 100 days")),
    }
}

/// How old something may become: `12h`, `30d`, `8w`, or `none`. In seconds.
pub(super) fn age(text: &str) -> Result<Bound, String> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(Bound::Unlimited);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let wrong = || format!("'{text}' is no age: write 90m, 12h, 30d, 8w or none");
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let seconds = match &text[digits..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => DAY,
        "w" => 7 * DAY,
        _ => return Err(wrong()),
    };
    number.checked_mul(seconds).map(Bound::AtMost).ok_or_else(wrong)
}

/// An age in seconds as one would write it.
pub(super) fn shown(seconds: u64) -> String {
    match seconds {
        s if s > 0 && s % DAY == 0 => format!("{}d", s / DAY),
        s if s > 0 && s % 3600 == 0 => format!("{}h", s / 3600),
        s => format!("{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units_and_seconds_need_none() {
        assert_eq!(parse("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("2h"), Ok(Duration::from_secs(7200)));
    }

    #[test]
    fn ages_need_units_and_can_be_none() {
        assert_eq!(age("30d"), Ok(Bound::AtMost(30 * DAY)));
        assert_eq!(age("2w"), Ok(Bound::AtMost(14 * DAY)));
        assert_eq!(age("0s"), Ok(Bound::AtMost(0)));
        assert_eq!(age("none"), Ok(Bound::Unlimited));
        for text in ["", "30", "d", "-1d", "1.5d", "1y", "18446744073709551615w"] {
            assert!(age(text).is_err_and(|reason| reason.contains(text)), "{text}");
        }
        assert_eq!([30 * DAY, 7200, 90, 0].map(shown), ["30d", "2h", "90s", "0s"]);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "s", "-1", "1d", "1.5s", "0", "18446744073709551615h", "5 m", "é"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
