//! UDP: sockets that clients send to, connected sockets towards servers, and datagrams in batches.
//!
//! A datagram is received into the thread's [`Batch`] and sent out of it again: it is never copied in between, and
//! nothing is kept of it. A call into the kernel takes as many as there are, up to [`BATCH`].

mod address;
mod batch;
mod ready;
pub mod socket;

pub use address::Path;
pub use batch::{BATCH, Batch, with_batch};
pub use ready::Ready;
