//! One entry of an allow list: a domain, its subdomains, an address or a block of them, and ports.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::net::address::{self, Block};

/// The ports a rule means that names none: HTTP and HTTPS.
pub const PORTS_DEFAULT: [u16; 2] = [80, 443];
/// The longest name the DNS has, without its final dot (RFC 1035, 2.3.4).
pub(crate) const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// What a group may connect to. Written as
///
/// | text | means |
/// |---|---|
/// | `crates.io` | this name, ports 80 and 443 |
/// | `*.github.com:443` | every name below `github.com`, not itself, port 443 |
/// | `192.0.2.7:8080`, `[2001:db8::7]:8080` | this address |
/// | `10.1.0.0/16`, `[fd00:1::]/32:443` | the addresses of this block |
///
/// Names are compared without regard to case or a final dot; a name outside ASCII is written as in the DNS
/// (`xn--…`). An address that is not public (loopback, private, link-local …) is connected to only where a
/// rule names it, or a block within its special range: `0.0.0.0/0` does not mean `127.0.0.1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostRule {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Hosts {
    Name(String),
    /// Of this name, without `*.`.
    Subdomains(String),
    Addresses(Block),
}

/// Where a request wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// Lower case, no final dot, at least one label, none of them a number at the end.
    Name(String),
    Address(IpAddr),
}

/// Why text is no rule, and how it should read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no host to allow: {why}")]
pub struct HostRuleError {
    /// What was given.
    pub text: String,
    /// What is wrong with it, and what would be right.
    pub why: &'static str,
}

impl HostRule {
    /// Whether it lets a request to this name pass.
    pub(crate) fn allows_name(&self, name: &str, port: u16) -> bool {
        self.allows_port(port)
            && match &self.hosts {
                Hosts::Name(own) => own == name,
                Hosts::Subdomains(parent) => {
                    name.strip_suffix(parent.as_str()).is_some_and(|sub| sub.len() > 1 && sub.ends_with('.'))
                }
                Hosts::Addresses(_) => false,
            }
    }

    /// Whether it lets a connection to this address pass that is asked for by its number.
    pub(crate) fn allows_address(&self, address: IpAddr, port: u16) -> bool {
        let special = address::special(address);
        self.allows_port(port)
            && self.block().is_some_and(|block| {
                block.contains(address::plain(address)) && special.is_none_or(|special| block.names(&special))
            })
    }

    /// Whether it names this host, on whichever port.
    pub(crate) fn names(&self, host: &str) -> bool {
        match (&self.hosts, host.parse::<IpAddr>()) {
            (Hosts::Addresses(block), Ok(address)) => block.contains(address),
            (Hosts::Name(name), Err(_)) => name == host,
            _ => false,
        }
    }

    fn allows_port(&self, port: u16) -> bool {
        self.port.map_or(PORTS_DEFAULT.contains(&port), |own| own == port)
    }

    fn block(&self) -> Option<&Block> {
        match &self.hosts {
            Hosts::Addresses(block) => Some(block),
            Hosts::Name(_) | Hosts::Subdomains(_) => None,
        }
    }
}

impl Host {
    /// A host as it stands in a request: a name, an IPv4 address, or an IPv6 address in brackets.
    pub(crate) fn parse(text: &str) -> Result<Host, &'static str> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or("an opening bracket is not closed")?;
            return address_v6(inner).map(|address| Host::Address(address::plain(address)));
        }
        if looks_like_a_number(text) {
            return address_v4(text).map(Host::Address);
        }
        name(text).map(Host::Name)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(IpAddr::V6(v6)) => write!(f, "[{v6}]"),
            Host::Address(v4) => write!(f, "{v4}"),
        }
    }
}

impl FromStr for HostRule {
    type Err = HostRuleError;

