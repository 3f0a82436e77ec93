//! Giving memory back to the system.
//!
//! mimalloc gives back what has been free for a second, but only when a thread allocates or frees something that makes it
//! look. A worker whose clients have all gone quiet does neither, just when there is most to give back.

#![expect(unsafe_code, reason = "mimalloc's interface for this is a C function")]

/// Has the allocator give back what the calling thread has not used for a while.
pub(super) fn give_back() {
    // SAFETY: it may be called at any time, by any thread, and touches only memory that nobody has allocated.
    unsafe { libmimalloc_sys::mi_collect(false) }
}
