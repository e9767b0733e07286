//! Ready policies for the usual kinds of work; `docs/process.md` has the table.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::net::{HostRule, Net};

use super::{BranchAccess, Capability, Ipc, NamePattern, PathPattern, PatternError, Policy};

/// Programs and their libraries.
const SYSTEM: [&str; 11] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/opt",
    "/nix/store",
    "/gnu/store",
    "/snap",
];
/// What programs want to know of the system, and nothing that is secret: not all of `/etc`.
const FACTS: [&str; 48] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/run/systemd/resolve",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/locale.alias",
    "/etc/locale.conf",
    "/etc/default/locale",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/alternatives",
    "/etc/os-release",
    "/etc/lsb-release",
    "/etc/debian_version",
    "/etc/mime.types",
    "/etc/magic",
    "/etc/gitconfig",
    "/etc/npmrc",
    "/etc/profile",
    "/etc/profile.d",
    "/etc/bash.bashrc",
    "/etc/inputrc",
    "/etc/terminfo",
    "/etc/fonts",
    "/etc/perl",
    "/etc/python3",
    "/etc/java",
    "/proc",
    "/sys/devices/system",
    "/sys/fs/cgroup",
    "/sys/kernel/mm/transparent_hugepage",
    "/sys/kernel/mm/hugepages",
];
/// Tools that live in a home directory.
const HOME_TOOLS: [&str; 11] = [
    ".cargo/bin",
    ".rustup",
    ".local/bin",
    ".local/lib",
    ".local/share/uv",
    ".local/share/pnpm",
    ".pyenv",
    ".nvm",
    ".volta",
    ".deno",
    "go/bin",
];
/// Their settings.
const HOME_SETTINGS: [&str; 7] = [
    ".gitconfig",
    ".config/git",
    ".cargo/config.toml",
    ".cargo/env",
    ".config/pip",
    ".config/npm",
    ".profile",
];
/// What they keep to go faster next time.
const HOME_CACHES: [&str; 12] = [
    ".cargo/registry",
    ".cargo/git",
    ".cargo/.package-cache",
    ".cargo/.package-cache-mutate",
    ".cargo/.global-cache",
    ".npm",
    ".cache",
    ".ccache",
    "go/pkg",
    ".m2/repository",
    ".gradle",
    ".yarn",
];
/// What is needed to act in the user's name elsewhere.
const HOME_CREDENTIALS: [&str; 12] = [
    ".ssh",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".cargo/credentials.toml",
    ".aws",
    ".azure",
    ".kube",
    ".docker",
    ".config/gh",
    ".config/gcloud",
    ".git-credentials",
];
/// Where packages come from.
const REGISTRIES: [&str; 11] = [
    "crates.io",
    "index.crates.io",
    "static.crates.io",
    "registry.npmjs.org",
    "registry.yarnpkg.com",
    "pypi.org",
    "files.pythonhosted.org",
    "proxy.golang.org",
    "sum.golang.org",
    "github.com",
    "codeload.github.com",
];
/// Shared memory and temporary files.
const SCRATCH: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];
/// Variables that say how to work, not who one is.
const ENV: [&str; 49] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PWD",
    "TERM",
    "COLORTERM",
    "COLUMNS",
    "LINES",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "TMPDIR",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "LESS",
    "NO_COLOR",
    "FORCE_COLOR",
    "CLICOLOR*",
    "CI",
    "DEBUG",
    "BRANCH_*",
    "BRANCHING_*",
    "CARGO_*",
    "RUST*",
    "CC",
    "CXX",
    "AR",
    "LD",
    "CFLAGS",
    "CXXFLAGS",
    "CPPFLAGS",
    "LDFLAGS",
    "MAKE*",
    "PKG_CONFIG*",
    "PYTHON*",
    "VIRTUAL_ENV*",
    "PYENV_*",
    "PIP_*",
    "NODE_*",
    "NVM_*",
    "GO*",
    "JAVA_HOME",
    "!*TOKEN*",
    "!*SECRET*",
    "!*PASSW*",
];
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
