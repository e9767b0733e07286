//! What was measured, and the forms it is given out in.

mod checks;
mod figures;
mod json;
mod markdown;
mod svg;
mod table;
mod words;

use std::fs;

use crate::error::{Result, While};
use crate::options::Options;

pub(crate) use figures::{Column, Figures, Host, Line};

/// Prints the table, and writes the files that were asked for.
pub(crate) fn write(options: &Options, figures: &Figures) -> Result<()> {
    print!("{}", table::text(figures));
    let files = [
        (&options.json, json::text as fn(&Figures) -> Result<String>),
        (&options.markdown, |figures| Ok(markdown::text(figures))),
        (&options.svg, |figures| Ok(svg::text(figures))),
    ];
    for (path, text) in files {
        if let Some(path) = path {
            fs::write(path, text(figures)?).on("writing", path)?;
        }
    }
    Ok(())
}
