//! The way out of a group with an allow list, from the request to the running proxy.

use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use crate::net::inside::{PROXY_PORT, receive_listener};
use crate::net::mode::Net;
use crate::net::proxy::{Proxy, Resolve};
use crate::net::rule::HostRule;

/// The variables by which programs find a proxy; curl reads the first only in small letters.
const PROXY_VARIABLES: [&str; 6] =
    ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
const NO_PROXY_VARIABLES: [&str; 2] = ["no_proxy", "NO_PROXY"];
/// What a group reaches by itself, in its own loopback.
const NOT_THROUGH_THE_PROXY: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// How a proxy finds addresses.
#[derive(Clone)]
pub(crate) struct Way(pub(crate) Arc<dyn Resolve>);

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Way")
    }
}

/// A proxy to be.
#[derive(Debug)]
pub(crate) struct Egress {
    rules: Vec<HostRule>,
    way: Way,
}

impl Egress {
    /// What a mode needs; None where it needs no proxy.
    pub(crate) fn of(net: &Net, way: &Way) -> Option<Egress> {
        match net {
            Net::Allow(rules) => Some(Egress { rules: rules.clone(), way: way.clone() }),
            Net::None | Net::Loopback | Net::Open => None,
        }
    }

    /// Starts the proxy on the socket that the init (a pidfd) sends; None if the init has ended instead,
    /// and says why on its own.
    pub(crate) fn start(self, from: &OwnedFd, init: BorrowedFd<'_>) -> Result<Option<Proxy>, Errno> {
        let Some(listener) = receive_listener(from, init)? else { return Ok(None) };
        let group = rustix::io::fcntl_dupfd_cloexec(init, 0)?;
        Proxy::start(listener, group, self.rules, self.way.0)
            .map(Some)
            .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::NOMEM))
    }
}

/// Which variables a program gets, or (None) must not have, as they would point it to what it cannot reach.
pub(crate) fn environment(net: &Net) -> Vec<(&'static str, Option<String>)> {
    match net {
        Net::Open => Vec::new(),
        Net::None | Net::Loopback => PROXY_VARIABLES.map(|key| (key, None)).to_vec(),
        Net::Allow(rules) => {
            let proxy = format!("http://127.0.0.1:{PROXY_PORT}");
            let around = not_through_the_proxy(rules);
            let through = PROXY_VARIABLES.iter().map(|&key| (key, Some(proxy.clone())));
            through.chain(NO_PROXY_VARIABLES.iter().map(|&key| (key, Some(around.clone())))).collect()
        }
    }
}

/// The group's own loopback, but what a rule names there: that is the caller's.
fn not_through_the_proxy(rules: &[HostRule]) -> String {
    let named = |host: &&str| rules.iter().any(|rule| rule.names(host));
    NOT_THROUGH_THE_PROXY.into_iter().filter(|host| !named(host)).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(mode: &str, key: &str) -> Option<Option<String>> {
        let net: Net = mode.parse().unwrap();
        environment(&net).into_iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    #[test]
    fn an_allow_list_points_programs_to_the_proxy_and_not_for_their_own_loopback() {
        let set = |mode, key| value(mode, key).unwrap().unwrap();
        assert_eq!(set("allow=a.example", "HTTPS_PROXY"), format!("http://127.0.0.1:{PROXY_PORT}"));
        assert_eq!(set("allow=a.example", "no_proxy"), "localhost,127.0.0.1,::1");
        assert_eq!(set("allow=127.0.0.1:80,a.example", "NO_PROXY"), "localhost,::1");
        assert_eq!(set("allow=127.0.0.0/8,[::1]:9", "NO_PROXY"), "localhost");
    }

    #[test]
    fn where_there_is_no_way_out_no_variable_names_one() {
        assert_eq!(value("none", "http_proxy"), Some(None));
        assert_eq!(value("loopback", "ALL_PROXY"), Some(None));
        assert_eq!(value("open", "http_proxy"), None);
    }
}
