//! The network of a group: which there is (`mode`, `rule`, `address`), what that lets through (`verdict`), and what a
//! namespace alone would not hold (`fence`).

pub(crate) mod address;
pub(crate) mod egress;
pub(crate) mod fence;
pub(crate) mod inside;
pub(crate) mod mode;
pub(crate) mod proxy;
pub(crate) mod rule;
pub(crate) mod verdict;

pub(crate) use egress::{Egress, Way, environment};
pub use inside::PROXY_PORT;
pub use mode::{HOST_RULES_MAX, Net, NetError};
pub(crate) use proxy::Proxy;
#[cfg(fuzzing)]
pub use proxy::fuzz;
pub use proxy::{Resolve, SystemResolver};
pub use rule::{HostRule, HostRuleError, PORTS_DEFAULT};
pub use verdict::NetRefusal;
