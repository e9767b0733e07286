//! Whether a group may connect to a host, and why not: the one place where the proxy, and whoever asks
//! beforehand, get their answer.

use std::net::IpAddr;

use crate::net::address;
use crate::net::mode::Net;
use crate::net::rule::{Host, HostRule, PORTS_DEFAULT};

/// Why a connection does not come about, in words that say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetRefusal {
    /// The mode has no way out at all.
    #[error("{target} cannot be reached, the network is \"{mode}\"; let it through with --net allow={rule}")]
    NoWayOut {
        /// Where it should have gone, as `host:port`.
        target: String,
        /// The group's mode.
        mode: Net,
        /// What would allow it.
        rule: String,
    },
    /// No rule names it.
    #[error("{target} is not in the allow list; add it with --net allow={rule}")]
    NotListed {
        /// Where it should have gone, as `host:port`.
        target: String,
        /// What would allow it.
        rule: String,
    },
    /// Its name is allowed, and leads to an address that has to be named itself.
    #[error(
        "{target} is not connected to: it is at {address}, {kind}, which only a rule that names it lets \
         through; add it with --net allow={rule}"
    )]
    NotPublic {
        /// Where it should have gone, as `host:port`.
        target: String,
        /// Where that is.
        address: IpAddr,
        /// Of what kind the address is, with its article.
        kind: &'static str,
        /// What would allow it.
        rule: String,
    },
    /// What was asked for is no host.
    #[error("{text:?} is no host to connect to: {why}")]
    NotAHost {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Net {
    /// Whether a program of such a group can connect to a host (a name, an IPv4 address, or an IPv6 address
    /// in brackets), and through which rule; None where no rule is needed. Pure: a name that is allowed may
    /// still lead to an address that is not.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn explain(&self, host: &str, port: u16) -> Result<Option<&HostRule>, NetRefusal> {
        let parsed = Host::parse(host).map_err(|why| NetRefusal::NotAHost { text: host.to_owned(), why })?;
        match self {
            Net::Open => Ok(None),
            Net::Allow(rules) => listed(rules, &parsed, port).map(Some),
            Net::None | Net::Loopback => Err(NetRefusal::NoWayOut {
                target: target(&parsed, port),
                mode: self.clone(),
                rule: rule_for(&parsed, port),
            }),
        }
    }
}

/// The rule that lets a request for this host through. For a name this comes before anything is resolved:
/// a question to the DNS is a message to the outside, too.
pub(crate) fn listed<'a>(rules: &'a [HostRule], host: &Host, port: u16) -> Result<&'a HostRule, NetRefusal> {
    let allows = |rule: &&HostRule| match host {
        Host::Name(name) => rule.allows_name(name, port),
        Host::Address(address) => rule.allows_address(*address, port),
    };
    rules
        .iter()
        .find(allows)
        .ok_or_else(|| NetRefusal::NotListed { target: target(host, port), rule: rule_for(host, port) })
}

/// Whether one of the addresses of a listed host may be connected to. `own` says that it belongs to this
/// machine, whatever its number.
pub(crate) fn reachable(
    rules: &[HostRule],
    host: &Host,
    address: IpAddr,
    port: u16,
    own: bool,
) -> Result<(), NetRefusal> {
    let kind = match address::special(address) {
        Some(special) => special.kind,
        None if own => "an address of this machine",
        None => return Ok(()),
    };
    if rules.iter().any(|rule| rule.allows_address(address, port)) {
        return Ok(());
    }
    let address = address::plain(address);
    let rule = rule_for(&Host::Address(address), port);
    Err(NetRefusal::NotPublic { target: target(host, port), address, kind, rule })
}

fn target(host: &Host, port: u16) -> String {
    format!("{host}:{port}")
}

/// The shortest rule that allows it.
fn rule_for(host: &Host, port: u16) -> String {
    if PORTS_DEFAULT.contains(&port) { host.to_string() } else { target(host, port) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Net {
        text.parse().unwrap()
    }

    fn words(mode: &str, host: &str, port: u16) -> String {
        net(mode).explain(host, port).unwrap_err().to_string()
    }

    #[test]
    fn what_is_refused_says_which_rule_would_allow_it_and_that_rule_does() {
        for (host, port) in [("example.com", 443), ("Example.com.", 8080), ("10.0.0.1", 80), ("[::1]", 9)] {
            for mode in ["none", "loopback", "allow=crates.io"] {
                let words = words(mode, host, port);
                let rule = words.rsplit("--net ").next().unwrap();
                assert!(net(rule).explain(host, port).is_ok(), "{words}");
            }
        }
        let expected = "example.com:443 is not in the allow list; add it with --net allow=example.com";
        assert_eq!(words("allow=crates.io", "example.com", 443), expected);
    }

    #[test]
    fn what_is_allowed_names_its_rule() {
        let list = net("allow=a.example,*.b.example:8080");
        let rule = list.explain("X.b.example.", 8080).unwrap().unwrap();
        assert_eq!(rule.to_string(), "*.b.example:8080");
        assert_eq!(net("open").explain("anything.example", 1), Ok(None));
        assert!(matches!(net("open").explain("0x7f.1", 1), Err(NetRefusal::NotAHost { .. })));
    }

    #[test]
    fn an_allowed_name_does_not_lead_to_an_address_nobody_named() {
        let name = Host::Name("a.example".to_owned());
        let reach = |rules: &str, address: &str, own| {
            let Net::Allow(rules) = net(rules) else { panic!("an allow list") };
            reachable(&rules, &name, address.parse().unwrap(), 80, own)
        };
        assert_eq!(reach("allow=a.example", "8.8.8.8", false), Ok(()));
        assert_eq!(reach("allow=a.example,127.0.0.1", "127.0.0.1", false), Ok(()));
        assert_eq!(reach("allow=a.example,127.0.0.1", "::ffff:127.0.0.1", false), Ok(()));
        for (address, own) in [("127.0.0.1", false), ("::ffff:10.0.0.1", false), ("8.8.8.8", true)] {
            let refusal = reach("allow=a.example,0.0.0.0/0:443", address, own).unwrap_err();
            assert!(matches!(refusal, NetRefusal::NotPublic { .. }), "{refusal}");
        }
    }
}
