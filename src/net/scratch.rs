//! The space of a thread that connections use for the length of one poll, so that they need none of their own.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::thread::LocalKey;

/// A thread's own space, to be declared with `thread_local!`.
pub(super) type Space = Cell<Vec<u8>>;

/// A space, from when it is taken until it is dropped. To be held within one poll only; should it be taken twice at a time,
/// the second is a new one.
pub(super) struct Scratch {
    bytes: Vec<u8>,
    of: &'static LocalKey<Space>,
}

impl Scratch {
    /// Takes a space, which has the length that it was first taken with.
    #[inline]
    pub(super) fn take(of: &'static LocalKey<Space>, length: usize) -> Self {
        let mut bytes = of.take();
        if bytes.is_empty() {
            bytes = vec![0; length];
        }
        Self { bytes, of }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.of.set(std::mem::take(&mut self.bytes));
    }
}

impl Deref for Scratch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}
