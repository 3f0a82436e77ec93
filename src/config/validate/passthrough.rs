//! `listeners.sni` and `listeners.alpn`: TLS that is passed on as it is.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::uses::mode_of;
use super::{Names, Validation};
use crate::config::key_path::KeyPath;
use crate::config::model::Mode;
use crate::config::names::Name;
use crate::config::schema;
use crate::config::types::HostPattern;

/// RFC 7301, section 3.1.
const LONGEST_PROTOCOL: usize = 255;

impl Validation<'_> {
    /// The upstreams by the names that clients ask for, sorted by how the names are written.
    pub(super) fn sni(
        &mut self,
        raw: &schema::Listener,
        upstreams: &Names,
        at: &KeyPath,
    ) -> Vec<(HostPattern, usize)> {
        let mut names: Vec<(HostPattern, usize)> = Vec::new();
        for (text, upstream) in self.looked_at(raw, &raw.sni, at) {
            let at = at.key(text);
            let pattern = match sni_pattern(text) {
                Ok(pattern) => pattern,
                Err(error) => {
                    self.problems.add(at, error);
                    continue;
                }
            };
            if names.iter().any(|(other, _)| *other == pattern) {
                self.problems.add(at, "is given twice, in two spellings");
                continue;
            }
            if let Some(upstream) = self.passed_to(upstream, upstreams, at) {
                names.push((pattern, upstream));
            }
        }
        names.sort_by_cached_key(|(pattern, _)| pattern.to_string());
        names
    }

    /// The upstreams by the protocols that clients offer, sorted.
    pub(super) fn alpn(
        &mut self,
        raw: &schema::Listener,
        upstreams: &Names,
        at: &KeyPath,
    ) -> Vec<(String, usize)> {
        let mut protocols = Vec::new();
        for (text, upstream) in self.looked_at(raw, &raw.alpn, at) {
            let at = at.key(text);
            if !(1..=LONGEST_PROTOCOL).contains(&text.len()) {
                self.problems.add(
                    at,
                    format!("{text:?} is not a protocol's name, which has 1 to {LONGEST_PROTOCOL} bytes; expected for example \"acme-tls/1\""),
                );
                continue;
            }
            if let Some(upstream) = self.passed_to(upstream, upstreams, at) {
                protocols.push((text.clone(), upstream));
            }
        }
        protocols
    }

    /// The entries of `table`, if the listener can look at what they are about.
    fn looked_at<'t>(
        &mut self,
        raw: &schema::Listener,
        table: &'t Option<BTreeMap<String, Name>>,
        at: &KeyPath,
    ) -> impl Iterator<Item = (&'t String, &'t Name)> + use<'t> {
        let is_plain_http = mode_of(raw) == Mode::Http && raw.tls.is_none();
        let has_entries = table.as_ref().is_some_and(|table| !table.is_empty());
        let has_other_error = ["mode", "tls"].iter().any(|key| {
            let (listener, _) = at.split_last().expect("it is a key of a listener");
            self.problems.contains(&listener.key(key))
        });
        if is_plain_http && has_entries && !has_other_error {
            self.problems.add(
                at.clone(),
                "is what TLS clients say, and this listener speaks plain HTTP; give it \"tls\", or mode = \"tcp\"",
            );
        }
        table.iter().flatten()
    }

    fn passed_to(&mut self, name: &Name, upstreams: &Names, at: KeyPath) -> Option<usize> {
        let upstream = self.resolve(name, upstreams, at.clone())?;
        let target = super::nth(&self.root.upstreams, upstream)?;
        if target.tls.is_some() {
            self.problems.add(
                at,
                format!("{:?} has \"tls\", which would encrypt a second time what is passed on as it is; expected an upstream without it", name.0),
            );
        }
        Some(upstream)
    }
}

/// A name that TLS clients may ask for: those are no addresses (RFC 6066, section 3).
fn sni_pattern(text: &str) -> Result<HostPattern, String> {
    if text == "*" {
        return Err(
            "\"*\" is not a name; the listener's \"upstream\" or \"tls\" is for all others"
                .to_owned(),
        );
    }
    let pattern: HostPattern = text
        .parse()
        .map_err(|error: crate::config::types::Invalid| error.to_string())?;
    let host = match &pattern {
        HostPattern::Exact(host) | HostPattern::Wildcard(host) => host,
    };
    match host.starts_with('[') || host.parse::<IpAddr>().is_ok() {
        true => Err(format!(
            "{text:?} is an address, and TLS clients ask for names only; expected for example \"db.example.com\""
        )),
        false => Ok(pattern),
    }
}
