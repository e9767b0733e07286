mod host;
mod workspace;

use std::io::{self, Write};

use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;
use super::output::Show;

/// Look at what branchfs needs of this machine, and at this workspace
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Ok,
    /// Works, with less than could be.
    Warning,
    /// Does not work.
    Failed,
}

/// One thing looked at.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Serialize)]
struct Findings {
    findings: Vec<Finding>,
}

impl Args {
    /// Fails if anything does not work.
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let mut findings = host::look();
        findings.extend(workspace::look(context));
        let failed = findings.iter().any(|finding| finding.verdict == Verdict::Failed);
        context.emit(&Findings { findings })?;
        Ok(if failed { Code::FAILURE } else { Code::OK })
    }
}

impl Finding {
    fn ok(check: &'static str, detail: impl Into<String>) -> Finding {
        Finding { check, verdict: Verdict::Ok, detail: detail.into(), hint: None }
    }

    fn warning(check: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding { check, verdict: Verdict::Warning, detail: detail.into(), hint: Some(hint.into()) }
    }

    fn failed(check: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding { check, verdict: Verdict::Failed, detail: detail.into(), hint: Some(hint.into()) }
    }
}

impl Show for Findings {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for Finding { check, verdict, detail, hint } in &self.findings {
            let mark = match verdict {
                Verdict::Ok => "ok  ",
                Verdict::Warning => "warn",
                Verdict::Failed => "FAIL",
            };
            writeln!(out, "{mark}  {check:16}  {detail}")?;
            if let Some(hint) = hint {
                writeln!(out, "      hint: {hint}")?;
            }
        }
        Ok(())
    }
}
