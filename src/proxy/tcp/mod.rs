//! Connections whose bytes are passed on as they are (layer 4): those of listeners with `mode = "tcp"`, and TLS connections
//! that a listener passes through by the name they ask for.
//!
//! [`task`] is a connection of a TCP listener: [`open`] says what comes before its bytes (a PROXY header, TLS that ends here,
//! a ClientHello that is only read), [`names`] which upstream it is for, [`connect`] finds a server that accepts it, and
//! [`session`] is the two connections from then on. The bytes themselves are moved by [`net::relay`](crate::net::relay).

pub mod connect;
pub mod hello;
pub mod names;
pub mod open;
pub mod reason;
pub mod session;
pub mod task;

pub use names::Names;
pub use reason::Reason;
