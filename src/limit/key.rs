//! `LimitKey`: whose requests are counted together.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use xxhash_rust::xxh3::xxh3_128;

/// Whose requests are counted together, in 16 bytes whatever a client sends.
///
/// `Display` gives the short form that Redis keys use: an address stays readable, a header's value is 32 hexadecimal
/// digits, never the value itself (it may be a credential).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LimitKey {
    high: u64,
    low: u64,
}

// The two highest bits tell the kinds apart, so that no address equals a hash.
const KIND_SHIFT: u32 = 62;
const KIND_ALL: u64 = 0;
const KIND_IPV4: u64 = 1;
const KIND_IPV6: u64 = 2;
const KIND_HASH: u64 = 3;
const PAYLOAD: u64 = (1 << KIND_SHIFT) - 1;

impl LimitKey {
    /// One count for all requests of a limit.
    pub const ALL: Self = Self {
        high: KIND_ALL << KIND_SHIFT,
        low: 0,
    };

    /// A client by its address: IPv4 whole, IPv6 by its /64, which is what one subscriber gets. An IPv4-mapped IPv6
    /// address (RFC 4291 section 2.5.5.2) counts as the IPv4 address.
    pub fn address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self {
                high: KIND_IPV4 << KIND_SHIFT,
                low: u64::from(address.to_bits()),
            },
            IpAddr::V6(address) => Self {
                high: KIND_IPV6 << KIND_SHIFT,
                low: (address.to_bits() >> 64) as u64,
            },
        }
    }

    /// Any bytes, such as a header's value, by 126 bits of their XXH3 hash. The hash has no secret seed because load
    /// balancers that share a store must agree on it: who looks for two values that collide finds a count that the
    /// two share, which is no more than sending one value twice.
    pub fn bytes(bytes: &[u8]) -> Self {
        let hash = xxh3_128(bytes);
        Self {
            high: (KIND_HASH << KIND_SHIFT) | ((hash >> 64) as u64 & PAYLOAD),
            low: hash as u64,
        }
    }
}

impl LimitKey {
    /// The key as others are told of it.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.high.to_be_bytes());
        bytes[8..].copy_from_slice(&self.low.to_be_bytes());
        bytes
    }

    /// The key that others tell of.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let both = u128::from_be_bytes(bytes);
        Self {
            high: (both >> 64) as u64,
            low: both as u64,
        }
    }

    /// A number that differs among keys, for those who divide them up.
    pub fn spread(&self) -> usize {
        let mixed = (self.high ^ self.low).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize
    }
}

impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.high >> KIND_SHIFT {
            KIND_ALL => f.write_str("all"),
            KIND_IPV4 => Ipv4Addr::from_bits(self.low as u32).fmt(f),
            KIND_IPV6 => {
                let network = Ipv6Addr::from_bits(u128::from(self.low) << 64);
                write!(f, "{network}/64")
            }
            _ => write!(f, "{:016x}{:016x}", self.high & PAYLOAD, self.low),
        }
    }
}

impl fmt::Debug for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LimitKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> LimitKey {
        LimitKey::address(text.parse().unwrap())
    }

    #[test]
    fn ipv4_is_whole_and_ipv6_by_its_64() {
        assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:0:0:2"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
    }

    #[test]
    fn mapped_ipv4_counts_as_ipv4() {
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
        // Unmapped, these share their /64 with every mapped address.
        assert_ne!(address("::1"), address("192.0.2.1"));
    }

    #[test]
    fn kinds_never_meet() {
        let keys = [
            LimitKey::ALL,
            address("0.0.0.0"),
            address("::"),
            LimitKey::bytes(b""),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(keys[i + 1..].iter().all(|other| other != key));
        }
    }

    #[test]
    fn others_know_the_same_key() {
        for key in [LimitKey::ALL, address("2001:db8::1"), LimitKey::bytes(b"a")] {
            assert_eq!(LimitKey::from_bytes(key.to_bytes()), key);
        }
    }

    #[test]
    fn display_is_readable_and_bounded() {
        assert_eq!(LimitKey::ALL.to_string(), "all");
        assert_eq!(address("192.0.2.1").to_string(), "192.0.2.1");
        assert_eq!(address("2001:db8:0:1::7").to_string(), "2001:db8:0:1::/64");
        let hashed = LimitKey::bytes(&[b'x'; 100_000]).to_string();
        assert_eq!(hashed.len(), 32);
        assert!(hashed.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(LimitKey::bytes(b"a"), LimitKey::bytes(b"b"));
    }
}
