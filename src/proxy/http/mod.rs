//! HTTP: connections, requests, answers.
//!
//! Read in this order: [`task`] is a client's connection, from its accept to its close; [`open`] takes what comes before
//! HTTP; [`connection`] serves HTTP/1.1 while there are requests, [`http2`] a connection of HTTP/2, and [`stream`] each of
//! its streams; [`client`] is what they know of whom they serve. From there on all requests are alike: [`service`] takes
//! one through [`routing`], limits and the route's action; [`forward`] finds a server that answers: [`choice`] tells which
//! upstream, [`sticky`] who belongs to a server, [`tries`] who is next, [`outgoing`] is one try, [`attempt`] its doing and
//! accounts, [`rewrite`] the request as servers get it, [`hedge`] two tries at a time, and [`mirror`] a copy that nobody
//! waits for; [`download`] is the answer's body, in which everything that must live as long as the request rides, and
//! [`answer`] sends it in HTTP/1.1; [`exchange`] is the record of one request and its answer; [`tunnel`] is what a
//! connection becomes after a switch of protocols, and [`websocket`] what a stream does.

pub mod answer;
pub mod attempt;
pub mod choice;
pub mod client;
pub mod connection;
pub mod date;
pub mod download;
pub mod error;
pub mod exchange;
pub mod forward;
mod hedge;
pub mod http2;
mod interim;
mod metered;
mod mirror;
pub mod open;
mod outgoing;
pub mod reply;
pub mod request_id;
pub mod rewrite;
pub mod routing;
pub mod service;
mod sticky;
pub mod stream;
pub mod task;
mod tries;
pub mod tunnel;
pub mod websocket;
