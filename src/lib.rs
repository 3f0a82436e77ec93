//! A reverse proxy and load balancer for HTTP, TCP and UDP.
//!
//! ARCHITECTURE.md draws the layers and the way of a request. Modules import only from rows below their own:
//!
//! ```text
//! server
//! admin
//! proxy
//! listener  upstream
//! route  balance  health  limit  message  access  gossip
//! net  tls
//! metrics
//! config
//! ```

pub mod access;
pub mod admin;
pub mod balance;
pub mod config;
pub mod gossip;
pub mod health;
pub mod limit;
pub mod listener;
pub mod message;
pub mod metrics;
pub mod net;
pub mod proxy;
pub mod route;
pub mod server;
pub mod tls;
pub mod upstream;
