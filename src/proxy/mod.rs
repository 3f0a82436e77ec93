//! The request's way through the load balancer.
//!
//! [`snapshot`] is what a request needs from the configuration, made by [`build`] with what [`former`] kept of the one
//! before; a [`view`] is a worker's side of it; [`local`] is what a worker owns besides, among it the [`roster`] of its
//! connections. [`http`] serves connections.

pub mod build;
mod former;
pub mod http;
pub mod local;
mod protection;
pub mod roster;
pub mod snapshot;
pub mod view;
