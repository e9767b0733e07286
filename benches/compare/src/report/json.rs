//! Everything that was measured, for programs.

use crate::error::{Failed, Result};
use crate::report::Figures;

/// Every round of every cell, with the counts and times that rates come from.
pub(super) fn text(figures: &Figures) -> Result<String> {
    let text = serde_json::to_string_pretty(figures).map_err(|error| Failed::Other(error.to_string()))?;
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::tests::example;

    #[test]
    fn counts_and_times_of_every_round_are_there() {
        let value: serde_json::Value = serde_json::from_str(&text(&example()).unwrap()).unwrap();
        let cell = &value["lines"][0]["cells"][1];
        assert_eq!(cell["rounds"][1]["operations"], 1000);
        assert_eq!(cell["rounds"][1]["nanoseconds"], 1_000_000_000);
        assert_eq!(value["lines"][1]["cells"][1]["failed"], "the disk <is> full");
        assert_eq!(value["columns"][2]["absent"], "no program");
    }
}
