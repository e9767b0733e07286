//! Ready policies for the usual kinds of work; `docs/process.md` has the table.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::net::{HostRule, Net};

use super::places::{
    ENV, FACTS, HOME_CACHES, HOME_CREDENTIALS, HOME_SETTINGS, HOME_TOOLS, REGISTRIES, SCRATCH, SYSTEM,
};
use super::{BranchAccess, Capability, Ipc, NamePattern, PathPattern, PatternError, Policy};

/// Capabilities that only matter for files, where the policy's paths are the fence.
const FILES: [Capability; 4] =
    [Capability::Chown, Capability::DacOverride, Capability::Fowner, Capability::Fsetid];

/// A ready policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Looking at the branch: nothing can be changed, nothing of the branch is executed, no network, no
    /// sockets.
    Analyze,
    /// Changing files of the branch with the tools that are installed.
    Edit,
    /// Building and testing: what was built is run, temporary files and the tools' caches may be written.
    Build,
    /// As build, with the user's credentials, environment and sockets.
    Deploy,
}

impl Preset {
    /// Every one, the strictest first.
    pub const ALL: [Preset; 4] = [Preset::Analyze, Preset::Edit, Preset::Build, Preset::Deploy];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Analyze => "analyze",
            Preset::Edit => "edit",
            Preset::Build => "build",
            Preset::Deploy => "deploy",
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why text is no [`Preset`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no preset: analyze, edit, build, deploy")]
pub struct PresetError(String);

impl FromStr for Preset {
    type Err = PresetError;

    fn from_str(text: &str) -> Result<Preset, PresetError> {
        let found = Preset::ALL.into_iter().find(|preset| preset.name() == text);
        found.ok_or_else(|| PresetError(text.to_owned()))
    }
}

impl Policy {
    /// A ready policy. `home` is where the user's tools, settings and caches are; without it, those are out
    /// of reach.
    ///
    /// # Errors
    /// [`PatternError`] if `home` is no path that a rule can name.
    pub fn preset(preset: Preset, home: Option<&Path>) -> Result<Policy, PatternError> {
        let mut policy = Policy::new(preset.name());
        policy.fs_exec = system(&SYSTEM)?;
        policy.fs_read = system(&FACTS)?;
        policy.env = names(&ENV)?;
        policy.fs_exec.extend(at_home(home, &HOME_TOOLS)?);
        policy.fs_read.extend(at_home(home, &HOME_SETTINGS)?);
        if preset == Preset::Analyze {
            policy.branch = BranchAccess::ReadOnly;
            policy.capabilities = vec![Capability::DacOverride];
            return Ok(policy);
        }
        policy.capabilities = FILES.to_vec();
        policy.fs_write = system(&SCRATCH)?;
        policy.net = Net::Loopback;
        if preset == Preset::Edit {
            return Ok(policy);
        }
        policy.branch = BranchAccess::WriteAndExecute;
        policy.fs_exec.extend(system(&SCRATCH[..2])?);
        policy.fs_write.extend(at_home(home, &HOME_CACHES)?);
        policy.fs_exec.extend(at_home(home, &[".cache"])?);
        policy.ipc = Ipc::Group;
        policy.net = Net::Allow(registries()?);
        policy.ptrace = true;
        policy.memory_exec = true;
        if preset == Preset::Deploy {
            policy.fs_read.extend(at_home(home, &HOME_CREDENTIALS)?);
            policy.env = names(&["*"])?;
            policy.net = Net::Open;
            policy.ipc = Ipc::Host;
        }
        Ok(policy)
    }
}

fn system(paths: &[&str]) -> Result<Vec<PathPattern>, PatternError> {
    paths.iter().map(PathPattern::new).collect()
}

fn registries() -> Result<Vec<HostRule>, PatternError> {
    let rule = |host: &&str| host.parse().map_err(|_| PatternError::Name((*host).to_owned()));
    REGISTRIES.iter().map(rule).collect()
}

fn names(patterns: &[&str]) -> Result<Vec<NamePattern>, PatternError> {
    patterns.iter().map(|pattern| NamePattern::new(*pattern)).collect()
}

fn at_home(home: Option<&Path>, paths: &[&str]) -> Result<Vec<PathPattern>, PatternError> {
    let under = |home: &Path| paths.iter().map(|path| PathPattern::new(home.join(path))).collect();
    home.map_or(Ok(Vec::new()), under)
}

#[cfg(test)]
mod tests {
    use super::super::{Op, lets_through};
    use super::*;
    use std::ffi::OsStr;

    fn allowed(preset: Preset, op: Op, path: &str) -> bool {
        let policy = Policy::preset(preset, Some(Path::new("/home/me"))).unwrap();
        policy.rules([Path::new("/work").to_owned()]).explain(op, Path::new(path)).allowed
    }

    #[test]
    fn each_preset_allows_what_the_stricter_one_does() {
        let paths = ["/work/a", "/usr/bin/git", "/etc/passwd", "/etc/shadow", "/home/me/.ssh/id", "/tmp/a"];
        for pair in Preset::ALL.windows(2) {
            for (op, path) in Op::ALL.into_iter().flat_map(|op| paths.map(|path| (op, path))) {
                assert!(allowed(pair[1], op, path) || !allowed(pair[0], op, path), "{pair:?} {op} {path}");
            }
        }
    }

    #[test]
    fn the_presets_differ_where_they_should() {
        let by = |op, path| Preset::ALL.map(|preset| allowed(preset, op, path));
        assert_eq!(by(Op::Read, "/work/a"), [true; 4]);
        assert_eq!(by(Op::Write, "/work/a"), [false, true, true, true]);
        assert_eq!(by(Op::Execute, "/work/a"), [false, false, true, true]);
        assert_eq!(by(Op::Execute, "/usr/bin/git"), [true; 4]);
        assert_eq!(by(Op::Write, "/usr/bin/git"), [false; 4]);
        assert_eq!(by(Op::Create, "/tmp/a"), [false, true, true, true]);
        assert_eq!(by(Op::Read, "/etc/shadow"), [false; 4]);
        assert_eq!(by(Op::Write, "/home/me/.npm/a"), [false, false, true, true]);
        assert_eq!(by(Op::Read, "/home/me/.ssh/id"), [false, false, false, true]);
        assert_eq!(by(Op::Read, "/home/me/.bash_history"), [false; 4]);
        assert_eq!(by(Op::Write, "/dev/null"), [true; 4]);
        assert_eq!(by(Op::CreateBlock, "/work/a"), [false; 4]);
    }

    #[test]
    fn secrets_in_the_environment_pass_for_a_deployment_only() {
        let passes =
            |preset, name: &str| lets_through(&Policy::preset(preset, None).unwrap().env, OsStr::new(name));
        for name in ["CARGO_REGISTRY_TOKEN", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD", "SSH_AUTH_SOCK"] {
            assert_eq!(Preset::ALL.map(|preset| passes(preset, name)), [false, false, false, true], "{name}");
        }
        assert_eq!(Preset::ALL.map(|preset| passes(preset, "PATH")), [true; 4]);
    }
}
