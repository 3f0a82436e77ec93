//! Binding every address before anything changes, so that a port in use is one clear line and nothing else.
//!
//! Sockets belong to addresses first and to listeners second: a new configuration keeps those of addresses that stay, also
//! when another listener has the address by now, so that no connection is refused in between.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::StartError;
use super::capacity::Capacity;
use crate::admin;
use crate::config::model::{AdminListen, Config, Listener};
use crate::net::socket;

/// The sockets of one address, one a worker.
#[derive(Debug, Clone)]
struct Group {
    id: u32,
    listener: String,
    /// As it is written; its port may be 0.
    configured: SocketAddr,
    bound: SocketAddr,
    /// Index of the listener in the snapshot.
    place: usize,
}

/// All sockets that clients connect to.
#[derive(Debug, Default)]
pub struct Sockets {
    groups: Vec<Group>,
    /// By listener.
    capacities: HashMap<String, Capacity>,
    next: u32,
}

/// The sockets of a configuration to be. Dropping it closes the new ones.
#[derive(Debug)]
pub struct Plan {
    groups: Vec<Group>,
    new: Vec<(u32, Vec<TcpListener>)>,
    capacities: Vec<(String, usize)>,
}

/// The sockets that a worker is to accept connections from. Others are to be closed.
#[derive(Debug, Default)]
pub struct Assignment {
    /// All of them.
    pub seats: Vec<Seat>,
    /// Those that the worker does not have yet.
    pub new: HashMap<u32, TcpListener>,
}

/// Whose connections a socket accepts.
#[derive(Debug, Clone)]
pub struct Seat {
    /// The socket's, unique in the process.
    pub id: u32,
    /// Index of the listener in the snapshot.
    pub listener: usize,
    /// The listener's `max_connections`, shared with all workers.
    pub permits: Arc<Semaphore>,
}

impl Sockets {
    /// Binds what a configuration has and this does not. `places` are the listeners' indices in the snapshot.
    ///
    /// # Errors
    /// An address cannot be bound.
    pub fn plan(&self, config: &Config, places: &[usize]) -> Result<Plan, StartError> {
        let mut plan = Plan {
            groups: Vec::new(),
            new: Vec::new(),
            capacities: Vec::new(),
        };
        let listeners = || config.listeners.iter().zip(places);
        let addresses = |(listener, place): (&'_ Listener, &usize)| {
            let place = *place;
            let addresses = listener.addresses.clone().into_iter();
            let name = listener.name.clone();
            addresses.map(move |configured| (name.clone(), configured, place))
        };
        let mut former = self.groups.clone();
        let mut missing = Vec::new();
        // First those that stay with their listener, then those that move to another.
        for (listener, configured, place) in listeners().flat_map(addresses) {
            let is_same = |it: &Group| it.listener == listener && it.configured == configured;
            match former.iter().position(is_same) {
                Some(position) => plan.groups.push(Group {
                    place,
                    ..former.swap_remove(position)
                }),
                None => missing.push((listener, configured, place)),
            }
        }
        for (listener, configured, place) in missing {
            let group = match former.iter().position(|it| it.bound == configured) {
                Some(position) => Group {
                    listener,
                    configured,
                    place,
                    ..former.swap_remove(position)
                },
                None => self.bind(&mut plan, listener, configured, place, config.workers.get())?,
            };
            plan.groups.push(group);
        }
        let capacity = |it: &Listener| (it.name.clone(), it.max_connections.get());
        plan.capacities = config.listeners.iter().map(capacity).collect();
        Ok(plan)
    }

    fn bind(
        &self,
        plan: &mut Plan,
        listener: String,
        configured: SocketAddr,
        place: usize,
        workers: usize,
    ) -> Result<Group, StartError> {
        // Sockets for one address and for all of them share a port, if they are all ours.
        let is_beside = |it: &Group| {
            it.bound.port() == configured.port() && it.bound.is_ipv4() == configured.is_ipv4()
        };
        let sockets = match self.groups.iter().any(is_beside) {
            true => socket::share(configured, workers),
            false => socket::listen(configured, workers),
        };
        let bound = sockets.and_then(|sockets| Ok((sockets[0].local_addr()?, sockets)));
        let (bound, sockets) = match bound {
            Ok(bound) => bound,
            Err(error) => {
                return Err(StartError::Listen {
                    listener,
                    address: configured,
                    error,
                });
            }
        };
        tracing::info!(%listener, address = %bound, "listening");
        let id = self.next + u32::try_from(plan.new.len()).expect("ports are 16 bits");
        plan.new.push((id, sockets));
        Ok(Group {
            id,
            listener,
            configured,
            bound,
            place,
        })
    }

    /// Puts a plan into force, and says what each of `workers` is to do for it.
    pub fn commit(&mut self, plan: Plan, workers: usize) -> Vec<Assignment> {
        self.next += u32::try_from(plan.new.len()).expect("ports are 16 bits");
        for group in &self.groups {
            if !plan.groups.iter().any(|it| it.id == group.id) {
                let (listener, address) = (&group.listener, group.bound);
                tracing::info!(%listener, %address, "listening no more");
            }
        }
        self.groups = plan.groups;
        let mut former = std::mem::take(&mut self.capacities);
        for (listener, max) in plan.capacities {
            let capacity = match former.remove(&listener) {
                Some(mut capacity) => {
                    capacity.resize(max);
                    capacity
                }
                None => Capacity::new(max),
            };
            self.capacities.insert(listener, capacity);
        }
        let seats = self.groups.iter().map(|group| Seat {
            id: group.id,
            listener: group.place,
            permits: Arc::clone(self.capacities[&group.listener].permits()),
        });
        let seats: Vec<Seat> = seats.collect();
        let mut assignments: Vec<_> = (0..workers)
            .map(|_| Assignment {
                seats: seats.clone(),
                new: HashMap::new(),
            })
            .collect();
        for (id, sockets) in plan.new {
            for (assignment, socket) in assignments.iter_mut().zip(sockets) {
                assignment.new.insert(id, socket);
            }
        }
        assignments
    }
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
