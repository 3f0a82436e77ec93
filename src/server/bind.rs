//! Binding every address before anything starts, so that a port in use is one clear line and nothing else.

use std::net::TcpListener;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::StartError;
use crate::admin;
use crate::config::model::{AdminListen, Config};
use crate::net::socket;

/// A worker's socket of one listener's address.
#[derive(Debug)]
pub struct Bound {
    /// Index into the configuration's listeners.
    pub listener: usize,
    /// Shares its port with the other workers' sockets.
    pub socket: TcpListener,
    /// The listener's `max_connections`, shared with all workers.
    pub permits: Arc<Semaphore>,
}

/// Binds all listeners: a list of sockets for each worker.
pub fn listeners(config: &Config) -> Result<Vec<Vec<Bound>>, StartError> {
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
            let sockets = socket::listen(address, workers).map_err(failed)?;
            let address = sockets[0].local_addr().map_err(failed)?;
            tracing::info!(listener = %listener.name, %address, "listening");
            for (of_worker, socket) in bound.iter_mut().zip(sockets) {
                of_worker.push(Bound {
                    listener: index,
                    socket,
                    permits: Arc::clone(&permits),
                });
            }
        }
    }
    Ok(bound)
}

/// Binds the admin API's address, if it has one.
pub fn admin(config: &Config) -> Result<Option<admin::Socket>, StartError> {
    let Some(settings) = &config.admin else {
        return Ok(None);
    };
    let address = match &settings.listen {
        AdminListen::Tcp(address) => address.to_string(),
        AdminListen::Unix(path) => format!("unix:{}", path.display()),
    };
    let socket = match admin::bind(&settings.listen) {
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
