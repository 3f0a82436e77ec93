//! The request's way through the load balancer.
//!
//! [`snapshot`] is what a request needs from the configuration, of it [`policy`] what concerns its server; it is made by
//! [`build`] with what [`former`] kept of the one before; a [`view`] is a worker's side of it; [`local`] is what a worker
//! owns besides, among it the [`roster`] of its connections, each of which has a [`seat`]. [`entrance`] says who may come in,
//! [`bandwidth`] how fast, [`preamble`] is what may come before anything else on a connection, [`http`] serves connections,
//! and [`tcp`] and [`udp`] pass on what they do not look into.

pub mod bandwidth;
pub mod build;
pub mod entrance;
mod former;
pub mod http;
pub mod local;
pub mod policy;
pub mod preamble;
mod protection;
pub mod roster;
mod seat;
mod seldom;
pub mod snapshot;
pub mod tcp;
pub mod udp;
pub mod view;
