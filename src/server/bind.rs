//! Binding every address before anything changes, so that a port in use is one clear line and nothing else.
//!
//! Sockets belong to addresses first and to listeners second: a new configuration keeps those of addresses that stay, also
//! when another listener has the address by now, so that no connection is refused in between.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use socket2::SockRef;
use tokio::sync::Semaphore;

use super::StartError;
use super::capacity::Capacity;
use super::inherit::Inherited;
use super::listening::{Carrier, Listening, WeakListening};
use super::upgrade::Registry;
use crate::admin;
use crate::config::model::{AdminListen, Config, Listener, Mode};
use crate::net::{TcpOptions, socket, udp};
use crate::proxy::build::tcp_options;

/// The sockets of one address, one a worker or more.
#[derive(Debug, Clone)]
struct Group {
    id: u32,
    listener: String,
    carrier: Carrier,
    /// As it is written; its port may be 0.
    configured: SocketAddr,
    bound: SocketAddr,
    /// Index of the listener in the snapshot.
    place: usize,
    /// What the connections that they accept are to have.
    options: TcpOptions,
    /// Open as long as the workers have them.
    sockets: Vec<WeakListening>,
}

impl Group {
    /// Gives its sockets the options that new connections are to have, if they had others in `former`.
    fn set_options(&self, former: &[Self]) {
        let had_others = |it: &Self| it.id == self.id && it.options != self.options;
        if !former.iter().any(had_others) {
            return;
        }
        for socket in self.sockets.iter().filter_map(WeakListening::upgrade) {
            if let Listening::Tcp(socket) = socket
                && let Err(error) = self.options.replace(SockRef::from(&*socket))
            {
                let (listener, address) = (&self.listener, self.bound);
                tracing::warn!(%listener, %address, %error, "its options (tcp) cannot be set");
            }
        }
    }
}

/// All sockets that clients send to.
#[derive(Debug, Default)]
pub struct Sockets {
    groups: Vec<Group>,
    /// By listener.
    capacities: HashMap<String, Capacity>,
    next: u32,
    /// Where they can be handed over from.
    registry: Arc<Registry>,
}

/// The sockets of a configuration to be. Dropping it closes the new ones.
#[derive(Debug)]
pub struct Plan {
    groups: Vec<Group>,
    new: Vec<(u32, Vec<Listening>)>,
    capacities: Vec<(String, usize)>,
}

/// An address that a listener is to have.
#[derive(Debug)]
struct Wanted {
    listener: String,
    carrier: Carrier,
    configured: SocketAddr,
    /// Index of the listener in the snapshot.
    place: usize,
    options: TcpOptions,
}

fn wanted<'a>(config: &'a Config, places: &'a [usize]) -> impl Iterator<Item = Wanted> + 'a {
    let listeners = config.listeners.iter().zip(places);
    listeners.flat_map(|(listener, place)| {
        listener.addresses.iter().map(|configured| Wanted {
            listener: listener.name.clone(),
            carrier: match listener.mode {
                Mode::Http | Mode::Tcp => Carrier::Tcp,
                Mode::Udp => Carrier::Udp,
            },
            configured: *configured,
            place: *place,
            options: tcp_options(&listener.tcp),
        })
    })
}

impl Plan {
    /// Has an address go on with the sockets that there are.
    fn keep(&mut self, group: Group, wanted: Wanted) {
        self.groups.push(Group {
            listener: wanted.listener,
            configured: wanted.configured,
            place: wanted.place,
            options: wanted.options,
            ..group
        });
    }
}

/// The sockets that a worker is to serve. Others are to be closed.
#[derive(Debug, Default)]
pub struct Assignment {
    /// All of them.
    pub seats: Vec<Seat>,
    /// Those that the worker does not have yet, by the ids of their seats. There may be several of one.
    pub new: Vec<(u32, Listening)>,
}

/// Whose connections a socket accepts.
#[derive(Debug, Clone)]
pub struct Seat {
    /// That of its address' sockets, unique in the process.
    pub id: u32,
    /// Index of the listener in the snapshot.
    pub listener: usize,
    /// The listener's `max_connections`, shared with all workers.
    pub permits: Arc<Semaphore>,
}

