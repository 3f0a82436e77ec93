//! From the configuration to what is particular to a listener of UDP.

use std::sync::Arc;

use crate::config::model;
use crate::proxy::snapshot::ListenerEntry;
use crate::proxy::udp::Settings;

/// What a listener does besides passing datagrams on; what is known of QUIC connections stays known.
pub(super) fn settings(listener: &model::Listener, former: Option<&ListenerEntry>) -> Settings {
    let known = former.and_then(|it| it.udp.as_ref()?.ids.as_ref());
    Settings {
        responses: listener.responses,
        ids: listener
            .quic
            .then(|| known.map_or_else(Arc::default, Arc::clone)),
    }
}
