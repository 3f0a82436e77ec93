//! Where nodes are to be looked for: names become addresses, again and again.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::driver::Orders;
use crate::config::types::ServerAddress;

/// Pause between two look-ups.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a look-up may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Addresses that are made of all seeds.
const MAX_ADDRESSES: usize = 256;

/// Looks the seeds up while somebody asks for them. A name that cannot be looked up keeps nobody from being found by another one.
pub(super) async fn look_up(
    mut orders: watch::Receiver<Orders>,
    found: watch::Sender<Vec<SocketAddr>>,
) {
    loop {
        let seeds = orders.borrow_and_update().seeds.clone();
        let mut addresses = Vec::new();
        for seed in &seeds {
            addresses.extend(addresses_of(seed).await);
        }
        addresses.truncate(MAX_ADDRESSES);
        found.send_if_modified(|known| {
            let differs = *known != addresses;
            *known = addresses;
            differs
        });
        let has_names = seeds
            .iter()
            .any(|it| matches!(it, ServerAddress::Name { .. }));
        tokio::select! {
            () = sleep(PAUSE), if has_names => {}
            () = found.closed() => return,
            changed = orders.changed() => if changed.is_err() { return },
        }
    }
}

async fn addresses_of(seed: &ServerAddress) -> Vec<SocketAddr> {
    match seed {
        ServerAddress::Ip(address) => vec![*address],
        ServerAddress::Name { host, port } => {
            let found = timeout(LIMIT, lookup_host((host.as_str(), *port))).await;
            match found {
                Ok(Ok(addresses)) => addresses.collect(),
                Ok(Err(error)) => {
                    tracing::debug!(seed = host, %error, "a seed's name cannot be looked up");
                    Vec::new()
                }
                Err(_) => Vec::new(),
            }
        }
    }
}
