//! What a program may send to the egress proxy, and a server behind it: heads, chunks, TLS hellos; and the rules.
#![no_main]

use branch_proc::{HostRule, Net};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((what, bytes)) = bytes.split_first() else { return };
    match what % 4 {
        0 => branch_proc::fuzz::head(bytes),
        1 => branch_proc::fuzz::chunks(bytes),
        2 => branch_proc::fuzz::hello(bytes),
        _ => rules(bytes),
    }
});

/// A rule that is read is printed and read the same; whatever is no host is told, and nothing else happens.
fn rules(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(rule) = text.parse::<HostRule>() {
        assert_eq!(rule.to_string().parse::<HostRule>().as_ref(), Ok(&rule));
    }
    let everything: Net = "allow=0.0.0.0/0:80,[::]/0:80".parse().expect("rules");
    if let Ok(rule) = everything.explain(text, 80) {
        let host = text.trim_matches(['[', ']']);
        let address: std::net::IpAddr = host.parse().expect("only addresses are allowed");
        let canonical = address.to_canonical();
        let private = match canonical {
            std::net::IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
            std::net::IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
        };
        assert!(!private, "{text} passes by {rule:?}");
    }
}
