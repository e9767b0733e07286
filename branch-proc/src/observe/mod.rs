//! What the programs of a group try, and what of it is denied: told by the kernel (`seccomp_unotify(2)`), which
//! lets a call wait until a thread of the spawner has looked at it.
//!
//! Looking enforces nothing but the list of denied calls: paths are the business of Landlock and of
//! read-only mounts, what lies outside that of Landlock's scopes and of namespaces. Their answer is foretold here, by
//! [`crate::Rules::explain`] where a rule decides it, and put into words.

mod judge;
mod learn;
mod notify;
mod outside;
mod process;
mod record;
mod supervisor;
mod wanted;

use serde::{Deserialize, Serialize};

pub(crate) use notify::{channel, send_listener};
pub use record::{DENIALS_MAX, TRIED_MAX, Tried};
pub(crate) use supervisor::{Scopes, Task, Watch};
pub(crate) use wanted::{CALLS as WATCHED_CALLS, TRACE_BEGINS};

/// How closely a group is looked at. Every file it opens, makes or removes costs it a few microseconds more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Observe {
    /// Not at all: what is denied just fails.
    Nothing,
    /// What is denied is told in [`crate::Outcome::denials`].
    Denials,
    /// And everything that is tried is written down, to make a policy of it ([`crate::Group::take_tried`]).
    Everything,
}
