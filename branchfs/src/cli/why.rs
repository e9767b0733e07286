use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use branch_proc::{Decision, Op};
use serde::Serialize;

use super::confine;
use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;
use super::output::Show;

/// The port where none is named.
const PORT_DEFAULT: u16 = 443;

/// Explain whether a policy allows something, and by which rule
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What is done: read, list, write, execute, create, remove, … to a path; connect to a host; call a system call
    #[arg(value_name = "OP")]
    op: String,
    /// The path (as the command would see it), HOST[:PORT], or the name of the system call
    #[arg(value_name = "PATH")]
    object: String,
    /// The policy: analyze, edit, build, deploy, or a TOML file [default: $BRANCHFS_POLICY]
    #[arg(long, value_name = "PRESET|FILE")]
    policy: Option<String>,
}

#[derive(Serialize)]
struct Explained {
    op: String,
    object: String,
    policy: String,
    #[serde(flatten)]
    decision: Decision,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let named = confine::named(self.policy).ok_or_else(|| CliError::Usage {
            reason: "no policy is named".into(),
            hint: "add --policy PRESET or FILE, or set BRANCHFS_POLICY".into(),
        })?;
        let policy = confine::policy(&named)?;
        let base = context.workspace()?.base().to_owned();
        let rules = policy.rules([base]).on_this_host();
        let decision = match self.op.as_str() {
            "connect" => {
                let (host, port) = host_and_port(&self.object)?;
                rules.explain_host(host, port)
            }
            "call" => rules.explain_call(&self.object),
            op => {
                let op = Op::from_str(op).map_err(|error| CliError::Usage {
                    reason: format!("{error}; or connect, or call"),
                    hint: "for example: branchfs why write /etc/hosts --policy build".into(),
                })?;
                rules.explain(op, &resolved(&context.directory().join(&self.object), op))
            }
        };
        let code = if decision.allowed { Code::OK } else { Code::FAILURE };
        context.emit(&Explained { op: self.op, object: self.object, policy: named, decision })?;
        Ok(code)
    }
}

/// What the path leads to, as far as it is there. Of what is about the name itself only the directory is followed.
fn resolved(path: &Path, op: Op) -> PathBuf {
    let whole = if op.is_about_name() { None } else { std::fs::canonicalize(path).ok() };
    whole.unwrap_or_else(|| {
        let parent = path.parent().and_then(|parent| std::fs::canonicalize(parent).ok());
        parent.zip(path.file_name()).map_or_else(|| path.to_owned(), |(parent, name)| parent.join(name))
    })
}

/// `HOST`, `HOST:PORT`, `[V6]:PORT`; an address of IPv6 may stand alone.
fn host_and_port(text: &str) -> Result<(&str, u16), CliError> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match port.map_or(Ok(PORT_DEFAULT), str::parse) {
        Ok(port) => Ok((host, port)),
        Err(_) => Err(CliError::Usage {
            reason: format!("'{text}' names no port"),
            hint: "write HOST or HOST:PORT".into(),
        }),
    }
}

impl Show for Explained {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let word = if self.decision.allowed { "allowed" } else { "denied" };
        writeln!(out, "{word}: {}", self.decision.words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_may_have_a_port() {
        let parsed = |text| host_and_port(text).unwrap();
        assert_eq!(parsed("crates.io"), ("crates.io", 443));
        assert_eq!(parsed("crates.io:80"), ("crates.io", 80));
        assert_eq!(parsed("[::1]:80"), ("::1", 80));
        assert_eq!(parsed("::1"), ("::1", 443));
        assert!(host_and_port("crates.io:https").is_err());
    }
}
