//! Active health checks: is this endpoint fit to be sent traffic?
//!
//! * [`Health`] is the state machine: results in, transitions out, no clock and no socket.
//! * [`HealthProbe`] asks an endpoint once: [`HttpProbe`], [`GrpcProbe`], [`TcpProbe`], [`DnsProbe`], [`UdpProbe`], or any
//!   of them as a [`Probe`].
//! * [`watch`] is the loop that probes one endpoint for as long as it exists.
//!
//! What a state means for the choice of an endpoint is the business of whoever implements [`Subject`].

pub mod dns;
mod monitor;
mod probe;
mod reach;
mod state;

pub use monitor::{Settings, Subject, watch};
pub use probe::{
    DnsProbe, GrpcProbe, HealthProbe, HttpProbe, Probe, ProbeError, ServingStatus, StatusRanges,
    TcpProbe, UdpProbe,
};
pub use reach::{Secure, Speaks, Target};
pub use state::{Health, State, Transition};
