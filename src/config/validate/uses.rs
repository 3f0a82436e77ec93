//! Who sends to an upstream: routes, or listeners that have none.

use std::collections::HashMap;

use super::{Validation, present};
use crate::config::error::Problems;
use crate::config::key_path::KeyPath;
use crate::config::model::Mode;
use crate::config::names::Name;
use crate::config::schema;

/// Who sends to an upstream.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Uses {
    /// Routes; or nobody knows, as there is an error in them.
    pub(super) http: bool,
    /// Listeners pass TCP connections on to it.
    pub(super) tcp: bool,
    /// UDP listeners do so with datagrams.
    pub(super) udp: bool,
}

impl Uses {
    /// Whether nothing that is for HTTP has a use.
    pub(super) fn is_below_http(self) -> bool {
        !self.http && (self.tcp || self.udp)
    }

    /// Whether nothing that is for connections has a use.
    pub(super) fn is_udp_only(self) -> bool {
        self.udp && !self.http && !self.tcp
    }
}

impl Validation<'_> {
    /// Who sends to the upstream; nobody, if it has no name.
    pub(super) fn uses_of(&self, upstream: &schema::Upstream) -> Uses {
        let name = upstream.name.as_ref().map(|name| name.0.as_str());
        name.and_then(|name| self.uses.get(name))
            .copied()
            .unwrap_or_default()
    }
}

/// Who sends to each upstream, by their names.
pub(super) fn of<'a>(root: &'a schema::Root, problems: &Problems) -> HashMap<&'a str, Uses> {
    let mut uses: HashMap<&str, Uses> = HashMap::new();
    for (_, listener) in present(&root.listeners) {
        let upstream = listener.upstream.iter();
        for name in upstream.chain(passed_through(listener).map(|(_, name)| name)) {
            let uses = uses.entry(&name.0).or_default();
            match listener.mode {
                Some(Mode::Udp) => uses.udp = true,
                _ => uses.tcp = true,
            }
        }
    }
    for (_, route) in present(&root.routes) {
        let split = route.split.iter().flat_map(|split| split.keys());
        let mirror = route.mirror.as_deref().and_then(|it| it.upstream.as_ref());
        let named = route.upstream.iter().chain(mirror).map(|name| &name.0);
        for name in named.chain(split) {
            uses.entry(name).or_default().http = true;
        }
    }
    let has_routes = root.routes.as_ref().is_some_and(|it| !it.is_empty());
    let speaks_http = present(&root.listeners).any(|(_, it)| mode_of(it) == Mode::Http);
    let is_unknown = problems.concern(&KeyPath::default().key("routes"));
    if is_unknown || (!has_routes && speaks_http) {
        let upstreams = present(&root.upstreams).filter_map(|(_, it)| it.name.as_ref());
        for name in upstreams {
            uses.entry(&name.0).or_default().http = true;
        }
    }
    uses
}

/// What a listener speaks.
pub(super) fn mode_of(listener: &schema::Listener) -> Mode {
    listener.mode.unwrap_or(Mode::Http)
}

/// What a listener passes through undecrypted: by which key, and where to.
pub(super) fn passed_through(
    listener: &schema::Listener,
) -> impl Iterator<Item = (&String, &Name)> {
    listener.alpn.iter().chain(&listener.sni).flatten()
}
