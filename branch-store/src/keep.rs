//! What history keeps, and how it is written down.

use std::time::Duration;

const NONE: &str = "none";

/// How much of the past is kept to be undone: whichever bound is met first. What a live branch's view of the base needs
/// is kept in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// So many commits into the base can be undone, and so many redone.
    pub commits: u32,
    /// None that is older, but for the newest one.
    pub age: Option<Duration>,
    /// What commits replaced takes no more than so many bytes, as the host allocates them.
    pub bytes: Option<u64>,
}

impl Default for Keep {
    /// 16 commits of the last 30 days, however much they replaced.
    fn default() -> Keep {
        Keep { commits: 16, age: Some(Duration::from_secs(30 * 24 * 3600)), bytes: None }
    }
}

impl Keep {
    /// As the store's file says it.
    pub(crate) fn text(&self) -> String {
        let bound = |bound: Option<u64>| bound.map_or_else(|| NONE.to_owned(), |bound| bound.to_string());
        let age = bound(self.age.map(|age| age.as_secs()));
        format!("commits {}\nage {age}\nbytes {}\n", self.commits, bound(self.bytes))
    }

    /// `None` for what is no such text.
    pub(crate) fn parse(text: &str) -> Option<Keep> {
        let mut lines = text.lines();
        let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let bound = |text: &str| if text == NONE { Some(None) } else { text.parse().ok().map(Some) };
        let commits = value("commits")?.parse().ok()?;
        let age: Option<u64> = bound(value("age")?)?;
        let bytes = bound(value("bytes")?)?;
        let keep = Keep { commits, age: age.map(Duration::from_secs), bytes };
        lines.next().is_none().then_some(keep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let bounded = Keep { commits: 0, age: Some(Duration::from_secs(u64::MAX)), bytes: Some(u64::MAX) };
        for keep in [Keep::default(), bounded, Keep { commits: u32::MAX, age: None, bytes: None }] {
            assert_eq!(Keep::parse(&keep.text()), Some(keep));
        }
        let good = Keep::default().text();
        let bad = [
            String::new(),
            good.replace("16", "-1"),
            good.replace("16", "4294967296"),
            good.replace("age", "ages"),
            good.replace("none", "nothing"),
            format!("{good}more 1\n"),
            good.lines().rev().collect::<Vec<_>>().join("\n"),
        ];
        for text in bad {
            assert_eq!(Keep::parse(&text), None, "{text:?}");
        }
    }
}
