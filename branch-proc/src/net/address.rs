//! Which addresses are public, and blocks of addresses.
//!
//! Source: the special-purpose address registries of IANA (RFC 6890), RFC 4291, RFC 6052, RFC 6598.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A block of addresses: all that share its first `prefix` bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Block {
    first: IpAddr,
    prefix: u8,
}

/// Why addresses of a block are not simply connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Special {
    pub(crate) block: Block,
    /// What it is, as in "a loopback address".
    pub(crate) kind: &'static str,
}

const fn v4(first: [u8; 4], prefix: u8, kind: &'static str) -> Special {
    let [a, b, c, d] = first;
    Special { block: Block { first: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix }, kind }
}

const fn v6(first: [u16; 3], prefix: u8, kind: &'static str) -> Special {
    let [a, b, c] = first;
    let first = Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0);
    Special { block: Block { first: IpAddr::V6(first), prefix }, kind }
}

const SPECIAL_V4: [Special; 17] = [
    v4([0, 0, 0, 0], 8, "an unspecified address"),
    v4([10, 0, 0, 0], 8, "a private address"),
    v4([100, 64, 0, 0], 10, "a carrier's private address"),
    v4([127, 0, 0, 0], 8, "a loopback address"),
    v4([168, 63, 129, 16], 32, "a cloud host's own service"),
    v4([169, 254, 0, 0], 16, "a link-local address"),
    v4([172, 16, 0, 0], 12, "a private address"),
    v4([192, 0, 0, 0], 24, "a protocol's own address"),
    v4([192, 0, 2, 0], 24, "a documentation address"),
    v4([192, 88, 99, 0], 24, "a 6to4 relay"),
    v4([192, 168, 0, 0], 16, "a private address"),
    v4([198, 18, 0, 0], 15, "a test network's address"),
    v4([198, 51, 100, 0], 24, "a documentation address"),
    v4([203, 0, 113, 0], 24, "a documentation address"),
    v4([224, 0, 0, 0], 4, "a multicast address"),
    // Before the block it lies in, for its name.
    v4([255, 255, 255, 255], 32, "the broadcast address"),
    v4([240, 0, 0, 0], 4, "a reserved address"),
];

/// Where IPv6 is global unicast (RFC 4291, 2.4); what is not in it and not named below is nobody's.
const GLOBAL_V6: Block = v6([0x2000, 0, 0], 3, "").block;
/// IPv4 addresses behind a translator (RFC 6052): what is embedded decides.
const NAT64: Block = v6([0x64, 0xff9b, 0], 96, "").block;

const SPECIAL_V6: [Special; 13] = [
    Special {
        block: Block { first: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix: 128 },
        kind: "a loopback address",
    },
    Special {
        block: Block { first: IpAddr::V6(Ipv6Addr::UNSPECIFIED), prefix: 128 },
        kind: "an unspecified address",
    },
    v6([0, 0, 0], 96, "an IPv4 address in disguise"),
    v6([0x64, 0xff9b, 1], 48, "a local translator's address"),
    v6([0x100, 0, 0], 64, "an address for what is thrown away"),
    v6([0x2001, 0, 0], 23, "a tunnel's or protocol's address"),
    v6([0x2001, 0xdb8, 0], 32, "a documentation address"),
    v6([0x2002, 0, 0], 16, "an IPv4 address in disguise"),
    v6([0x3fff, 0, 0], 20, "a documentation address"),
    v6([0xfc00, 0, 0], 7, "a private address"),
    v6([0xfe80, 0, 0], 10, "a link-local address"),
    v6([0xfec0, 0, 0], 10, "a private address"),
    v6([0xff00, 0, 0], 8, "a multicast address"),
];

const UNKNOWN_V6: Special = v6([0, 0, 0], 0, "not a public address");

impl Block {
    /// None if the prefix is longer than the address, or bits behind it are set.
    pub(crate) fn new(first: IpAddr, prefix: u8) -> Option<Block> {
        let (bits, width) = bits(first);
        let host = if prefix == 0 { u128::MAX } else { u128::MAX.checked_shr(prefix.into()).unwrap_or(0) };
        (prefix <= width && bits & host == 0).then_some(Block { first, prefix })
    }

    /// The block of this address alone.
    pub(crate) fn single(address: IpAddr) -> Block {
        Block { first: address, prefix: bits(address).1 }
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let ((mine, width), (its, its_width)) = (bits(self.first), bits(address));
        let differ = mine ^ its;
        width == its_width && (self.prefix == 0 || differ >> (128 - u32::from(self.prefix)) == 0)
    }

    /// Whether all of `other` lies in it.
    fn covers(&self, other: &Block) -> bool {
        self.prefix <= other.prefix && self.contains(other.first)
    }

    /// Whether this block, in a rule, means an address of that special kind: nobody who writes `0.0.0.0/0`
    /// has named the metadata service.
    pub(crate) fn names(&self, special: &Special) -> bool {
        special.block.covers(self)
    }
}

/// The address's bits, left-aligned, and how many there are.
fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