impl Sockets {
    /// No sockets yet, and where they can be handed over from once there are.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self {
            registry,
            ..Self::default()
        }
    }

    /// Binds what a configuration has and this does not, unless it is `inherited`. `places` are the listeners' indices in
    /// the snapshot.
    ///
    /// # Errors
    /// An address cannot be bound.
    pub fn plan(
        &self,
        config: &Config,
        places: &[usize],
        inherited: &mut Inherited,
    ) -> Result<Plan, StartError> {
        let mut plan = Plan {
            groups: Vec::new(),
            new: Vec::new(),
            capacities: Vec::new(),
        };
        let mut former = self.groups.clone();
        let mut missing = Vec::new();
        // First those that stay with their listener, then those that move to another.
        for wanted in wanted(config, places) {
            let is_same = |it: &Group| {
                it.carrier == wanted.carrier
                    && it.listener == wanted.listener
                    && it.configured == wanted.configured
            };
            match former.iter().position(is_same) {
                Some(position) => plan.keep(former.swap_remove(position), wanted),
                None => missing.push(wanted),
            }
        }
        for wanted in missing {
            let has_it = |it: &Group| it.carrier == wanted.carrier && it.bound == wanted.configured;
            match former.iter().position(has_it) {
                Some(position) => plan.keep(former.swap_remove(position), wanted),
                None => self.add(&mut plan, wanted, config.workers.get(), inherited)?,
            }
        }
        let capacity = |it: &Listener| (it.name.clone(), it.max_connections.get());
        plan.capacities = config.listeners.iter().map(capacity).collect();
        Ok(plan)
    }

    /// Adds sockets that are not there yet to a plan.
    fn add(
        &self,
        plan: &mut Plan,
        wanted: Wanted,
        workers: usize,
        inherited: &mut Inherited,
    ) -> Result<(), StartError> {
        let (bound, sockets) = match self.bind(&wanted, workers, inherited) {
            Ok(bound) => bound,
            Err(error) => {
                return Err(StartError::Listen {
                    listener: wanted.listener,
                    address: wanted.configured,
                    error,
                });
            }
        };
        let Wanted {
            listener,
            carrier,
            configured,
            place,
            options,
        } = wanted;
        tracing::info!(%listener, address = %bound, "listening");
        let id = self.next + u32::try_from(plan.new.len()).expect("ports are 16 bits");
        plan.groups.push(Group {
            id,
            listener,
            carrier,
            configured,
            bound,
            place,
            options,
            sockets: sockets.iter().map(Listening::downgrade).collect(),
        });
        plan.new.push((id, sockets));
        Ok(())
    }

    fn bind(
        &self,
        wanted: &Wanted,
        workers: usize,
        inherited: &mut Inherited,
    ) -> io::Result<(SocketAddr, Vec<Listening>)> {
        let (address, carrier) = (wanted.configured, wanted.carrier);
        let options = &wanted.options;
        // Sockets for one address and for all of them share a port, if they are all ours.
        let is_beside = |it: &Group| {
            it.carrier == carrier
                && it.bound.port() == address.port()
                && it.bound.is_ipv4() == address.is_ipv4()
        };
        let beside = self.groups.iter().any(is_beside);
        let known = inherited.take(&wanted.listener, address, carrier);
        let sockets: Vec<Listening> = match carrier {
            Carrier::Tcp => {
                let known: Vec<_> = known.into_iter().map(TcpListener::from).collect();
                let sockets = match known.is_empty() {
                    false => socket::inherit(known, workers, options),
                    true if beside => socket::share(address, workers, options),
                    true => socket::listen(address, workers, options),
                };
                let sockets = sockets?.into_iter().map(Arc::new);
                sockets.map(Listening::Tcp).collect()
            }
            Carrier::Udp => {
                let known: Vec<_> = known.into_iter().map(UdpSocket::from).collect();
                let sockets = match known.is_empty() {
                    false => udp::socket::inherit(known, workers),
                    true if beside => udp::socket::share(address, workers),
                    true => udp::socket::listen(address, workers),
                };
                let sockets = sockets?.into_iter().map(Arc::new);
                sockets.map(Listening::Udp).collect()
            }
        };
        Ok((sockets[0].local_addr()?, sockets))
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
        let former = std::mem::replace(&mut self.groups, plan.groups);
        self.groups.iter().for_each(|it| it.set_options(&former));
        let groups = self.groups.iter();
        let sockets = groups.flat_map(|it| it.sockets.iter().map(move |socket| (it, socket)));
        self.registry.set(
            sockets.map(|(group, socket)| (&*group.listener, group.configured, socket.clone())),
        );
        let mut capacities = std::mem::take(&mut self.capacities);
        for (listener, max) in plan.capacities {
            let capacity = match capacities.remove(&listener) {
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
                new: Vec::new(),
            })
            .collect();
        for (id, sockets) in plan.new {
            // Of another process there may be more than this one has workers.
            for (number, socket) in sockets.into_iter().enumerate() {
                assignments[number % workers].new.push((id, socket));
            }
        }
        assignments
    }
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
