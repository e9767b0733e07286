//! A small project with a mistake in it, in a temporary directory; a git repository if git is there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use super::super::error::CliError;
use super::{CHECK, Claim};

const FILES: [(&str, &str); 3] = [
    ("greet.sh", "# Greets whoever is named.\ngreet() {\n    printf 'Helo, %s!\\n' \"$1\"\n}\n"),
    (
        "test.sh",
        ". ./greet.sh\ngot=$(greet World)\nwant='Hello, World!'\nif [ \"$got\" = \"$want\" ]; then\n    echo \"ok: $got\"\nelse\n    echo \"not ok: got '$got', want '$want'\"\n    exit 1\nfi\n",
    ),
    ("notes.txt", "Nobody has committed this file to git, and it must survive all the same.\n"),
];
/// The only file an attempt has to change.
const TO_FIX: &str = "greet.sh";
/// Not in git: as `.env` and build output are not.
const UNTRACKED: &str = "notes.txt";

pub(super) struct Project {
    temp: TempDir,
    directory: PathBuf,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Git,
    Plain,
}

impl Project {
    pub(super) fn make() -> Result<Project, CliError> {
        let system = |source| CliError::System { doing: "make a temporary directory", source };
        let temp = tempfile::Builder::new().prefix("branchfs-demo-").tempdir().map_err(system)?;
        let directory = fs::canonicalize(temp.path()).map_err(system)?;
        for (name, content) in FILES {
            fs::write(directory.join(name), content).map_err(CliError::at("write", directory.join(name)))?;
        }
        let mut project = Project { temp, directory, kind: Kind::Plain };
        if project.make_repository() {
            project.kind = Kind::Git;
        }
        Ok(project)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn describe(&self) -> String {
        let kind = match self.kind {
            Kind::Git => "a git repository",
            Kind::Plain => "a plain directory (there is no git here)",
        };
        let names = FILES.map(|(name, _)| name).join(", ");
        format!("  {}: {kind} with {names}", self.directory.display())
    }

    /// Runs the test on the base: whether it passed, and what it wrote.
    pub(super) fn test(&self) -> Result<(bool, String), CliError> {
        let ran = self.command("sh").args(["-c", CHECK]).output();
        let ran =
            ran.map_err(|source| CliError::System { doing: "run the project's test with sh", source })?;
        Ok((ran.status.success(), text(&ran)))
    }

    /// What is different now, as git says it.
    pub(super) fn changes(&self) -> String {
        match self.kind {
            Kind::Git => self.git(&["diff", "--stat"]).map(|ran| text(&ran)).unwrap_or_default(),
            Kind::Plain => fs::read_to_string(self.directory.join(TO_FIX)).unwrap_or_default(),
        }
    }

    /// Everything but the fix is as it was: what `rm -rf` did stayed in its branch.
    pub(super) fn claim_only_the_fix(&self) -> Claim {
        let claim = "nothing else has changed";
        let differs = |(name, content): &&(&str, &str)| {
            *name != TO_FIX && fs::read(self.directory.join(name)).ok().as_deref() != Some(content.as_bytes())
        };
        let mut wrong: Vec<String> =
            FILES.iter().filter(differs).map(|(name, _)| (*name).to_owned()).collect();
        let mut detail = String::new();
        if self.kind == Kind::Git {
            let status = self.git(&["status", "--short"]).map(|ran| text(&ran)).unwrap_or_default();
            let expected = [format!(" M {TO_FIX}"), format!("?? {UNTRACKED}")];
            wrong
                .extend(status.lines().filter(|line| !expected.iter().any(|e| e == line)).map(str::to_owned));
            detail = format!("git status:\n{status}");
        }
        let holds = wrong.is_empty();
        Claim { claim, holds, detail: if holds { detail } else { format!("wrong: {}", wrong.join(", ")) } }
    }

    pub(super) fn remove(self) -> Result<(), CliError> {
        self.temp.close().map_err(CliError::at("remove", self.directory))
    }

    /// False when git is not there or does not work: then the project stays a plain directory.
    fn make_repository(&self) -> bool {
        let tracked = FILES.map(|(name, _)| name).into_iter().filter(|name| *name != UNTRACKED);
        let add: Vec<&str> = ["add", "--"].into_iter().chain(tracked).collect();
        let steps = [vec!["init", "-q"], add, vec!["commit", "-q", "-m", "Greet"]];
        steps.iter().all(|step| self.git(step).is_ok_and(|ran| ran.status.success()))
    }

    /// git, out of reach of the user's configuration.
    fn git(&self, args: &[&str]) -> io::Result<Output> {
        let settings = ["-c", "user.name=demo", "-c", "user.email=demo@localhost", "-c", "core.pager=cat"];
        self.command("git")
            .args(settings)
            .args(args)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .env_remove("GIT_INDEX_FILE")
            .output()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.directory).stdin(Stdio::null());
        command
    }
}

fn text(ran: &Output) -> String {
    let mut bytes = ran.stdout.clone();
    bytes.extend_from_slice(&ran.stderr);
    String::from_utf8_lossy(&bytes).trim_end().to_owned()
}