    fn from_str(text: &str) -> Result<HostRule, HostRuleError> {
        parse(text).map_err(|why| HostRuleError { text: text.to_owned(), why })
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hosts {
            Hosts::Name(name) => f.write_str(name)?,
            Hosts::Subdomains(parent) => write!(f, "*.{parent}")?,
            Hosts::Addresses(block) if self.port.is_some() && block.is_v6() => {
                let text = block.to_string();
                let (first, prefix) = text.split_at(text.find('/').unwrap_or(text.len()));
                write!(f, "[{first}]{prefix}")?;
            }
            Hosts::Addresses(block) => write!(f, "{block}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl TryFrom<String> for HostRule {
    type Error = HostRuleError;

    fn try_from(text: String) -> Result<HostRule, HostRuleError> {
        text.parse()
    }
}

impl From<HostRule> for String {
    fn from(rule: HostRule) -> String {
        rule.to_string()
    }
}

fn parse(text: &str) -> Result<HostRule, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.contains("://") || text.contains('@') {
        return Err("only the host of a URL and its port are meant");
    }
    if let Some(inner) = text.strip_prefix('[') {
        let (first, rest) = inner.split_once(']').ok_or("an opening bracket is not closed")?;
        let (prefix, port) = match rest.split_once(':') {
            Some((prefix, number)) => (prefix, Some(port(number)?)),
            None => (rest, None),
        };
        return Ok(HostRule { hosts: block(address_v6(first)?, prefix)?, port });
    }
    // More than one colon without brackets is an IPv6 address; a port then needs brackets.
    if text.matches(':').count() > 1 {
        let (first, prefix) = text.split_at(text.find('/').unwrap_or(text.len()));
        return Ok(HostRule { hosts: block(address_v6(first)?, prefix)?, port: None });
    }
    let (host, port) = match text.split_once(':') {
        Some((host, number)) => (host, Some(port(number)?)),
        None => (text, None),
    };
    Ok(HostRule { hosts: hosts(host)?, port })
}

fn hosts(host: &str) -> Result<Hosts, &'static str> {
    if host == "*" {
        return Err("every host is the mode \"open\"; *.DOMAIN means what is below a domain");
    }
    if let Some(parent) = host.strip_prefix("*.") {
        if looks_like_a_number(parent) {
            return Err("a block of addresses is written as ADDRESS/BITS");
        }
        return name(parent).map(Hosts::Subdomains);
    }
    let (first, prefix) = host.split_at(host.find('/').unwrap_or(host.len()));
    if looks_like_a_number(first) {
        return block(address_v4(first)?, prefix);
    }
    if !prefix.is_empty() {
        return Err("only addresses have a prefix length, and a path cannot be allowed by itself");
    }
    name(host).map(Hosts::Name)
}

/// An address and `/BITS`, or nothing.
fn block(first: IpAddr, prefix: &str) -> Result<Hosts, &'static str> {
    if prefix.is_empty() {
        return Ok(Hosts::Addresses(Block::single(address::plain(first))));
    }
    let digits = prefix.strip_prefix('/').ok_or("after an address come /BITS or :PORT")?;
    let bits =
        decimal(digits).and_then(|bits| u8::try_from(bits).ok()).ok_or("the prefix length is no number")?;
    if address::plain(first) != first {
        return Err("an IPv4 block is written as IPv4");
    }
    Block::new(first, bits).map(Hosts::Addresses).ok_or("bits behind the prefix are set, or it is too long")
}

fn port(digits: &str) -> Result<u16, &'static str> {
    decimal(digits)
        .and_then(|n| u16::try_from(n).ok())
        .filter(|&n| n > 0)
        .ok_or("a port is a number, 1 to 65535")
}

/// Digits only: what `str::parse` takes besides (`+1`) nobody means.
pub(crate) fn decimal(digits: &str) -> Option<u32> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// Whether a resolver would take it for an IPv4 address, in any of the ways of `inet_aton(3)`.
fn looks_like_a_number(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let last = host.rsplit('.').next().unwrap_or(host);
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let digits = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    digits || hex.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn address_v4(text: &str) -> Result<IpAddr, &'static str> {
    text.parse()
        .map(IpAddr::V4)
        .map_err(|_| "an IPv4 address is written as four decimal numbers, without leading zeros")
}

fn address_v6(text: &str) -> Result<IpAddr, &'static str> {
    text.parse()
        .map(IpAddr::V6)
        .map_err(|_| "not an IPv6 address (without a zone, and in brackets before a port)")
}

