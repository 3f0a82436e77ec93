//! The request's way through the load balancer.
//!
//! [`snapshot`] is what a request needs from the configuration, made by [`build`], of it [`policy`] what concerns its server; [`local`] is what a worker owns
//! besides, among it the [`roster`] of its connections. [`http`] serves connections.

pub mod build;
pub mod http;
pub mod local;
pub mod policy;
mod protection;
pub mod roster;
pub mod snapshot;