/// The address that is meant: an IPv4 address written as IPv6 (`::ffff:a.b.c.d`) is that IPv4 address.
pub(crate) fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Why an address is not to be connected to unless it is named; None for public ones.
pub(crate) fn special(address: IpAddr) -> Option<Special> {
    match plain(address) {
        IpAddr::V4(_) => SPECIAL_V4.into_iter().find(|s| s.block.contains(plain(address))),
        IpAddr::V6(v6) => special_v6(v6),
    }
}

fn special_v6(address: Ipv6Addr) -> Option<Special> {
    let any = IpAddr::V6(address);
    if NAT64.contains(any) {
        let [.., a, b, c, d] = address.octets();
        let inner = special(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))?;
        return Some(Special { block: Block::single(any), kind: inner.kind });
    }
    let known = SPECIAL_V6.into_iter().find(|s| s.block.contains(any));
    known.or_else(|| (!GLOBAL_V6.contains(any)).then_some(UNKNOWN_V6))
}

impl Block {
    pub(crate) fn is_v6(&self) -> bool {
        self.first.is_ipv6()
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == bits(self.first).1 {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}/{}", self.first, self.prefix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind(text: &str) -> Option<&'static str> {
        special(text.parse().unwrap()).map(|s| s.kind)
    }

    #[test]
    fn public_addresses_are_public() {
        for text in
            ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
        {
            assert_eq!(kind(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_that_are_not_public_have_a_name() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:808:808::",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "fe00::1",
        ] {
            assert!(kind(text).is_some(), "{text} is held to be public");
        }
        assert_eq!(kind("255.255.255.255"), Some("the broadcast address"));
        assert_eq!(kind("::1"), Some("a loopback address"));
    }

    #[test]
    fn a_block_has_no_bits_behind_its_prefix() {
        let block = |text: &str, prefix| Block::new(text.parse().unwrap(), prefix);
        assert!(block("10.0.0.0", 8).is_some() && block("10.0.0.1", 32).is_some());
        assert!(block("0.0.0.0", 0).is_some() && block("::", 0).is_some() && block("::1", 128).is_some());
        assert!(block("10.0.0.1", 8).is_none() && block("10.0.0.0", 33).is_none());
        assert!(block("fd00::1", 8).is_none() && block("::", 129).is_none());
    }

    #[test]
    fn a_block_names_what_is_special_only_when_it_lies_within() {
        let names = |first: &str, prefix, address: &str| {
            let special = special(address.parse().unwrap()).unwrap();
            Block::new(first.parse().unwrap(), prefix).unwrap().names(&special)
        };
        assert!(names("10.0.0.0", 8, "10.1.2.3") && names("10.1.0.0", 16, "10.1.2.3"));
        assert!(!names("0.0.0.0", 0, "10.1.2.3") && !names("8.0.0.0", 6, "10.1.2.3"));
        assert!(!names("::", 0, "::1") && names("::1", 128, "::1"));
    }

    /// What the standard library says of an address, as far as it does.
    fn by_the_standard_library(address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(a) => {
                a.is_loopback()
                    || a.is_private()
                    || a.is_link_local()
                    || a.is_unspecified()
                    || a.is_multicast()
                    || a.is_broadcast()
                    || a.is_documentation()
            }
            IpAddr::V6(a) => {
                a.is_loopback()
                    || a.is_unspecified()
                    || a.is_multicast()
                    || a.is_unique_local()
                    || a.is_unicast_link_local()
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_the_standard_library_holds_to_be_private_passes_in_any_dress(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            let [a, b, c, d] = v4.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let dressed = [
                IpAddr::V4(v4),
                IpAddr::V6(v4.to_ipv6_mapped()),
                IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low)),
            ];
            for address in dressed {
                if by_the_standard_library(IpAddr::V4(v4)) {
                    prop_assert!(special(address).is_some(), "{address}");
                }
                prop_assert_eq!(special(address).is_some(), special(IpAddr::V4(v4)).is_some());
            }
            // Old ways to carry IPv4 in IPv6 never pass.
            for address in [v4.to_ipv6_compatible(), Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1)] {
                prop_assert!(special(IpAddr::V6(address)).is_some(), "{address}");
            }
        }

        #[test]
        fn no_private_ipv6_address_passes(bits: u128) {
            let address = IpAddr::V6(Ipv6Addr::from_bits(bits));
            prop_assert!(!by_the_standard_library(address) || special(address).is_some(), "{address}");
            let outside = bits >> 125 != 1 && bits >> 32 != 0xffff && bits >> 32 != 0x64_ff9b << 64;
            prop_assert!(!outside || special(address).is_some(), "{address}");
        }

        #[test]
        fn a_block_contains_what_shares_its_bits(bits: u128, other: u128, prefix in 0u8..=128) {
            let mask = if prefix == 0 { 0 } else { u128::MAX << (128 - prefix) };
            let block = Block::new(IpAddr::V6(Ipv6Addr::from_bits(bits & mask)), prefix).unwrap();
            prop_assert!(block.contains(IpAddr::V6(Ipv6Addr::from_bits(bits))));
            let shares = bits & mask == other & mask;
            prop_assert_eq!(block.contains(IpAddr::V6(Ipv6Addr::from_bits(other))), shares);
        }
    }
}