/// In lower case and without the final dot.
fn name(text: &str) -> Result<String, &'static str> {
    if !text.is_ascii() {
        return Err("write a name outside ASCII as in the DNS (xn--…)");
    }
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_empty() || text.len() > NAME_MAX {
        return Err("a name has 1 to 253 characters");
    }
    let of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let sound = |label: &str| {
        (1..=LABEL_MAX).contains(&label.len())
            && label.bytes().all(of_a_name)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.split('.').all(sound) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(
            "a name is labels of letters, digits and inner hyphens with dots between, with *. at most in front",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(text: &str) -> HostRule {
        text.parse().unwrap()
    }

    fn names(text: &str, name: &str, port: u16) -> bool {
        rule(text).allows_name(name, port)
    }

    fn addresses(text: &str, address: &str, port: u16) -> bool {
        rule(text).allows_address(address.parse().unwrap(), port)
    }

    #[test]
    fn a_name_means_itself_on_the_web_ports() {
        assert!(names("crates.io", "crates.io", 443) && names("Crates.IO.", "crates.io", 80));
        assert!(!names("crates.io", "crates.io", 22) && !names("crates.io", "static.crates.io", 443));
        assert!(!names("crates.io", "xcrates.io", 443) && !names("crates.io", "crates.io.evil", 443));
        assert!(names("crates.io:22", "crates.io", 22) && !names("crates.io:22", "crates.io", 443));
    }

    #[test]
    fn a_star_means_what_is_below_and_not_the_name_itself() {
        assert!(names("*.github.com", "api.github.com", 443) && names("*.github.com", "a.b.github.com", 443));
        assert!(!names("*.github.com", "github.com", 443) && !names("*.github.com", "evilgithub.com", 443));
        assert!(!names("*.github.com", ".github.com", 443));
    }

    #[test]
    fn an_address_means_itself_in_every_spelling_it_has() {
        assert!(addresses("127.0.0.1:8080", "127.0.0.1", 8080));
        assert!(addresses("127.0.0.1:8080", "::ffff:127.0.0.1", 8080));
        assert!(addresses("::ffff:127.0.0.1", "127.0.0.1", 80));
        assert!(addresses("[::1]:8080", "::1", 8080) && addresses("0:0::1", "::1", 443));
        assert!(!addresses("127.0.0.1:8080", "127.0.0.1", 80) && !addresses("127.0.0.1", "127.0.0.2", 80));
    }

    #[test]
    fn a_block_means_private_addresses_only_when_it_is_private_itself() {
        assert!(addresses("10.0.0.0/8", "10.1.2.3", 80) && addresses("fd00::/8", "fd12::1", 443));
        assert!(addresses("0.0.0.0/0", "8.8.8.8", 80) && !addresses("0.0.0.0/0", "10.1.2.3", 80));
        assert!(!addresses("0.0.0.0/0", "169.254.169.254", 80) && !addresses("::/0", "::1", 80));
        assert!(
            !addresses("::/0", "::ffff:127.0.0.1", 80) && !addresses("64:ff9b::/96", "64:ff9b::7f00:1", 80)
        );
    }

    #[test]
    fn rules_are_printed_as_they_are_read() {
        for text in [
            "crates.io",
            "*.github.com:443",
            "127.0.0.1:8080",
            "10.0.0.0/8",
            "10.1.0.0/16:443",
            "::1",
            "[::1]:8080",
            "fd00::/8",
            "[fd00::]/8:443",
            "_dmarc.example.com",
            "xn--bcher-kva.example",
            "localhost",
        ] {
            assert_eq!(rule(text).to_string(), text);
        }
        assert_eq!(rule("[::1]").to_string(), "::1");
    }

    #[test]
    fn what_says_nothing_is_refused_with_a_reason() {
        for text in [
            "",
            "*",
            "*.",
            "*.*.a",
            "a.*.b",
            "a..b",
            ".a",
            "-a.b",
            "a-.b",
            "a b",
            "a/b",
            "http://a",
            "a@b",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "a:b",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "127.1",
            "1.2.3.4.5",
            "1.2.3.4/33",
            "1.2.3.4/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "*.10",
            "[::1",
            "[::1]8",
            "fe80::1%eth0",
            "[fe80::1%25eth0]",
            "::ffff:10.0.0.0/104",
            "bücher.example",
            "a\0b",
            "a,b",
            "a\r\nb",
        ] {
            let error = text.parse::<HostRule>().expect_err(text);
            assert!(!error.why.is_empty());
        }
        assert!("bücher.example".parse::<HostRule>().unwrap_err().to_string().contains("xn--"));
        assert!(format!("{}.a", "x".repeat(64)).parse::<HostRule>().is_err());
        assert!(["x"; 128].join(".").parse::<HostRule>().is_err());
    }

    #[test]
    fn a_host_of_a_request_is_never_a_number_in_disguise() {
        for text in
            ["2130706433", "0x7f000001", "0X7F.1", "017700000001", "127.1", "0177.0.0.1", "1.2.3.4.", "08"]
        {
            assert!(Host::parse(text).is_err(), "{text}");
        }
        assert_eq!(Host::parse("[::ffff:127.0.0.1]"), Ok(Host::Address("127.0.0.1".parse().unwrap())));
        assert_eq!(Host::parse("Crates.IO."), Ok(Host::Name("crates.io".to_owned())));
        for text in ["", ".", "a:b", "[::1", "[fe80::1%25eth0]", "a%2eb", "a b", "ａ.example", "*.a"] {
            assert!(Host::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_printed_and_read_the_same(text in "[a-f0-9.:/\\[\\]*-]{0,24}") {
            if let Ok(rule) = text.parse::<HostRule>() {
                prop_assert_eq!(rule.to_string().parse::<HostRule>(), Ok(rule));
            }
        }

        #[test]
        fn no_block_wider_than_the_special_ranges_lets_a_private_address_pass(bits: u32, prefix in 0u8..4) {
            let mask = if prefix == 0 { 0 } else { u32::MAX << (32 - prefix) };
            let rule = rule(&format!("{}/{prefix}", std::net::Ipv4Addr::from_bits(bits & mask)));
            let address = IpAddr::V4(std::net::Ipv4Addr::from_bits(bits));
            prop_assert_eq!(rule.allows_address(address, 80), address::special(address).is_none());
        }
    }
}
