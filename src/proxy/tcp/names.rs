//! Which upstream a TLS connection is passed to, by what its ClientHello says.

use crate::message::client_hello::ClientHello;
use crate::route::{Host, HostMap};

/// A listener's `alpn` and `sni`.
#[derive(Debug, Default)]
pub struct Names {
    /// Looked at first.
    protocols: Vec<(Vec<u8>, usize)>,
    hosts: HostMap<Option<usize>>,
}

impl Names {
    /// The tables, of which the upstreams are indices into the snapshot's.
    pub fn new(
        protocols: impl IntoIterator<Item = (String, usize)>,
        hosts: impl IntoIterator<Item = (Host, usize)>,
    ) -> Self {
        let protocols = protocols.into_iter();
        let mut names = Self {
            protocols: protocols.map(|(it, to)| (it.into_bytes(), to)).collect(),
            ..Self::default()
        };
        for (host, upstream) in hosts {
            *names.hosts.entry(Some(&host)) = Some(upstream);
        }
        names
    }

    /// The upstream of a client that says this: of the protocol that it likes best among those of the table, else of its
    /// name, exact before wildcards, of which the longest.
    pub fn find(&self, hello: &ClientHello) -> Option<usize> {
        let of_protocol = |offered: &Vec<u8>| {
            let known = self.protocols.iter().find(|(name, _)| name == offered);
            known.map(|(_, upstream)| *upstream)
        };
        let by_protocol = hello.protocols.iter().find_map(of_protocol);
        by_protocol.or_else(|| self.hosts.find_map(hello.name.as_deref(), |it| *it))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(name: &str, protocols: &[&str]) -> ClientHello {
        ClientHello {
            name: Some(name.to_owned()).filter(|name| !name.is_empty()),
            protocols: protocols.iter().map(|it| it.as_bytes().to_vec()).collect(),
        }
    }

    #[test]
    fn protocols_come_before_names_and_exact_names_before_wildcards() {
        let protocols = [("acme-tls/1".to_owned(), 1), ("mqtt".to_owned(), 2)];
        let hosts = [
            (Host::Exact("a.example".to_owned()), 3),
            (Host::Wildcard("example".to_owned()), 4),
            (Host::Wildcard("b.example".to_owned()), 5),
        ];
        let names = Names::new(protocols, hosts);
        let find = |name, protocols| names.find(&hello(name, protocols));
        assert_eq!(find("a.example", &["h2"]), Some(3));
        assert_eq!(find("x.example", &[]), Some(4));
        assert_eq!(find("x.y.b.example", &[]), Some(5));
        assert_eq!(find("example", &[]), None);
        assert_eq!(find("", &[]), None);
        assert_eq!(find("a.example", &["h2", "acme-tls/1"]), Some(1));
        assert_eq!(find("", &["mqtt", "acme-tls/1"]), Some(2));
    }
}
