//! A fleet of load balancers that know each other: who is there, and what each tells the others.
//!
//! ```text
//! driver ── socket, time, names ──▶ Node: sealed datagrams (seal), messages (message), members (member)
//!    └────── every turn and round ──▶ Topics: whoever keeps state that its owner alone writes
//! ```
//!
//! This module knows nothing of what is told. A [`Node`] has neither socket nor clock, so that fleets of them can be
//! tested in memory, with any network and in any order.

mod alarm;
mod budget;
mod calls;
mod driver;
mod member;
mod message;
mod node;
mod place;
mod seal;
mod seeds;
mod status;

#[cfg(test)]
mod simulation;

pub use driver::{Driver, Orders, Phase, Topics};
pub use member::{Member, Standing};
pub use message::{MAX_PART, Message, Part, Telling};
pub use node::{Node, Settings};
pub use place::{Place, bind};
pub use seal::{Envelope, FleetKey, MAX_DATAGRAM, Refusal, Session};
pub use status::{MemberStatus, Shared, Status};
