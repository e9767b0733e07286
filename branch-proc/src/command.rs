//! The request: what to run, where, and with which view.

use std::ffi::OsString;
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;

use crate::cgroup::Home;
use crate::ladder::{Requirement, Rung};
use crate::limits::Limits;
use crate::net::{Net, Resolve, SystemResolver, Way};
use crate::observe::Observe;
use crate::overlay::Overlay;
use crate::policy::Policy;
use crate::program::Session;
use crate::scope::Scope;

/// Highest descriptor number that can be passed on with [`Command::fd`].
pub const FD_TARGET_MAX: RawFd = 255;

/// Where one of the program's standard streams comes from or goes to.
#[derive(Debug, Default)]
pub enum Stdio {
    /// The caller's own.
    #[default]
    Inherit,
    /// `/dev/null`.
    Null,
    /// This descriptor.
    Fd(OwnedFd),
}

impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Stdio {
        Stdio::Fd(fd)
    }
}

/// Which `/tmp` a group sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tmp {
    Callers,
    Own,
}

/// A program to run in a group of its own.
///
/// Unless told otherwise it inherits the caller's environment, standard streams and working directory (by
/// path: inside a bound base it starts in the view), and gets an empty signal mask, default signal
/// dispositions, no other descriptor, and a session of its own.
#[derive(Debug)]
pub struct Command {
    pub(crate) argv: Vec<OsString>,
    pub(crate) binds: Vec<(PathBuf, PathBuf)>,
    pub(crate) overlay: Option<Overlay>,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) env_clear: bool,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) stdio: [Stdio; 3],
    pub(crate) fds: Vec<(OwnedFd, RawFd)>,
    pub(crate) session: Session,
    pub(crate) net: Net,
    pub(crate) way: Way,
    pub(crate) policy: Option<Policy>,
    pub(crate) observe: Option<Observe>,
    pub(crate) tmp: Tmp,
    pub(crate) at_most: Rung,
    pub(crate) requirements: Vec<Requirement>,
    pub(crate) limits: Limits,
    pub(crate) home: Option<Home>,
}

impl Command {
    /// The program and its arguments. A name without `/` is looked up in the `PATH` of the program's
    /// environment, inside the view.
    pub fn new(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Command {
        Command {
            argv: argv.into_iter().map(Into::into).collect(),
            binds: Vec::new(),
            overlay: None,
            cwd: None,
            env_clear: false,
            env: Vec::new(),
            stdio: Default::default(),
            fds: Vec::new(),
            session: Session::Own,
            net: Net::Open,
            way: Way(Arc::new(SystemResolver)),
            policy: None,
            observe: None,
            tmp: Tmp::Callers,
            at_most: Rung::CgroupV2,
            requirements: Vec::new(),
            limits: Limits::default(),
            home: None,
        }
    }

    /// Shows the directory `view`, with what is mounted in it, at the path `over`, to this group only.
    /// Several binds are made in the order given.
    pub fn bind(mut self, view: impl Into<PathBuf>, over: impl Into<PathBuf>) -> Command {
        self.binds.push((view.into(), over.into()));
        self
    }

    /// Mounts an overlayfs for this group only, before anything is bound.
    pub fn overlay(mut self, overlay: Overlay) -> Command {
        self.overlay = Some(overlay);
        self
    }

    /// Starts in this directory, looked up after the binds.
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Command {
        self.cwd = Some(dir.into());
        self
    }

    /// Sets one variable.
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Command {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Sets several variables.
    pub fn envs(
        mut self,
        vars: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
    ) -> Command {
        self.env.extend(vars.into_iter().map(|(key, value)| (key.into(), value.into())));
        self
    }

    /// Starts from an empty environment: nothing is inherited, and variables set so far are forgotten.
    pub fn env_clear(mut self) -> Command {
        self.env_clear = true;
        self.env.clear();
        self
    }

    /// Standard input.
    pub fn stdin(mut self, from: impl Into<Stdio>) -> Command {
        self.stdio[0] = from.into();
        self
    }

    /// Standard output.
    pub fn stdout(mut self, to: impl Into<Stdio>) -> Command {
        self.stdio[1] = to.into();
        self
    }

    /// Standard error.
    pub fn stderr(mut self, to: impl Into<Stdio>) -> Command {
        self.stdio[2] = to.into();
        self
    }

    /// Passes a descriptor under the number `target`, 3 to [`FD_TARGET_MAX`].
    pub fn fd(mut self, fd: OwnedFd, target: RawFd) -> Command {
        self.fds.push((fd, target));
        self
    }

    /// Stays in the caller's session and process group, so that the terminal's keys and job control reach
    /// it as they reach a plain child. The terminal's foreground group is put back when the group has
    /// ended.
    pub fn foreground(mut self) -> Command {
        self.session = Session::Callers;
        self
    }

    /// Which network it gets; the caller's unless told otherwise. With an allow list it gets the variables
    /// that point programs to the proxy (`HTTP_PROXY` and its kin), whatever they were before; where it has
    /// no way out, it has none of them.
    pub fn net(mut self, net: Net) -> Command {
        self.net = net;
        self
    }

    /// How the proxy of an allow list finds the addresses of names, instead of by the system's resolver.
    pub fn resolver(mut self, resolve: impl Resolve + 'static) -> Command {
        self.way = Way(Arc::new(resolve));
        self
    }

    /// Confines the program to what a policy allows; the branch is what is bound with [`Command::bind`]. Of
    /// the caller's environment only what the policy names is handed on; what is set with [`Command::env`]
    /// is in any case. Its network is the group's, unless [`Command::net`] says another than [`Net::Open`].
    pub fn policy(mut self, policy: Policy) -> Command {
        self.policy = Some(policy);
        self
    }

    /// How closely the group is looked at; with a policy [`Observe::Denials`] unless told otherwise, else
    /// [`Observe::Nothing`]. Where it is looked at, programs gain no privileges by being executed (sudo does not
    /// work), and no group within can be looked at as well.
    pub fn observe(mut self, observe: Observe) -> Command {
        self.observe = Some(observe);
        self
    }

    /// Gives the group a `/tmp` of its own, empty but for what is bound there. Its files are memory, and count as
    /// the group's.
    pub fn private_tmp(mut self) -> Command {
        self.tmp = Tmp::Own;
        self
    }

    /// Bounds what the whole group may use. How each bound is held on this host is told by
    /// [`crate::Level::limits`].
    pub fn limits(mut self, limits: Limits) -> Command {
        self.limits = limits;
        self
    }

    /// Puts the group into a scope, whose limits it shares with the others there.
    pub fn within(mut self, scope: &Scope) -> Command {
        self.home = Some(scope.home());
        self
    }

    /// Uses nothing above this rung of the ladder. Without this the best that the host offers is used, and
    /// [`Rung::Subreaper`] only for commands without binds: there the program would see the base itself where
    /// it expects the view. Asked for, it starts in the view's own path instead.
    pub fn at_most(mut self, rung: Rung) -> Command {
        self.at_most = rung;
        self
    }

    /// Makes it an error if this host cannot offer something.
    pub fn require(mut self, requirement: Requirement) -> Command {
        self.requirements.push(requirement);
        self
    }
}
