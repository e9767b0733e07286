//! Printing: text for people, or one JSON document on standard output, be it a result or an error.
//!
//! Documents are objects with `"version": 1`. Absent means not applicable, null unknown. Fields may be
//! added within a version.

use std::io::{self, Write};

use serde::Serialize;

use super::error::CliError;

/// Version of the JSON documents.
const JSON_VERSION: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Json,
}

/// Something a verb has to say.
pub(super) trait Show: Serialize {
    /// For people. May write nothing.
    fn text(&self, out: &mut dyn Write) -> io::Result<()>;
}

/// Prints the value in the chosen format.
pub(super) fn emit(format: Format, value: &impl Show) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match format {
        Format::Text => reader_may_leave(value.text(&mut out).and_then(|()| out.flush())),
        Format::Json => json(&mut out, value),
    }
    .map_err(CliError::Output)
}

/// Reports an error: as JSON on standard output, or on standard error with its hint.
pub(super) fn report(format: Format, error: &CliError) {
    let said = match format {
        Format::Json => json(&mut io::stdout().lock(), &ErrorDocument::new(error)),
        Format::Text => error_text(&mut io::stderr().lock(), error),
    };
    // With both streams gone the exit code is all that is left, and it says the same.
    drop(said);
}

fn json(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    let document = Document { version: JSON_VERSION, value };
    let mut text = serde_json::to_string(&document).map_err(io::Error::other)?;
    text.push('\n');
    reader_may_leave(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// `branchfs list | head -1` is no error.
fn reader_may_leave(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn error_text(out: &mut dyn Write, error: &CliError) -> io::Result<()> {
    writeln!(out, "branchfs: {error}")?;
    super::conflicts::describe(out, error.conflicts())?;
    writeln!(out, "hint: {}", error.hint())
}

#[derive(Serialize)]
struct Document<'a, T> {
    version: u32,
    #[serde(flatten)]
    value: &'a T,
}

#[derive(Serialize)]
struct ErrorDocument<'a> {
    error: ErrorBody<'a>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    kind: &'static str,
    message: String,
    hint: String,
    exit_code: u8,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    conflicts: &'a [branch_core::Conflict],
}

impl<'a> ErrorDocument<'a> {
    fn new(error: &'a CliError) -> ErrorDocument<'a> {
        let body = ErrorBody {
            kind: error.kind(),
            message: error.to_string(),
            hint: error.hint(),
            exit_code: error.code().0,
            conflicts: error.conflicts(),
        };
        ErrorDocument { error: body }
    }
}
