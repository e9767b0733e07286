//! How `run` and `explore` confine their commands.

use std::env;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use branch_core::{Confinement, Tmp};
use branch_proc::{Limits, Net, Observe, Policy, Preset, Requirement, Rung};

use super::error::CliError;
use super::memory::MemoryLimit;
use super::size;

/// The policy where none is named on the command line.
const POLICY_VARIABLE: &str = "BRANCHFS_POLICY";

/// Options of the confinement.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Confinement")]
pub(super) struct Options {
    /// What the command may do: analyze, edit, build, deploy, or a TOML file [default: $BRANCHFS_POLICY, else anything]
    #[arg(long, value_name = "PRESET|FILE")]
    policy: Option<String>,
    /// Its network: none, loopback, open, or allow=HOST,HOST… (*.DOMAIN, HOST:PORT, addresses)
    #[arg(long, value_name = "MODE", value_parser = Net::from_str)]
    net: Option<Net>,
    /// The most memory it may use, all its processes together, such as 2GiB [default: $AGENT_RESOURCE_HINT, else any]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    memory: Option<u64>,
    /// The most processes and threads it may have
    #[arg(long, value_name = "N")]
    pids: Option<u32>,
    /// The most processors it may use, such as 1.5
    #[arg(long, value_name = "N", value_parser = processors)]
    cpu: Option<u32>,
    /// Give it a /tmp of its own, empty and in memory
    #[arg(long)]
    private_tmp: bool,
    /// Hold it together by nothing better than this
    #[arg(long, value_name = "RUNG", value_enum, default_value = "cgroup-v2")]
    ladder: Ladder,
    /// Do not run it where this cannot be had
    #[arg(long, value_name = "WHAT", value_enum)]
    require: Vec<Require>,
    /// Do not look at what it is denied: faster for commands that open files all day
    #[arg(long)]
    no_watch: bool,
}

/// [`Rung`], as the command line spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Ladder {
    CgroupV2,
    CgroupHybrid,
    PidNamespace,
    /// Weak: seen at the branch's own path, and what kills its init escapes.
    Subreaper,
}

/// [`Requirement`], as the command line spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Require {
    /// Nothing can survive the kill.
    InescapableKill,
    /// Every limit holds for the whole group.
    EnforcedLimits,
    /// A /proc of its own.
    FreshProc,
    /// The kernel enforces all of the policy.
    FullPolicy,
}

impl Options {
    /// As data for the library, which may from now on move this process for the limits' sake.
    pub(super) fn confinement(&self) -> Result<Confinement, CliError> {
        branch_proc::allow_systemd_scope();
        let mut policy = self.policy()?;
        if let Some(policy) = policy.as_mut().filter(|_| self.require.contains(&Require::FullPolicy)) {
            policy.require_full = true;
        }
        Ok(Confinement {
            limits: Limits {
                memory_max: self.memory_limit().bytes(),
                pids_max: self.pids,
                cpu_max: self.cpu,
                ..Limits::default()
            },
            policy,
            net: self.net.clone(),
            observe: self.no_watch.then_some(Observe::Nothing),
            tmp: if self.private_tmp { Tmp::Private } else { Tmp::Shared },
            at_most: match self.ladder {
                Ladder::CgroupV2 => Rung::CgroupV2,
                Ladder::CgroupHybrid => Rung::CgroupHybrid,
                Ladder::PidNamespace => Rung::PidNamespace,
                Ladder::Subreaper => Rung::Subreaper,
            },
            requirements: self.require.iter().filter_map(requirement).collect(),
        })
    }

    /// How much memory it may use, and from where that is known.
    pub(super) fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::of(self.memory)
    }

    fn policy(&self) -> Result<Option<Policy>, CliError> {
        named(self.policy.clone()).as_deref().map(policy).transpose()
    }
}

/// The requirement for the process group; that of a policy is the policy's own.
fn requirement(require: &Require) -> Option<Requirement> {
    match require {
        Require::InescapableKill => Some(Requirement::InescapableKill),
        Require::EnforcedLimits => Some(Requirement::EnforcedLimits),
        Require::FreshProc => Some(Requirement::FreshProc),
        Require::FullPolicy => None,
    }
}

/// The policy named on the command line, else in the environment.
pub(super) fn named(given: Option<String>) -> Option<String> {
    given.or_else(|| env::var(POLICY_VARIABLE).ok().filter(|name| !name.is_empty()))
}

/// A preset by its name, else a file.
pub(super) fn policy(named: &str) -> Result<Policy, CliError> {
    if let Ok(preset) = Preset::from_str(named) {
        let home = env::home_dir();
        return Policy::preset(preset, home.as_deref()).map_err(|error| CliError::Usage {
            reason: format!("the preset {named} cannot be used with this home directory: {error}"),
            hint: "set HOME to another one".into(),
        });
    }
    let path = Path::new(named);
    if !named.contains(['/', '.']) && !path.exists() {
        return Err(CliError::Usage {
            reason: format!("{named:?} is neither a preset nor a file"),
            hint: "presets are analyze, edit, build and deploy; docs/process.md says how files are written"
                .into(),
        });
    }
    let text = fs::read_to_string(path).map_err(CliError::at("read", path))?;
    toml::from_str(&text).map_err(|error| CliError::Usage {
        reason: format!("{named} is no policy: {error}"),
        hint: "docs/process.md says how a policy is written".into(),
    })
}

/// Thousandths of a processor.
fn processors(text: &str) -> Result<u32, String> {
    const MILLI_MAX: f64 = 1e6;
    let wrong = || format!("'{text}' is no number of processors: write 2 or 0.5");
    let milli = text.parse::<f64>().map_err(|_| wrong())? * 1000.0;
    if (1.0..=MILLI_MAX).contains(&milli) { Ok(milli.round() as u32) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_may_be_parts_of_one() {
        assert_eq!((processors("2"), processors("0.5"), processors("1.25")), (Ok(2000), Ok(500), Ok(1250)));
        for text in ["", "0", "-1", "x", "inf", "NaN", "1e9"] {
            assert!(processors(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_policy_is_a_preset_or_a_file_and_comes_back_from_its_file() {
        let build = policy("build").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mine.toml");
        fs::write(&file, toml::to_string(&build).unwrap()).unwrap();
        assert_eq!(policy(file.to_str().unwrap()).unwrap(), build);
        fs::write(&file, "fs_reed = []").unwrap();
        let error = policy(file.to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains("fs_reed"), "{error}");
        assert!(policy("biuld").unwrap_err().to_string().contains("neither a preset nor a file"));
    }
}
