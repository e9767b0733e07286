//! The network of a group: which there is (`mode`, `rule`, `address`), and what that lets through (`verdict`).

pub(crate) mod address;
pub(crate) mod mode;
pub(crate) mod rule;
pub(crate) mod verdict;

pub use mode::{HOST_RULES_MAX, Net, NetError};
pub use rule::{HostRule, HostRuleError, PORTS_DEFAULT};
pub use verdict::NetRefusal;
