//! `Table`: whether an address may come in, of either family.

use std::net::IpAddr;

use ipnet::IpNet;

use super::ranges::{Net, Ranges};

/// The leading bits of IPv4-mapped addresses (RFC 4291, section 2.5.5.2), which are IPv4 addresses here.
const MAPPED: u32 = 96;

/// Whether an address may come in. Looks at no lock and at two or three cache lines.
#[derive(Debug)]
pub struct Table {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

impl Table {
    /// What comes of allowing and denying these networks. Who is in none of them may come in if `others` may.
    pub fn new(
        allow: impl IntoIterator<Item = IpNet>,
        deny: impl IntoIterator<Item = IpNet>,
        others: bool,
    ) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let allow = allow.into_iter().map(|net| (net, true));
        for (net, allowed) in allow.chain(deny.into_iter().map(|net| (net, false))) {
            match net {
                IpNet::V4(net) => v4.push(Net {
                    first: net.network().to_bits(),
                    last: net.broadcast().to_bits(),
                    allowed,
                }),
                IpNet::V6(net) => {
                    let (first, last) = (net.network(), net.broadcast());
                    match (first.to_ipv4_mapped(), last.to_ipv4_mapped()) {
                        (Some(first), Some(last)) if u32::from(net.prefix_len()) >= MAPPED => {
                            v4.push(Net {
                                first: first.to_bits(),
                                last: last.to_bits(),
                                allowed,
                            });
                        }
                        _ => v6.push(Net {
                            first: first.to_bits(),
                            last: last.to_bits(),
                            allowed,
                        }),
                    }
                }
            }
        }
        Self {
            v4: Ranges::new(0, v4, others),
            v6: Ranges::new(0, v6, others),
        }
    }

    /// Whether this address may come in.
    pub fn allows(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.allows(address.to_bits()),
            IpAddr::V6(address) => self.v6.allows(address.to_bits()),
        }
    }

    /// How many bytes it takes.
    pub fn size(&self) -> usize {
        self.v4.size() + self.v6.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn allowed(table: &Table, address: &str) -> bool {
        table.allows(address.parse().unwrap())
    }

    #[test]
    fn the_most_specific_network_decides_and_a_denial_at_a_draw() {
        let table = Table::new(
            nets(&["10.0.0.0/8", "10.1.2.0/24", "192.0.2.7/32", "2001:db8::/32"]),
            nets(&["10.1.0.0/16", "192.0.2.7/32", "2001:db8:1::/48"]),
            false,
        );
        for (address, expected) in [
            ("10.0.0.1", true),
            ("10.1.0.1", false),
            ("10.1.2.255", true),
            ("10.1.3.0", false),
            ("10.2.0.0", true),
            ("192.0.2.7", false),
            ("192.0.2.8", false),
            ("2001:db8::1", true),
            ("2001:db8:1::1", false),
            ("2001:db8:2::1", true),
            ("2001:db9::", false),
        ] {
            assert_eq!(allowed(&table, address), expected, "{address}");
        }
    }

    #[test]
    fn mapped_addresses_and_networks_are_ipv4() {
        let table = Table::new([], nets(&["::ffff:192.0.2.0/120", "10.0.0.0/8"]), true);
        assert!(!allowed(&table, "192.0.2.1"));
        assert!(!allowed(&table, "::ffff:10.1.1.1"));
        assert!(allowed(&table, "::ffff:192.0.3.1"));
        let table = Table::new([], nets(&["::/0"]), true);
        assert!(!allowed(&table, "::1"));
        assert!(
            allowed(&table, "::ffff:192.0.2.1"),
            "::/0 is all of IPv6 alone"
        );
    }
}
