//! `4096`, `500M`, `2GiB`, `1.5T`, `none` on the command line.

use branch_core::Quota;

/// Units in words of their own: as truncate(1) and dd(1) have them.
const UNITS: [&str; 6] = ["", "K", "M", "G", "T", "P"];

/// A size in bytes, or `none`.
pub(super) fn limit(text: &str) -> Result<Quota, String> {
    if text.eq_ignore_ascii_case("none") { Ok(Quota::Unlimited) } else { parse(text).map(Quota::Bytes) }
}

/// A number of bytes. `K` and `KiB` are 1024, `KB` is 1000. A fraction needs a unit.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("'{text}' is no size: write 4096, 500M, 2GiB or 1.5G (KB, MB, … are powers of 1000)");
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = factor(unit).ok_or_else(wrong)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    // Three digits say more than anybody means.
    let thousandths = match fraction {
        "" if number.contains('.') => return Err(wrong()),
        "" => 0,
        _ if factor == 1 || fraction.len() > 3 => return Err(wrong()),
        fraction => format!("{fraction:0<3}").parse().map_err(|_| wrong())?,
    };
    let bytes = u128::from(whole) * u128::from(factor) + u128::from(factor) * thousandths / 1000;
    u64::try_from(bytes).map_err(|_| format!("'{text}' is more than {} bytes", u64::MAX))
}

fn factor(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_uppercase();
    let (base, prefix): (u64, &str) = match unit.as_str() {
        "B" => (1, ""),
        _ => match (unit.strip_suffix("IB"), unit.strip_suffix('B')) {
            (Some(prefix), _) if !prefix.is_empty() => (1024, prefix),
            (None, Some(prefix)) => (1000, prefix),
            (_, _) => (1024, &unit),
        },
    };
    let power = UNITS.iter().position(|known| *known == prefix)?;
    base.checked_pow(u32::try_from(power).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_bytes_need_none() {
        let sizes = [
            ("0", 0),
            ("4096", 4096),
            ("10B", 10),
            ("1k", 1024),
            ("10M", 10 << 20),
            ("1GiB", 1 << 30),
            ("2gb", 2_000_000_000),
            ("1.5G", 3 << 29),
            ("0.001MB", 1000),
            ("3P", 3 << 50),
        ];
        for (text, bytes) in sizes {
            assert_eq!(parse(text), Ok(bytes), "{text}");
            assert_eq!(limit(text), Ok(Quota::Bytes(bytes)), "{text}");
        }
        assert_eq!(limit("none"), Ok(Quota::Unlimited));
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for text in [
            "",
            "M",
            "-1",
            "1.5",
            "1.M",
            ".5M",
            "1.2345G",
            "1 M",
            "1iB",
            "1X",
            "1MiBB",
            "1.2.3M",
            "é",
            "99999999P",
        ] {
            assert!(parse(text).is_err_and(|reason| reason.contains(text)), "{text}");
        }
    }
}
