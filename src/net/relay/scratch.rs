//! The space of a thread that bytes are copied through, so that connections need none of their own.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

/// Four records of TLS, which is what one read of a TLS stream takes.
const LENGTH: usize = 64 * 1024;

thread_local! {
    static SPACE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The space, from when it is taken until it is dropped. To be held within one poll only.
pub(super) struct Scratch(Vec<u8>);

impl Scratch {
    pub(super) fn take() -> Self {
        let mut space = SPACE.take();
        if space.is_empty() {
            space = vec![0; LENGTH];
        }
        Self(space)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        SPACE.set(std::mem::take(&mut self.0));
    }
}

impl Deref for Scratch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
