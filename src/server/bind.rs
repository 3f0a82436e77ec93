//! Binding every address before anything starts, so that a port in use is one clear line and nothing else.

use std::net::TcpListener;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::StartError;
use super::inherit::Inherited;
use super::upgrade::Registry;
use crate::admin;
use crate::config::model::{AdminListen, Config};
use crate::net::socket;

/// A worker's socket of one listener's address.
#[derive(Debug)]
pub struct Bound {
    /// Index into the configuration's listeners.
    pub listener: usize,
    /// Shares its port with the other workers' sockets.
    pub socket: Arc<TcpListener>,
    /// The listener's `max_connections`, shared with all workers.
    pub permits: Arc<Semaphore>,
}

/// Binds all listeners, but for those that are `inherited`: a list of sockets for each worker.
pub fn listeners(
    config: &Config,
    inherited: &mut Inherited,
    registry: &Registry,
) -> Result<Vec<Vec<Bound>>, StartError> {
    let workers = config.workers.get();
    let mut bound: Vec<Vec<Bound>> = (0..workers).map(|_| Vec::new()).collect();
    for (index, listener) in config.listeners.iter().enumerate() {
        let permits = Arc::new(Semaphore::new(
            listener.max_connections.get().min(Semaphore::MAX_PERMITS),
        ));
        for &address in &listener.addresses {
            let failed = |error| StartError::Listen {
                listener: listener.name.clone(),
                address,
                error,
            };
            let sockets = match inherited.take(&listener.name, address) {
                sockets if sockets.is_empty() => socket::listen(address, workers),
                sockets => socket::inherit(sockets, workers),
            };
            let sockets = sockets.map_err(failed)?;
            let actual = sockets[0].local_addr().map_err(failed)?;
            tracing::info!(listener = %listener.name, address = %actual, "listening");
            // Of another process there may be more than this one has workers.
            for (number, socket) in sockets.into_iter().enumerate() {
                let socket = Arc::new(socket);
                registry.add(&listener.name, address, &socket);
                bound[number % workers].push(Bound {
                    listener: index,
                    socket,
                    permits: Arc::clone(&permits),
                });
            }
        }
    }
    Ok(bound)
}

/// Binds the admin API's address, if it has one and it is not `inherited`.
pub fn admin(
    config: &Config,
    inherited: &mut Inherited,
) -> Result<Option<admin::Socket>, StartError> {
    let Some(settings) = &config.admin else {
        return Ok(None);
    };
    let address = shown(&settings.listen);
    let bound = match inherited.take_admin(&settings.listen, &address) {
        Some(socket) => admin::Socket::inherit(&settings.listen, socket),
        None => admin::bind(&settings.listen),
    };
    let socket = match bound {
        Ok(socket) => socket,
        Err(error) => return Err(StartError::Admin { address, error }),
    };
    let address = match &socket {
        admin::Socket::Tcp(socket) => socket.local_addr()?.to_string(),
        admin::Socket::Unix(_) => address,
    };
    tracing::info!(listener = %"admin", %address, "listening");
    Ok(Some(socket))
}

/// As the configuration says it.
pub fn shown(listen: &AdminListen) -> String {
    match listen {
        AdminListen::Tcp(address) => address.to_string(),
        AdminListen::Unix(path) => format!("unix:{}", path.display()),
    }
}
