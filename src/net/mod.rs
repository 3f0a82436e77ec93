//! Sockets: listening, connecting, the byte streams that HTTP runs on or that are passed on as they are, and datagrams. Knows
//! nothing of HTTP.

pub mod bandwidth;
pub mod clock;
pub mod connect;
pub mod inherited;
pub mod moment;
pub mod options;
pub mod pass;
pub mod policer;
pub mod relay;
mod scratch;
#[cfg(test)]
pub mod simulated;
pub mod socket;
mod splice;
pub mod stall;
pub mod stream;
pub mod tcp;
pub mod throttle;
pub mod throttled;
pub mod tls;
pub mod transport;
pub mod udp;
pub mod unix;
pub mod wire;

pub use moment::Moment;
pub use options::TcpOptions;
pub use policer::Policer;
pub use relay::Relay;
pub use stall::Stall;
pub use stream::{Stream, Traffic};
pub use tcp::Tcp;
pub use throttle::Throttle;
pub use transport::Transport;
