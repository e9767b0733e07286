//! Which network a group gets, as data.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::net::rule::{HostRule, HostRuleError};

/// Most rules an allow list may have: each is looked at for each request.
pub const HOST_RULES_MAX: usize = 1024;

/// The network of a group. As data: `"none"`, `"loopback"`, `"open"`, or `{ allow = ["crates.io", …] }`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Net {
    /// A network namespace of its own with nothing up, not even loopback.
    None,
    /// A network namespace of its own with its own loopback: the group's programs reach each other only.
    Loopback,
    /// As [`Net::Loopback`], and an HTTP proxy there that lets through what these rules name.
    Allow(#[serde(deserialize_with = "bounded")] Vec<HostRule>),
    /// The caller's network, unconfined.
    #[default]
    Open,
}

impl Net {
    /// Whether the group is cut off from the caller's network.
    pub fn is_confined(&self) -> bool {
        *self != Net::Open
    }
}

/// Why text is no [`Net`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// Not one of the words there are.
    #[error("{0:?} is no network mode: none, loopback, open, or allow=HOST,HOST…")]
    Mode(String),
    /// More rules than [`HOST_RULES_MAX`].
    #[error("{0} rules are more than the {HOST_RULES_MAX} there may be: use *.DOMAIN or a CIDR")]
    TooMany(usize),
    /// A rule that says nothing.
    #[error(transparent)]
    Rule(#[from] HostRuleError),
}

/// `none`, `loopback`, `open`, or `allow=HOST,HOST…`.
impl FromStr for Net {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Net, NetError> {
        match text {
            "none" => Ok(Net::None),
            "loopback" => Ok(Net::Loopback),
            "open" => Ok(Net::Open),
            _ => {
                let rules = text.strip_prefix("allow=").ok_or_else(|| NetError::Mode(text.to_owned()))?;
                let count = rules.split(',').count();
                if count > HOST_RULES_MAX {
                    return Err(NetError::TooMany(count));
                }
                Ok(Net::Allow(rules.split(',').map(str::parse).collect::<Result<_, _>>()?))
            }
        }
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Net::None => f.write_str("none"),
            Net::Loopback => f.write_str("loopback"),
            Net::Open => f.write_str("open"),
            Net::Allow(rules) => {
                let mut between = "allow=";
                for rule in rules {
                    write!(f, "{between}{rule}")?;
                    between = ",";
                }
                Ok(())
            }
        }
    }
}

fn bounded<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<HostRule>, D::Error> {
    let rules = Vec::deserialize(from)?;
    match rules.len() {
        0..=HOST_RULES_MAX => Ok(rules),
        count => Err(serde::de::Error::custom(NetError::TooMany(count))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_printed_as_they_are_read() {
        for text in ["none", "loopback", "open", "allow=crates.io,*.github.com:443,127.0.0.1:8080"] {
            assert_eq!(text.parse::<Net>().unwrap().to_string(), text);
        }
        for text in ["", "None", "allow", "allow=", "allow=a,,b", "deny=a"] {
            assert!(text.parse::<Net>().is_err(), "{text:?} is a mode");
        }
    }

    #[test]
    fn more_rules_than_there_may_be_are_refused() {
        let many = |count| format!("allow={}", vec!["a.example"; count].join(","));
        assert!(many(HOST_RULES_MAX).parse::<Net>().is_ok());
        assert_eq!(many(HOST_RULES_MAX + 1).parse::<Net>(), Err(NetError::TooMany(HOST_RULES_MAX + 1)));
    }
}
