//! `30`, `30s`, `500ms`, `5m`, `2h` on the command line.

use std::time::Duration;

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
    fn nonsense_is_refused() {
        for text in ["", "s", "-1", "1d", "1.5s", "0", "18446744073709551615h", "5 m", "é"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
